"""The main job, for a Ray cluster: the same command line as `shardmill run`.

    python jobs/curate.py sample --output /data/out
    ray job submit --address http://HEAD:8265 -- python -m jobs.curate sample --output s3://bucket/out
    ray submit cluster.yaml jobs/curate.py -- sample --output s3://bucket/out
"""

import sys

from pipeline.cli.main import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])
