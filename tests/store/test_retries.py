import errno
import sys
import time
from typing import Any

import aiohttp
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from pipeline.store.retries import Backoff, Exhausted, is_passing, retried


class Failing:
    """Fails as often as told, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.calls = list(errors), 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def patience(**given: Any) -> tuple[list[float], Backoff]:
    waited: list[float] = []
    return waited, Backoff(**{"sleep": waited.append, **given})


def test_the_pauses_double_up_to_a_bound_and_the_jitter_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def uniform(least: float, most: float) -> float:
        asked.append((least, most))
        return 0.5

    monkeypatch.setattr("random.uniform", uniform)
    waited, calm = patience(tries=6, base=1, cap=5, seconds=1000)
    assert retried(Failing(*[TimeoutError()] * 5), "file", calm) == "answer"
    assert asked == [(0, 1), (0, 2), (0, 4), (0, 5), (0, 5)]
    assert waited == [0.5] * 5


def test_the_last_error_is_told_with_how_often_and_how_long() -> None:
    calm = Backoff(tries=3, base=0.2, cap=0.2, sleep=lambda _: time.sleep(0.1))
    action = Failing(*[ConnectionResetError(104, "Connection reset by peer")] * 9)
    with pytest.raises(Exhausted, match=r"3 tries in 0\.[2-9] s failed, the last one with ConnectionReset.*by peer") as info:
        retried(action, "file", calm)
    assert action.calls == 3
    assert isinstance(info.value.__cause__, ConnectionResetError)


def test_each_failed_try_is_in_the_log_with_the_file_and_the_pause(caplog: pytest.LogCaptureFixture) -> None:
    _, calm = patience(base=0.0)
    assert retried(Failing(TimeoutError("slow")), "s3://bucket/file", calm) == "answer"
    assert caplog.messages == ["s3://bucket/file: try 1 failed (TimeoutError: slow), next in 0.0 s"]


def test_a_client_that_the_first_try_loads_is_known_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "aiohttp")
    errors = [aiohttp.ClientPayloadError("cut off")]

    def action() -> str:
        monkeypatch.setitem(sys.modules, "aiohttp", aiohttp)
        if errors:
            raise errors.pop()
        return "answer"

    assert retried(action, "file", patience()[1]) == "answer"


def test_no_try_begins_after_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda least, most: most)
    began, error = [], TimeoutError()

    def action() -> None:
        began.append(time.monotonic())
        raise error

    with pytest.raises(Exhausted, match=r"tries in 0\.\d s"):
        retried(action, "file", Backoff(tries=1000, base=0.05, cap=0.05, seconds=0.4))
    assert 2 <= len(began) <= 8
    assert began[-1] - began[0] < 0.4


@pytest.mark.parametrize("error", [
    FileNotFoundError("x"), PermissionError(13, "x"), IsADirectoryError(21, "x"), OSError(errno.ENOSPC, "x"),
    OSError(errno.EINVAL, "x"),
])
def test_a_lasting_error_is_not_tried_again(error: Exception) -> None:
    waited, calm = patience()
    action = Failing(error)
    with pytest.raises(OSError, match="x") as info:
        retried(action, "file", calm)
    assert (info.value, action.calls, waited) == (error, 1, [])


def test_an_error_of_the_program_is_not_tried_again_whatever_it_was_raised_from() -> None:
    waited, calm = patience()
    error = ValueError("x")
    error.__cause__ = TimeoutError()
    with pytest.raises(ValueError, match="x"):
        retried(Failing(error), "file", calm)
    assert not waited


def s3_error(code: str, status: int, kind: type[OSError] = OSError) -> OSError:
    answer = ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")
    error = kind(errno.EIO, "as s3fs words it")
    error.__cause__ = answer
    return error


@pytest.mark.parametrize(("error", "passing"), [
    *[(OSError(number, "x"), True) for number in (errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT)],
    (ConnectionRefusedError(), True), (BrokenPipeError(), True), (EndpointConnectionError(endpoint_url="x"), True),
    (s3_error("SlowDown", 503), True), (s3_error("InternalError", 500), True), (s3_error("InternalError", 200), True),
    (s3_error("TooMany", 429), True), (s3_error("AccessDenied", 403, PermissionError), False),
    (s3_error("InvalidRange", 416), False), (s3_error("XMinioStorageFull", 507), False),
    (s3_error("NoSuchKey", 404, FileNotFoundError), False), (s3_error("503", 503, FileNotFoundError), True),
])
def test_what_the_server_answered_decides_before_how_the_client_words_it(error: Exception, passing: bool) -> None:
    assert is_passing(error) is passing
