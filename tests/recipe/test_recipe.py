import pickle
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.errors import RecipeError
from pipeline.recipe.reading.presets import presets
from pipeline.recipe.recipe import (
    classes_identity,
    export_identity,
    labels_identity,
    load,
    names_identity,
    select_identity,
)
from pipeline.recipe.reference import rewritten

DOCUMENT = Path(__file__).parents[2] / "docs" / "recipes.md"
MINIMAL = "name: mine\nmodel: {name: 'bundled:tinyclip-oc'}\n"


def written(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def test_the_presets_of_the_issue_are_there() -> None:
    assert presets() == ["align", "datacomp-basic", "datacomp-clip30", "laion400m", "laion5b-en", "sample"]


@pytest.mark.parametrize("name", ["align", "datacomp-basic", "datacomp-clip30", "laion400m", "laion5b-en", "sample"])
def test_a_preset_loads_names_its_source_and_has_rules(name: str) -> None:
    recipe = load(name)
    assert recipe.name == name
    assert recipe.filters
    assert recipe.source
    assert recipe.conditions or name == "sample"


@pytest.mark.parametrize("name", presets())
def test_a_similarity_bound_of_a_preset_is_calibrated_or_belongs_to_its_model(name: str) -> None:
    recipe = load(name)
    for rule in recipe.filters.values():
        if rule.column == "clip_similarity":
            assert rule.null_quantile is not None or rule.for_model == recipe.model.label


def test_the_numbers_of_the_sources() -> None:
    similarity = {name: load(name).filters["clip_similarity"] for name in ("laion400m", "laion5b-en", "datacomp-clip30")}
    assert similarity["laion400m"].min == 0.3
    assert similarity["laion5b-en"].min == 0.28
    assert (similarity["datacomp-clip30"].fraction, similarity["datacomp-clip30"].ties) == (0.3, "datacomp")
    assert load("laion5b-en").image.max_pixels == 89_478_484
    for name in ("laion400m", "laion5b-en", "datacomp-basic"):
        assert load(name).filters["language"].any_of == ("en",)
    assert load("datacomp-basic").caption.language_of == "raw"
    assert list(load("laion400m").filters)[-2:] == ["language", "clip_similarity"]
    assert load("laion400m").filters["image_too_few_bytes"].min == 5000
    assert load("laion400m").filters["caption_too_short"].min == 5


def test_the_page_of_presets_holds_every_rule_against_its_source() -> None:
    page = (DOCUMENT.parent / "presets.md").read_text(encoding="utf-8")
    sections = {part.partition("\n")[0]: part for part in page.split("\n## ")[1:]}
    assert set(sections) == set(presets())
    for name in presets():
        for rule in load(name).filters:
            assert f"`{rule}`" in sections[name], f"{name} says nothing of {rule}"


def test_rules_read_only_duplicates_that_are_looked_for() -> None:
    with pytest.raises(RecipeError, match=r"near_duplicate, and duplicates.find is exact: look for them, or drop the rule"):
        load("sample", ["duplicates.find=exact"])
    dropped = load("sample", ["duplicates.find=exact", "filters.near_duplicate=null"])
    assert dropped.filters["exact_duplicate"].equals is False
    with pytest.raises(RecipeError, match="exact_duplicate reads exact_duplicate"):
        load("sample", ["duplicates.find=none", "filters.near_duplicate=null"])


def test_a_preset_refuses_another_model_until_it_has_its_own_bound() -> None:
    other = ["model.name=ViT-L-14", "model.pretrained=datacomp_xl_s13b_b90k"]
    for name, bound in (("laion400m", "min=0.2"), ("laion5b-en", "null_quantile=0.9"), ("datacomp-clip30", "fraction=0.3")):
        with pytest.raises(RecipeError, match=r"clip_similarity was made for ViT-.*/openai .* ViT-L-14/datacomp_xl_s13b_b90k"):
            load(name, other)
        assert load(name, [*other, f"filters.clip_similarity.{bound}"]).filters["clip_similarity"].for_model is None
        assert "clip_similarity" not in load(name, [*other, "filters.clip_similarity=null"]).filters


def test_a_calibrated_bound_goes_with_any_model() -> None:
    recipe = load("sample", ["model.name=ViT-L-14", "model.pretrained=datacomp_xl_s13b_b90k"])
    assert recipe.model.label == "ViT-L-14/datacomp_xl_s13b_b90k"


@pytest.mark.parametrize(("override", "says"), [
    ("model.nme=3", "model.nme: unknown key; did you mean name?"),
    ("filter.x.min=1", "filter: unknown key; did you mean filters?"),
    ("device=cpu", "device: unknown key; did you mean model.device?"),
    ("zzz=1", "zzz: unknown key; valid here: name, source"),
    ("workers=3", "give --workers on the command line"),
    ("address=auto", "give --address on the command line"),
    ("output=x", "give --output on the command line"),
    ("threads=2", "give --threads on the command line"),
    ("model.device=gpu", "model.device: expected auto, cpu or cuda, not 'gpu'"),
    ("seed=-1", "seed: expected a whole number >= 0 and < 4294967296, not -1"),
    ("seed=1.5", "expected a whole number"),
    ("classes.k=many", "classes.k: expected a whole number >= 1 or null, not 'many'"),
    ("classes.k='32'", "(that is text in YAML: write 32)"),
    ("classes.levels=[8, 8]", "each level must have fewer classes than the one below it"),
    ("classes.levels=[64]", "the first fewer than k (32)"),
    ("classes.reference_column=lanuage", "did you mean language?"),
    ("classes.temperature=warm", "classes.temperature"),
    ("duplicates.correlation=1e-5", "not '1e-5' (that is text in YAML: write 1.0e-05)"),
    ("export.shuffle=1", "export.shuffle: expected true or false, not 1"),
    ("inputs=x", "inputs: expected a list of text, not 'x'"),
    ("image=3", "image: expected a section, not 3"),
    ("image.allowed_formats=[]", "expected a list of text (not empty)"),
    ("caption.fallback=klingon", "caption.fallback: 'klingon' is no encoding: write one that Python knows, e.g. windows-1252"),
    ("caption.fallback=rot13", "is no encoding"),
    ("metadata.bad_json=drop", "metadata.bad_json: expected keep or fail, not 'drop'"),
    ("export.transcode=gif", "'gif' is no way to write pictures: give none, png, or jpeg and a quality, 1-100: jpeg 95"),
    ("export.transcode=jpeg 101", "'jpeg 101' is no way to write pictures"),
    ("export.transcode=jpeg", "'jpeg' is no way to write pictures"),
    ("export.transcode=png 9", "'png 9' is no way to write pictures"),
    ("filters=3", "filters: expected a mapping of names to rules, not 3"),
    ("filters.clip_similarity.mni=.3", "filters.clip_similarity.mni: unknown key; did you mean min?"),
    ("filters.clip_similarity.min=high", "filters.clip_similarity.min: expected a number or null, not 'high'"),
    ("filters.clip_similarity.min=.nan", "expected a number or null, not nan"),
    ("filters.clip_similarity.fraction=30", "expected a number >= 0 and <= 1 or null, not 30"),
    ("filters.clip_similarty.min=.3", "no stage writes a column clip_similarty; did you mean clip_similarity?"),
    ("filters.language.any_of=[en, no]", "YAML reads yes, no, on and off as true and false: quote them"),
    ("filters.Bad-name.min=1", "a rule's name has small letters"),
    ("filters.tinny=null", "there is no rule tinny to remove; did you mean tiny?"),
    ("model.name.x=3", "model.name is not a section, it is set to 'bundled:tinyclip-oc'"),
    ("model.name=ViT-L-14", "ViT-L-14 has no weights and would score noise: set model.pretrained"),
    ("model.pretrained=openai", "bundled:tinyclip-oc brings its own weights"),
    ("seed=[1", "the value is not valid YAML"),
    ("seed", "write key=value"),
    ("=3", "write key=value"),
    ("model..name=x", "write key=value"),
])
def test_a_wrong_override_is_named_with_what_to_write_instead(override: str, says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load("sample", [override])
    assert str(caught.value).startswith(f"--set {override}:")
    assert says in str(caught.value)


SEMANTIC = "filters.semantic_duplicate={equals: false}"


@pytest.mark.parametrize(("overrides", "says"), [
    ([SEMANTIC], "semantic_duplicates: epsilon is null, and the rule semantic_duplicate reads what is found: set it"),
    (["semantic_duplicates.epsilon=0.1", "classes.k=null"], "they are looked for within classes, and there are none"),
    (["semantic_duplicates.epsilon=0"], "semantic_duplicates.epsilon"),
    (["semantic_duplicates.epsilon=0.1", "filters.semantic_similarity.fraction=0.5"], "cannot keep a fraction of the run"),
    (["classes.reference_column=semantic_duplicate"], "which is known after the classes"),
])
def test_what_cannot_be_known_after_the_classes_is_refused(overrides: list[str], says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load("sample", overrides)
    assert says in str(caught.value)


def test_rules_on_semantic_duplicates_come_last_wherever_they_stand(tmp_path: Path) -> None:
    text = MINIMAL + ("classes: {k: 3}\nsemantic_duplicates: {epsilon: 0.1}\nfilters:\n  semantic_duplicate: {equals: false}\n"
                      "  width: {min: 3, unless: {semantic_similarity: {max: 0.9}}}\n  height: {min: 3}\n")
    recipe = load(written(tmp_path, text))
    assert list(recipe.filters) == ["height", "semantic_duplicate", "width"]
    assert list(recipe.filters_on_columns) == ["height"]


def test_formats_that_trainers_skip_are_refused_unless_they_are_written_otherwise() -> None:
    formats = "image.allowed_formats=[jpeg, gif, avif]"
    with pytest.raises(RecipeError, match=r"sample: image.allowed_formats has gif, avif, which trainers skip .*transcode=png"):
        load("sample", [formats])
    assert load("sample", [formats, "export.transcode=jpeg 95"]).export.transcode == "jpeg 95"
    with pytest.raises(RecipeError, match=r"image.allowed_formats: heic cannot be decoded; there is jpeg, png, webp, gif, bmp"):
        load("sample", ["image.allowed_formats=[heic]", "export.transcode=png"])


def test_every_wrong_key_of_a_file_is_named_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, "name: mine\nmodel:\n  name: bundled:tinyclip-oc\n  devise: cpu\nfilters:\n  tiny:\n"
                             "    column: longest_side\n    mn: 3\nexprt: {}\nseed: soon\n")
    with pytest.raises(RecipeError) as caught:
        load(path)
    assert set(str(caught.value).split("\n")) == {
        f"{path}:4: model.devise: unknown key; did you mean device?",
        f"{path}:8: filters.tiny.mn: unknown key; did you mean min?",
        f"{path}:9: exprt: unknown key; did you mean export?",
        f"{path}:10: seed: expected a whole number >= 0 and < 4294967296, not 'soon'",
    }


@pytest.mark.parametrize(("text", "says"), [
    ("name: x\nname: y\n", ":2: name is set twice (first in line 1)"),
    (MINIMAL + "filters:\n  tiny: {column: width, min: 3, min: 4}\n", ":4: filters.tiny.min is set twice (first in line 4)"),
    ("name: [x\n", ":2: not valid YAML"),
    ("name: x\x00", ": not valid YAML"),
    ("a: &x 3\nb: *x\n", "no aliases"),
    ('a: 1\nname: "half \\ud83d"\n', r":2: 'half \ud83d' has half of a surrogate pair"),
    ("[1]\n", "a recipe is a mapping of sections, not list"),
    ("!!python/object/apply:os.system [ls]\n", "not valid YAML"),
    ("", "name: missing; expected text"),
    ("1: 2\n", ":1: 1: unknown key"),
])
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(RecipeError) as caught:
        load(path)
    assert str(caught.value).startswith(path)
    assert says in str(caught.value)


def test_an_unknown_recipe_suggests_the_nearest_preset(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no preset and no file laion-400m; did you mean laion400m\?"):
        load("laion-400m")
    with pytest.raises(RecipeError, match="presets: align, "):
        load(str(tmp_path / "absent.yaml"))
    (tmp_path / "picture.yaml").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(RecipeError, match="UTF-8"):
        load(str(tmp_path / "picture.yaml"))


def test_overrides_change_add_and_remove_rules_in_order() -> None:
    overrides = ["filters.tiny.above=63", "filters.wide.column=width", "filters.wide.max=5000", "filters.language=null"]
    recipe = load("sample", overrides)
    assert recipe.filters["tiny"].above == 63
    assert list(recipe.filters)[-1] == "wide"
    assert "language" not in recipe.filters
    assert load("sample", ["filters.language.unless.known_words.min=0.9"]).filters["language"].unless["known_words"].min == 0.9


def test_an_override_replaces_the_bound_of_the_file_on_its_side_alone() -> None:
    rule = load("sample", ["filters.clip_similarity.min=0.25"]).filters["clip_similarity"]
    assert (rule.min, rule.null_quantile) == (0.25, None)
    rule = load("sample", ["filters.clip_similarity.max=0.9"]).filters["clip_similarity"]
    assert (rule.max, rule.null_quantile) == (0.9, 0.55)
    assert load("datacomp-clip30", ["filters.clip_similarity.fraction=0.2"]).filters["clip_similarity"].ties == "datacomp"
    assert load("datacomp-clip30", ["filters.clip_similarity.min=0.2"]).filters["clip_similarity"].ties == "row_id"
    with pytest.raises(RecipeError, match="has both min and above: keep one"):
        load("sample", ["filters.clip_similarity.min=0.2", "filters.clip_similarity.above=0.3"])


def test_a_later_override_wins_and_is_the_one_that_is_named() -> None:
    assert load("sample", ["seed=1", "seed=2"]).seed == 2
    whole = "model={name: 'bundled:tinyclip-oc', device: tpu}"
    with pytest.raises(RecipeError) as caught:
        load("sample", ["model.device=gpu", whole])
    assert str(caught.value).startswith(f"--set {whole}: model.device: expected auto, cpu or cuda, not 'tpu'")


def test_a_recipe_cannot_be_changed_and_travels() -> None:
    recipe = load("sample")
    with pytest.raises(ValidationError, match="frozen"):
        recipe.seed = 3
    assert pickle.loads(pickle.dumps(recipe)) == recipe


IDENTITIES = {
    "select": select_identity, "classes": classes_identity, "names": names_identity, "labels": labels_identity,
    "export": export_identity,
}


@pytest.mark.parametrize(("overrides", "changed"), [
    (["name=other", "conditions=[x]", "inputs=[y]", "model.micro_batch=8", "model.compile=false"], set()),
    (["filters.tiny.above=31.0"], set()),
    (["filters.clip_similarity.null_quantile=0.6"], {"select"}),
    (["filters.tiny=null"], {"select"}),
    (["filters.wide={column: width, min: 3}"], {"select"}),
    (["filters.language.any_of=[en, de]"], {"select"}),
    (["seed=1"], {"select", "classes", "names", "labels", "export"}),
    (["classes.k=16"], {"classes"}),
    (["classes.fit_on=all"], {"classes"}),
    (["classes.preset=fast"], {"classes"}),
    (["classes.min_size=2"], {"classes"}),
    (["classes.levels=[8, 2]"], {"classes"}),
    (["classes.ids_from=self"], {"classes"}),
    (["classes.reference_column=language"], {"names"}),
    (["classes.text_weight=1.0"], {"names"}),
    (["classes.search=exact"], {"labels"}),
    (["classes.recall=0.99"], {"labels"}),
    (["classes.labels=4"], {"labels"}),
    (["classes.temperature=0.2"], {"labels"}),
    (["export.group=2"], {"export"}),
    (["export.shard_size=7"], {"export"}),
])
def test_identities_change_with_what_changes_the_output_and_with_nothing_else(overrides: list[str], changed: set[str]) -> None:
    before, after = load("sample"), load("sample", overrides)
    assert {name for name, identity in IDENTITIES.items() if identity(before) != identity(after)} == changed


def test_identities_ignore_keys_that_have_no_effect() -> None:
    fixed = ["filters.clip_similarity.min=0.1"]
    assert select_identity(load("sample", fixed)) == select_identity(load("sample", [*fixed, "seed=1"]))
    still = ["export.shuffle=false"]
    assert export_identity(load("sample", still)) == export_identity(load("sample", [*still, "seed=1", "export.group=3"]))
    none = ["classes.k=null"]
    assert classes_identity(load("sample", none)) == classes_identity(load("sample", [*none, "classes.iterations=3"]))


def test_the_order_of_the_rules_is_part_of_their_identity(tmp_path: Path) -> None:
    one, other = "tiny: {column: width, min: 3}", "wide: {column: width, max: 9}"
    texts = [MINIMAL + f"filters: {{{first}, {second}}}\n" for first, second in ((one, other), (other, one))]
    first, second = (select_identity(load(written(tmp_path, text))) for text in texts)
    assert first != second


def test_the_reference_is_what_the_models_say() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert rewritten(text) == text


def test_the_reference_must_have_every_generated_part() -> None:
    with pytest.raises(ValueError, match="0 parts marked columns"):
        rewritten(DOCUMENT.read_text(encoding="utf-8").replace("<!-- columns -->", ""))


def test_the_recipe_and_the_overrides_that_the_reference_shows_are_valid(tmp_path: Path) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    example = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0]
    recipe = load(written(tmp_path, example))
    assert list(recipe.filters) == ["too_small", "exact_duplicate", "language", "clip_similarity"]
    shown = [a or b for a, b in re.findall(r"--set (?:'([^']+)'|([^ `\n]+=[^ `\n]+))", text)]
    assert len(shown) >= 5
    for override in set(shown) - {"key=value"}:
        assert load("sample", [override])


def test_files_that_a_recipe_names_mean_the_same_in_another_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/of")
    (tmp_path / "w.pt").touch()
    kb = load("sample", ["entities.knowledge_base=kb [1].parquet"]).entities.knowledge_base
    assert kb == f"{tmp_path}/kb [1].parquet"
    rule = "filters.clip_similarity={column: clip_similarity, min: 0.1, for_model: 'local-dir:m'}"
    assert load("sample", ["model.name=local-dir:m", rule]).model.name == f"local-dir:{tmp_path}/m"
    assert load("sample", ["model.name=local-dir:~/m"]).model.name == "local-dir:/home/of/m"
    rule = "filters.clip_similarity={column: clip_similarity, min: 0.1, for_model: ViT-B-32/w.pt}"
    assert load("sample", ["model.name=ViT-B-32", "model.pretrained=w.pt", rule]).model.pretrained == f"{tmp_path}/w.pt"
    assert load("sample", ["model.name=ViT-B-32", "model.pretrained=openai"]).model.pretrained == "openai"
    assert load("sample").entities.knowledge_base == "bundled:wordnet"
    assert load("sample", ["classes.fit_on=runs/a::b [1]"]).classes.fit_on == "runs/a::b [1]"
