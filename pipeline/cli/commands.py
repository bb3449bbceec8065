"""What all commands have in common: errors that are messages, and a standard output that is kept for the answer."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import typer
from pydantic import ValidationError
from typer.core import TyperCommand, TyperGroup

from pipeline.cli.colours import coloured
from pipeline.cli.streams import kept_for_the_answer
from pipeline.errors import RootError, ShardmillError
from pipeline.quantities import clean

Function = TypeVar("Function", bound=Callable[..., Any])


class Commands(TyperGroup):
    """A group of commands that turns an error that a user can act on into one message and an exit code, not a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Runs a command. Raises typer.Exit with the exit code of the error."""
        try:
            return super().invoke(ctx)
        except ShardmillError as error:
            _complain(str(error))
            raise typer.Exit(error.exit_code) from None
        except ValidationError as error:   # of an answer, whose values come from the files of a root
            _complain(f"a file of the root is damaged or of another version of shardmill: {error}")
            raise typer.Exit(RootError.exit_code) from None
        except KeyboardInterrupt:
            _complain("stopped; the same command continues it")
            raise typer.Exit(130) from None


def _complain(text: str) -> None:
    says = "\n".join(map(clean, text.splitlines()))   # it may quote what others wrote
    typer.echo(f"{coloured('shardmill:', 'error', sys.stderr)} {says}", err=True)


class Command(TyperCommand):
    """A command whose standard output is kept for its answer."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        with kept_for_the_answer():
            return super().invoke(ctx)


class App(typer.Typer):
    """The command line; all its commands are of one class."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[Function], Function]:
        """As Typer's own."""
        return super().command(name, **{"cls": Command, **options})
