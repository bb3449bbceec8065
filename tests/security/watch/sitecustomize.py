"""Put on PYTHONPATH, it makes every Python process write down whom it asks on the network: driver, workers, Ray's own."""

import os
import sys
from typing import Any


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        address = arguments[1] if event in ("socket.connect", "socket.sendto") else arguments[0]
        host = address[0] if isinstance(address, tuple) else address
        with open(os.path.join(os.environ["SHARDMILL_WATCH"], str(os.getpid())), "a") as file:
            file.write(f"{host}\t{' '.join(sys.argv)[:120]}\n")


if "SHARDMILL_WATCH" in os.environ:
    sys.addaudithook(watch)
    with open(os.path.join(os.environ["SHARDMILL_WATCH"], str(os.getpid())), "a") as file:
        usage = os.environ.get("RAY_USAGE_STATS_ENABLED")
        file.write(f"localhost\tstarted, usage statistics {usage}: {' '.join(sys.orig_argv)[:400]}\n")
