"""Where Python looks for code: never in the working folder, and for our packages where they are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.process import own_code
from pipeline.process.own_code import ROOT, child_environment, leave_out_working_folder, workers_path

FACADE = str(Path(ROOT) / "pipeline" / "api")
"""What is installed as `shardmill` lies here."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody's project with packages that are called as ours are, to which the test has gone."""
    for name in ("pipeline", "jobs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the user own package was imported')")
    (tmp_path / "schemas.py").write_text("x = 1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("entry", ["", "."])
def test_the_working_folder_is_taken_off_the_path_of_this_process_and_of_its_children(
    project: Path, monkeypatch: pytest.MonkeyPatch, entry: str,
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{entry}{os.pathsep}/somewhere/else")
    monkeypatch.setattr(sys, "path", ["", str(project), "/somewhere/else", *sys.path])
    monkeypatch.setattr(sys, "argv", [str(project / "script.py")])
    leave_out_working_folder()
    assert sys.path[0] == os.environ["PYTHONPATH"] == "/somewhere/else"
    assert not {"", str(project)} & set(sys.path)


def test_our_own_folder_and_what_a_full_path_names_stay_where_they_are_the_working_folder(
    project: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(project))
    monkeypatch.setattr(sys, "path", [str(project), ROOT])
    leave_out_working_folder()
    monkeypatch.chdir(ROOT)
    leave_out_working_folder()
    assert sys.path == [str(project), ROOT]


def test_workers_look_into_our_folder_first_where_their_path_has_other_packages_of_these_names(
    project: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(own_code, "_installed", lambda: [ROOT])
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert workers_path() == []
    monkeypatch.setenv("PYTHONPATH", str(project))
    assert workers_path() == [ROOT]
    monkeypatch.setattr(own_code, "_installed", lambda: ["/elsewhere"])
    monkeypatch.setenv("PYTHONPATH", ROOT)   # of the driver alone
    assert workers_path() == [ROOT]


def test_a_child_finds_our_packages_and_not_those_of_the_working_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["", str(project), *sys.path])
    paths = child_environment()["PYTHONPATH"].split(os.pathsep)
    assert paths[0] == ROOT
    assert "" not in paths


def imported(code: str, project: Path) -> subprocess.CompletedProcess[str]:
    """A program of the project, which has `shardmill` installed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.append({FACADE!r}); {code}"], cwd=project, env=environment,
        capture_output=True, text=True, timeout=60, check=False)


def test_the_package_finds_its_own_in_a_project_that_has_others_of_these_names(project: Path) -> None:
    done = imported("import shardmill; from shardmill import curate, Stage; print(sys.modules['pipeline'].__file__)", project)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("pipeline/__init__.py")
    assert str(project) not in done.stdout


def test_a_program_that_has_imported_another_package_of_the_name_is_told_so(project: Path) -> None:
    done = imported("import schemas, shardmill", project)
    assert "ImportError: shardmill has a package schemas of its own, but this program has imported another one" in done.stderr
    assert str(project / "schemas.py") in done.stderr
