"""Clients of a server on this machine, in a process of their own: each asks again as soon as it is answered, over one connection.

    python -m tests.benchmarks.load PORT CLIENTS SECONDS < requests

Requests are read from standard input: a line of JSON each, {"method", "path", "body"}. What is written is one line of JSON: in how
many seconds, the status of those that were not 200, and the milliseconds of the others.
"""

import http.client
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Load:
    """What clients saw."""

    rate: float
    """answers a second"""
    p50: float
    """milliseconds"""
    p99: float
    """milliseconds"""
    failures: dict[str, int]
    """by status"""


def load(port: int, clients: int, seconds: float, requests: Sequence[dict[str, Any]]) -> Load:
    """Asks these requests for so long."""
    command = [sys.executable, "-m", "tests.benchmarks.load", str(port), str(clients), str(seconds)]
    lines = "".join(f"{json.dumps(request)}\n" for request in requests)
    done = subprocess.run(command, input=lines, stdout=subprocess.PIPE, text=True, check=True, timeout=seconds + 120)
    said = json.loads(done.stdout)
    times = np.array(said["milliseconds"])
    p50, p99 = np.percentile(times, [50, 99]) if len(times) else (0.0, 0.0)
    return Load(len(times) / said["seconds"], float(p50), float(p99), said["failures"])


def main() -> None:
    port, clients, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    requests = [(one["method"], one["path"], (one.get("body") or "").encode()) for one in map(json.loads, sys.stdin)]
    milliseconds: list[float] = []
    failures: Counter[str] = Counter()
    until = time.monotonic() + seconds

    def client(first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        place = first
        while (began := time.monotonic()) < until:
            method, path, body = requests[place % len(requests)]
            place += clients
            try:
                connection.request(method, path, body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                failures[type(error).__name__] += 1
                connection.close()
                continue
            if answer.status == 200:
                milliseconds.append((time.monotonic() - began) * 1e3)
            else:
                failures[str(answer.status)] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"seconds": time.monotonic() - began, "failures": failures, "milliseconds": milliseconds}))


if __name__ == "__main__":
    main()
