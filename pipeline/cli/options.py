"""What commands share: options, and how an answer gets out."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.metadata import version
from typing import Annotated, TypeVar

import typer

from pipeline.cli import printing
from pipeline.cli.streams import answering
from pipeline.timing.progress import Reporter, phase
from schemas.answers.base import Answer

AnyAnswer = TypeVar("AnyAnswer", bound=Answer | tuple[Answer, ...])

Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a recipe key; may be repeated")]
Stages = Annotated[
    list[str] | None,
    typer.Option("--stage", metavar="MODULE:CLASS", help="a stage of yours, importable on every machine; may be repeated"),
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress: only the answer, warnings and errors")]


Inputs = Annotated[
    list[str] | None,
    typer.Argument(metavar="[INPUT]...", help="folders, globs, brace patterns or URLs; default: the recipe's own"),
]
Root = Annotated[str, typer.Argument(metavar="ROOT", help="output root of a run")]
Workers = Annotated[int | None, typer.Option(min=1, help="actors; default: one per CPU of the cluster, or that may be used here")]
Address = Annotated[
    str | None,
    typer.Option(help="HOST:PORT of a Ray cluster to join, or auto: this machine's; default: RAY_ADDRESS, else one of its own"),
]
Local = Annotated[bool, typer.Option("--local", help="in this process, without Ray: for small sets and debugging; the same bytes")]


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"shardmill {version('shardmill')}")
        raise typer.Exit()


Version = Annotated[bool, typer.Option("--version", callback=_say_version, is_eager=True, help="show the version and exit")]


def preset_names(incomplete: str) -> list[str]:
    """For shell completion: the presets that begin so."""
    from pipeline.recipe.reading.presets import presets

    return [name for name in presets() if name.startswith(incomplete)]


RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="a preset's name, a recipe file or its URL", autocompletion=preset_names)]


def told(*quiet: bool) -> Reporter:
    """Who is told of progress: a person or a log, unless any of these is true."""
    from pipeline.api.progress import Silent, reporter

    return Silent() if any(quiet) else reporter()


def working(title: str, *quiet: bool) -> AbstractContextManager[None]:
    """Says what is done meanwhile, if it takes a while, unless any of these is true."""
    return phase(told(*quiet), title)


def print_answer(as_json: bool, answer: AnyAnswer, show: Callable[[AnyAnswer], None]) -> None:
    """Prints an answer, for people by `show`."""
    with answering():
        if as_json:
            typer.echo(printing.as_json(answer))
        else:
            show(answer)
