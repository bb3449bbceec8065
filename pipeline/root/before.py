"""What can be wrong before anything starts, asked in the order in which a user would mend it; all of it in seconds, for neither Ray
nor torch is imported. The recipe and the inputs were read before."""

import tempfile
from pathlib import Path

from pipeline.entities.knowledge_base import BUNDLED
from pipeline.errors import InputError, RootError
from pipeline.models.spec import ModelSpec, describe, refuse_missing_weights
from pipeline.process.share import address_space, may_have_gpu
from pipeline.quantities import size
from pipeline.recipe.recipe import Recipe
from pipeline.root.lifecycle import refuse_foreign
from pipeline.store.store import Store, exists

MAPPED = {True: 6 * 10**9, False: 12 * 10**9}
"""Bytes of address space below which a run hangs, or is ended by the C library in the middle: with torch alone in this process;
with the processes of Ray, which map several times what they use. With the bundled model and two CPUs 4.6 and 10.2 GB did, 6.1 and
12.3 GB were enough."""


def check_first(root: Store, recipe: Recipe, *, here: bool, local: bool) -> None:
    """Raises InputError for a model that does not exist or whose weights cannot be had, a GPU or a knowledge base that is not
    there; RootError for an output that is another's, or cannot be written. Leaves nothing behind.

    `here`: the workers are certain to be on this machine, so that what it lacks they lack; `local`: they are this process. A root
    that was begun may need no weights any more: whether they are there is then for who loads them."""
    check_model(recipe, weights=here and not root.exists("run.json"))
    if here:
        check_device(recipe)
        check_address_space(local=local)
    refuse_foreign(root)
    check_writable(root)


def check_model(recipe: Recipe, *, weights: bool) -> None:
    """The checks of a recipe's model and knowledge base. `weights`: whether the model's are here, too."""
    spec = ModelSpec(recipe.model.name, recipe.model.pretrained)
    describe(spec)
    if weights:
        refuse_missing_weights(spec)
    knowledge_base = recipe.entities.knowledge_base
    if knowledge_base != BUNDLED and not exists(knowledge_base):
        raise InputError(f"entities.knowledge_base: no such file {knowledge_base}; give {BUNDLED!r} or a parquet file")


def check_device(recipe: Recipe) -> None:
    """Raises InputError where the recipe asks for a GPU, and this machine has none for certain."""
    wants = [f"model.{name} is {value}" for name, value in (
        ("device", recipe.model.device), ("precision", recipe.model.precision)) if value in ("cuda", "tf32")]
    if wants and not may_have_gpu():
        raise InputError(f"{wants[0]}, but this machine has no GPU, or none that this process may use: set it to auto")


def check_address_space(*, local: bool) -> None:
    """Raises InputError where less may be mapped than it takes to start."""
    allowed = address_space()
    if allowed is not None and allowed < MAPPED[local]:
        what = "torch" if local else "Ray and torch"
        raise InputError(
            f"this process may map {size(allowed)} (ulimit -v), and {what} would map {size(MAPPED[local])} or more, most of "
            "which is never used: lift it by `ulimit -v unlimited`; a container, or systemd-run -p MemoryMax=…, limits memory")


def check_place(root: Store) -> None:
    """Raises RootError where a local output cannot be a folder."""
    place = existing(root)
    if place is not None and not place.is_dir():
        raise RootError(f"{root.url} cannot be an output root: {place} is a file; choose another --output")


def check_writable(root: Store) -> None:
    """Raises RootError where nothing can be written to a local output."""
    place = existing(root)
    if place is None:
        return
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        why = f"{place}: {error.strerror}"
        raise RootError(f"{root.url} cannot be written ({why}): choose another --output, or see to its permissions") from None


def existing(root: Store) -> Path | None:
    """A local output, or what is there of the path to it; None for a remote one."""
    if root.local is None:
        return None
    return next(place for place in (Path(root.local), *Path(root.local).parents) if place.exists())
