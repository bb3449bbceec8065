"""The examples do what they say, and the image is built from what is there."""

import re
import runpy
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from pipeline.recipe.reading.json_schema import recipe_schema
from pipeline.recipe.recipe import load

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "examples" / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_an_example_recipe_loads_is_as_editors_are_told_and_is_named_after_its_file(path: Path) -> None:
    recipe = load(str(path))
    assert recipe.name == path.stem
    assert recipe.filters
    Draft202012Validator(recipe_schema()).validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def test_every_example_is_listed() -> None:
    folder = ROOT / "examples"
    listed = set(re.findall(r"\]\((\S+)\)", (folder / "README.md").read_text(encoding="utf-8")))
    assert listed == {path.relative_to(folder).as_posix() for path in folder.rglob("*.*") if path.name != "README.md"}


def test_an_export_is_read_by_plain_webdataset_as_the_example_says(demo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    count = runpy.run_path(str(ROOT / "examples" / "read_shards.py"))["main"](str(demo_root), 2)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3
    assert printed[-1] == f"{count:,} samples in {len(list((demo_root / 'shards').glob('*.tar')))} shards"
    assert re.fullmatch(r"\d+ x \d+  '.+'  .+", printed[0])


def test_the_image_is_made_of_what_is_sent_and_what_is_packaged() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = {name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]}
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")}
    assert copied == sent
    assert all((ROOT / name).exists() for name in copied)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    packages = {name.removesuffix("*") for name in re.findall(r'"(\w+\*)"', re.search(r"include = \[(.*)\]", project)[1])}  # type: ignore[index]
    assert packages <= copied
