"""A file of queries to a root, answered on a Ray cluster: the same command line as `shardmill query`, and the same bytes.

    python jobs/query.py ROOT --queries texts.parquet --output answers.parquet
    ray submit cluster.yaml jobs/query.py -- s3://bucket/out --queries s3://bucket/texts.parquet --output s3://bucket/answers.parquet

Each worker opens the root and its model once, and answers a part of the file at a time. `ray job submit` needs no file of ours:
`ray job submit --address http://HEAD:8265 -- shardmill query ROOT --ray --queries … --output …`.
"""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]   # where this file lies, or was copied to: somebody's home, and no place for code
    from pipeline.cli.main import main

    main(["query", *sys.argv[1:], "--ray"])
