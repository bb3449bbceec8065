"""The main job, for a Ray cluster: the same command line as `shardmill run`.

    python jobs/curate.py sample --output /data/out
    ray submit cluster.yaml jobs/curate.py -- sample --output s3://bucket/out

`ray job submit` needs no file of ours: `ray job submit --address http://HEAD:8265 -- shardmill run sample --output s3://bucket/out`.
"""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]   # where this file lies, or was copied to: somebody's home, and no place for code
    from pipeline.cli.main import main

    main(["run", *sys.argv[1:]])
