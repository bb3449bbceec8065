"""Some samples of a root, to be looked at: those with a verdict, of a class, or of these names."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.export.class_table import class_names, has_class_table
from pipeline.input.discovery import Shard
from pipeline.plan import Plan
from pipeline.queries.naming import RowId, find_samples
from pipeline.queries.neighbours.selection import named_verdicts
from pipeline.recipe.derived import derived_columns
from pipeline.recipe.rule_columns import Column, spelling_hint
from pipeline.root.existing import open_root, readable
from pipeline.select.stored import require_ledger, stored_ledger
from pipeline.select.verdicts import REJECTED
from pipeline.store.tables import read_columns
from schemas.answers.samples import ListedSample, SampleList

USUAL = ("clip_similarity", "width", "height", "language")
"""Columns that are shown beside those that the rules read."""
READ = ("uid", "source_uid", "key", "caption")

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Wanted:
    """Which samples are asked for, and what of them."""

    names: Sequence[str] = ()
    """Of these names (`naming.find_samples`); none: any."""
    verdict: str | None = None
    """kept, rejected or failed, or one with its rule or code as rejected:tiny; None: any."""
    class_id: int | None = None
    """Their nearest class; None: any, or none."""
    columns: Sequence[str] = ()
    """What is shown, of the columns that rules may read; none: those that the recipe's rules read, and USUAL."""


def list_samples(url: str, wanted: Wanted, count: int = 20) -> SampleList:
    """The first `count` samples that are wanted, in the order of the input. Reads no further than it must.

    Raises InputError for a name, a verdict, a class or a column that is not there, RootError before there are verdicts, and where
    a class is asked for that a root without classes cannot have."""
    plan = readable(open_root(url))
    require_ledger(plan.root, plan.verdicts)
    ledger = stored_ledger(plan.root, plan.verdicts)
    verdicts, class_id = named_verdicts(plan, ledger, wanted.verdict), wanted.class_id
    shown, labels = _shown(plan, wanted.columns), _class_names(plan)
    if class_id is not None and class_id not in labels:
        _ = plan.fitted   # without classes it says so
        raise InputError(f"{url} has no class {class_id}; `shardmill classes {url}` lists them")
    rows = [row for name in wanted.names for row in find_samples(plan, name)] if wanted.names else None
    samples: list[ListedSample] = []
    having = [shard for shard in plan.shards if ledger.shards.get(shard.shard_id, {}).keys() & set(verdicts)]
    for shard, places in _places(plan, having, rows, verdicts, class_id):
        samples += _listed(plan, shard, places[: count - len(samples)], shown, labels)
        if len(samples) >= count:
            break
    matching = sum(ledger.verdicts.get(name, 0) for name in verdicts) if rows is None and class_id is None else None
    return SampleList(root=url, matching=matching, samples=tuple(samples))


def _shown(plan: Plan, wanted: Sequence[str]) -> tuple[Column, ...]:
    """The columns whose values are shown. Raises InputError for one that rules could not read."""
    made = plan.recipe.read_by_rules().get("derived", ())
    over_run = {name for derived in derived_columns(plan.recipe.columns, over_run=True) for name in derived.names}
    available = {name: column for name, column in plan.recipe.columns.items() if name not in over_run or name in made}
    for name in wanted:
        if name not in available:
            hint = spelling_hint(name, available) or f"; choose of {', '.join(available)}"
            raise InputError(f"no column {name!r} can be shown{hint}")
    of_rules = [name for rule in plan.recipe.filters.values() for name in rule.reads]
    return tuple(available[name] for name in dict.fromkeys(wanted or [*USUAL, *of_rules]))


def _class_names(plan: Plan) -> dict[int, str]:
    """Name by class id; empty before the classes have names."""
    return class_names(plan.root, plan.fitted.classes) if has_class_table(plan.root, plan.classes) else {}


def _places(
    plan: Plan, shards: Sequence[Shard], rows: Sequence[RowId] | None, verdicts: Sequence[str], class_id: int | None
) -> Iterator[tuple[Shard, Rows]]:
    """The matching rows (int64, ascending) of each of these shards that has some."""
    for shard in shards:
        if rows is not None and not any(shard_id == shard.shard_id for shard_id, _ in rows):
            continue
        verdict = read_columns(plan.root, plan.verdicts, shard.shard_id, ["verdict"]).column("verdict")
        met = np.asarray(pc.is_in(verdict, pa.array(verdicts, pa.string())))
        if class_id is not None:
            met &= np.array([nearest == class_id for nearest in _nearest(plan, shard)], bool)
        if rows is not None:
            met &= np.isin(np.arange(len(met)), [row for shard_id, row in rows if shard_id == shard.shard_id])
        if met.any():
            yield shard, np.flatnonzero(met)


def _nearest(plan: Plan, shard: Shard, places: Rows | None = None) -> list[int | None]:
    """The nearest class of each sample of a shard, or of these rows of it; None where it is not labelled."""
    labels = read_columns(plan.root, plan.fitted.labels, shard.shard_id, ["labels"]).column("labels")
    if places is not None:
        labels = labels.take(pa.array(places))
    return [of_sample[0] if of_sample else None for of_sample in labels.to_pylist()]


def _listed(
    plan: Plan, shard: Shard, places: Rows, shown: Sequence[Column], labels: Mapping[int, str]
) -> Iterator[ListedSample]:
    """These rows of a shard, with what is shown of them."""
    rows = pa.array(places)
    names = read_columns(plan.root, plan.columns.folders["samples"], shard.shard_id, READ).take(rows).to_pylist()
    verdicts = read_columns(plan.root, plan.verdicts, shard.shard_id, ["verdict"]).column("verdict").take(rows).to_pylist()
    by_origin: dict[str, list[str]] = {}
    for column in shown:
        by_origin.setdefault(column.origin, []).append(column.name)
    table = plan.rule_columns.table([shard.shard_id], {key: tuple(part) for key, part in by_origin.items()})
    values = table.select([column.name for column in shown]).take(rows).to_pylist()
    nearest: Sequence[int | None] = _nearest(plan, shard, places) if labels else [None] * len(places)
    for place, sample, verdict, of_sample, class_id in zip(places.tolist(), names, verdicts, values, nearest, strict=True):
        yield ListedSample(
            **sample, shard_id=shard.shard_id, row=place, url=shard.url, verdict=verdict, class_id=class_id,
            class_name=None if class_id is None else labels.get(class_id), values=_ordered(plan, verdict, of_sample))


def _ordered(plan: Plan, verdict: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What the rejecting rule saw first; null for what is no number, for JSON has none."""
    rule = plan.recipe.filters.get(verdict.removeprefix(REJECTED)) if verdict.startswith(REJECTED) else None
    decided = {name: values[name] for name in (rule.reads if rule else ()) if name in values}
    return {name: None if isinstance(value, float) and not np.isfinite(value) else value
            for name, value in {**decided, **values}.items()}
