"""The account of a run: read = kept + rejected by reason + failed by reason, for each shard and in total (decision 7)."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import ConservationError


@dataclass(frozen=True)
class Ledger:
    """Counts of verdicts. `gaps` and `quarantined` name what nobody could read, `ignored` counts archive members that belong to
    no sample, by reason: none of these are among `read`."""

    read: int
    verdicts: Mapping[str, int]
    gaps: tuple[Mapping[str, Any], ...] = ()
    quarantined: tuple[str, ...] = ()
    shards: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Verdict counts by shard."""
    ignored: Mapping[str, int] = field(default_factory=dict)
    ignored_in: tuple[Mapping[str, Any], ...] = ()
    """The same by shard and reason, with the names of some: `shard_id`, `reason`, `count`, `examples`."""

    @property
    def kept(self) -> int:
        """How many samples are kept."""
        return self.verdicts.get("kept", 0)

    @property
    def rejected(self) -> dict[str, int]:
        """Samples by the first rule that rejects them, the most first."""
        return _by_prefix(self.verdicts, "rejected:")

    @property
    def failed(self) -> dict[str, int]:
        """Samples that could not be processed, by reason code, the most first."""
        return _by_prefix(self.verdicts, "failed:")

    def as_dict(self) -> dict[str, Any]:
        """Everything of the ledger, for answers; `from_dict` reads it back."""
        return {
            "read": self.read, "kept": self.kept, "rejected": self.rejected, "failed": self.failed,
            "gaps": list(self.gaps), "quarantined": list(self.quarantined), "ignored": dict(self.ignored),
            "ignored_in": list(self.ignored_in), "shards": self.shards,
        }

    def stored(self) -> dict[str, Any]:
        """The ledger as ledger.json has it: without `ignored_in` where nothing was ignored, as in roots of earlier versions."""
        return {name: value for name, value in self.as_dict().items() if name != "ignored_in" or value}


def _by_prefix(verdicts: Mapping[str, int], prefix: str) -> dict[str, int]:
    counts = {name.removeprefix(prefix): count for name, count in verdicts.items() if name.startswith(prefix)}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def balanced(
    rows: Mapping[str, int],
    verdicts: Mapping[str, Mapping[str, int]],
    unread: tuple[Iterable[Mapping[str, Any]], Mapping[str, int]],
    quarantined: Iterable[str],
    ignored_in: Iterable[Mapping[str, Any]] = (),
) -> Ledger:
    """The ledger of a run, from the rows read and the verdicts given, both by shard, and the gaps and ignored members
    (`unread`); `ignored_in` as in `Ledger`. Raises ConservationError where the two differ."""
    if set(rows) != set(verdicts):
        raise ConservationError(f"shards without verdicts: {sorted(set(rows) ^ set(verdicts))}")
    total: Counter[str] = Counter()
    for shard_id, counts in verdicts.items():
        if sum(counts.values()) != rows[shard_id]:
            raise ConservationError(f"shard {shard_id}: {rows[shard_id]} samples read, {sum(counts.values())} verdicts given")
        total.update(counts)
    gaps, ignored = unread
    totals, ignored_counts = dict(sorted(total.items())), dict(sorted(ignored.items()))
    named = tuple(gaps), tuple(sorted(quarantined))
    return Ledger(sum(rows.values()), totals, *named, dict(verdicts), ignored_counts, tuple(ignored_in))


def ignored_of(facts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The entries of `Ledger.ignored_in` for one shard, from what is stored of its input; none where an earlier version read it."""
    for reason, examples in facts.get("ignored_examples", {}).items():
        yield {"shard_id": facts["shard_id"], "reason": reason, "count": facts["ignored"][reason], "examples": examples}


def from_dict(stored: Mapping[str, Any]) -> Ledger:
    """The ledger that `as_dict` or `stored` gave. Its sums are made anew from the counts of the shards. Raises KeyError for
    anything else."""
    total: Counter[str] = Counter()
    for counts in stored["shards"].values():
        total.update(counts)
    gaps, quarantined = tuple(stored["gaps"]), tuple(stored["quarantined"])
    ignored_in = tuple(stored.get("ignored_in", ()))
    return Ledger(stored["read"], dict(sorted(total.items())), gaps, quarantined, stored["shards"], stored["ignored"], ignored_in)
