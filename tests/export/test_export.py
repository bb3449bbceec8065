import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.export.plan import Part, part_rows, plan_export
from pipeline.export.sample_json import sample_json
from pipeline.export.samples import Sample
from pipeline.input.discovery import Shard


def shards(count: int) -> list[Shard]:
    return [Shard(f"s{i:03d}", f"/in/{i}.tar", f"{i}.tar", 1, "v", "tar") for i in range(count)]


@given(
    kept=st.lists(st.integers(0, 30), min_size=1, max_size=12), size=st.integers(1, 20), group=st.integers(1, 5),
    seed=st.one_of(st.none(), st.integers(0, 9)),
)
def test_every_kept_row_is_written_once_in_full_shards(kept: list[int], size: int, group: int, seed: int | None) -> None:
    inputs = shards(len(kept))
    rows = {s.shard_id: np.arange(0, 2 * n, 2, dtype=np.int32) for s, n in zip(inputs, kept, strict=True)}
    planned = plan_export(inputs, {s: len(r) for s, r in rows.items()}, size=size, group=group, seed=seed)
    written = [row for item in planned for part in item.parts for row in part_rows(part, rows, seed)]
    assert sorted(written) == sorted((s, int(row)) for s, found in rows.items() for row in found)
    assert [item.name for item in planned] == [f"{i:06d}" for i in range(len(planned))]
    assert all(item.samples == size for item in planned[:-1])
    assert all(0 < item.samples <= size for item in planned)


def test_a_seed_shuffles_and_no_seed_keeps_the_input_order() -> None:
    inputs, rows = shards(4), {f"s{i:03d}": np.arange(50, dtype=np.int32) for i in range(4)}
    kept = {s: 50 for s in rows}

    def order(seed: int | None) -> list[tuple[str, int]]:
        planned = plan_export(inputs, kept, size=60, group=2, seed=seed)
        return [row for item in planned for part in item.parts for row in part_rows(part, rows, seed)]

    assert order(None) == sorted(order(None))
    assert order(1) == order(1) != order(2)
    assert order(1) != sorted(order(1))


def test_the_order_within_a_group_is_the_seed_s_and_another_in_each_group() -> None:
    """Of one shard, whose place no seed can change."""
    rows = {"s000": np.arange(50, dtype=np.int32)}

    def order(seed: int | None, group: int = 0) -> list[tuple[str, int]]:
        return part_rows(Part(tuple(shards(1)), group, 0, 50), rows, seed)

    assert order(1) == order(1) != order(2)
    assert order(1, 0) != order(1, 1)
    assert sorted(order(1)) == sorted(order(2)) == order(None)


def sample(original: bytes | None, **row: Any) -> Sample:
    values = {"uid": "u" * 32, "clip_similarity": 0.25, "sha256": "f" * 64, "entities": [], "labels": [1], "label_weights": [1.0],
              "label_levels": [[4]]}
    return Sample({**values, **row}, b"", original)


def test_the_original_object_is_kept_and_colliding_keys_move_to_source() -> None:
    original = {"url": "http://x", "uid": "theirs", "labels": "cat", "nested": {"a": [1, None, 2.5]}, "source": "web"}
    found = json.loads(sample_json(sample(json.dumps(original).encode()), {0: "zero", 1: "one"}))
    assert found["url"] == "http://x"
    assert found["nested"] == original["nested"]
    assert found["source"] == {"source": "web", "uid": "theirs", "labels": "cat"}
    assert (found["uid"], found["labels"], found["label_names"]) == ("u" * 32, [1], ["one"])


def test_no_value_is_lost_when_source_has_the_colliding_key_as_well() -> None:
    found = json.loads(sample_json(sample(b'{"uid": "b", "source": {"uid": "a", "x": 1}}'), {0: "zero", 1: "one"}))
    assert found["source"] == {"source": {"uid": "a", "x": 1}, "uid": "b"}


@pytest.mark.parametrize("original", [None, b"[1, 2]", b'"text"'])
def test_an_object_that_is_none_still_gives_an_object(original: bytes | None) -> None:
    found = json.loads(sample_json(sample(original, labels=None, label_weights=None), {}))
    assert not {"labels", "label_weights", "label_names"} & found.keys()
    if original is not None:
        assert found["source"] == json.loads(original)
