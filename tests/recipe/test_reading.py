"""Recipes on top of presets, from a URL, and as editors see them."""

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest
import yaml
from jsonschema import Draft202012Validator

from pipeline.errors import RecipeError
from pipeline.queries.recipes import resolved_recipe
from pipeline.recipe.reading.json_schema import recipe_schema_text
from pipeline.recipe.reading.presets import preset_text, presets
from pipeline.recipe.reading.written import LARGEST
from pipeline.recipe.recipe import Recipe, load
from pipeline.recipe.reference import schema_file

EXTENDING = "extends: laion400m\nname: mine\n"


def written(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_recipe_that_extends_a_preset_says_only_what_is_otherwise(tmp_path: Path) -> None:
    base = load("laion400m")
    recipe = load(written(tmp_path, EXTENDING + "classes: {levels: [64]}\nfilters:\n  language: null\n"
                                    "  caption_too_short: {above: 9}\n  tiny: {column: longest_side, above: 31}\n"))
    assert recipe.name == "mine"
    assert (recipe.source, recipe.model) == (base.source, base.model)
    assert (recipe.classes.k, recipe.classes.levels) == (base.classes.k, (64,))
    assert list(recipe.filters) == [*(rule for rule in base.filters if rule != "language"), "tiny"], "in the preset's order"
    short = recipe.filters["caption_too_short"]
    assert (short.column, short.above, short.min) == ("raw_caption_characters", 9, None), "a new bound replaces that of its side"
    assert load(written(tmp_path, EXTENDING)) == base.model_copy(update={"name": "mine"})


def test_a_new_bound_of_a_score_is_not_the_presets_and_another_model_brings_its_own_weights(tmp_path: Path) -> None:
    other = "model: {name: ViT-L-14, pretrained: datacomp_xl_s13b_b90k}\n"
    rule = load(written(tmp_path, EXTENDING + other + "filters: {clip_similarity: {min: 0.2}}\n")).filters["clip_similarity"]
    assert (rule.min, rule.for_model) == (0.2, None)
    with pytest.raises(RecipeError, match=r"clip_similarity was made for ViT-B-32-quickgelu/openai"):
        load(written(tmp_path, EXTENDING + other))
    bundled = load(written(tmp_path, EXTENDING + "model: {name: 'bundled:tinyclip-oc'}\nfilters: {clip_similarity: null}\n"))
    assert bundled.model.label == "bundled:tinyclip-oc"


def test_a_rule_on_another_column_keeps_nothing_of_the_presets_and_exceptions_are_put_together(tmp_path: Path) -> None:
    text = ("extends: sample\nname: mine\nfilters:\n  tiny: {column: shortest_side, below: 99}\n"
            "  language: {unless: {known_words: {min: 0.9}}}\n")
    rules = load(written(tmp_path, text)).filters
    assert (rules["tiny"].above, rules["tiny"].below) == (None, 99)
    assert rules["language"].any_of == ("en",)
    assert {name: bound.conditions for name, bound in rules["language"].unless.items()} == {
        "language_confidence": {"below": 0.6}, "caption_words": {"below": 2}, "known_words": {"min": 0.9}}


@pytest.mark.parametrize(("text", "says"), [
    ("extends: laion\nname: x\n", r"mine\.yaml:1: extends: no preset is called laion; did you mean laion400m\?"),
    ("name: x\nextends: [align]\n", r"mine\.yaml:2: extends: no preset is called"),
    ("name: x\nextends: other.yaml\n", r"no preset is called other\.yaml; there are align, "),
    ("extends: laion400m\n", r"mine\.yaml: name: missing"),
    (EXTENDING + "filters: {langage: null}\n", r"mine\.yaml:3: laion400m has no rule langage to remove; did you mean language\?"),
    (EXTENDING + "image: {max_pixel: 3}\n", r"mine\.yaml:3: image\.max_pixel: unknown key; did you mean max_pixels\?"),
    (EXTENDING + "filters: 3\n", r"mine\.yaml:3: filters: expected a mapping"),
    ("extends: sample\nname: x\nmodel: {name: ViT-L-14}\n", r"mine\.yaml:3: model: ViT-L-14 has no weights"),
    (EXTENDING + "model: {name: ViT-L-14, pretrained: openai}\n", r"laion400m\.yaml \(preset\):\d+: filters: the bound of clip_"),
])
def test_what_is_wrong_with_a_recipe_that_extends_a_preset_is_named_where_it_is(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        load(written(tmp_path, text))


@pytest.fixture
def served() -> Iterator[tuple[str, dict[str, bytes]]]:
    """A web server without ranges, as many are, and what it gives by path."""
    contents: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.do_HEAD()
            with suppress(BrokenPipeError, ConnectionResetError):   # who has read enough hangs up
                self.wfile.write(contents.get(self.path, b""))

        def do_HEAD(self) -> None:
            self.send_response(200 if self.path in contents else 404)
            self.send_header("Content-Length", str(len(contents.get(self.path, b""))))
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", contents
    server.shutdown()
    server.server_close()


def test_a_recipe_may_lie_at_a_url(served: tuple[str, dict[str, bytes]]) -> None:
    address, contents = served
    contents["/mine.yaml"] = EXTENDING.encode()
    assert load(f"{address}/mine.yaml", ["seed=3"]).seed == 3
    fsspec.filesystem("memory").pipe("/recipes/other.yaml", b"extends: align\nname: other\nseed: soon\n")
    with pytest.raises(RecipeError, match=r"^memory://recipes/other\.yaml:3: seed: expected a whole number"):
        load("memory://recipes/other.yaml")
    with pytest.raises(RecipeError, match=r"no preset and no file http://.*/laion5b\.yaml; did you mean laion5b-en\?"):
        load(f"{address}/laion5b.yaml")


def test_of_what_is_no_recipe_no_more_is_read_than_a_recipe_may_be_long(
    served: tuple[str, dict[str, bytes]], tmp_path: Path,
) -> None:
    address, contents = served
    contents["/tar"] = bytes(64 << 20)
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name in (f"{address}/tar", str(tmp_path / "endless")):
        with pytest.raises(RecipeError, match="is larger than 256 KiB, which no recipe is"):
            load(name)
    exact = written(tmp_path, EXTENDING + "#" * (LARGEST - len(EXTENDING)))
    assert load(exact).name == "mine"


def test_a_server_that_is_not_there_is_said_within_seconds() -> None:
    with pytest.raises(RecipeError, match=r"http://127\.0\.0\.1:1/mine\.yaml cannot be read: .*(Connect|refused)"):
        load("http://127.0.0.1:1/mine.yaml")


def test_what_is_shown_of_a_recipe_is_a_recipe_that_means_the_same(tmp_path: Path) -> None:
    for name in presets():
        for every_key in (False, True):
            shown = yaml.safe_dump(resolved_recipe(name, every_key=every_key).recipe, sort_keys=False)
            assert load(written(tmp_path, shown)) == load(name)


def test_the_schema_for_editors_is_the_recipes_own_and_takes_every_recipe(tmp_path: Path) -> None:
    published = schema_file().read_text(encoding="utf-8")
    assert published == recipe_schema_text(), "run: python -m pipeline.recipe.reference docs/recipes.md"
    schema = json.loads(recipe_schema_text())
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    for name in presets():
        validator.validate(yaml.safe_load(preset_text(name)))
        validator.validate(json.loads(json.dumps(resolved_recipe(name, every_key=True).recipe)))
    validator.validate(yaml.safe_load(EXTENDING + "filters: {language: null, tiny: {above: 3}}\nstages: {colour: null}\n"))
    undescribed = [key for part in [schema, *schema["$defs"].values()] for key, said in part["properties"].items()
                   if not said.get("description")]
    assert undescribed == []
    assert set(schema["properties"]) == {"extends", *Recipe.model_fields}


@pytest.mark.parametrize("text", [
    "name: x\n", "extends: laion\nname: x\n", EXTENDING + "sed: 3\n", EXTENDING + "classes: {k: 0}\n",
    EXTENDING + "filters: {tiny: {mn: 3}}\n", EXTENDING + "filters: {Tiny: {min: 3}}\n", EXTENDING + "export: {shuffle: 1}\n",
])
def test_the_schema_for_editors_refuses_what_a_run_would(tmp_path: Path, text: str) -> None:
    assert not Draft202012Validator(json.loads(recipe_schema_text())).is_valid(yaml.safe_load(text))
    with pytest.raises(RecipeError):
        load(written(tmp_path, text))
