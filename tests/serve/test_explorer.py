"""What the explorer page is served: its files, and the map of a run."""

import json
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.queries.rows.columns import RootColumns
from pipeline.root.existing import open_root, readable
from pipeline.serve.explorer.files import FOLDER, page_files
from pipeline.serve.explorer.points import SCHEMA, points
from pipeline.serve.explorer.sample_map import placed_classes
from tests.serve.running import Running


def test_the_page_and_its_files_are_sent_and_nothing_else_is(served: Running) -> None:
    page = served.get("/")
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src 'self'" in page.headers["content-security-policy"]
    for path in FOLDER.iterdir():
        answer = served.get(f"/assets/{path.name}")
        assert answer.content == path.read_bytes()
        assert served.get(f"/assets/{path.name}", If_None_Match=answer.headers["etag"]).status == 304
    for name in ("nothing.js", "..%2f..%2fdesign.md", "%2e%2e/report/report.js", "..%5cfiles.py", "index.html%00"):
        assert served.get(f"/assets/{name}").status == 404


def test_the_page_names_no_other_host_and_makes_no_html_out_of_text() -> None:
    for name, file in page_files().items():
        text = file.content.decode().replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text.replace("https?://", ""), name
        assert not any(word in text for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(")), name
    assert len(list(FOLDER.iterdir())) <= 12
    assert sum(len(file.content) for file in page_files().values()) < 150_000


def test_a_map_is_drawn_in_the_background_and_is_the_same_for_everybody(served: Running) -> None:
    first = served.get("/map")
    assert first.status == 202
    assert first.json["seconds"] >= 0
    until = time.monotonic() + 120
    while (answer := served.get("/map")).status == 202 and time.monotonic() < until:
        time.sleep(0.2)
    assert answer.status == 200
    drawn = answer.json
    assert {len(drawn[name]) for name in ("x", "y", "uid", "shard", "row", "class_id", "value", "verdict")} == {823}
    assert drawn["total"] == 828
    assert max(map(abs, drawn["x"] + drawn["y"])) == 1
    sample = served.get(f"/explain/{drawn['uid'][7]}").json[0]
    assert drawn["shard_id"][drawn["shard"][7]] == sample["shard_id"]
    assert drawn["row"][7] == sample["row"]
    assert drawn["verdict"][7] == sample["verdict"]
    assert drawn["value"][7] == pytest.approx(sample["columns"]["clip"]["clip_similarity"], abs=1e-4)
    names = {one["class_id"]: one["name"] for one in served.get("/classes?limit=100").json["classes"]}
    assert {one["class_id"]: one["name"] for one in drawn["classes"]} == names
    assert served.get("/map?root=nowhere").status == 404
    assert json.loads(served.get("/openapi.json").content)["paths"]["/map"]["get"]["responses"].keys() >= {"200", "202"}


def test_a_map_draws_samples_by_seed_from_some_shards(demo_root: Path) -> None:
    columns = RootColumns(readable(open_root(str(demo_root))))
    some = points(columns, count=60, seed=1, shards=3)
    assert some.schema == SCHEMA
    assert 50 < some.num_rows <= 60
    assert len(set(some["shard_id"].to_pylist())) == 3
    assert some.equals(points(columns, count=60, seed=1, shards=3))
    assert not some.equals(points(columns, count=60, seed=2, shards=3))


def test_a_class_in_two_pieces_has_its_name_on_the_larger_one() -> None:
    draws = np.random.default_rng(0)
    x = np.concatenate([draws.normal(-0.8, 0.01, 70), draws.normal(0.8, 0.01, 30), [0.0]])
    table = pa.table({"class_id": pa.array([4] * 100 + [None], pa.int32()), "class_name": [None] * 101, "x": x, "y": np.zeros(101)})
    (one,) = placed_classes(table)
    assert (one.class_id, one.name) == (4, "class 4")
    assert one.x == pytest.approx(-0.8, abs=0.05)
    assert placed_classes(table.slice(100)) == ()
