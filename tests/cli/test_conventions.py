"""What people expect of any command line: help, version, completion, colours on a terminal alone, a recipe to begin with."""

import os
import pty
import re
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from pipeline.api.progress import Lines, Silent
from pipeline.cli import printing
from pipeline.cli.main import app
from pipeline.cli.options import told
from pipeline.queries.recipes import begin_recipe
from pipeline.recipe.reading.json_schema import recipe_schema
from pipeline.recipe.recipe import load
from tests.roots import asked

ESCAPE = "\x1b["


def test_version_and_help_are_where_people_look_for_them() -> None:
    assert asked("--version").stdout == f"shardmill {version('shardmill')}\n"
    assert asked("-h").stdout == asked("--help").stdout
    for command in (["run"], ["recipes"], ["recipes", "show"]):
        assert asked(*command, "-h").stdout.startswith("Usage: ")


def test_quiet_says_the_answer_alone(demo_root: Path) -> None:
    assert isinstance(told(False, True), Silent)
    assert isinstance(told(False, False), Lines)
    printed = asked("run", "sample", "--output", str(demo_root), "--quiet")
    assert printed.stdout.startswith("shardmill: finished before in ")
    assert printed.stderr == ""


def test_a_shell_completes_commands_options_and_presets() -> None:
    def completed(words: str) -> list[str]:
        environment = {"_SHARDMILL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        return CliRunner().invoke(app, [], prog_name="shardmill", env=environment).stdout.split()

    assert completed("shardmill re") == ["report", "recipes"]
    assert completed("shardmill run laion") == ["laion400m", "laion5b-en"]


def test_a_terminal_gets_colours_unless_it_has_none_or_nobody_wants_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    def printed() -> str:
        printing.line("rejected:tiny", "12", "of 100 [bold]x[/]")
        sys.stdout.flush()
        return os.read(reader, 4096).decode()

    printing.line("rejected:tiny", "12", "of 100 [bold]x[/]")
    piped = capsys.readouterr().out
    assert ESCAPE not in piped
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    reader, terminal = pty.openpty()
    with os.fdopen(reader, "rb"), open(terminal, "w", encoding="utf-8") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        coloured = printed()
        assert ESCAPE in coloured
        assert re.sub(r"\x1b\[[0-9;]*m", "", coloured).split() == piped.split()
        for name, value in (("TERM", "dumb"), ("NO_COLOR", "1")):
            monkeypatch.setenv(name, value)
            assert printed().split() == piped.split()


def test_recipes_are_listed_shown_and_their_keys_explained(tmp_path: Path) -> None:
    listed = asked("recipes", "list").stdout
    assert "\nlaion400m  ViT-B-32-quickgelu/openai\n" in listed
    shown = asked("recipes", "show", "laion400m", "--set", "filters.language=null").stdout
    assert list(yaml.safe_load(shown)["filters"])[-1] == "clip_similarity"
    assert "language" not in yaml.safe_load(shown)["filters"]
    assert yaml.safe_load(asked("recipes", "show", "laion400m", "--all").stdout)["export"]["shard_size"] == 10_000
    keys = asked("recipes", "keys", "classes.k").stdout
    assert keys.startswith("classes.k  a whole number >= 1 or null  default null\n  number of classes")
    assert "filters.RULE.unless.COLUMN.below" in asked("recipes", "keys", "filters").stdout
    assert "did you mean classes?" in asked("recipes", "keys", "clases", check=2).stderr
    assert asked("recipes", "columns", "aspect").stdout.splitlines()[0].startswith(("aspect_ratio", "original_aspect_ratio"))
    assert '"title": "recipe"' in asked("recipes", "schema").stdout


def test_what_a_recipe_of_others_says_cannot_command_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "evil.yaml"
    path.write_text('extends: sample\nname: x\nsource: "a\\e[2Jb\\u202ec"\n', encoding="utf-8")
    assert not {"\x1b", "\u202e"} & set(asked("recipes", "show", str(path)).stdout)
    assert not {"\x1b", "\u202e"} & set(asked("recipes", "show", str(path), "--json").stdout)
    path.write_text('extends: sample\nname: x\n"a\\e[2Jb": 3\n"c\\u202ed": 4\n', encoding="utf-8")
    wrong = asked("recipes", "show", str(path), check=2).stderr
    assert [line.partition(": ")[2] for line in wrong.splitlines()][-1].startswith("c d: unknown key")
    assert not {"\x1b", "\u202e"} & set(wrong)


def test_a_recipe_to_begin_with_loads_and_leaves_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert asked("recipes", "init").stdout == "recipe.yaml: name its inputs, then try `shardmill plan recipe.yaml`\n"
    recipe = load("recipe.yaml")
    assert (recipe.name, recipe.filters) == ("recipe", load("laion400m").filters)
    text = Path("recipe.yaml").read_text(encoding="utf-8")
    Draft202012Validator(recipe_schema()).validate(yaml.safe_load(text))
    schema = re.match(r"# yaml-language-server: \$schema=file://(\S+)\n", text)
    assert schema is not None
    assert Path(schema[1]).is_file()
    assert "is left as it is" in asked("recipes", "init", check=2).stderr
    assert Path("recipe.yaml").read_text(encoding="utf-8") == text
    assert "no preset is called laion; did you mean" in asked("recipes", "init", "b.yaml", "--extends", "laion", check=2).stderr
    assert "cannot be written" in asked("recipes", "init", "no/such/folder.yaml", check=2).stderr
    uncommented = re.sub(r"^# ((?:classes|filters|  \w+):.*)", r"\1", text, flags=re.MULTILINE)
    Path("all.yaml").write_text(uncommented, encoding="utf-8")
    assert load("all.yaml").classes.k == 256, "what is suggested there is valid"
    begin_recipe("2024 [x].yaml", "sample")
    assert load("2024 [x].yaml").name == "2024--x-"


def test_every_command_says_in_one_line_what_it_does() -> None:
    commands = [*app.registered_commands, *(c for group in app.registered_groups if (g := group.typer_instance)
                                            for c in g.registered_commands)]
    assert [command.name for command in commands if not (command.callback and command.callback.__doc__)] == []
