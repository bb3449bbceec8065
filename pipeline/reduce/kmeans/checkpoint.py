"""What a fit can be continued from: the centres, the rows' assignment and the history so far, after every pass."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from pipeline.store.store import Store
from pipeline.store.tables import npy_bytes, read_npy
from pipeline.vectors import Floats, Ids

STATE = "state.json"


@dataclass(frozen=True)
class State:
    """A fit between two passes."""

    position: int = 0
    """The next pass of the schedule."""
    turns: int = 0
    """Passes made."""
    extra: int = 0
    """Passes after the schedule's last one, for clusters that were still empty."""
    objective: tuple[float, ...] = ()
    """Mean similarity of the compared rows to their centre, per pass."""
    changed: tuple[float, ...] = ()
    """Share of the compared rows that got another centre, per pass; 1 for the first one."""
    refilled: tuple[int, ...] = ()
    """Empty clusters given a new centre, per pass that moved centres."""
    looked: tuple[int, ...] = ()
    """Rows compared, per pass."""
    kinds: tuple[str, ...] = ()
    """The kind of each pass (`schedule`)."""


@dataclass(frozen=True)
class Checkpoint:
    """`<folder>/<turn>/`: slices of the centres, an assignment per block, and `state.json` last: where it exists, all is there."""

    store: Store
    folder: str
    identity: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able: whatever the result depends on. A checkpoint of another identity is not continued."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "identity", dict(self.identity))

    def folder_of(self, turn: int) -> str:
        """The folder of the files after this many passes."""
        return f"{self.folder}/{turn:05d}"

    def latest(self) -> State | None:
        """The last complete state of this identity; None where there is none."""
        for name in reversed(self.store.folders(self.folder)):
            path = f"{self.folder}/{name}/{STATE}"
            if name.isdecimal() and self.store.exists(path):
                stored = self.store.read_json(path)
                if stored["identity"] == self.identity:
                    fields: dict[str, Any] = {
                        key: tuple(value) if isinstance(value, list) else value for key, value in stored["state"].items()
                    }
                    return State(**fields)
        return None

    def commit(self, state: State) -> None:
        """Declares the files of `state.turns` complete, and removes those of other turns."""
        self.store.write_json(f"{self.folder_of(state.turns)}/{STATE}", {"identity": self.identity, "state": asdict(state)})
        for name in self.store.folders(self.folder):
            if name.isdecimal() and int(name) != state.turns:
                self.store.remove(f"{self.folder}/{name}")

    def clear(self) -> None:
        """Removes everything that it holds."""
        self.store.remove(self.folder)

    def write_slice(self, turn: int, start: int, centres: Floats) -> None:
        """Writes a slice of the centres, f32[k', d], that begins at centre `start`."""
        self.store.write(f"{self.folder_of(turn)}/centres.{start:09d}.npy", npy_bytes(centres))

    def slice_starts(self, turn: int) -> list[int]:
        """Where the written slices begin, ascending."""
        return [int(name.split(".")[1]) for name in self.store.names(self.folder_of(turn)) if name.startswith("centres.")]

    def read_slice(self, turn: int, start: int) -> Floats:
        """The slice f32[k', d] that begins at centre `start`."""
        read: Floats = read_npy(self.store, f"{self.folder_of(turn)}/centres.{start:09d}.npy")
        return read

    def centres(self, turn: int) -> Floats:
        """All slices one after another: f32[k, d]."""
        return np.concatenate([self.read_slice(turn, start) for start in self.slice_starts(turn)])

    def write_assignment(self, turn: int, block: str, assignment: Ids) -> None:
        """Writes the centre of each row of a block, i32[n]."""
        self.store.write(f"{self.folder_of(turn)}/assigned.{block}.npy", npy_bytes(assignment))

    def read_assignment(self, turn: int, block: str) -> Ids:
        """The centre of each row of a block, i32[n]."""
        read: Ids = read_npy(self.store, f"{self.folder_of(turn)}/assigned.{block}.npy")
        return read


def write_centres(checkpoint: Checkpoint, turn: int, part: tuple[int, int], centres: Floats) -> None:
    """Writes the slice start..stop - 1 of all centres f32[k, d]."""
    checkpoint.write_slice(turn, part[0], centres[slice(*part)])


def read_centres(checkpoint: Checkpoint, turn: int) -> tuple[Floats, int]:
    """The centres of a turn, f32[k, d], and k."""
    centres = checkpoint.centres(turn)
    return centres, len(centres)


def write_matrix(centres: Floats, store: Store, path: str) -> None:
    """Writes f32[k, d] as a .npy file, without a copy in memory."""
    with store.create(path) as file:
        np.save(file, centres, allow_pickle=False)
