"""Requests that a run of the demo makes of an S3 store, by pass and shard: inputs and root both behind a real S3 API, a counting
proxy in front of it. One process, so that every request is seen; how many workers there are changes hardly any of them."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec

from pipeline.api.engines import Execution
from pipeline.api.progress import Silent
from pipeline.api.run import Request, run_curation
from pipeline.audit.verify import verify
from pipeline.queries.status import status
from pipeline.store.store import Store
from pipeline.timing.progress import Scope
from tests.benchmarks.figures import Figure
from tests.s3 import s3_server
from tests.store.proxy import Proxy

SAMPLE = Path(__file__).parents[2] / "pipeline" / "assets" / "sample"
BESIDE = "beside the passes"
"""Lock, heartbeat, log, publishing, and what asks whether something is there."""

MOST = 320
"""Requests for each of the nine shards, with two looks at the root and everything that is asked once; 511 before ranges."""


class Counted(Silent):
    """Counts the requests of whatever is under way, the innermost; those between two passes are BESIDE them."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy, self._under_way, self._seen, self._bytes = proxy, [BESIDE], 0, 0
        self.requests: dict[str, Counter[str]] = {}
        self.bytes: Counter[str] = Counter()

    def start(self, title: str, scope: Scope) -> None:
        self.take()
        self._under_way.append(title)

    def finish(self) -> None:
        self.take()
        self._under_way.pop()

    def take(self) -> None:
        """Counts what was asked since the last time to what is under way."""
        asked = self._proxy.asked[self._seen :]
        self.requests.setdefault(self._under_way[-1], Counter()).update(request.partition(" ")[0] for request in asked)
        self.bytes[self._under_way[-1]] += self._proxy.sent - self._bytes
        self._seen, self._bytes = self._seen + len(asked), self._proxy.sent

    @contextmanager
    def of(self, title: str) -> Iterator[None]:
        self.start(title, Scope())
        yield
        self.finish()


def measure() -> list[Figure]:
    """Requests by pass, in all and for each input shard."""
    with s3_server() as endpoint, Proxy(endpoint) as proxy:
        os.environ["AWS_ENDPOINT_URL"] = proxy.endpoint
        store = Store("s3://counted/in")
        fsspec.filesystem("s3").mkdir("counted")
        shards = 0
        for path in sorted(SAMPLE.glob("0*")):
            store.write(path.name, path.read_bytes())
            shards += path.suffix == ".tar"
        proxy.reset()
        counted = Counted(proxy)
        request = Request("sample", [store.url], ("model.compile=false",))
        run_curation(request, "s3://counted/root", counted, Execution(local=True))
        with counted.of("the same command again"):
            run_curation(request, "s3://counted/root", Silent(), Execution(local=True))
        with counted.of("status"):
            status("s3://counted/root")
        with counted.of("verify"):
            assert not verify("s3://counted/root").faults
        counted.take()
    return figures(counted, shards)


def figures(counted: Counted, shards: int) -> list[Figure]:
    found = []
    for title, requests in counted.requests.items():
        kinds = ", ".join(f"{count} {method}" for method, count in requests.most_common())
        found.append(Figure(f"{title}: {kinds}; {counted.bytes[title] / 1e6:.2f} MB", requests.total() / shards, "requests/shard"))
    total = sum(requests.total() for requests in counted.requests.values())
    return [*found, Figure(f"in all: {total} requests for {shards} shards", total / shards, "requests/shard", MOST, at_most=True)]
