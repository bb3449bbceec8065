"""Where the outputs of a root are: by `shardmill path`, which is true on every store."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from braceexpand import braceexpand

from pipeline.api import shardmill
from pipeline.queries.places import PLACES
from pipeline.select.subset import SUBSET_UID
from pipeline.store.store import Store
from tests.passes.test_subset import subset
from tests.queries.conftest import pool_uid
from tests.roots import asked


def path_of(root: Path | str, what: str) -> str:
    return asked("path", str(root), what).stdout.removesuffix("\n")


def test_every_output_is_where_path_says(pool_root: Path) -> None:
    root = shardmill.open(pool_root)
    paths = {what: path_of(pool_root, what) for what in PLACES}
    assert paths == {what: root.path(what) for what in PLACES}
    assert Path(paths["shards"]) == (pool_root / "shards").resolve()
    assert list(braceexpand(paths["tars"])) == sorted(map(str, Path(paths["shards"]).glob("*.tar")))
    assert len(list(braceexpand(paths["tars"]))) > 1
    assert list(Path(paths["embeddings"]).glob("*.image_embedding.npy"))
    assert pq.read_table(paths["classes"]).num_rows == 3
    assert all(Path(path).exists() for what, path in paths.items() if what != "tars" and what != "report")


def test_the_subset_file_selects_the_pool_s_own_uids(pool_root: Path) -> None:
    kept = shardmill.open(pool_root).samples(["uid", "source_uid"], where={"verdict": "kept"}).to_table()
    path = Path(path_of(pool_root, "subset"))
    assert {pool_uid(0, 7), pool_uid(1, 7)} & set(kept["source_uid"].to_pylist())
    assert np.array_equal(np.load(path), subset(kept["source_uid"].to_pylist()))
    assert np.array_equal(np.load(path.with_name(SUBSET_UID)), subset(kept["uid"].to_pylist()))


def test_what_is_not_there_is_refused_in_words(pool_root: Path, tmp_path: Path) -> None:
    assert "no output is called 'shrads'; did you mean shards?: choose of shards, tars" in asked(
        "path", str(pool_root), "shrads", check=2).stderr
    assert "is not an output root" in asked("path", str(tmp_path), "shards", check=2).stderr
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("run.json", "inputs.parquet"):
        shutil.copy(pool_root / name, copy)
    assert "has published nothing yet: run its command again first" in asked("path", str(copy), "shards", check=2).stderr
    current = json.loads((pool_root / "current.json").read_text())
    (copy / "current.json").write_text(json.dumps(current | {"labels": None}))
    assert "has no labels: its recipe does not ask for any" in asked("path", str(copy), "labels", check=2).stderr
    for damage in ("[]", "{", json.dumps(current | {"export": "../../etc"}), json.dumps(current | {"export": None})):
        (copy / "current.json").write_text(damage)
        assert "current.json is damaged" in asked("path", str(copy), "shards", check=2).stderr


def test_an_object_store_has_the_outputs_where_path_says(pool_root: Path, s3_server: str) -> None:
    url, export = "s3://bucket/pool", (pool_root / "shards").resolve()
    for path in (*(pool_root / name for name in ("run.json", "inputs.parquet", "current.json")), *export.glob("*")):
        Store(url).write(path.relative_to(pool_root).as_posix(), path.read_bytes())
    assert path_of(url, "shards") == f"{url}/exports/{export.name}"
    assert all(Store(url).exists(tar.removeprefix(f"{url}/")) for tar in braceexpand(path_of(url, "tars")))


def test_exports_of_former_thresholds_are_counted_and_gc_removes_them(pool_root: Path, tmp_path: Path) -> None:
    root = shutil.copytree(pool_root, tmp_path / "root", symlinks=True)
    (former,) = set((root / "exports").iterdir()) - {(root / "shards").resolve()}
    size = sum(path.stat().st_size for path in former.iterdir())
    answer = json.loads(asked("status", str(root), "--json").stdout)["former_exports"]
    assert answer == {"exports": 1, "bytes": size}
    hint = f"shardmill gc {root} --dry-run lists"
    assert "former exports: 1, " in asked("status", str(root)).stdout
    assert hint in asked("status", str(root)).stdout
    asked("gc", str(root))
    assert "former exports" not in asked("status", str(root)).stdout
