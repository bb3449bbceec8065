"""Two runs in one root: real processes that hold it, are killed, stopped and continued."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.errors import RootError
from pipeline.root.holder import Holder
from pipeline.root.lock import FOLDER, Pace, held, lock_state
from pipeline.store.store import Store

QUICK = Pace(beat=0.1, look=0.1, stale=1.5)
PATIENT = Pace(beat=0.1, look=0.1, stale=120)

HOLD = """
import sys
from pipeline.errors import RootError
from pipeline.store.store import Store
from pipeline.root.lock import Pace, held
with held(Store(sys.argv[1]), Pace(0.1, 0.1, 1.5)) as lock:
    print("held", flush=True)
    for line in sys.stdin:
        try:
            lock.check()
            print("mine", flush=True)
        except RootError as error:
            print(error, flush=True)
"""


@contextmanager
def holder(root: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the root; a line to it is answered by `mine` or by what its fence says."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def asked(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("?\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def files(root: Path) -> list[str]:
    return sorted(path.name for path in (root / FOLDER).iterdir())


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_second_run_is_told_who_is_at_work_and_the_first_goes_on(tmp_path: Path) -> None:
    with holder(tmp_path) as other:
        with pytest.raises(RootError, match=rf"in use by another run: process {other.pid} on .*, since 20") as error, \
             held(Store(str(tmp_path)), PATIENT):
            pass
        assert "choose another --output" in str(error.value)
        assert asked(other) == "mine"


def test_a_released_lock_is_free_at_once_and_numbers_only_grow(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for number in (1, 2, 3):
        with held(store, PATIENT) as lock:
            lock.check()
            assert lock.number == number
            assert lock_state(store)[::2] == (number, False)
        assert lock_state(store).released
    assert files(tmp_path) == ["3.beat", "3.json", "3.released"]


def test_a_holder_that_was_killed_is_passed_over_without_waiting(tmp_path: Path) -> None:
    with holder(tmp_path) as other:
        other.kill()
        # Nobody has asked for its exit code: it is a zombie.
        wait_for(lambda: lock_state(Store(str(tmp_path))).holder.standing == "dead")
        began = time.monotonic()
        with held(Store(str(tmp_path)), PATIENT) as lock:
            assert lock.number == 2
        assert time.monotonic() - began < 5


def test_a_stopped_holder_is_taken_over_after_the_stale_time_and_finds_itself_fenced(tmp_path: Path) -> None:
    with holder(tmp_path) as other:
        os.kill(other.pid, signal.SIGSTOP)
        began = time.monotonic()
        with held(Store(str(tmp_path)), QUICK) as lock:
            assert time.monotonic() - began >= QUICK.stale
            os.kill(other.pid, signal.SIGCONT)
            assert asked(other).endswith("has taken over, this one stops; what is done is kept")
            lock.check()
        assert other.stdin is not None
        other.stdin.close()
        other.wait(20)
    assert [name for name in files(tmp_path) if name != "1.beat"] == ["2.beat", "2.json", "2.released"]


def test_a_holder_on_another_machine_is_told_by_its_beat_alone(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    far = Holder("far", "another-boot", "pid:[1]", 1, 1, "2026-01-01T00:00:00+00:00")
    assert store.create_new(f"{FOLDER}/7.json", far.as_bytes())
    beats = itertools.count()

    def beat(ended: threading.Event) -> None:
        while not ended.wait(0.1):
            store.write(f"{FOLDER}/7.beat", str(next(beats)).encode())

    ended = threading.Event()
    thread = threading.Thread(target=beat, args=(ended,))
    thread.start()
    try:
        with pytest.raises(RootError, match="process 1 on far, since 2026-01-01"), held(store, PATIENT):
            pass
    finally:
        ended.set()
        thread.join()
    with held(store, QUICK) as lock:
        assert lock.number == 8


def test_an_unreadable_lock_is_a_lock_until_it_is_stale(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for content in (b"", b"\xff{", b"[1]", b'{"pid": "1", "started": -3, "host": null}', b'{"pid": 99999999999999999999}'):
        assert Holder.read(content).standing == "unknown"
    assert store.create_new(f"{FOLDER}/1.json", b"")
    assert store.create_new(f"{FOLDER}/notes.json", b"not a lock")
    began = time.monotonic()
    with held(store, QUICK) as lock:
        assert (lock.number, time.monotonic() - began >= QUICK.stale) == (2, True)


def test_only_this_machines_own_dead_processes_are_taken_for_dead() -> None:
    here = Holder.this_process()
    assert here.standing == "alive"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()

    def standing(**changes: int | str) -> str:
        return Holder(**{**vars(here), **changes}).standing

    assert standing(pid=dead.pid) == "dead"
    assert standing(started=here.started - 1) == "dead", "another process has this id now"
    assert standing(pid=dead.pid, boot="other") == standing(pid=dead.pid, namespace="pid:[1]") == "unknown"
    assert standing(pid=dead.pid, host="other") == standing(pid=dead.pid, boot="") == standing(pid=0) == "unknown"


@pytest.mark.parametrize("before", ["nobody", "released", "stale"])
def test_of_many_that_come_at_once_one_gets_the_lock(tmp_path: Path, before: str) -> None:
    store = Store(str(tmp_path))
    if before == "released":
        with held(store, QUICK):
            pass
    elif before == "stale":
        store.create_new(f"{FOLDER}/1.json", b"{}")
    together, got = threading.Barrier(6), []
    refused: list[str] = []

    def contend() -> None:
        together.wait()
        try:
            with held(store, QUICK) as lock:
                got.append(lock.number)
                wait_for(lambda: len(refused) == 5)
        except RootError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=contend) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (got, len(refused)) == ([1 if before == "nobody" else 2], 5)
    assert all(f"process {os.getpid()} on" in error for error in refused)


@dataclass(frozen=True)
class Late(Store):
    """Between looking and creating a file others have come, gone, and tidied up."""

    def create_new(self, path: str, content: bytes) -> bool:
        super().create_new(f"{FOLDER}/9.json", b"{}")
        return super().create_new(path, content)


def test_who_creates_a_number_that_is_over_does_not_hold_the_root(tmp_path: Path) -> None:
    entered = []
    with pytest.raises(RootError, match="has taken over"), held(Late(str(tmp_path)), QUICK):
        entered.append(True)
    assert entered == []
    assert not lock_state(Store(str(tmp_path))).released


@dataclass(frozen=True)
class Failing(Store):
    """A store whose writes fail while a file `<root>-down` lies beside its folder."""

    error: Exception

    def write(self, path: str, content: bytes) -> None:
        if os.path.exists(f"{self.url}-down"):
            raise self.error
        super().write(path, content)


def test_a_store_that_fails_for_a_while_costs_no_run_and_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, down = Failing(str(tmp_path / "root"), OSError(5, "Input/output error")), tmp_path / "root-down"
    with held(store, QUICK) as lock:
        wait_for(lambda: store.exists(f"{FOLDER}/1.beat"))
        down.touch()
        time.sleep(0.5)
        lock.check()
        stood = store.read(f"{FOLDER}/1.beat")
        down.unlink()
        time.sleep(0.5)
        assert store.read(f"{FOLDER}/1.beat") != stood
        lock.check()
    assert lock_state(store).released
    assert [record.message for record in caplog.records if "heartbeat" in record.message] == [
        "the lock's heartbeat cannot be written, trying again: [Errno 5] Input/output error"]


def test_a_heart_that_stops_for_any_other_reason_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)   # it prints the traceback
    store, down = Failing(str(tmp_path / "root"), LookupError("a defect")), tmp_path / "root-down"
    with held(store, QUICK) as lock:
        lock.check()
        down.touch()
        time.sleep(0.4)
        with pytest.raises(RootError, match="heartbeat of this run's lock has ended"):
            lock.check()
        down.unlink()


def test_a_lock_file_that_someone_removed_stops_the_run(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with held(store, QUICK) as lock:
        store.remove(f"{FOLDER}/1.json")
        with pytest.raises(RootError, match="was removed"):
            lock.check()


def test_a_wall_clock_that_jumps_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = itertools.cycle([4e9, 0.0, 2e9])
    with holder(tmp_path) as other:
        wait_for((tmp_path / FOLDER / "1.beat").exists)
        monkeypatch.setattr(time, "time", lambda: next(jumps))
        os.utime(tmp_path / FOLDER / "1.json", (0, 0))
        os.utime(tmp_path / FOLDER / "1.beat", (4e9, 4e9))
        with pytest.raises(RootError, match="in use"), held(Store(str(tmp_path)), PATIENT):
            pass
        assert asked(other) == "mine"


@pytest.fixture
def remote(s3_server: str, tmp_path: Path) -> Store:
    return Store(f"s3://bucket/{tmp_path.name}")


def test_a_lock_in_an_object_store_keeps_a_second_run_out_and_fences_the_first(remote: Store) -> None:
    with held(remote, QUICK) as first:
        with pytest.raises(RootError, match="in use by another run"), held(remote, PATIENT):
            pass
        first.check()
        assert remote.create_new(f"{FOLDER}/2.json", json.dumps({"host": "far", "pid": 3}).encode())
        with pytest.raises(RootError, match=r"another run \(process 3 on far, since an unknown time\) has taken over"):
            first.check()
    assert not lock_state(remote).released, "a fenced holder released the lock of the next"
    with held(remote, QUICK) as third:
        assert third.number == 3
    assert [name for name in remote.names(FOLDER) if name.startswith(("1.", "2."))] == []
