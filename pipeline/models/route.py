"""The numeric route: everything about a machine and its settings that may change a bit of an embedding.

It reads `<device>-<instructions>-<precision>-<form>`, e.g. `cpu-avx512-fp32-packed` or
`cuda-sm90.nvidia_h100_80gb_hbm3.torch2.14.1_cu130-bf16-eager`. The workers settle it once; it is part of the fingerprint of
every column that a model makes, and a worker that cannot provide it says so instead of mixing two arithmetics in one
column. Of a GPU it names the card and the library too: cuBLAS takes other kernels on an H200 than on an H100, though both
are sm90. The number of threads is not in it: with micro-batches of a fixed shape it changes no bit.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.errors import InputError

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
DTYPES = {"fp32": "float32", "tf32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""torch's names of the types."""
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
class RouteQuestion:
    """What a worker is asked: the route that its machine takes for this wish."""

    wish: RouteWish
    gpu_assigned: bool = False
    """Whether Ray gave the process that answers a GPU."""


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
    def dtype(self) -> "torch.dtype":
        """The type to which factors of products are rounded. A GPU keeps weights and sums in float32 (`towers`)."""
        import torch  # takes seconds, and whoever only plans needs names alone

        dtype: torch.dtype = getattr(torch, DTYPES[self.precision])
        return dtype

    @property
    def micro_batch(self) -> int:
        """Rows per call of a tower where the recipe leaves it open."""
        return MICRO_BATCHES[self.device]


def parse(text: str) -> Route:
    """The parts of a route's name."""
    parts = text.split("-")
    if len(parts) != 4 or parts[0] not in ("cpu", "cuda") or parts[2] not in DTYPES or parts[3] not in FORMS:
        raise InputError(f"{text!r} is not a numeric route; one reads like cpu-avx512-fp32-packed")
    return Route(*parts)


def satisfies(route: str, wish: RouteWish) -> bool:
    """Whether a route is one that the wish may come to, on some machine."""
    parts = parse(route)
    packed = wish.packed == "auto" or (parts.form in ("packed", "bucketed")) == (wish.packed and parts.device == "cpu")
    precision = wish.precision == parts.precision
    if wish.precision == "auto":   # a GPU's is measured; a CPU's is fp32
        precision = parts.device == "cuda" or parts.precision == "fp32"
    return wish.device in ("auto", parts.device) and precision and packed
