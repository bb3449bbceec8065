from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.entities.table import EntityTable, Senses, Texts
from pipeline.stage import checked
from pipeline.stages.entities import EntitiesStage
from pipeline.store.store import Store
from schemas.columns import MENTIONS
from tests.samples import batch

# Three entities on the axes of a three-dimensional space; "bat" may be either of the first two.
AXES = Texts(np.eye(3, dtype=np.float16), np.zeros(3, np.float32), np.full(3, 0.25, np.float32))
TABLE = EntityTable(
    ids=("animal", "club", "ball"), names=("bat", "baseball bat", "ball"), descriptions=("", "", ""),
    depictability=np.ones(3, np.float32),
    senses=Senses(
        ("ball", "bat", "bat", "rare"), np.array([2, 0, 1, 0], np.int32), np.log([1, 0.5, 0.5, 1]).astype(np.float32),
        np.array([7, 7, 7, 6], np.int8),
    ),
    choosing=AXES, confirming=AXES, threshold=2.0,
)


def mention(text: str, start: int) -> dict[str, Any]:
    return {"text": text, "alias": text.lower(), "start": start, "end": start + len(text), "source": "aliases"}


@pytest.fixture
def stage(tmp_path: Path) -> EntitiesStage:
    TABLE.save(Store(str(tmp_path)), "tables/calibration@0123")
    return EntitiesStage(f"{tmp_path}/tables/calibration@0123")


def columns(
    stage: EntitiesStage, mentions: Sequence[list[dict[str, Any]] | None], vectors: Sequence[Sequence[float] | None],
) -> list[dict[str, Any]]:
    rows = batch(
        mentions=pa.array(mentions, MENTIONS.field("mentions").type),
        image_embedding=pa.array(
            [None if v is None else np.array(v, np.float16) for v in vectors], pa.list_(pa.float16(), 3)),
    )
    with stage.open() as transform:
        return checked(stage, rows, transform(rows)).to_pylist()


def test_the_image_chooses_the_sense_and_confirms_it(stage: EntitiesStage) -> None:
    animal, club = columns(stage, [[mention("bat", 2)]] * 2, [[1, 0, 0], [0, 1, 0]])
    assert animal["entities"] == [{
        "id": "animal", "name": "bat", "start": 2, "end": 5, "z": 4.0, "confirmed": True,
        "link_score": pytest.approx(0.5 * 4 + 0.6 * np.log(0.5) + 2, abs=1e-5),
    }]
    assert club["entities"][0]["id"] == "club"
    assert animal["entity_count"] == club["entity_count"] == 1


def test_entities_come_best_first_and_unconfirmed_ones_stay(stage: EntitiesStage) -> None:
    row, = columns(stage, [[mention("bat", 0), mention("ball", 4), mention("ball", 9)]], [[0.1, 0, 0.9]])
    order = [(e["id"], e["start"], e["confirmed"]) for e in row["entities"]]
    assert order == [("ball", 4, True), ("ball", 9, True), ("animal", 0, False)]
    assert row["entity_count"] == 1   # the ball is one entity, mentioned twice


@pytest.mark.parametrize(("towards", "confirmed"), [(0, True), (4, True), (5, False)])
def test_an_entity_at_exactly_the_threshold_is_confirmed(tmp_path: Path, towards: int, confirmed: bool) -> None:
    replace(TABLE, threshold=float(np.nextafter(np.float32(4), np.float32(towards)))).save(Store(str(tmp_path)), "calibration@1")
    (row,) = columns(EntitiesStage(f"{tmp_path}/calibration@1"), [[mention("bat", 0)]], [[1, 0, 0]])
    assert [(entity["z"], entity["confirmed"]) for entity in row["entities"]] == [(4.0, confirmed)]
    assert row["entity_count"] == int(confirmed)


def test_samples_without_image_or_caption_get_nulls_and_without_mentions_an_empty_list(stage: EntitiesStage) -> None:
    rows = columns(stage, [[mention("bat", 0)], None, [], [mention("unknown", 0)], [mention("rare", 0)]], [None, *[[1, 0, 0]] * 4])
    assert [row["entities"] for row in rows] == [None, None, [], [], []]   # "rare" needs a capital
    assert [row["entity_count"] for row in rows] == [None, None, 0, 0, 0]
    assert all(row["entities_error"] is None for row in rows)


def test_identity_is_the_table_and_not_where_it_is() -> None:
    assert EntitiesStage("/a/tables/calibration@1").identity == EntitiesStage("s3://b/tables/calibration@1/").identity
    assert EntitiesStage("/a/tables/calibration@1").identity != EntitiesStage("/a/tables/calibration@2").identity
