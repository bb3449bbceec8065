"""How many classes a run should have: advice from a sample of its kept samples."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.draws import uids_below
from pipeline.errors import InputError
from pipeline.passes.reference_values import reference_values
from pipeline.plan import Plan
from pipeline.reduce.class_number.advise import advise
from pipeline.reduce.class_number.estimate import estimate_class_number
from pipeline.reduce.class_number.projection import MAX_ROWS
from pipeline.root.existing import open_root, readable
from pipeline.select.stored import kept_rows, require_ledger, stored_ledger
from pipeline.store.tables import read_columns, read_vector_rows
from schemas.answers.classes import NumberEstimate, NumberOfClasses


def suggest_class_numbers(url: str, range_of_k: str) -> NumberOfClasses:
    """Judges numbers of classes (`range_of_k`: "32,64,128") on a sample of the kept rows; with `classes.reference_column` in the
    root's recipe also estimates the number from the samples that have a value there. Raises InputError for what is no list of
    numbers, RootError before there are verdicts."""
    try:
        ks = [int(k) for k in range_of_k.split(",")]
    except ValueError:
        raise InputError(f"--suggest {range_of_k!r} is no list of numbers: give some numbers of classes, e.g. 32,64,128") from None
    plan = readable(open_root(url))
    require_ledger(plan.root, plan.verdicts)
    column, seed = plan.recipe.classes.reference_column, plan.recipe.seed
    rows, values = _sampled(plan, column)
    return NumberOfClasses(
        root=url, advice=advise(rows, ks, seed), reference_column=column,
        estimate=None if column is None else _estimated(rows, values, seed))


def _estimated(rows: NDArray[np.float16], values: list[str | None], seed: int) -> NumberEstimate:
    """The estimate from rows of which some have a value, the name of their class; None for the others."""
    _, labels = np.unique([value or "" for value in values], return_inverse=True)
    known = np.where([value is not None for value in values], labels, -1).astype(np.int32)
    estimated = estimate_class_number(rows, known, seed)
    return NumberEstimate(
        k=estimated.k, rows=len(estimated.rows), known=int((estimated.labels >= 0).sum()), new=int((estimated.labels < 0).sum()),
        starts=estimated.starts, reason=estimated.reason)


def _sampled(plan: Plan, column: str | None) -> tuple[NDArray[np.float16], list[str | None]]:
    """Embeddings of at most some 20,000 kept samples, chosen by uid, and what each has in the column."""
    kept = stored_ledger(plan.root, plan.verdicts).kept
    bound, clip = uids_below(min(1.0, MAX_ROWS / max(1, kept))), plan.columns.folders["clip"]
    parts, values = [], list[str | None]()
    for shard in plan.shards:
        rows = kept_rows(plan.root, plan.verdicts, shard.shard_id).astype(np.int64)
        uid = read_columns(plan.root, clip, shard.shard_id, ["uid"]).column("uid").take(pa.array(rows))
        chosen = rows[np.asarray(pc.less(uid, bound))]
        parts.append(read_vector_rows(plan.root, clip, shard.shard_id, "image_embedding", chosen))
        values += [None] * len(chosen) if column is None else reference_values(plan, column, shard, chosen.tolist())
    return np.concatenate(parts), values
