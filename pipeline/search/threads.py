"""Threads of Python that share the products of matrices, each with single-threaded kernels."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import faiss
from threadpoolctl import ThreadpoolController


@cache
def loaded_libraries() -> ThreadpoolController:
    """numpy's and FAISS's, both loaded by now; to look for them takes milliseconds, as long as a small pass."""
    return ThreadpoolController()


@contextmanager
def eager_switches() -> Iterator[None]:
    """Threads of short numpy calls hand the interpreter over after half a millisecond instead of five: they wait less."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-4)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def single_threaded() -> None:
    """The kernels that this thread calls from now on use no others."""
    from pipeline.models.process import limit_threads  # torch takes seconds to import

    limit_threads(1)
    faiss.omp_set_num_threads(1)
