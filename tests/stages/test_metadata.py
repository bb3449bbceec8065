import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import RecipeError
from pipeline.input.tar import write_tar
from pipeline.queries.simulate import explain_sample, simulate_rules
from pipeline.recipe.recipe import load
from pipeline.stage import checked
from pipeline.stages.metadata import MetadataStage
from tests.curations import curated
from tests.damage import clean_pairs
from tests.samples import batch

RULES = (
    "filters={safe: {column: json.punsafe, below: 0.5}, host: {column: json.page.host, none_of: [bad.example]}, "
    "rated: {column: json.rating, any_of: [1, 2]}, public: {column: json.public, equals: true}}",
    "model.compile=false", "classes.k=null",
)
PUNSAFE = [0.1, "0.2", "5e-1", None, "nan", 0.49, True, 0.3]
OBJECTS: list[dict[str, Any]] = [
    {"punsafe": value, "page": {"host": "good.example"}, "rating": 1, "public": True} for value in PUNSAFE
] + [
    {"punsafe": 0, "page": {"host": "bad.example"}, "rating": 1, "public": True},
    {"punsafe": 0, "page.host": "bad.example", "rating": 1, "public": True},
    {"punsafe": 0, "page": "good.example", "rating": 1, "public": True},
    {"punsafe": 0, "page": {"host": 7}, "rating": "2", "public": "TRUE"},
    {"punsafe": 0, "page": {"host": "h"}, "rating": 3, "public": True},
    {"punsafe": 0, "page": {"host": "h"}, "rating": 1.5, "public": True},
    {"punsafe": 0, "page": {"host": "h"}, "rating": 2.0, "public": 1},
]
VERDICTS = [
    "kept", "kept", "rejected:safe", "rejected:safe", "rejected:safe", "kept", "rejected:safe", "kept",
    "rejected:host", "rejected:host", "rejected:host", "kept", "rejected:rated", "rejected:rated", "rejected:public",
]


def values(stage: MetadataStage, objects: Sequence[bytes | None]) -> list[dict[str, Any]]:
    with stage.open() as transform:
        rows = batch(metadata=pa.array(objects, pa.large_binary()))
        return checked(stage, rows, transform(rows)).to_pylist()


def test_a_value_of_another_kind_or_none_is_null() -> None:
    stage = MetadataStage(numbers=("a",), whole_numbers=("b",), texts=("c.d",), truths=("e",))
    objects = [
        b'{"a": " 1e3 ", "b": "-7", "c": {"d": "x\\ud800"}, "e": "False"}',
        b'{"a": 1e400, "b": 9223372036854775808, "c": [], "e": "no"}',
        b'{"a": NaN, "b": 2.5, "c": {"d": null}, "e": 0}', b'{"a": 10000000000000000000000, "c.d": 1.5}', b"[1]", b"{", b"", None,
        b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
    ]
    found = [[row[name] for name in ("json.a", "json.b", "json.c.d", "json.e")] for row in values(stage, objects)]
    assert found[0] == [1000.0, -7, "x\ufffd", False]
    assert found[1] == found[2] == [None] * 4
    assert found[3] == [1e22, None, "1.5", None]
    assert found[4:] == [[None] * 4] * 5
    assert all(row["metadata_error"] is None for row in values(stage, objects))


def test_a_rule_reads_the_metadata_of_tars_and_of_parquet_files_alike(tmp_path: Path, sample_folder: Path) -> None:
    pairs = list(clean_pairs(sample_folder).items())[: 2 * len(OBJECTS)]
    inputs = tmp_path / "in"
    inputs.mkdir()
    tarred, rows = pairs[: len(OBJECTS)], pairs[len(OBJECTS):]
    with (inputs / "a.tar").open("wb") as file:
        write_tar(file, ((key, "jpg", image, caption, json.dumps(object).encode())
                         for (key, (image, caption)), object in zip(tarred, OBJECTS, strict=True)))
    columns = {
        "jpg": [image for _, (image, _) in rows], "txt": [caption.decode() for _, (_, caption) in rows],
        "punsafe": pa.array([0.1, 0.2, 0.5, None, float("nan"), 0.49, 1.0, 0.3, *[0.0] * 7], pa.float32()),
        "page": [{"host": host} for host in [*["good.example"] * 8, "bad.example", "bad.example", None, "7", "h", "h", "h"]],
        "rating": pa.array([*[1] * 11, 2, 3, None, 2], pa.int8()), "public": [*[True] * 14, False],
    }
    pq.write_table(pa.table(columns), inputs / "b.parquet")

    root = tmp_path / "root"
    curated(root, [inputs], RULES)
    found = [pq.read_table(path, columns=["verdict"]).column("verdict").to_pylist()
             for path in sorted(root.glob("verdicts@*/*.parquet"))]
    assert found == [VERDICTS, VERDICTS]

    uid = pq.read_table(min(root.glob("columns/samples@*/*.parquet"))).column("uid")[8].as_py()
    (said,) = explain_sample(str(root), uid)
    assert said.verdict == "rejected:host"
    moved = simulate_rules(str(root), ["filters.safe.below=0.51"])
    assert moved.new.kept - moved.old.kept == 2
    with pytest.raises(RecipeError, match=r"json.other of the samples' metadata was not read: run the recipe"):
        simulate_rules(str(root), ["filters.safe.column=json.other"])


@pytest.mark.parametrize(("overrides", "says"), [
    (["filters.p={column: json.x, min: 1}", "filters.q={column: json.x, any_of: [a]}"],
     "json.x is read as one of texts here and of numbers by p: compare it in one way"),
    (["filters.p={column: json.x}"], "has no bound"),
    (["stages.metadata.texts=[x]", "filters.p={column: json.x, min: 3}"], "min compares numbers, json.x is text"),
    (["stages.metadata={texts: [x], numbers: [x]}"], "json.x is listed twice"),
    (["stages.metadata=3", "filters.p={column: json.x, min: 3}"], "stages.metadata: expected a mapping of its fields, not 3"),
])
def test_a_key_that_cannot_be_read_as_asked_is_refused_by_name(overrides: list[str], says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load("sample", overrides)
    assert says in str(caught.value)


def test_keys_of_the_stage_and_of_rules_come_together() -> None:
    recipe = load("sample", ["stages.metadata.texts=[url]", "filters.p={column: json.x, min: 3, unless: {json.tag: {equals: ok}}}"])
    assert recipe.stages["metadata"] == {"texts": ["url", "tag"], "numbers": ["x"]}
    assert {"json.url", "json.tag", "json.x"} <= set(recipe.columns)
