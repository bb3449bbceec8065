"""The labelled samples of a run, or a share of them that is the same in every root: it goes by uid."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.draws import uids_below
from pipeline.plan import Plan
from pipeline.store.tables import read_columns


def first_labels(plan: Plan, shard_id: str, share: float) -> pa.Table:
    """(row in the shard, uid, label) of a shard's labelled samples: the nearest class by its stable id. `share`: of all uids."""
    table = read_columns(plan.root, plan.fitted.labels, shard_id, ["uid", "labels"])
    table = table.append_column("row", pa.array(np.arange(table.num_rows)))
    chosen = table.filter(pc.and_(table.column("labels").is_valid(), pc.less(table.column("uid"), uids_below(share))))
    label = pc.list_element(chosen.column("labels"), 0) if chosen.num_rows else pa.array([], pa.int32())
    return pa.table({"row": chosen.column("row"), "uid": chosen.column("uid"), "label": label})
