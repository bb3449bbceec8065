"""A decoder that some bytes kill, for the guard's child to run; all others go to the real one."""

import ctypes
import os
import signal
import time
from typing import Any

SEGFAULT, ABORT, HANG, ERROR, MEMORY = b"segfault", b"abort", b"hang", b"error", b"memory"
OUTSIDE = b"killed from outside"


def decode(data: bytes, allowed_formats: Any, max_pixels: int) -> None:
    if SEGFAULT in data:
        ctypes.string_at(0)
    if ABORT in data:
        os.abort()
    if HANG in data:
        time.sleep(100)
    if ERROR in data:
        raise AttributeError("a decoder's mistake")
    if MEMORY in data:
        bytearray(60 * max_pixels + (1 << 30))
    if OUTSIDE in data:
        os.kill(os.getpid(), signal.SIGKILL)


def decode_for_real(data: bytes, allowed_formats: Any, max_pixels: int) -> None:
    from pipeline.models.pixels.decoding import decode_as_stages_do

    decode(data, allowed_formats, max_pixels)
    decode_as_stages_do(data, allowed_formats, max_pixels)


def says_nothing_and_prints(data: bytes, allowed_formats: Any, max_pixels: int) -> None:
    os.write(1, b"D" * 100)
    ctypes.string_at(0)
