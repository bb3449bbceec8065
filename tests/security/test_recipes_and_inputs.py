"""Recipes, overrides and input patterns made to run commands, open chains of file systems or fill the memory."""

import json
import time
from pathlib import Path

import fsspec
import pytest

from pipeline.errors import InputError, RecipeError
from pipeline.input.discovery import discover
from pipeline.recipe.recipe import load
from tests.security.hostile import watched

TAGS = (
    "!!python/object/apply:os.system ['touch {canary}']", "!!python/object/new:os.system ['touch {canary}']",
    "!!python/name:os.system", "!!python/module:os", "!!python/object/apply:subprocess.Popen [['touch', '{canary}']]",
)
NINES = ", ".join(f"&{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]" for i in range(12))
LAUGHS = f"[&a [lol, lol, lol, lol, lol, lol, lol, lol, lol], {NINES}]"
STRANGE = ("[" * 600, "2001-99-99", "9" * 5000, "!!int x", "!!bool x", "!!timestamp x", "!!float x")
PIPES = (
    "pipe:touch {canary}", "{folder}/a.tar::pipe:touch {canary}", "pipe://touch {canary}", "{{pipe:touch {canary},b}}.tar",
    "{folder}/{{a,pipe:touch {canary}}}.tar", "filecache::pipe:touch {canary}", "simplecache::pipe:touch {canary}",
    "simplecache::http://127.0.0.1:1/a.tar", "reference::http://127.0.0.1:1/a.json", "|touch {canary}", "$(touch {canary}).tar",
    "file:///nowhere/$(touch {canary}).tar", "PIPE:touch {canary}",
)


def quiet(seen: list[str], canary: Path) -> None:
    assert seen == []
    assert not canary.exists()


@pytest.mark.parametrize("tag", TAGS)
def test_a_yaml_tag_in_a_recipe_or_an_override_makes_no_object(tmp_path: Path, tag: str) -> None:
    canary = tmp_path / "canary"
    recipe = tmp_path / "evil.yaml"
    recipe.write_text(f"name: x\nmodel: {{name: bundled}}\nsource: {tag.format(canary=canary)}\n")
    with watched() as seen:
        with pytest.raises(RecipeError, match=r"evil\.yaml:3: not valid YAML"):
            load(str(recipe))
        with pytest.raises(RecipeError, match="not valid YAML"):
            load("sample", [f"source={tag.format(canary=canary)}"])
    quiet(seen, canary)


def test_a_recipe_at_a_url_is_text_of_bounded_size_and_nothing_of_it_runs(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    store = fsspec.filesystem("memory")
    store.pipe("/evil/tag.yaml", f"extends: sample\nname: x\nsource: {TAGS[0].format(canary=canary)}\n".encode())
    store.pipe("/evil/stage.yaml", b"extends: sample\nname: x\nstages: {'tests.recipe:Stage': {}}\n")
    store.pipe("/evil/large.yaml", b"extends: sample\nname: x\n" + b"#" * (1 << 18))
    with watched() as seen:
        for name, says in (("tag", "not valid YAML"), ("stage", "no stage is called"), ("large", "larger than 256 KiB")):
            with pytest.raises(RecipeError, match=says):
                load(f"memory://evil/{name}.yaml")
        for chain in (f"pipe:touch {canary}", "simplecache::memory://evil/tag.yaml"):
            with pytest.raises(RecipeError, match="never followed"):
                load(chain)
    quiet(seen, canary)


@pytest.mark.parametrize("key", ["source", "caption.keys", "filters", "seed"])
def test_aliases_cannot_stand_for_gigabytes(tmp_path: Path, key: str) -> None:
    began = time.perf_counter()
    (tmp_path / "laughs.yaml").write_text(f"name: x\nmodel: {{name: bundled}}\nsource: {LAUGHS}\n")
    for name, overrides in ((str(tmp_path / "laughs.yaml"), []), ("sample", [f"{key}={LAUGHS}"])):
        with pytest.raises(RecipeError, match="no aliases"):
            load(name, overrides)
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("text", STRANGE, ids=lambda text: text[:12])
def test_values_that_break_a_yaml_parser_are_an_error_of_the_recipe(tmp_path: Path, text: str) -> None:
    (tmp_path / "strange.yaml").write_text(f"name: x\nmodel: {{name: bundled}}\nseed: {text}\n")
    for name, overrides in ((str(tmp_path / "strange.yaml"), []), ("sample", [f"seed={text}"])):
        with pytest.raises(RecipeError):
            load(name, overrides)


@pytest.mark.parametrize("pattern", PIPES)
def test_an_input_pattern_starts_no_command_and_opens_no_chain(
    tmp_path: Path, pattern: str, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.tar").write_bytes(bytes(10240))
    canary = tmp_path / "canary"
    with watched() as seen, pytest.raises(InputError, match=r"pipe:|no such file|unknown protocol|no shard"):
        discover([pattern.format(canary=canary, folder=tmp_path)])
    quiet([event for event in seen if "127.0.0.1" in event or not event.startswith("socket")], canary)


@pytest.mark.parametrize("key", ["entities.knowledge_base", "classes.fit_on"])
@pytest.mark.parametrize("url", ["pipe:touch {canary}", "reference::http://127.0.0.1:1/a", "simplecache::pipe:touch {canary}"])
def test_a_recipe_names_no_command_and_no_chain_of_file_systems(tmp_path: Path, key: str, url: str) -> None:
    with pytest.raises(RecipeError, match="never opens"):
        load("sample", [f"{key}={url.format(canary=tmp_path / 'canary')}"])


@pytest.mark.parametrize("name", ["evil_stage:Stage", "evil_stage", "os:system", "../evil_stage", "evil_stage.py"])
def test_a_recipe_names_installed_stages_and_never_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "evil_stage.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w').close()")
    monkeypatch.syspath_prepend(tmp_path)
    recipe = tmp_path / "recipe.yaml"
    model, stage = "model: {name: 'bundled:tinyclip-oc'}", f"{json.dumps(name)}: {{target: 'evil_stage:Stage'}}"
    recipe.write_text(f"name: evil\n{model}\nstages:\n  {stage}\n")
    with watched() as seen, pytest.raises(RecipeError, match=r"recipe\.yaml:4: no stage is called "):
        load(str(recipe))
    quiet(seen, tmp_path / "canary")
