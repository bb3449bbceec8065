"""The numeric route: everything about a machine and its settings that may change a bit of an embedding.

It reads `<device>-<instructions>-<precision>-<form>`, e.g. `cpu-avx512-fp32-packed` or
`cuda-sm90.nvidia_h100_80gb_hbm3.torch2.14.1_cu130-bf16-eager`. The workers settle it once; it is part of the fingerprint of
every column that a model makes, and a worker that cannot provide it says so instead of mixing two arithmetics in one
column. Of a GPU it names the card and the library too: cuBLAS takes other kernels on an H200 than on an H100, though both
are sm90. The number of threads is not in it: with micro-batches of a fixed shape it changes no bit.
"""

import importlib.util
import os
import platform
import re
import shutil
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from pipeline.errors import InputError, RouteError

Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
DTYPES: dict[str, torch.dtype] = {
    "fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16,
}
PACKABLE = ("fp32", "bf16")
FORMS = ("packed", "bucketed", "compiled", "eager")
BUCKETED = (("avx2", "fp32"),)
"""Instructions and precisions that have, in the place of packed towers, text towers by length (`buckets.py`) and packed
convolutions: where packed products were measured to be slower than torch's own."""
MICRO_BATCHES = {"cpu": 16, "cuda": 256}
"""Rows per call of a tower where the recipe leaves it open: what fills the machine without waiting long for its rows."""


@dataclass(frozen=True)
class RouteWish:
    """What a recipe asks for; "auto" takes the fastest that the machine has."""

    precision: Precision = "fp32"
    """"auto" is fp32 on the CPU; on a GPU `precision.settled` tries the fast ones before it comes here"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    packed: Literal["auto"] | bool = "auto"
    """on the CPU, towers as graphs of packed oneDNN operators (`packing.py`) or what is faster than those (BUCKETED); as what
    torch.compile makes of them on a GPU, where "auto" leaves it: what it gains there was not measured yet"""


@dataclass(frozen=True)
class Route:
    """A numeric route, part by part."""

    device: str
    instructions: str
    precision: str
    form: str

    def __str__(self) -> str:
        return f"{self.device}-{self.instructions}-{self.precision}-{self.form}"

    @property
    def dtype(self) -> torch.dtype:
        """The type to which factors of products are rounded. A GPU keeps weights and sums in float32 (`towers`)."""
        return DTYPES[self.precision]

    @property
    def micro_batch(self) -> int:
        """Rows per call of a tower where the recipe leaves it open."""
        return MICRO_BATCHES[self.device]


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


def parse(text: str) -> Route:
    """The parts of a route's name."""
    parts = text.split("-")
    if len(parts) != 4 or parts[0] not in ("cpu", "cuda") or parts[2] not in DTYPES or parts[3] not in FORMS:
        raise InputError(f"{text!r} is not a numeric route; one reads like cpu-avx512-fp32-packed")
    return Route(*parts)


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
