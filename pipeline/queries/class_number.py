"""How many classes a run should have: advice from a sample of its kept samples."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.draws import uids_below
from pipeline.errors import InputError, RootError
from pipeline.passes.reference_values import reference_values
from pipeline.plan import Plan
from pipeline.reduce.class_number.advise import advise
from pipeline.reduce.class_number.estimate import estimate_class_number
from pipeline.reduce.class_number.projection import MAX_ROWS
from pipeline.root.existing import open_root, readable
from pipeline.select.stored import kept_rows
from pipeline.store.tables import read_columns, read_vectors
from schemas.answers.classes import NumberEstimate, NumberOfClasses


def suggested(url: str, range_of_k: str) -> NumberOfClasses:
    """Judges numbers of classes ("32,64,128"); with `classes.reference_column` in the root's recipe also an estimate from the
    samples that have a value there. Raises InputError for what is no list of numbers, RootError before there are verdicts."""
    try:
        ks = [int(k) for k in range_of_k.split(",")]
    except ValueError:
        raise InputError(f"--suggest {range_of_k!r} is no list of numbers: give some numbers of classes, e.g. 32,64,128") from None
    plan = readable(open_root(url))
    if not plan.root.exists(f"{plan.verdicts}/ledger.json"):
        raise RootError(f"{url} has no verdicts yet: run its command again first")
    column, seed = plan.recipe.classes.reference_column, plan.recipe.seed
    rows, values = _sampled(plan, column)
    return NumberOfClasses(
        root=url, advice=advise(rows, ks, seed), reference_column=column,
        estimate=None if column is None else _estimated(rows, values, seed))


def _estimated(rows: NDArray[np.float16], values: list[str | None], seed: int) -> NumberEstimate:
    """By rows of which some have a value: the name of their class."""
    _, labels = np.unique([value or "" for value in values], return_inverse=True)
    given = np.where([value is not None for value in values], labels, -1).astype(np.int32)
    guess = estimate_class_number(rows, given, seed)
    return NumberEstimate(
        k=guess.k, rows=len(guess.rows), known=int((guess.labels >= 0).sum()), new=int((guess.labels < 0).sum()),
        starts=guess.starts, reason=guess.reason)


def _sampled(plan: Plan, column: str | None) -> tuple[NDArray[np.float16], list[str | None]]:
    """Embeddings of at most some 20,000 kept samples, chosen by uid, and what each has in the column."""
    kept = plan.root.read_json(f"{plan.verdicts}/ledger.json")["kept"]
    bound, clip = uids_below(min(1.0, MAX_ROWS / max(1, kept))), plan.columns.folders["clip"]
    parts, values = [], list[str | None]()
    for shard in plan.shards:
        rows = kept_rows(plan.root, plan.verdicts, shard.shard_id).astype(np.int64)
        uid = read_columns(plan.root, clip, shard.shard_id, ["uid"]).column("uid").take(pa.array(rows))
        some = rows[np.asarray(pc.less(uid, bound))]
        parts.append(np.asarray(read_vectors(plan.root, clip, shard.shard_id, "image_embedding")[some]))
        values += [None] * len(some) if column is None else reference_values(plan, column, shard, some.tolist())
    return np.concatenate(parts), values
