"""Errors by consequence: what the run does about them.

    ShardmillError             a message and an exit code, no traceback
    ├── RecipeError            exit code 2: the recipe has to be changed
    ├── InputError             exit code 2: an input cannot be used
    │   ├── RouteError         exit code 2: this machine cannot do it, another one may
    │   └── SourceError        exit code 2: no input can be read now; the same command continues the run
    ├── RootError              exit code 2: the output root cannot be used
    │   └── OutputError        exit code 2: the root cannot be written or read; the same command continues the run
    ├── ConservationError      exit code 1: samples were lost or counted twice, a defect of shardmill
    └── ContractViolation      exit code 1: a defect of a stage
    SampleFailure              data: one sample has an error code in its columns, and the run goes on

Errors of foreign libraries that have one of these consequences are turned into it where the library is called (`store/`,
`input/`, `models/`); others are defects, and end the run with a traceback.
"""


class ShardmillError(Exception):
    """Base of the errors that a user can act on; the command line prints its message and exits with `exit_code`."""

    exit_code = 2


class RecipeError(ShardmillError):
    """The recipe is wrong: the message names the key, the file and what to write instead."""


class InputError(ShardmillError):
    """An input pattern, file or folder cannot be used; the message names it."""


class RouteError(InputError):
    """This machine cannot provide the numeric route of the run; another one may."""


class SourceError(InputError):
    """The store of the inputs refuses or fails for all of them alike (credentials that expired, a quota, a store that is gone). No
    shard's fault: the run stops at once, nothing is quarantined, and the same command continues it."""


class RootError(ShardmillError):
    """The output root cannot be used: locked by another run, or not a root of shardmill."""


class OutputError(RootError):
    """The output root cannot be written or read (disk full, quota, no permission, a store that fails again and again). No item's
    fault: the run stops at once, what is done is kept, and the same command continues it."""


class ConservationError(ShardmillError):
    """A ledger does not balance: samples were lost or counted twice. Never expected."""

    exit_code = 1


class ContractViolation(ShardmillError):
    """A stage broke its promise (rows, order or schema). A defect of the stage, never of the data."""

    exit_code = 1


class SampleFailure(Exception):
    """One sample cannot be processed; the stage records `code` in its error column and goes on."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = str(code)
