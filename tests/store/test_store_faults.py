"""What the store layer does when a store fails: a real S3 API behind a proxy that answers wrongly, late or not at all."""

import errno
import gc
import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pipeline.errors import InputError, OutputError, SourceError
from pipeline.input.discovery import discover
from pipeline.store import s3 as limits
from pipeline.store import writing
from pipeline.store.reading import retried_read, unchanged_only
from pipeline.store.source import SourceFile
from pipeline.store.store import Store, exists, files_in, find, is_folder, open_url, read_ranges, stat
from tests.store.proxy import Proxy

CONTENT = b"".join(hashlib.sha256(str(i).encode()).digest() for i in range(40_000))   # 1.28 MB
PASSING = [500, 502, 503, 429, "reset", "cut"]


@pytest.fixture
def store(anywhere: str, quick: None) -> Store:
    found = Store(f"{anywhere}/root")
    if found.local is None:
        found._target[0].default_block_size = 5 << 20   # parts as small as S3 allows
    return found


@pytest.fixture
def remote(proxy: Proxy, tmp_path: Path) -> Store:
    return Store(f"s3://bucket/{tmp_path.name}")


@pytest.fixture
def urls(proxy: Proxy, remote: Store) -> dict[str, str]:
    """One file of CONTENT, as S3 and as HTTP; the proxy counts from now."""
    put(remote, CONTENT)
    proxy.asked.clear()
    return {"s3": f"{remote.url}/in/a.tar", "http": remote.url.replace("s3://", f"{proxy.endpoint}/") + "/in/a.tar"}


def put(store: Store, content: bytes) -> None:
    """A file that everybody may read, so that plain HTTP may."""
    store.write("in/a.tar", content)
    store._target[0].chmod(f"{store.url}/in/a.tar", acl="public-read")


def uploads(store: Store) -> list[str]:
    """Those begun and not ended in a store."""
    begun = fsspec.filesystem("s3").list_multipart_uploads("bucket")
    return [upload["Key"] for upload in begun if f"bucket/{upload['Key']}".startswith(store.url.removeprefix("s3://"))]


def streamed(url: str, break_off: Callable[[], None]) -> tuple[bytes, int]:
    """A file read in pieces; `break_off` is called after the first."""
    with open_url(url, scattered=True) as file:
        first = file.read(1 << 18)
        break_off()
        return first + b"".join(iter(lambda: file.read(1 << 18), b"")), file.bytes_read


@pytest.mark.parametrize("protocol", ["s3", "http"])
@pytest.mark.parametrize("how", PASSING)
def test_a_stream_goes_on_where_it_was(proxy: Proxy, urls: dict[str, str], protocol: str, how: int | str) -> None:
    break_off = partial(proxy.fail, "GET .*in/a.tar", how, times=2)
    assert streamed(urls[protocol], break_off) == (CONTENT, len(CONTENT))
    assert proxy.failed == 2


@pytest.mark.parametrize("protocol", ["s3", "http"])
def test_a_stream_that_stalls_is_begun_again_after_the_time_limit(
    proxy: Proxy, urls: dict[str, str], protocol: str, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "READ_SECONDS", 0.5)
    start = time.monotonic()
    assert streamed(urls[protocol], partial(proxy.fail, "GET .*in/a.tar", "stall", times=1))[0] == CONTENT
    assert 0.4 < time.monotonic() - start < 10


