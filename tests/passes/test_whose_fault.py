"""What fails for all shards alike stops the run once and fills no quarantine; what fails for one costs that one."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.columns import Columns
from pipeline.distributed.attempts import ALIKE
from pipeline.distributed.local import LocalExecutor
from pipeline.errors import InputError, ShardmillError, SourceError
from pipeline.input.discovery import Shard, discover
from pipeline.input.samples import READING
from pipeline.input.witnesses import WITNESSES, to_blame, witnesses
from pipeline.passes.annotate import Annotate, MissingColumns
from pipeline.store import retries
from pipeline.store import s3 as limits
from pipeline.store.store import Store
from pipeline.work import Facts, Outcome, Work
from tests.broken import whole
from tests.roots import asked
from tests.store.proxy import Proxy


@pytest.fixture(scope="module")
def proxy_server(s3_server: str) -> Iterator[Proxy]:
    with Proxy(s3_server) as running:
        yield running


@pytest.fixture
def proxy(proxy_server: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """In front of the S3 API, with hardly a pause between tries."""
    monkeypatch.setattr(retries, "BACKOFF", retries.Backoff(tries=2, base=0.01, cap=0.02))
    monkeypatch.setattr(limits, "REQUEST_TRIES", 1)
    monkeypatch.setattr(limits, "CONNECT_SECONDS", 8)   # fsspec keeps one client for each set of options
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy_server.endpoint)
    yield proxy_server
    proxy_server.reset()


def uploaded(folder: Path, place: str, count: int) -> str:
    """One shard of the sample under as many names."""
    store = Store(place)
    for number in range(count):
        store.write(f"{number:05d}.tar", (folder / "00008.tar").read_bytes())
    return place


def outcomes(shards: list[Shard], root: Path) -> list[Outcome[MissingColumns]]:
    """What becomes of the shards when they are read, with no stage."""
    columns = Columns(Store(str(root)), {"samples": "columns/samples@1"})
    work = Annotate(columns, (), READING, witnesses=witnesses(shards))
    return list(LocalExecutor(gives_up=True).run(work, work.of(shards)))


@pytest.mark.parametrize(("how", "code", "says"), [
    (400, "ExpiredToken", r"ExpiredToken.*renew the credentials, then run the same command again"),
    (403, "InvalidAccessKeyId", "renew the credentials"),
    (403, "AccessDenied", r"not allowed to read.*nor can s3://.* and 4 others that were asked be read: see to s3://bucket"),
    (503, "SlowDown", r"2 tries in .*503.*nor can"),
    (404, "NoSuchBucket", "nor can|where the bucket has gone"),
    (403, "QuotaExceeded", "account or its quota"),
    ("reset", "", "nor can"),
])
def test_a_store_that_fails_for_all_stops_at_the_first(
    proxy: Proxy, sample_folder: Path, tmp_path: Path, how: int | str, code: str, says: str,
) -> None:
    place = uploaded(sample_folder, f"s3://bucket/{tmp_path.name}", 6)
    shards = discover([place])
    proxy.fail("(GET|HEAD) .*tar", how, code=code)
    proxy.asked.clear()
    with pytest.raises(SourceError, match=says):
        outcomes(shards, tmp_path)
    assert len(proxy.asked) < 40, "each shard was asked for"
    assert not (tmp_path / "columns").exists()


@pytest.mark.parametrize(("how", "code"), [(403, "AccessDenied"), (404, "NoSuchKey"), (503, "SlowDown"), (400, "SomethingElse")])
def test_what_fails_for_one_shard_costs_that_one(
    proxy: Proxy, sample_folder: Path, tmp_path: Path, how: int, code: str,
) -> None:
    place = uploaded(sample_folder, f"s3://bucket/{tmp_path.name}", 3)
    shards = discover([place])
    proxy.fail("(GET|HEAD) .*00000.tar", how, code=code)
    first, *others = outcomes(shards, tmp_path)
    assert "00000.tar" in str(first.error)
    assert [other.error for other in others] == [None, None]


def test_a_local_folder_that_is_gone_is_no_shard_s_fault(tmp_path: Path, sample_folder: Path) -> None:
    folder = tmp_path / "in"
    uploaded(sample_folder, str(folder), 3)
    shards = discover([str(folder)])
    known = witnesses(shards)
    error = InputError("gone")
    assert isinstance(to_blame(error, shards[0].url, known), InputError)
    shutil.rmtree(folder)
    assert isinstance(to_blame(error, shards[0].url, known), SourceError)
    assert to_blame(error, shards[0].url, {}) is error
    assert to_blame(error, shards[0].url, witnesses(shards[:1])) is error, "nobody else to ask"


def test_witnesses_are_few_and_of_all_stores(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number:02d}.tar").write_bytes(b"")
    (known,) = witnesses(discover([str(tmp_path)])).values()
    assert len(known) == WITNESSES + 1
    assert known[0].endswith("00.tar")
    assert known[-1].endswith("26.tar")


@dataclass(frozen=True)
class Failing(Work[int]):
    """Fails with this error from an item on."""

    error: Callable[[int], Exception]
    since: int = 0

    @contextmanager
    def open(self) -> Iterator[Callable[[int], Facts]]:
        yield self._run

    def _run(self, item: int) -> Facts:
        if item >= self.since:
            raise self.error(item)
        return {}


def test_the_same_failure_of_every_shard_stops_the_run_without_a_word_of_quarantine() -> None:
    executor = LocalExecutor(gives_up=True)
    same = Failing(lambda item: RuntimeError(f"no kernel for shard {item} in /tmp/{item}"))
    with pytest.raises(ShardmillError, match=rf"{ALIKE} shards failed in the same way and none was done.*RuntimeError: no kernel"):
        list(executor.run(same, range(1000)))
    assert len(list(executor.run(same, range(ALIKE - 1)))) == ALIKE - 1
    assert len(list(executor.run(Failing(same.error, since=1), range(30)))) == 30, "one was done"
    words = ("one", "two", "three")
    assert len(list(executor.run(Failing(lambda item: RuntimeError(words[item % 3])), range(30)))) == 30
    assert len(list(executor.run(Failing(lambda item: InputError("not allowed")), range(30)))) == 30, "another input could be read"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE])
def test_a_machine_that_is_full_stops_the_run(number: int) -> None:
    with pytest.raises(ShardmillError, match="its machine has no more of this"):
        list(LocalExecutor(gives_up=True).run(Failing(lambda _: OSError(number, os.strerror(number)), since=3), range(9)))


def test_credentials_that_expire_in_a_run_stop_it_and_the_same_command_continues_with_new_ones(
    proxy: Proxy, tmp_path: Path,
) -> None:
    place, root = Store(f"s3://bucket/{tmp_path.name}"), tmp_path / "root"
    for number in range(3):
        place.write(f"{number}.tar", whole())
    command = ["run", "sample", place.url, "--output", str(root), "--local", "--set", "model.compile=false",
               "--set", "classes.k=null", "--set", "entities.ner=off"]
    proxy.fail("(GET|HEAD) .*[12].tar", 400, code="ExpiredToken")
    said = asked(*command, check=2)
    assert "1.tar cannot be read" in said.stderr
    assert "renew the credentials, then run the same command again" in said.stderr.splitlines()[-1]
    assert not (root / "quarantine").exists()
    assert len(list(root.glob("columns/samples@*/*.parquet"))) == 1
    proxy.heal()
    asked(*command)
    assert len(list(root.glob("columns/samples@*/*.parquet"))) == 3
