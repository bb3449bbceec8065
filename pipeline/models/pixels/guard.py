"""A process that decodes each picture first, so that a decoder's crash costs a sample and not the worker.

The child gets raw bytes (eight bytes of length, then the picture) and answers with one byte once its decoder is through;
what the decoder made is thrown away. A child that dies by a fault of its own takes the picture's blame with it and is
replaced. Nothing is pickled; an idle child ends when its parent does, a busy one at the latest when its picture's time is
up. It costs a second decoding and a fresh Python for every crash, so only the last try of a shard is guarded.
"""

import importlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import BinaryIO

from pipeline.errors import SampleFailure
from pipeline.process.own_code import child_environment
from pipeline.work import beat
from schemas.reasons import ImageFault

CRASHES = frozenset([signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGSYS, signal.SIGTRAP])
"""Signals that a process brings on itself. SIGKILL is not one: the kernel sends it to whomever when memory runs out."""

STARTING = 300
"""Seconds until the child must have imported its decoder."""

LENGTH = 8
READY, DECODED = b"R", b"D"

PILLOWS_GUARD = 178_956_970
"""Pixels that Pillow never decodes more of."""
BYTES_PER_PIXEL, MEMORY_BESIDES = 48, 512 << 20
"""What the child may use over what it has when it is ready. The hungriest legal picture found, a strip one pixel wide, takes
23 bytes a pixel; a large WebP 16."""


@dataclass(frozen=True)
class Guard:
    """`decoder` is a function `module:name` of (bytes, allowed formats, max_pixels) that the child calls for each picture."""

    decoder: str = "pipeline.models.pixels.decoding:decode_as_stages_do"
    seconds: float = 60.0
    """A picture that takes longer is given up; the slowest legal one takes some five."""

    @contextmanager
    def open(self, allowed_formats: tuple[str, ...], max_pixels: int) -> Iterator[Callable[[bytes], None]]:
        """Yields a check that returns for a picture the decoder survives, whatever it says of it, and raises SampleFailure for
        one that it does not. Safe to call from several threads; one picture is decoded at a time.

        Raises RuntimeError where no picture is to blame: the child cannot start or was killed from outside.
        """
        child = _Child([self.decoder, str(self.seconds), ",".join(allowed_formats), str(max_pixels)])
        try:
            yield child.check
        finally:
            child.stop()


@dataclass
class _Child:
    """The process, started when it is needed."""

    arguments: list[str]
    process: subprocess.Popen[bytes] | None = None
    lock: Lock = field(default_factory=Lock)

    def check(self, data: bytes) -> None:
        with self.lock:
            if self.process is None:
                self._start()
            answer = self._ask(len(data).to_bytes(LENGTH, "big"), data)
            beat()   # a new child after every crash may take a while; the shard is not hung
            if answer != DECODED:
                raise self._blame()

    def _start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pipeline.models.pixels.guard", *self.arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**child_environment(), "OMP_NUM_THREADS": "1"},
        )
        if self._ask() != READY:
            raise RuntimeError(f"the guarded decoder did not start: it ended with {_ending(self._ended())}")

    def _ask(self, *parts: bytes) -> bytes:
        """What the child says to these bytes; nothing when it died."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            for part in parts:
                self.process.stdin.write(part)
            self.process.stdin.flush()
        except BrokenPipeError:
            return b""
        return self.process.stdout.read(1)

    def _ended(self) -> int:
        assert self.process is not None
        self.process.communicate()
        code, self.process = self.process.returncode, None
        return code

    def _blame(self) -> Exception:
        code = self._ended()
        if -code == signal.SIGALRM:
            return SampleFailure(ImageFault.DECODER_HUNG)
        if -code in CRASHES or code > 0:   # an error that nobody expects of a decoder, or more memory than any picture needs
            return SampleFailure(ImageFault.DECODER_CRASHED)
        return RuntimeError(f"the guarded decoder was ended from outside with {_ending(code)}; no picture is to blame")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self._ended()


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def main(decoder: str, seconds: str, allowed_formats: str, max_pixels: str) -> None:
    """The child: answers every picture on stdin, on what was stdout, until there is no more."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)   # which ends the process, whatever C code is doing
    signal.setitimer(signal.ITIMER_REAL, STARTING)
    module, _, name = decoder.partition(":")
    decode = getattr(importlib.import_module(module), name)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)   # a library that prints must not answer
    formats, pixel_limit = tuple(allowed_formats.split(",")), int(max_pixels)
    limit_memory(private_bytes() + MEMORY_BESIDES + BYTES_PER_PIXEL * min(pixel_limit, PILLOWS_GUARD))
    signal.setitimer(signal.ITIMER_REAL, 0)
    answers.write(READY)
    while (data := read_picture(sys.stdin.buffer)) is not None:
        signal.setitimer(signal.ITIMER_REAL, float(seconds))
        decode(data, formats, pixel_limit)
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(DECODED)


def read_picture(stream: BinaryIO) -> bytes | None:
    """The next picture; None at the end, and where the parent died within one."""
    length = int.from_bytes(header := stream.read(LENGTH), "big")
    data = stream.read(length) if len(header) == LENGTH else b""
    return data if len(header) == LENGTH and len(data) == length else None


def limit_memory(size: int) -> None:
    """No core files, and no more private memory than this; shared libraries do not count."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def private_bytes() -> int:
    """Bytes of private memory; 0 where the kernel does not tell, whose RLIMIT_DATA does not count them either."""
    try:
        with open("/proc/self/status") as status:
            return next((int(line.split()[1]) << 10 for line in status if line.startswith("VmData")), 0)
    except FileNotFoundError:
        return 0


if __name__ == "__main__":
    main(*sys.argv[1:])
