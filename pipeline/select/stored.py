"""What `select` has written, read again: verdicts, ledger.json, thresholds.json."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import RootError
from pipeline.recipe.rules import Threshold
from pipeline.select.ledger import Ledger, from_dict
from pipeline.select.verdicts import KEPT
from pipeline.store.blocks.several import columns_of
from pipeline.store.store import Store

LEDGER, THRESHOLDS = "ledger.json", "thresholds.json"


class NullDistribution(NamedTuple):
    """The similarities of the run's shuffled pairs, counted into the bins of the report's axis."""

    pairs: int
    counts: tuple[int, ...]
    """Pairs in each bin."""


def has_ledger(store: Store, verdicts: str) -> bool:
    """Whether every shard has its verdicts, and the account of the run was made. `verdicts` is their folder, here and below."""
    return store.exists(f"{verdicts}/{LEDGER}")


def require_ledger(store: Store, verdicts: str) -> None:
    """Raises RootError, which says what to do, before `select` is through."""
    if not has_ledger(store, verdicts):
        raise RootError(f"{store.url} has no verdicts yet: run its command again first")


def ledger_record(store: Store, verdicts: str) -> dict[str, Any]:
    """ledger.json as it stands: its sums may be wrong. Raises FileNotFoundError before `select` is through."""
    record: dict[str, Any] = store.read_json(f"{verdicts}/{LEDGER}")
    return record


def stored_ledger(store: Store, verdicts: str) -> Ledger:
    """The account of a run whose verdicts are in this folder. Raises FileNotFoundError before `select` is through."""
    return from_dict(ledger_record(store, verdicts))


def has_thresholds(store: Store, verdicts: str) -> bool:
    """Whether the relative bounds of the rules were resolved."""
    return store.exists(f"{verdicts}/{THRESHOLDS}")


def stored_thresholds(store: Store, verdicts: str) -> dict[str, Threshold]:
    """The threshold of each rule that has one, by the rule's name. Raises FileNotFoundError before they were resolved."""
    stored = store.read_json(f"{verdicts}/{THRESHOLDS}")["thresholds"]
    return {name: Threshold(**threshold) for name, threshold in stored.items()}


def stored_null_distribution(store: Store, verdicts: str) -> NullDistribution:
    """The null distribution that stands beside the thresholds. Raises FileNotFoundError before they were resolved."""
    null = store.read_json(f"{verdicts}/{THRESHOLDS}")["null"]
    return NullDistribution(null["pairs"], tuple(null["counts"]))


def kept_rows(store: Store, verdicts: str, *shard_ids: str) -> NDArray[np.int32]:
    """int32 [kept], ascending: rows of a shard, or of several counted through, whose verdict is `kept`. Raises FileNotFoundError
    where there are no verdicts yet."""
    verdict = columns_of(store, verdicts, shard_ids, ["verdict"]).column("verdict")
    return np.flatnonzero(np.asarray(pa.compute.equal(verdict, KEPT))).astype(np.int32)
