"""Inputs that fail while actors read them: the store's fault stops the run once, a shard's own costs that shard, also at export."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.api.progress import Silent
from pipeline.columns import Columns
from pipeline.distributed.attempts import ATTEMPTS
from pipeline.distributed.ray_executor import RayExecutor
from pipeline.driver import Driver
from pipeline.errors import SourceError
from pipeline.export.plan import plan_export
from pipeline.export.shards import Export
from pipeline.input.discovery import discover
from pipeline.input.samples import READING
from pipeline.input.tar import write_tar
from pipeline.input.witnesses import witnesses
from pipeline.passes.annotate import Annotate
from pipeline.passes.export import quarantine_unreadable
from pipeline.root.log import EventLog
from pipeline.root.quarantine import EXPORT, given_up_during, quarantined
from pipeline.store.store import Store
from pipeline.work import Outcome
from tests.broken import whole
from tests.curations import curated
from tests.damage import clean_pairs

pytestmark = pytest.mark.usefixtures("machines")

COUNT = 24


class Expiring(BaseHTTPRequestHandler):
    """Gives everybody the same tar, until the right to so many answers has ended: then 403 for all, whatever is asked."""

    content = whole()
    left = 0
    refused = 0
    lock = threading.Lock()

    def do_HEAD(self) -> None:
        self._answer(self.content, 200)

    def do_GET(self) -> None:
        with self.lock:
            type(self).left -= 1
            type(self).refused += self.left < 0
        asked = self.headers.get("Range")
        if self.left < 0 or asked is None:
            self.send_error(404 if self.left >= 0 else 403, "expired")
            return
        first, last = asked.removeprefix("bytes=").split("-")
        until = min(int(last or len(self.content)) + 1, len(self.content))
        self._answer(self.content[int(first) : until], 206, f"bytes {first}-{until - 1}/{len(self.content)}")

    def _answer(self, part: bytes, status: int, content_range: str = "") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(part)), "Content-Range": content_range, "Accept-Ranges": "bytes",
                            "ETag": '"1"'}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(part)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Expiring) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_right_that_ends_while_actors_read_stops_the_run_once_and_what_is_left_is_done_after_it(
    server: str, tmp_path: Path,
) -> None:
    Expiring.left = 10 * COUNT
    shards = discover([f"{server}/{{00..{COUNT - 1}}}.tar"])
    columns = Columns(Store(str(tmp_path)), {"samples": "columns/samples@1"})
    work = Annotate(columns, (), READING, witnesses=witnesses(shards))
    Expiring.left, Expiring.refused = COUNT // 2, 0
    executor = RayExecutor(2)
    with pytest.raises(SourceError, match=r"not allowed to read.*nor can .* and 7 others that were asked be read: see to http://127"):
        list(executor.run(work, work.of(shards)))
    done = columns.store.names("columns/samples@1")
    assert 0 < len(done) < COUNT
    assert Expiring.refused < COUNT, "each shard was asked for, and asked for again"
    Expiring.left = 10 * COUNT
    left = [shard for shard in shards if f"{shard.shard_id}.parquet" not in done]
    assert {outcome.error for outcome in executor.run(work, work.of(left))} == {None}
    executor.close()
    assert len(columns.store.names("columns/samples@1")) == COUNT


def test_a_shard_that_cannot_be_read_again_for_the_export_goes_to_quarantine_by_name_and_no_other_does(
    tmp_path: Path, sample_folder: Path,
) -> None:
    """What comes before (an output shard that is given up) and after it (the passes without the input shard) is the same without
    Ray: tests/passes/test_export.py."""
    pairs = list(clean_pairs(sample_folder).items())
    (tmp_path / "in").mkdir()
    for number in range(2):
        with (tmp_path / "in" / f"{number}.tar").open("wb") as file:
            write_tar(file, ((key, "jpg", image, text, b"{}") for key, (image, text) in pairs[4 * number : 4 * number + 4]))
    wishes = ("classes.k=null", "model.compile=false", "filters.clip_similarity=null")
    plan = curated(tmp_path / "root", [tmp_path / "in"], wishes).plan
    bad = tmp_path / "in" / "1.tar"
    before, content = bad.stat(), bad.read_bytes()
    bad.write_bytes(content[:2000] + bytes(len(content) - 2000))
    os.utime(bad, ns=(before.st_atime_ns, before.st_mtime_ns))
    work = Export(plan.exported, plan.export, None, witnesses=witnesses(plan.shards))
    (item,) = plan_export(plan.shards, dict.fromkeys((shard.shard_id for shard in plan.shards), 4), size=8, group=2, seed=None)
    executor = RayExecutor(1)
    driver = Driver(plan.root, executor, Silent(), EventLog(plan.root))
    quarantine_unreadable(plan, driver, work, [Outcome(item, error="it failed three times", attempts=ATTEMPTS)])
    executor.close()
    ((name, error),) = quarantined(plan.root, plan.shards).items()
    assert name.startswith("1-")
    assert "has other bytes now" in error
    assert given_up_during(plan.root, name) == EXPORT
