"""Threads of Python that share the products of matrices, each with single-threaded kernels."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import faiss
from threadpoolctl import ThreadpoolController


@cache
def loaded_libraries() -> ThreadpoolController:
    """The thread pools of numpy's and FAISS's libraries, both loaded by now; to look for them takes milliseconds, as long as a
    small pass, so it is done once."""
    return ThreadpoolController()


@contextmanager
def eager_switches() -> Iterator[None]:
    """Within it, threads hand the interpreter over after half a millisecond instead of five: those with short numpy calls wait
    less."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(5e-4)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def single_threaded() -> None:
    """Lets the kernels that this thread calls from now on use no other threads."""
    if "torch" in sys.modules:
        from pipeline.models.process import limit_threads

        limit_threads(1)
    faiss.omp_set_num_threads(1)
