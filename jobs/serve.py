"""The service on a Ray cluster, by Ray Serve: replicas that come and go with the requests.

    python jobs/serve.py ROOT [NAME=ROOT...] --host 127.0.0.1 --port 1234 --replicas 1-4 --token-file FILE
    ray submit cluster.yaml jobs/serve.py -- s3://bucket/out --host 0.0.0.0 --token-file /etc/shardmill/token

Runs until it is stopped (Ctrl-C, SIGTERM); requests in work end first. On one machine `shardmill serve` does the same without Ray.
"""

import argparse
import signal
import sys


def main() -> None:
    """Starts the replicas and waits."""
    from pipeline.serve.replicas import serve_replicas, shut_down
    from pipeline.serve.settings import Settings, check_address, read_token

    parser = argparse.ArgumentParser(
        prog="jobs/serve.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", nargs="+", metavar="ROOT")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1234)
    parser.add_argument("--replicas", default="1-4", metavar="LEAST-MOST")
    parser.add_argument("--cpus", type=float, default=1.0, help="of a replica")
    parser.add_argument("--token-file", default="")
    parser.add_argument("--no-token", action="store_true", help="whoever reaches the address may see these roots")
    given = parser.parse_args()
    least, _, most = given.replicas.partition("-")
    settings = Settings(token=read_token(given.token_file) if given.token_file else None, open_to_all=given.no_token)
    check_address(given.host, given.port, settings)
    url = serve_replicas(given.roots, given.host, given.port, settings, (int(least), int(most or least)), given.cpus)
    print(f"serving at {url} (Ctrl-C ends it)", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        signal.pause()
    except KeyboardInterrupt:
        shut_down()


if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]   # where this file lies, or was copied to: somebody's home, and no place for code
    main()
