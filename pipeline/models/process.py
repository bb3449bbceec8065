"""Process-wide settings of a worker, made once before its first stage opens. Neither changes a byte of any column."""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# malloc.h: parameter, value. Large buffers come from the heap and stay there: a buffer that is returned to the system
# is paid for again, page by page, by the next micro-batch.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
SETTINGS = ((M_MMAP_THRESHOLD, 1 << 30), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 256 << 20))


def tune() -> bool:
    """Keeps freed memory in this process; False (and nothing done) where the C library is not glibc."""
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return all([library.mallopt(parameter, value) == 1 for parameter, value in SETTINGS])


def limit_threads(threads: int) -> None:
    """Threads that one model call may use in this process."""
    import torch

    torch.set_num_threads(threads)


def prepare_process() -> None:
    """What every worker does before it opens a model: one thread per call (more actors instead), memory that stays."""
    tune()
    limit_threads(1)


@contextmanager
def threads_kept() -> Iterator[None]:
    """torch has as many threads after the block as before, whatever was settled inside: for a program that goes on afterwards."""
    import torch

    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