def test_every_stretch_of_a_stream_has_all_tries(proxy: Proxy, urls: dict[str, str]) -> None:
    with open_url(urls["s3"], scattered=True) as file:
        content = b""
        for _ in range(2):
            proxy.fail("GET .*in/a.tar", 503, times=2)
            content += file.read(len(CONTENT) // 2)
    assert content == CONTENT
    assert proxy.failed == 4, "three tries would not have been enough for both"


@pytest.mark.parametrize("how", [None, 503])
@pytest.mark.parametrize("protocol", ["s3", "http"])
def test_a_file_that_changes_while_it_is_read_is_named(
    proxy: Proxy, remote: Store, urls: dict[str, str], protocol: str, how: int | None,
) -> None:
    with open_url(urls[protocol], scattered=True) as file:
        assert file.read(1000) == CONTENT[:1000]
        put(remote, CONTENT[::-1])
        if how is not None:
            proxy.fail("GET .*in/a.tar", how, times=1)
        with pytest.raises(InputError, match=r"in/a\.tar changed while it was read"):
            file.read(1000)
        assert file.failed


class Shaky(io.FileIO):
    """A local file on a disk that fails once at each of these offsets."""

    def __init__(self, path: Path, failing: list[int]) -> None:
        super().__init__(path)
        self.failing = failing

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() in self.failing:
            self.failing.remove(self.tell())
            raise OSError(errno.EIO, "Input/output error")
        return super().read(size)


def test_a_local_disk_that_fails_once_is_read_again(tmp_path: Path, quick: None) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    failing = [0, 1 << 18, 1 << 20]
    file = SourceFile(lambda: Shaky(tmp_path / "a", failing), partial(retried_read, "a"))
    assert b"".join(iter(lambda: file.read(1 << 18), b"")) == CONTENT
    assert failing == []


def test_a_local_file_that_was_replaced_is_not_gone_on_with(tmp_path: Path, quick: None) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    file = SourceFile(unchanged_only(lambda: Shaky(tmp_path / "a", [1000])), partial(retried_read, "a"))
    assert file.read(1000) == CONTENT[:1000]
    (tmp_path / "b").write_bytes(CONTENT)
    (tmp_path / "b").replace(tmp_path / "a")
    with pytest.raises(InputError, match="a changed while it was read"):
        file.read(1000)


READS: dict[str, Callable[[str], Any]] = {
    "open": open_url, "stat": stat, "exists": exists, "is_folder": is_folder, "files_in": files_in,
    "read": lambda url: open_url(url).read(10), "read_ranges": lambda url: read_ranges(url, [(0, 10), (1 << 20, (1 << 20) + 5)]),
    "find": lambda url: find(url.removesuffix("/a.tar"), (".tar",)),
}


@pytest.mark.parametrize("name", READS)
def test_an_input_operation_survives_two_failures_and_names_a_third(proxy: Proxy, urls: dict[str, str], name: str) -> None:
    expected = READS[name](urls["s3"])
    proxy.fail("(GET|HEAD) ", 500, times=2)
    found = READS[name](urls["s3"])
    assert found == expected or name == "open"
    assert proxy.failed == 2
    proxy.fail("(GET|HEAD) ", 503, code="SlowDown")
    with pytest.raises(InputError, match=r"in.* cannot be read: 3 tries in \d+\.\d s failed, .* ClientError: .*(SlowDown|503)"):
        READS[name](urls["s3"])


@pytest.mark.parametrize("name", ["open", "stat", "exists", "is_folder", "read_ranges"])
def test_an_http_server_that_fails_is_no_server_without_the_file(proxy: Proxy, urls: dict[str, str], name: str) -> None:
    proxy.fail("(GET|HEAD) ", 500)
    with pytest.raises(InputError, match=r"a\.tar cannot be read: 3 tries in .* 500"):
        READS[name](urls["http"])


@pytest.mark.parametrize(("how", "message"), [(500, "3 tries in .*: 500"), (403, "not allowed to read"), (410, "410|no such file")])
@pytest.mark.parametrize("what", ["", "/a.tar", "/{a,b}.tar"])
def test_discovery_ends_in_one_line(proxy: Proxy, urls: dict[str, str], how: int, message: str, what: str) -> None:
    proxy.fail("(GET|HEAD) ", how)
    with pytest.raises(InputError, match=message) as info:
        discover([urls["http"].removesuffix("/a.tar") + what])
    assert "\n" not in str(info.value)


def test_a_server_that_is_not_there_is_named(quick: None, unused_tcp_port_of_nobody: int) -> None:
    with pytest.raises(InputError, match=r"3 tries .*(Connect|refused)"):
        discover([f"http://127.0.0.1:{unused_tcp_port_of_nobody}/a.tar"])


@pytest.fixture
def unused_tcp_port_of_nobody() -> Iterator[int]:
    import socket

    with socket.socket() as held:   # bound, but nobody listens
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_who_has_no_credentials_is_told_what_a_public_bucket_needs(
    s3_server: str, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setattr(limits, "CONNECT_SECONDS", 7)   # fsspec keeps one client for each set of options
    with pytest.raises(SourceError, match=r"NoCredentialsError.*FSSPEC_S3_ANON=true for a public bucket, then run"):
        discover(["s3://bucket/public/*.tar"])


@pytest.mark.parametrize(("code", "advice"), [
    ("ExpiredToken", "renew the credentials"), ("AccessDenied", "see to it|right to write"),
])
def test_an_output_whose_credentials_expire_says_so(proxy: Proxy, remote: Store, code: str, advice: str) -> None:
    proxy.fail("(GET|PUT) ", 403, code=code)
    actions: list[Callable[[], object]] = [lambda: remote.read("a"), remote.names, lambda: remote.write("a", b"1")]
    for action in actions:
        with pytest.raises(OutputError, match=rf"{code}.*({advice}).*then run the same command again"):
            action()


def create_small(store: Store) -> None:
    with store.create("new/file") as file:
        file.write(CONTENT)


def create(store: Store) -> None:
    """A file that counts as a large one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "IN_ONE_PUT", 0)
        create_small(store)


CHANGES: dict[str, Callable[[Store], object]] = {
    "write": lambda store: store.write("new/file", CONTENT), "create": create,
    "create_small": create_small,
    "create_new": lambda store: store.create_new("new/file", b"1"), "append": lambda store: store.append_line("new/log", "line"),
    "remove": lambda store: store.remove("in"),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("how", [500, "reset", "lost"])
def test_a_change_survives_two_failures(proxy: Proxy, remote: Store, urls: dict[str, str], name: str, how: int | str) -> None:
    """Of a file that is created piece by piece, the commit; its pieces are the next test's."""
    proxy.fail("POST .*uploadId=" if name == "create" else "(PUT|POST) ", how, times=2)
    CHANGES[name](remote)
    assert proxy.failed == (1 if (name, how) == ("remove", "lost") else 2)   # what is gone is not asked for again
    if name in ("write", "create", "create_small"):
        assert remote.read("new/file") == CONTENT
    assert remote.exists("in") == (name != "remove")
    assert uploads(remote) == []


@pytest.mark.parametrize("committed", [True, False])
def test_an_upload_that_the_store_no_longer_knows_counts_only_if_it_was_committed(
    proxy: Proxy, remote: Store, committed: bool,
) -> None:
    if committed:
        proxy.fail("POST .*uploadId=", "lost", times=1)
    proxy.fail("POST .*uploadId=", 404, code="NoSuchUpload")
    remote.write("new/file", CONTENT[::-1])   # of the same size
    if committed:
        create(remote)
        assert remote.read("new/file") == CONTENT
        return
    with pytest.raises(OutputError, match="new/file cannot be written"):
        create(remote)
    assert remote.read("new/file") == CONTENT[::-1]


def test_what_a_store_does_not_remove_is_not_taken_for_removed(proxy: Proxy, remote: Store, urls: dict[str, str]) -> None:
    refusal = "<DeleteResult><Error><Key>in/a.tar</Key><Code>{code}</Code></Error></DeleteResult>"   # which s3fs passes over
    proxy.fail("POST .*delete", 200, code="AccessDenied", body=refusal)
    with pytest.raises(OutputError, match=r"in cannot be written: .* it is still there"):
        remote.remove("in")


@pytest.mark.parametrize("how", [500, "reset"])
def test_a_piece_of_a_created_file_relies_on_the_tries_of_a_request(
    proxy: Proxy, remote: Store, monkeypatch: pytest.MonkeyPatch, how: int | str,
) -> None:
    monkeypatch.setattr(limits, "REQUEST_TRIES", 2)
    proxy.fail("PUT .*partNumber", how, times=1)
    create(Store(remote.url))
    assert remote.read("new/file") == CONTENT
    assert proxy.failed == 1


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_that_fails_for_good_names_the_file_and_leaves_nothing(
    proxy: Proxy, remote: Store, urls: dict[str, str], name: str,
) -> None:
    proxy.fail("(PUT|POST) ", 503, code="SlowDown")
    with pytest.raises(OutputError, match=r"(new/|in).* cannot be written: .*(SlowDown|503).*then run the same command again"):
        CHANGES[name](remote)
    proxy.heal()
    assert not remote.exists("new")
    gc.collect()
    assert uploads(remote) == []


@pytest.mark.parametrize("code", ["AccessDenied", "QuotaExceeded"])
def test_what_a_store_refuses_is_not_tried_again_and_says_what_to_do(proxy: Proxy, remote: Store, code: str) -> None:
    proxy.fail("PUT ", 403, code=code)
    with pytest.raises(OutputError, match="right to write" if code == "AccessDenied" else "quota"):
        remote.write("a", b"1")
    assert len(proxy.asked) == 1


def test_the_tries_of_three_layers_do_not_multiply(proxy: Proxy, remote: Store) -> None:
    proxy.fail("GET ", 503, code="SlowDown")   # which botocore and s3fs would try again as well
    with pytest.raises(OutputError, match="3 tries"):
        remote.names()
    assert len(proxy.asked) == 3


@pytest.mark.parametrize("read", [
    lambda s: s.exists("in/a.tar"), lambda s: s.names("in"), lambda s: s.size("in/a.tar"), lambda s: s.read("in/a.tar"),
    lambda s: s.open("in/a.tar").read(), lambda s: s.tail("in/a.tar", 50), lambda s: s.ranges("in/a.tar", [(0, 9), (5, 30)]),
])
def test_reading_the_output_survives_two_failures_and_names_a_third(
    proxy: Proxy, remote: Store, urls: dict[str, str], read: Callable[[Store], object],
) -> None:
    expected = read(remote)
    proxy.fail("(GET|HEAD) ", "reset", times=2)
    assert read(remote) == expected
    proxy.fail("(GET|HEAD) ", 502)
    with pytest.raises(OutputError, match=r"in.* cannot be read: 3 tries"):
        read(remote)


@pytest.mark.parametrize("lost", [False, True])
def test_of_many_callers_one_makes_a_new_file(store: Store, request: pytest.FixtureRequest, lost: bool) -> None:
    if lost and store.local is None:
        proxy = request.getfixturevalue("proxy")
        proxy.fail("PUT .*lock", "lost", times=2)
    contents = [f"{number:06d}".encode() * 1000 for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(partial(Store(store.url).create_new, "log/lock"), contents))
    assert sum(made) == 1
    assert store.read("log/lock") == contents[made.index(True)]
    assert not store.create_new("log/lock", b"late")


def test_without_hard_links_still_one_caller_makes_a_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")   # as FAT answers

    monkeypatch.setattr(os, "link", refuse)
    store = Store(str(tmp_path))
    assert [store.create_new("lock", b"1"), store.create_new("lock", b"2")] == [True, False]
    assert store.read("lock") == b"1"
    assert os.listdir(tmp_path / ".partial") == []


def cleared_by_another(store: Store) -> int:
    """As another process would: what this one is writing is not spared."""
    with pytest.MonkeyPatch.context() as patched:
        if store.local is not None:   # uploads to an object store carry no process id
            patched.setattr(os, "getpid", lambda: 0)
        return store.clear_partial()


def test_a_new_file_survives_that_the_holder_of_the_store_clears_it_in_the_making(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    link, store = os.link, Store(str(tmp_path))
    cleared: list[int] = []

    def late(source: str, target: str) -> None:
        if not cleared:
            cleared.append(cleared_by_another(store))
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    assert store.create_new("lock", b"1")
    assert (cleared, store.read("lock")) == ([1], b"1")


@pytest.mark.parametrize("size", [0, 100, 6 << 20])
def test_a_file_that_was_given_up_begins_no_upload_when_it_is_collected(store: Store, size: int) -> None:
    with pytest.raises(InterruptedError), store.create("file") as file:   # noqa: PT012
        file.write(bytes(size))
        raise InterruptedError
    del file
    gc.collect()
    assert not [kept for kept in gc.get_objects() if type(kept).__name__ == "S3File" and kept.path.startswith(store._target[1])]
    assert find(store.url, ("",)) == []
    if store.local is None:
        assert uploads(store) == []


def test_a_whole_file_is_read_in_one_request(proxy: Proxy, remote: Store, urls: dict[str, str]) -> None:
    """Parts of an object that is replaced meanwhile could be of two versions."""
    remote._target[0].default_block_size = len(CONTENT) // 4
    assert remote.read("in/a.tar") == CONTENT
    assert len([line for line in proxy.asked if line.startswith("GET ") and "a.tar" in line]) == 1


def test_a_reader_sees_the_old_file_or_the_new_one_and_nothing_else(store: Store) -> None:
    def see() -> str | None:
        try:
            return hashlib.sha256(Store(store.url).read("file")).hexdigest()
        except FileNotFoundError:
            return None

    seen, done = [], threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append(see())

    watcher = threading.Thread(target=watch)
    watcher.start()
    versions: list[str | None] = [None]
    for discarded, byte in ((True, b"x"), (False, b"a"), (True, b"x"), (False, b"b")):
        before = len(seen)
        try:
            with store.create("file") as file:
                for _ in range(12):
                    file.write(byte * (1 << 20))
                while len(seen) < before + 3:   # the reader looks while parts are up
                    time.sleep(0.002)
                if discarded:
                    raise InterruptedError
            versions.append(hashlib.sha256(byte * (12 << 20)).hexdigest())
        except InterruptedError:
            assert see() == versions[-1]
    done.set()
    watcher.join()
    assert set(seen) <= set(versions)
    assert [versions.index(now) for now in seen] == sorted(versions.index(now) for now in seen), "a version came back"


CHILD = """
import sys
from pipeline.store.store import Store

store, name, byte, times = Store(sys.argv[1]), sys.argv[2], sys.argv[3].encode(), int(sys.argv[4])
if store.local is None:
    store._target[0].default_block_size = 5 << 20
print("ready", flush=True)
sys.stdin.readline()
for _ in range(times):
    with store.create(name) as file:
        file.write(byte * (6 << 20))
        if times == 1:
            print("written", flush=True)
            sys.stdin.readline()
"""


def child(store: Store, name: str, byte: str, times: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", CHILD, store.url, name, byte, str(times)]
    running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    return running


def go_on(running: subprocess.Popen[str]) -> None:
    assert running.stdin is not None
    running.stdin.write("\n")
    running.stdin.flush()


def test_a_process_that_is_killed_while_it_writes_leaves_nothing_that_is_seen(store: Store) -> None:
    (store / "beside").write("kept", b"1")
    aside = Store(store.url + "-other").create("open")   # another root, whose name begins alike
    with aside as untouched:
        untouched.write(bytes(6 << 20))
        untouched.flush()
        writer = child(store, "new/file", "x", 1)
        go_on(writer)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        assert store.names("new") == []
        assert not store.exists("new/file")
        assert store.clear_partial() == 1
        assert store.clear_partial() == 0
    assert Store(store.url + "-other").size("open") == 6 << 20
    if store.local is None:
        assert uploads(store) == []
    assert [info.url.removeprefix(store.url) for info in find(store.url, ("",))] == ["/beside/kept"]


def test_a_writer_whose_partial_file_was_cleared_fails_and_shows_nothing(store: Store) -> None:
    with pytest.raises(OutputError, match="file cannot be written"), store.create("file") as file:   # noqa: PT012
        file.write(bytes(6 << 20))
        file.flush()
        assert cleared_by_another(store) == 1
    assert not store.exists("file")


def test_two_processes_that_write_one_file_leave_one_whole_file(store: Store) -> None:
    writers = [child(store, "file", byte, 2) for byte in "ab"]
    for writer in writers:
        go_on(writer)
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if store.exists("file"):
            seen.add(store.read("file"))
    assert [writer.returncode for writer in writers] == [0, 0]
    wholes = {byte * (6 << 20) for byte in (b"a", b"b")}
    assert seen | {store.read("file")} <= wholes
    assert store.clear_partial() == 0
