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
class Question:
    wish: RouteWish
    given: bool = False
    """Ray gave the one who answers a GPU."""


@dataclass(frozen=True)
class Graphics:
    """What a machine shows of a GPU, and what torch makes of it."""

    there: bool
    usable: bool
    built_for: str | None
    """The CUDA version of this torch; None: a wheel for the CPU."""
    driver: str | None = None
    said: str = ""
    """By torch, of why it is not usable."""


def fault(seen: Graphics) -> str | None:
    """What is to be said instead of going to the CPU quietly; None where nothing is wrong."""
    if not seen.there or seen.usable:
        return None
    if seen.built_for is None:
        return "there is a GPU, but torch is built for the CPU only: install a torch with CUDA, or set model.device to cpu"
    driver = f"the NVIDIA driver {seen.driver}" if seen.driver else "the NVIDIA driver here"
    said = f" ({seen.said})" if seen.said else ""
    return (
        f"there is a GPU, but torch, built for CUDA {seen.built_for}, cannot use it with {driver}{said}: "
        "update the driver, install a torch that is built for an older CUDA, or set model.device to cpu"
    )


def graphics(*, given: bool) -> Graphics:
    """Of this machine. Where Ray gave no GPU it hides what there is, so another process looks."""
    there = given or DEVICE.exists()
    usable = there and (torch.cuda.is_available() if given else _usable_unhidden())
    said = _said_by_torch() if given and not usable else ""
    return Graphics(there, usable, torch.version.cuda, driver_version(DRIVER.read_text() if DRIVER.exists() else ""), said)


def driver_version(text: str) -> str | None:
    """From the first line of the driver's own file."""
    found = re.search(r"\s(\d{3,}\.\d+(?:\.\d+)?)\s", text)
    return found and found[1]


def _usable_unhidden() -> bool:
    shown = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    return subprocess.run([sys.executable, "-c", CHECK], env=shown, capture_output=True, text=True).stdout.strip() == "True"


def _said_by_torch() -> str:
    try:
        torch.cuda.init()   # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return str(error).partition("\n")[0].rstrip(". ")
    return ""


def offered(question: Question) -> str:
    """The route that this machine takes. Raises InputError where it takes none, or has a GPU that it cannot use."""
    if question.wish.device != "cpu":
        wrong = fault(graphics(given=question.given))
        if wrong is not None:
            raise InputError(wrong)
    return local_route(question.wish)


def provides(route: str) -> None:
    """Raises RouteError where this machine cannot provide the route."""
    require(parse(route))


def honours(route: str, wish: RouteWish) -> bool:
    """Whether a route is one that the wish may come to, on some machine."""
    found = parse(route)
    packed = wish.packed == "auto" or (found.form in ("packed", "bucketed")) == (wish.packed and found.device == "cpu")
    precision = wish.precision == found.precision
    if wish.precision == "auto":   # a GPU's is measured; a CPU's is fp32
        precision = found.device == "cuda" or found.precision == "fp32"
    return wish.device in ("auto", found.device) and precision and packed
