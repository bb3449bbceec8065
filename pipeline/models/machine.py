"""What a machine answers when a run asks which numeric route its workers take. Asked on workers; the driver's machine may be
another kind."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.errors import InputError
from pipeline.models.route import RouteWish, local_route, parse, require

DEVICE = Path("/dev/nvidia0")
DRIVER = Path("/proc/driver/nvidia/version")
CHECK = "import torch; print(torch.cuda.is_available())"


@dataclass(frozen=True)
class RouteQuestion:
    """What a worker is asked: the route that its machine takes for this wish."""

    wish: RouteWish
    gpu_assigned: bool = False
    """Whether Ray gave the process that answers a GPU."""


@dataclass(frozen=True)
class GpuState:
    """What a machine shows of a GPU, and what torch makes of it."""

    present: bool
    usable: bool
    built_for: str | None
    """The CUDA version of this torch; None: a wheel for the CPU."""
    driver: str | None = None
    error: str = ""
    """What torch says of why it is not usable; empty where it says nothing."""


def gpu_fault(gpu: GpuState) -> str | None:
    """What is to be said instead of going to the CPU quietly; None where nothing is wrong."""
    if not gpu.present or gpu.usable:
        return None
    if gpu.built_for is None:
        return "there is a GPU, but torch is built for the CPU only: install a torch with CUDA, or set model.device to cpu"
    driver = f"the NVIDIA driver {gpu.driver}" if gpu.driver else "the NVIDIA driver here"
    detail = f" ({gpu.error})" if gpu.error else ""
    return (
        f"there is a GPU, but torch, built for CUDA {gpu.built_for}, cannot use it with {driver}{detail}: "
        "update the driver, install a torch that is built for an older CUDA, or set model.device to cpu"
    )


def gpu_state(*, gpu_assigned: bool) -> GpuState:
    """What this machine has of a GPU. `gpu_assigned`: Ray gave this process one; else Ray hides them, so another process looks."""
    present = gpu_assigned or DEVICE.exists()
    usable = present and (torch.cuda.is_available() if gpu_assigned else _usable_unhidden())
    error = _torch_error() if gpu_assigned and not usable else ""
    return GpuState(present, usable, torch.version.cuda, driver_version(DRIVER.read_text() if DRIVER.exists() else ""), error)


def driver_version(text: str) -> str | None:
    """The version of the NVIDIA driver, read from the text of DRIVER; None where there is none in it."""
    match = re.search(r"\s(\d{3,}\.\d+(?:\.\d+)?)\s", text)
    return match and match[1]


def _usable_unhidden() -> bool:
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    return subprocess.run([sys.executable, "-c", CHECK], env=environment, capture_output=True, text=True).stdout.strip() == "True"


def _torch_error() -> str:
    try:
        torch.cuda.init()   # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return str(error).partition("\n")[0].rstrip(". ")
    return ""


def offered_route(question: RouteQuestion) -> str:
    """The route that this machine takes. Raises InputError where it takes none, or has a GPU that it cannot use."""
    if question.wish.device != "cpu":
        wrong = gpu_fault(gpu_state(gpu_assigned=question.gpu_assigned))
        if wrong is not None:
            raise InputError(wrong)
    return local_route(question.wish)


def provides(route: str) -> None:
    """Checks that this machine can provide the route of this name. Raises RouteError where it cannot."""
    require(parse(route))


def satisfies(route: str, wish: RouteWish) -> bool:
    """Whether a route is one that the wish may come to, on some machine."""
    parts = parse(route)
    packed = wish.packed == "auto" or (parts.form in ("packed", "bucketed")) == (wish.packed and parts.device == "cpu")
    precision = wish.precision == parts.precision
    if wish.precision == "auto":   # a GPU's is measured; a CPU's is fp32
        precision = parts.device == "cuda" or parts.precision == "fp32"
    return wish.device in ("auto", parts.device) and precision and packed
