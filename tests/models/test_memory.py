"""A model that runs out of memory says so by name, and nothing smaller is tried."""

import subprocess
import sys

import pytest
import torch

from pipeline.errors import InputError
from pipeline.models.route import parse
from pipeline.models.towers import ModelOutOfMemory, memory_guard

SCARCE = """
import ctypes, resource
from pipeline.models.process import M_TRIM_THRESHOLD
from pipeline.models.pixels.decoding import decode
from tests.models.bundled import encoder, readable

pictures = [decode(data, allowed_formats=("jpeg",), max_pixels=10**8).pixels for data, _ in list(readable().values())[:16]]
inputs = encoder().preprocess(pictures)
expected = encoder().encode_images(inputs)
heap = ctypes.CDLL(None)
heap.mallopt(M_TRIM_THRESHOLD, 0)   # gives back what the encoder keeps for itself
heap.malloc_trim(0)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), resource.RLIM_INFINITY))
try:
    encoder().encode_images(inputs)
except MemoryError as error:
    print(type(error).__name__, error)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print("as before:", bool((encoder().encode_images(inputs) == expected).all()))
"""


def test_a_model_without_memory_fails_by_name_and_works_again_when_there_is_some() -> None:
    done = subprocess.run([sys.executable, "-c", SCARCE], check=True, capture_output=True, text=True)
    failure, after = done.stdout.splitlines()
    assert failure.startswith("ModelOutOfMemory the model ran out of memory on cpu with model.micro_batch 16: ")
    assert "fewer workers" in failure
    assert "allocate memory" in failure
    assert after == "as before: True"


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation"), MemoryError(),
    InputError("this model cannot be packed (DefaultCPUAllocator: can't allocate memory): set model.compile to false"),
])
def test_want_of_memory_is_known_whoever_reports_it(error: Exception) -> None:
    with pytest.raises(ModelOutOfMemory, match="micro_batch 32") as failure, memory_guard(32, parse("cpu-avx2-fp32-packed")):
        raise error
    assert failure.value.__cause__ is error
    assert "documentation" not in str(failure.value)


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), InputError("no such model"), ValueError("memory")])
def test_other_errors_of_a_model_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)) as failure, memory_guard(32, parse("cpu-avx2-fp32-packed")):
        raise error
    assert failure.value is error
