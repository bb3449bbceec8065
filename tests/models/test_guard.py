"""The guard: a picture that kills its decoder gets a code; what is not the picture's fault is not blamed on it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
import pytest

from pipeline.errors import SampleFailure
from pipeline.models.pixels.guard import Guard
from schemas.reasons import ImageFault
from tests.models import killers
from tests.models.zoo import zoo

ALL = ("jpeg", "png", "webp")
HARMLESS = b"a picture that the decoder survives"


@contextmanager
def guarded(decoder: str = "decode", seconds: float = 60.0, max_pixels: int = 10**6) -> Iterator[Callable[[bytes], None]]:
    with Guard(f"tests.models.killers:{decoder}", seconds).open(ALL, max_pixels) as check:
        yield check


def fault(check: Callable[[bytes], None], data: bytes) -> str:
    with pytest.raises(SampleFailure) as failure:
        check(data)
    return failure.value.code


def children() -> list[psutil.Process]:
    alive = (child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE)
    return [child for child in alive if "pipeline.models.pixels.guard" in " ".join(child.cmdline())]


@pytest.mark.parametrize("deadly", [killers.SEGFAULT, killers.ABORT, killers.ERROR, killers.MEMORY])
def test_a_picture_that_kills_its_decoder_is_named_and_the_next_one_is_decoded(deadly: bytes) -> None:
    with guarded() as check:
        check(HARMLESS)
        assert fault(check, deadly) == ImageFault.DECODER_CRASHED
        assert check(HARMLESS) is None
    assert not children()


def test_a_picture_that_takes_too_long_is_given_up() -> None:
    with guarded(seconds=0.2) as check:
        started = time.monotonic()
        assert fault(check, killers.HANG) == ImageFault.DECODER_HUNG
        assert time.monotonic() - started < 30
        assert check(HARMLESS) is None


def test_death_from_outside_is_no_pictures_fault() -> None:
    with guarded() as check:
        with pytest.raises(RuntimeError, match="SIGKILL; no picture is to blame"):
            check(killers.OUTSIDE)
        check(HARMLESS)
        (child,) = children()
        child.send_signal(signal.SIGTERM)   # between two pictures
        while child.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        with pytest.raises(RuntimeError, match="SIGTERM; no picture"):
            check(HARMLESS * 100_000)
        assert check(HARMLESS) is None


def test_a_decoder_that_cannot_start_blames_no_picture() -> None:
    with guarded("no_such_decoder") as check, pytest.raises(RuntimeError, match="did not start: it ended with exit code 1"):
        check(HARMLESS)


def test_what_a_decoder_prints_is_no_answer() -> None:
    with guarded("says_nothing_and_prints") as check:
        assert fault(check, HARMLESS) == ImageFault.DECODER_CRASHED


def test_several_threads_share_the_child() -> None:
    with guarded() as check, ThreadPoolExecutor(4) as pool:
        def outcome(data: bytes) -> str | None:
            try:
                check(data)
            except SampleFailure as failure:
                return failure.code
            return None

        pictures = [HARMLESS, HARMLESS * 1000, killers.SEGFAULT, HARMLESS, b""] * 3
        assert list(pool.map(outcome, pictures)) == [None, None, ImageFault.DECODER_CRASHED, None, None] * 3
        assert len(children()) <= 1   # none when the segmentation fault came last


ORPHAN = """
import os, sys, threading
from pipeline.models.pixels.guard import Guard
from tests.models import killers
with Guard("tests.models.killers:decode", 1.0).open(("jpeg",), 100) as check:
    check(b"fine")
    if sys.argv[1] == "busy":
        threading.Thread(target=check, args=(killers.HANG,), daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_the_child_does_not_outlive_its_parent(state: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN, state], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    (child,) = psutil.Process(parent.pid).children()
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    child.wait(15)
    assert not child.is_running()


def test_the_real_decoder_survives_every_picture_of_the_zoo_within_its_memory() -> None:
    with Guard().open(ALL, 12_000_000) as check:
        for data in [*list(zoo().values())[:24], b"no picture", b""]:
            assert check(data) is None
        assert len(children()) == 1
