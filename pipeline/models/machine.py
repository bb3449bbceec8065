"""What a machine answers when a run asks which numeric route its workers take. Asked on workers; the driver's machine may be
another kind."""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from pipeline.errors import InputError, RouteError
from pipeline.models.route import BUCKETED, PACKABLE, Route, RouteQuestion, RouteWish, parse
from pipeline.process.own_code import child_environment

DEVICE = Path("/dev/nvidia0")
DRIVER = Path("/proc/driver/nvidia/version")
CHECK = "import torch; print(torch.cuda.is_available())"


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
    environment = {name: value for name, value in child_environment().items() if name != "CUDA_VISIBLE_DEVICES"}
    command = [sys.executable, "-P", "-c", CHECK]
    return subprocess.run(command, env=environment, capture_output=True, text=True).stdout.strip() == "True"


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


def local_route(wish: RouteWish) -> str:
    """The route that this machine takes for the wish. Raises InputError where it cannot be had."""
    device = wish.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("model.device is cuda, but no GPU answers here: set it to cpu or auto")
    precision = "fp32" if wish.precision == "auto" else wish.precision
    if precision == "tf32" and device == "cpu":
        raise InputError("model.precision is tf32, which only NVIDIA GPUs compute: set it to auto or fp32")
    route = Route(device, instructions(device), precision, _form(device, precision, wish.packed))
    require(route)
    return str(route)


def _form(device: str, precision: str, wish: Literal["auto"] | bool) -> str:
    if device == "cuda":
        return "compiled" if wish is True else "eager"
    packed = precision in PACKABLE and can_pack(precision) if wish == "auto" else wish
    if not packed:
        return "eager"
    return "bucketed" if (instructions(device), precision) in BUCKETED else "packed"


def require(route: Route) -> None:
    """Checks that this machine can provide the route. Raises RouteError, an InputError, which says what is missing."""
    if route.device == "cuda" and not torch.cuda.is_available():
        raise RouteError(f"the route {route} needs a GPU and this worker has none: give it one, or set model.device to cpu")
    fused = route.form in ("packed", "bucketed")
    if fused and not (route.device == "cpu" and route.precision in PACKABLE and can_pack(route.precision)):
        raise RouteError(f"the route {route} needs oneDNN's packed operators for {route.precision}: set model.compile to false")
    if route.form == "compiled" and not (route.device == "cuda" and can_compile()):
        raise RouteError(
            f"the route {route} needs Triton, a C compiler and Python's headers: install them, or set model.compile to false")
    available = instructions(route.device)
    if route.instructions != available:
        raise RouteError(
            f"the run's embeddings are made by the route {route}, but this worker computes with {available}: "
            "use workers of one kind, or start another output root"
        )


def instructions(device: str) -> str:
    """What kernels are chosen by: avx512 or avx2 of a CPU; generation, card and library of a GPU."""
    if device == "cuda":
        major, minor = torch.cuda.get_device_capability()
        card, library = (re.sub(r"[^a-z0-9.]+", "_", name.lower()) for name in (torch.cuda.get_device_name(), torch.__version__))
        return f"sm{major}{minor}.{card}.torch{library}"
    capability = torch.backends.cpu.get_cpu_capability().lower()
    return capability if capability != "default" else platform.machine().lower().replace("-", "_")


def can_compile() -> bool:
    """Whether torch.compile can make kernels for a GPU here: Triton compiles a small launcher in C for each."""
    compiler = os.environ.get("CC") or next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return bool(compiler) and headers.is_file() and importlib.util.find_spec("triton") is not None


def can_pack(precision: str) -> bool:
    """Whether oneDNN's packed operators exist here for this precision (they are torch's own, but not documented)."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):  # type: ignore[no-untyped-call]
        return False
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    names = ("_convolution_pointwise", "_linear_pointwise", "_reorder_convolution_weight", "_reorder_linear_weight")
    if not all(hasattr(torch.ops.mkldnn, name) for name in names):
        return False
    return precision != "bf16" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
