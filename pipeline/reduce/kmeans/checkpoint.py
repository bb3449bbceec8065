"""What a fit can be continued from: the centres, the rows' assignment and the story so far, after every pass."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.store.store import Store
from pipeline.store.tables import npy_bytes, read_npy
from pipeline.vectors import Floats

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
    """Mean similarity of the rows looked at to their centre, per pass."""
    changed: tuple[float, ...] = ()
    """Share of the rows looked at that got another centre, per pass; 1 for the first one."""
    refilled: tuple[int, ...] = ()
    """Empty clusters given a new centre, per pass that moved centres."""
    looked: tuple[int, ...] = ()
    """Rows looked at, per pass."""
    kinds: tuple[str, ...] = ()
    """Of each pass (`schedule`)."""


@dataclass(frozen=True)
class Checkpoint:
    """`<folder>/<turn>/`: slices of the centres, an assignment per block, and `state.json` last: its existence means whole."""

    store: Store
    folder: str
    identity: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able: whatever the result depends on. A checkpoint of another identity is not continued."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "identity", dict(self.identity))

    def at(self, turn: int) -> str:
        return f"{self.folder}/{turn:05d}"

    def latest(self) -> State | None:
        """The last whole one of this identity."""
        for name in reversed(self.store.folders(self.folder)):
            path = f"{self.folder}/{name}/{STATE}"
            if name.isdecimal() and self.store.exists(path):
                stored = self.store.read_json(path)
                if stored["identity"] == self.identity:
                    told: dict[str, Any] = {
                        key: tuple(value) if isinstance(value, list) else value for key, value in stored["state"].items()
                    }
                    return State(**told)
        return None

    def commit(self, state: State) -> None:
        """The files of `state.turns` are whole; older ones go."""
        self.store.write_json(f"{self.at(state.turns)}/{STATE}", {"identity": self.identity, "state": asdict(state)})
        for name in self.store.folders(self.folder):
            if name.isdecimal() and int(name) != state.turns:
                self.store.remove(f"{self.folder}/{name}")

    def clear(self) -> None:
        self.store.remove(self.folder)

    def write_slice(self, turn: int, start: int, centres: Floats) -> None:
        self.store.write(f"{self.at(turn)}/centres.{start:09d}.npy", npy_bytes(centres))

    def slice_starts(self, turn: int) -> list[int]:
        return [int(name.split(".")[1]) for name in self.store.names(self.at(turn)) if name.startswith("centres.")]

    def read_slice(self, turn: int, start: int) -> Floats:
        read: Floats = read_npy(self.store, f"{self.at(turn)}/centres.{start:09d}.npy")
        return read

    def centres(self, turn: int) -> Floats:
        """f32[k, d], all slices."""
        return np.concatenate([self.read_slice(turn, start) for start in self.slice_starts(turn)])

    def write_assignment(self, turn: int, block: str, assignment: NDArray[np.int32]) -> None:
        self.store.write(f"{self.at(turn)}/assigned.{block}.npy", npy_bytes(assignment))

    def read_assignment(self, turn: int, block: str) -> NDArray[np.int32]:
        read: NDArray[np.int32] = read_npy(self.store, f"{self.at(turn)}/assigned.{block}.npy")
        return read

    def of(self, **identity: Any) -> "Checkpoint":
        """With more in its identity."""
        return replace(self, identity={**self.identity, **identity})
