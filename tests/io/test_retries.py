import errno

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from pipeline.store.retries import Exhausted, Patience, is_passing, retried


class Failing:
    """Fails as often as told, then answers."""

    def __init__(self, *errors):
        self.errors, self.calls = list(errors), 0

    def __call__(self):
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def patience(**given):
    waited = []
    clock = iter(range(1000)).__next__ if "clock" not in given else given.pop("clock")
    longest = {"uniform": lambda least, most: most, "sleep": waited.append, "clock": clock}
    return waited, Patience(**{**longest, **given})


def test_the_pauses_double_up_to_a_bound_and_the_jitter_is_full():
    asked = []
    waited, calm = patience(tries=6, base=1, cap=5, seconds=1000, uniform=lambda least, most: asked.append((least, most)) or 0.5)
    assert retried(Failing(*[TimeoutError()] * 5), "file", calm) == "answer"
    assert asked == [(0, 1), (0, 2), (0, 4), (0, 5), (0, 5)]
    assert waited == [0.5] * 5


def test_the_last_error_is_told_with_how_often_and_how_long():
    _, calm = patience(tries=3, seconds=1000)
    action = Failing(*[ConnectionResetError(104, "Connection reset by peer")] * 9)
    with pytest.raises(Exhausted, match=r"3 tries in 3\.0 s failed, the last one with ConnectionReset.*by peer") as info:
        retried(action, "file", calm)
    assert action.calls == 3
    assert isinstance(info.value.__cause__, ConnectionResetError)


def test_no_try_begins_after_the_time_is_over():
    waited, calm = patience(tries=100, base=1, cap=1, seconds=5)
    with pytest.raises(Exhausted, match="5 tries in 5"):
        retried(Failing(*[TimeoutError()] * 100), "file", calm)
    assert len(waited) == 4


@pytest.mark.parametrize("error", [
    FileNotFoundError("x"), PermissionError(13, "x"), IsADirectoryError(21, "x"), OSError(errno.ENOSPC, "x"),
    OSError(errno.EINVAL, "x"),
])
def test_a_lasting_error_is_not_tried_again(error):
    waited, calm = patience()
    action = Failing(error)
    with pytest.raises(OSError, match="x") as info:
        retried(action, "file", calm)
    assert (info.value, action.calls, waited) == (error, 1, [])


def s3_error(code, status, kind=OSError):
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
def test_what_the_server_answered_decides_before_how_the_client_words_it(error, passing):
    assert is_passing(error) is passing
