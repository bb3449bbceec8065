"""A root on an object store: the same answers, and no more of it is read than they need. No other shard is there."""

from pathlib import Path

import fsspec
import numpy as np

from pipeline.queries.neighbours.catalogue import Catalogue
from pipeline.queries.neighbours.query import Query

OF_SHARDS = ("columns/samples@*", "columns/image@*", "columns/language@*", "columns/clip@*", "columns/entities@*", "verdicts@*",
             "labels@*")
WHOLE = ("run.json", "inputs.parquet", "tables/centroids@*/*", "tables/classes@*/*", "verdicts@*/ledger.json")


def test_hits_and_samples_are_read_where_they_are_and_nowhere_else(demo: Catalogue, demo_root: Path, s3_server: str) -> None:
    vector = demo.vector(Query(class_id=3))
    found = demo.nearest(vector[None], 2)
    hits = demo.answers(found)[0]
    first = demo.plan.shards[0].shard_id   # says which columns there are
    needed = {first, *(hit.shard_id for hit in hits)}
    assert len(needed) < len(demo.plan.shards)
    store = fsspec.filesystem("s3")
    patterns = [*WHOLE, *(f"{folder}/{shard_id}.*" for folder in OF_SHARDS for shard_id in needed)]
    for path in {path for pattern in patterns for path in demo_root.glob(pattern)}:
        store.put_file(str(path), f"bucket/neighbours/{path.relative_to(demo_root)}")
    remote = Catalogue.open("s3://bucket/neighbours")
    np.testing.assert_array_equal(remote.vector(Query(class_id=3)), vector)
    assert remote.answers(found)[0] == hits
    place = Query(uid=f"{hits[0].shard_id}:{hits[0].row}")
    np.testing.assert_array_equal(remote.vector(place), demo.vector(place))
    np.testing.assert_array_equal(remote.vectors(found.ids[0], "text"), demo.vectors(found.ids[0], "text"))
    kept = next(hit for hit in demo.samples([(first, row) for row in range(20)]) if hit.verdict == "kept")
    np.testing.assert_array_equal(remote.vector(Query(uid=kept.uid)), demo.vector(Query(uid=kept.uid)))   # and looks no further
