"""Trying again what may fail for a passing reason, with tenacity: exponential back-off with full jitter (AWS Architecture Blog,
"Exponential Backoff and Jitter", 2015). Ours is telling a passing error from a lasting one.

The clients below fsspec raise errors of their own. They are recognised without importing them: a package that is not
loaded has raised nothing.
"""

import errno
import logging
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException, IncompleteRead
from typing import NoReturn, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, stop_before_delay, wait_random_exponential

T = TypeVar("T")

log = logging.getLogger(__name__)

PASSING_ERRNO = frozenset({errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT})
PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
PASSING_CODES = frozenset({
    "InternalError", "OperationAborted", "ConditionalRequestConflict", "RequestTimeout", "RequestTimeoutException", "SlowDown",
    "ServiceUnavailable", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException",
})
"""S3's words for the same, whatever the status."""
BROKEN = {
    "aiohttp": ("ClientConnectionError", "ClientPayloadError"),
    "botocore.exceptions": ("HTTPClientError", "ConnectionError", "IncompleteReadError"),
    "botocore.parsers": ("ResponseParserError",),
    "urllib3.exceptions": ("HTTPError",),
}
"""Connections that could not be made, broke or stalled."""
FOREIGN = {"aiohttp": ("ClientError",), "botocore.exceptions": ("BotoCoreError", "ClientError")}


@dataclass(frozen=True)
class Backoff:
    """How often and how long one operation is tried. Between two tries passes a random time between 0 and `base` seconds, doubled
    with each try, at most `cap`. In the mean all tries are used up after 24 s; no try begins after `seconds`."""

    tries: int = 8
    base: float = 0.5
    cap: float = 16.0
    seconds: float = 60.0
    sleep: Callable[[float], None] = time.sleep


BACKOFF = Backoff()


class Exhausted(Exception):
    """Every try failed; the message says how many, in how long, and how the last one did. Its cause is the last error."""


def retried(action: Callable[[], T], name: str, patience: Backoff | None = None) -> T:
    """Returns what `action`, which must be safe to repeat, returns at last. Raises lasting errors as they are, else Exhausted.

    `name` names the file in the log.
    """
    try:
        return action()   # nearly always all there is to do
    except Exception as error:
        if not _may_pass(error):
            raise
        return _again(action, error, name, patience or BACKOFF)


def _again(action: Callable[[], T], failed: Exception, name: str, allowed: Backoff) -> T:
    """As `retried`, after a first try that `failed`."""
    outcomes: list[Exception] = [failed]

    def attempt() -> T:
        if outcomes:
            raise outcomes.pop()
        return action()

    def announce(state: RetryCallState) -> None:
        why = described(_error_of(state))
        log.warning("%s: try %d failed (%s), next in %.1f s", name, state.attempt_number, why, state.upcoming_sleep)

    tries: Retrying = Retrying(
        sleep=allowed.sleep, wait=wait_random_exponential(allowed.base, allowed.cap),
        stop=stop_after_attempt(allowed.tries) | stop_before_delay(allowed.seconds),
        retry=retry_if_exception(_may_pass), before_sleep=announce, retry_error_callback=_give_up,
    )
    return tries(attempt)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, failures()) and is_passing(error)   # asked late: a try may load its client


def _give_up(state: RetryCallState) -> NoReturn:
    error, number = _error_of(state), state.attempt_number
    tries = "1 try" if number == 1 else f"{number} tries"
    raise Exhausted(f"{tries} in {state.seconds_since_start:.1f} s failed, the last one with {described(error)}") from error


def _error_of(state: RetryCallState) -> BaseException:
    error = None if state.outcome is None else state.outcome.exception()
    assert error is not None   # both are called after a try that failed
    return error


def failures(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """The errors by which disks and stores fail, and these."""
    return (OSError, HTTPException, *_loaded(BROKEN), *_loaded(FOREIGN), *others)


def is_passing(error: BaseException) -> bool:
    """Whether the same may work in a while. What a server answered decides, however its client words it."""
    chain = list(causes(error))
    answered = next((e for e in chain if _answer(e) is not None), None)
    if answered is not None:
        return _answer(answered) in PASSING_STATUS or _code(answered) in PASSING_CODES
    broken = (ConnectionError, TimeoutError, IncompleteRead, *_loaded(BROKEN))
    return any(isinstance(e, broken) or (isinstance(e, OSError) and e.errno in PASSING_ERRNO) for e in chain)


def status_of(error: BaseException) -> int | None:
    """The HTTP status behind an error; None when no server answered."""
    return next((status for e in causes(error) if (status := _answer(e)) is not None), None)


def code_of(error: BaseException) -> str:
    """S3's code behind an error."""
    return next((code for e in causes(error) if (code := _code(e))), "")


def described(error: BaseException) -> str:
    """One line for people on the first cause of an error."""
    cause = list(causes(error))[-1]
    hint = " (so are credentials answered that have expired)" if _answer(cause) == 400 and _code(cause) == "400" else ""   # to HEAD
    return f"{type(cause).__name__}: {' '.join(str(cause).split())}"[:300].removesuffix(": ") + hint


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from; s3fs and fsspec's HTTP reword what their clients raise."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        yield cause
        cause = cause.__cause__


def _answer(error: BaseException) -> int | None:
    response = getattr(error, "response", None)   # botocore
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(error, "status", None)   # aiohttp
    return status if isinstance(status, int) else None


def _code(error: BaseException) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _loaded(table: dict[str, tuple[str, ...]]) -> tuple[type[Exception], ...]:
    return tuple(getattr(sys.modules[module], name) for module, names in table.items() if module in sys.modules for name in names)
