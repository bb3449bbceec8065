"""What the distribution installs, and what `import shardmill` brings."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pipeline.api import shardmill

ROOT = Path(__file__).parents[2]
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
IMPORT = """
import sys
import shardmill
heavy = {"torch", "ray", "faiss", "open_clip", "scipy", "sklearn", "spacy", "rich", "typer", "jinja2", "PIL"} & set(sys.modules)
print(sorted(heavy), shardmill.__file__, shardmill.Root.__module__, sys.modules["pipeline"].__file__)
"""


def test_the_public_names_are_these() -> None:
    assert shardmill.__all__ == [
        "PIXELS", "Contract", "Feed", "Fields", "InputError", "Ledger", "Loader", "OutputError", "Packed", "RandomResizedCrop",
        "RecipeError", "Root", "RootError", "Samples", "ShardmillError", "Stage", "curate", "open", "pack", "pixel_arrays",
        "stage_columns", "stage_schema",
    ]
    assert all(hasattr(shardmill, name) for name in shardmill.__all__)


def test_every_public_name_says_what_it_is_for() -> None:
    public = [getattr(shardmill, name) for name in shardmill.__all__]
    members = [(name, one) for thing in (shardmill.Root, shardmill.Samples) for name, one in vars(thing).items()]
    methods = [one for name, one in members if not name.startswith("_") and (callable(one) or isinstance(one, property))]
    assert [one for one in [*public, *methods] if not one.__doc__] == []


def test_this_environment_has_the_name(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"installed before there was this name? pip install --no-deps --editable .\n{done.stderr}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the code without the assets, which are 20 MB."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pipeline", "schemas", "jobs"):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__", "assets"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, folder / "source")
    (folder / "dist").mkdir()
    command = [sys.executable, "-c", BUILD, str(folder / "dist")]
    done = subprocess.run(command, cwd=folder / "source", capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = (folder / "dist").iterdir()
    return built


def test_the_wheel_has_the_import_package_and_says_that_all_are_typed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        files = [name for name in archive.namelist() if ".dist-info/" not in name]
        assert {name.split("/")[0] for name in files} == {"pipeline", "schemas", "jobs", "shardmill"}
        assert {f"{package}/py.typed" for package in ("shardmill", "pipeline", "schemas")} <= set(files)
        assert sorted(name for name in files if "shardmill/" in name) == [
            "shardmill/__init__.py", "shardmill/__main__.py", "shardmill/py.typed"]
        ours = {path.relative_to(ROOT).as_posix() for top in ("pipeline", "schemas", "jobs") for path in (ROOT / top).rglob("*.py")}
        missing = {name for name in ours - set(files) if not name.startswith("pipeline/api/shardmill/")}
        assert not missing
        source = ROOT / "pipeline" / "api" / "shardmill" / "__init__.py"
        assert archive.read("shardmill/__init__.py") == source.read_bytes()


def test_the_installed_name_is_quick_to_import(wheel: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(wheel)}, capture_output=True, text=True,
        timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        "[]", f"{wheel}/shardmill/__init__.py", "pipeline.api.opened", f"{wheel}/pipeline/__init__.py"]
