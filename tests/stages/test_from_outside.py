"""The stage of docs/extending.md, in a package of its own that is built and installed, through a run by the command line."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.errors import RecipeError
from pipeline.recipe.recipe import load
from tests.archives import member_bytes
from tests.roots import shardmill

DOCUMENT = Path(__file__).parents[2] / "docs" / "extending.md"
SETTINGS = ("--set", "model.compile=false", "--set", "stages.colour.step=2", "--set", "filters.colourfulness.min=10")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The PYTHONPATH with the package of the document."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "shardmill_colour.py").write_text(blocks("python")[0], encoding="utf-8")
    (folder / "pyproject.toml").write_text(blocks("toml")[0], encoding="utf-8")
    return installed_in(folder)


def installed_in(folder: Path, version: str = "0.1.0") -> str:
    """The PYTHONPATH by which it is found."""
    project = folder / "pyproject.toml"
    project.write_text(re.sub(r'version = ".*"', f'version = "{version}"', project.read_text()))
    target = folder / f"site-{version}"
    how = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *how, str(folder)], check=True)
    return os.pathsep.join([str(target), os.environ.get("PYTHONPATH", "")])


@pytest.fixture(scope="module")
def finished(installed: str, tmp_path_factory: pytest.TempPathFactory, sample_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("outside")
    shutil.copytree(sample_folder, folder / "in", ignore=lambda _, names: [name for name in names if name not in ("00008.tar",)])
    root = folder / "root"
    shardmill("run", "sample", str(folder / "in"), "--output", str(root), "--local", *SETTINGS, PYTHONPATH=installed)
    return root


def expected(root: Path) -> dict[str, float]:
    """colourfulness of every exported picture by uid, computed anew from the tar."""
    scope: dict[str, Any] = {}
    exec(blocks("python")[0], scope)
    found = {}
    for path in (root / "shards").glob("*.tar"):
        members = {}
        with tarfile.open(path) as archive:
            for member in archive:
                members[member.name] = member_bytes(archive, member)
        for name in [name for name in members if name.endswith(".json")]:
            image = next(n for n in members if n.startswith(name[:-5]) and n.rsplit(".", 1)[1] in ("jpg", "png", "webp"))
            rgb = np.asarray(Image.open(io.BytesIO(members[image])).convert("RGB"))
            found[json.loads(members[name])["uid"]] = scope["colourfulness"](rgb, 2)
    return found


def test_its_column_is_filtered_exported_explained_and_shown(finished: Path, installed: str) -> None:
    stage = next((finished / "columns").glob("colour@*"))
    values = pq.read_table(next(stage.glob("*.parquet"))).column("colourfulness").to_pylist()
    low = sum(value is not None and value < 10 for value in values)
    account = json.loads(shardmill("status", str(finished), "--json", PYTHONPATH=installed).stdout)
    assert account["rejected"]["colourfulness"] > 0
    assert low >= account["rejected"]["colourfulness"]
    sidecar = pq.read_table(next((finished / "shards").glob("*.parquet")))
    assert sidecar.column_names[-1] == "colourfulness"
    assert min(sidecar.column("colourfulness").to_pylist()) >= 10
    wanted = expected(finished)
    assert dict(zip(sidecar.column("uid").to_pylist(), sidecar.column("colourfulness").to_pylist(), strict=True)) == pytest.approx(
        wanted, abs=2.5)   # another decoder
    with tarfile.open(next((finished / "shards").glob("*.tar"))) as archive:
        objects = [json.loads(member_bytes(archive, member)) for member in archive if member.name.endswith(".json")]
    assert [one["colourfulness"] for one in objects] == pytest.approx(sidecar.column("colourfulness").to_pylist())
    uid = sidecar.column("uid")[0].as_py()
    (said,) = json.loads(shardmill("explain", str(finished), uid, "--json", PYTHONPATH=installed).stdout)
    assert said["columns"]["colour"]["colourfulness"] == pytest.approx(objects[0]["colourfulness"])
    assert "colourfulness" in [rule["rule"] for rule in said["rules"]]
    report = (finished / "report.html").read_text(encoding="utf-8")
    assert "colourfulness" in report
    shardmill("verify", str(finished), "--deep", PYTHONPATH=installed)


def test_where_it_is_not_installed_the_root_is_still_read_and_a_run_says_what_to_do(finished: Path) -> None:
    other = ["simulate", "--set", "filters.colourfulness.min=20"]
    for command, *rest in (["status"], ["verify", "--deep"], ["report"], ["classes"], other):
        shardmill(command, str(finished), *rest)
    inputs = str(finished.parent / "in")
    refused = shardmill("run", "sample", inputs, "--output", str(finished), "--local", *SETTINGS, check=2)
    assert "no stage is called colour; there are metadata: install the package that offers it" in refused.stderr
    again = shardmill("label", str(finished), "--classes", str(finished), check=2)
    assert "no stage is called colour" in again.stderr


def test_another_release_is_another_column_and_nothing_else_is_computed(finished: Path, installed: str, tmp_path: Path) -> None:
    root = Path(shutil.copytree(finished, tmp_path / "root", symlinks=True))
    package = Path(installed.split(os.pathsep)[0]).parent
    before = {path: path.stat().st_mtime_ns for path in (root / "columns").rglob("*.parquet")}
    newer = installed_in(package, "0.2.0")
    shardmill("run", "sample", str(finished.parent / "in"), "--output", str(root), "--local", *SETTINGS, PYTHONPATH=newer)
    after = {path: path.stat().st_mtime_ns for path in (root / "columns").rglob("*.parquet")}
    assert {path: after[path] for path in before} == before
    assert {path.parent.name.partition("@")[0] for path in set(after) - set(before)} == {"colour"}


def test_a_class_is_named_by_the_operator_and_its_faults_are_told_at_once(
    installed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(installed.split(os.pathsep)[0])
    recipe = load("sample", [], ["shardmill_colour:ColourStage"])
    assert [one.name for one in recipe.added] == ["colour"]
    assert recipe.columns["colourfulness"].origin == "colour"
    faulty = {
        "shardmill_colour:Nothing": "cannot be imported",
        "shardmill_colour": "write package.module:Class",
        "json:JSONDecoder": "is no stage",
        "pipeline.stages.caption:CaptionStage": "a stage called caption is in every run",
    }
    for target, message in faulty.items():
        with pytest.raises(RecipeError, match=message):
            load("sample", [], [target])
    wrong = {
        "stages.colour.step=two": "--set stages.colour.step=two: stages.colour.step: expected a whole number, not 'two'",
        "stages.colour.stepp=2": "--set stages.colour.stepp=2: stages.colour.stepp: unknown key; did you mean step",
        "stages.colur.step=2": "no stage is called colur; did you mean colour",
        "filters.colourfullness.min=2": "no stage writes a column colourfullness; did you mean colourfulness",
    }
    for override, message in wrong.items():
        with pytest.raises(RecipeError, match=re.escape(message)):
            load("sample", [override, "stages.colour={}"] if "filters" in override else [override])
