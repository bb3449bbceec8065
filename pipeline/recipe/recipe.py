"""A recipe: the validated YAML file that describes one curation. Workers, address, output and threads are not in it:
they must not change a byte. `load` reads a preset, a file or a URL; the reference is docs/recipes.md."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field, PrivateAttr, ValidationError, ValidationInfo, field_validator

from pipeline.errors import RecipeError
from pipeline.input.samples import Reading
from pipeline.models.pixels.encoding import NONE
from pipeline.models.pixels.formats import DECODABLE, TRAINERS_FORMATS
from pipeline.recipe.anywhere import label_anywhere
from pipeline.recipe.further_stages import requested_stages
from pipeline.recipe.lists.pinned import KEYS, pin_lists
from pipeline.recipe.lists.uids import parted
from pipeline.recipe.messages import problems
from pipeline.recipe.reading.written import written_recipe
from pipeline.recipe.rule_columns import ADDED, COLUMNS, SEMANTIC, Column, columns_with
from pipeline.recipe.rules import STRICT, Name, Rule, Rules, columns_read
from pipeline.recipe.sections import (
    FITTED_HERE,
    Caption,
    Classes,
    Duplicates,
    Entities,
    Export,
    Image,
    Index,
    Metadata,
    Model,
    Names,
    SemanticDuplicates,
)
from pipeline.recipe.yaml_source import Source, apply
from pipeline.registry import Added
from pipeline.stage import digest


class Recipe(BaseModel):
    """One curation."""

    model_config = STRICT

    name: str
    """a name for people and reports"""
    source: str = ""
    """where the numbers come from"""
    conditions: Names = ()
    """conditions of the source that cannot be checked here; printed with every run"""
    inputs: Names = ()
    """folders, globs, brace patterns or URLs of input shards, or `bundled:sample`; inputs on the command line replace them"""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """of everything drawn: shuffles, backgrounds, initial centroids"""
    model: Model
    """the image-text model"""
    image: Image = Image()
    """which images are decoded"""
    caption: Caption = Caption()
    """where the caption is, and how it is read"""
    metadata: Metadata = Metadata()
    """what the samples bring with them"""
    entities: Entities = Entities()
    """entity linking"""
    duplicates: Duplicates = Duplicates()
    """which duplicates are looked for"""
    stages: dict[Name, dict[str, Any]] = {}
    """name: fields; stages beside those of every run, from the package or from installed ones: what is made for each sample, and
    which columns rules may read of it, is theirs"""
    filters: dict[Name, Rule] = {}
    """name: rule; the first that a sample does not pass, in this order, is its verdict; those on semantic duplicates come last"""
    classes: Classes = Classes()
    """pseudo-classes and labels"""
    semantic_duplicates: SemanticDuplicates = Field(default=SemanticDuplicates(), validate_default=True)
    """duplicates by meaning, within each class"""
    index: Index = Index()
    """neighbours"""
    export: Export = Export()
    """output shards"""

    _added: tuple[Added, ...] = PrivateAttr(())

    def model_post_init(self, context: Any) -> None:
        self._added = tuple(context[ADDED]) if context else ()

    @property
    def added(self) -> tuple[Added, ...]:
        """The stages of `stages`, in their order."""
        return self._added

    @property
    def columns(self) -> Mapping[str, Column]:
        """The columns that its rules may read, by name."""
        return columns_with(self._added)

    @property
    def reading(self) -> Reading:
        """How its samples are read."""
        return Reading(self.caption.keys, self.caption.fallback, self.metadata.bad_json == "keep")

    def read_by_rules(self) -> dict[str, tuple[str, ...]]:
        """The columns that its rules read, by who writes them."""
        return columns_read(self.filters, self.columns)

    @property
    def filters_on_columns(self) -> dict[str, Rule]:
        """The rules that are judged before the clustering."""
        return {name: rule for name, rule in self.filters.items() if not _reads_semantic(rule)}

    @property
    def filters_on_classes(self) -> dict[str, Rule]:
        """The rules that are judged after it, of what the others keep."""
        return {name: rule for name, rule in self.filters.items() if _reads_semantic(rule)}

    @field_validator("stages", mode="before")
    @classmethod
    def _no_fields_is_an_empty_mapping(cls, stages: Any) -> Any:
        if not isinstance(stages, dict):
            return {} if stages is None else stages
        return {name: {} if fields is None else fields for name, fields in stages.items()}

    @field_validator("filters", mode="before")
    @classmethod
    def _name_is_the_column(cls, rules: Any) -> Any:
        if not isinstance(rules, dict):
            return {} if rules is None else rules
        return {name: {"column": name, **rule} if isinstance(rule, dict) else rule for name, rule in rules.items()}

    @field_validator("export", mode="after")
    @classmethod
    def _balance_has_classes(cls, export: Export, info: ValidationInfo) -> Export:
        classes = info.data.get("classes")
        if export.balance is not None and classes is not None and classes.k is None and classes.fit_on in FITTED_HERE:
            raise ValueError("export.balance evens out classes, and there are none: set classes.k, or classes.fit_on to a root")
        return export

    @field_validator("filters", mode="after")
    @classmethod
    def _duplicates_are_looked_for(cls, rules: dict[str, Rule], info: ValidationInfo) -> dict[str, Rule]:
        duplicates = info.data.get("duplicates")
        if duplicates is None:   # it is wrong itself
            return rules
        for name, rule in rules.items():
            for column in duplicates.not_found:
                if column in rule.reads:
                    raise ValueError(f"{name} reads {column}, and duplicates.find is {duplicates.find}: look for them, or drop the "
                                     f"rule, --set filters.{name}=null")
        return rules

    @field_validator("filters", mode="after")
    @classmethod
    def _rules_on_classes_come_last(cls, rules: dict[str, Rule]) -> dict[str, Rule]:
        for name, rule in rules.items():
            if _reads_semantic(rule) and rule.fraction is not None:
                raise ValueError(f"{name} cannot keep a fraction of the run: only what other rules keep is compared; use max")
        return dict(sorted(rules.items(), key=lambda item: _reads_semantic(item[1])))

    @field_validator("semantic_duplicates", mode="after")
    @classmethod
    def _semantic_duplicates_can_be_found(cls, semantic: SemanticDuplicates, info: ValidationInfo) -> SemanticDuplicates:
        rules, classes = info.data.get("filters") or {}, info.data.get("classes")
        if semantic.epsilon is not None and classes is not None and classes.k is None and classes.fit_on in FITTED_HERE:
            raise ValueError("they are looked for within classes, and there are none: set classes.k, or classes.fit_on to a root")
        for name in (name for name, rule in rules.items() if _reads_semantic(rule) and semantic.epsilon is None):
            raise ValueError(f"epsilon is null, and the rule {name} reads what is found: set it, e.g. "
                             f"--set semantic_duplicates.epsilon=0.05, or drop the rule, --set filters.{name}=null")
        return semantic

    @field_validator("filters", mode="after")
    @classmethod
    def _bounds_fit_the_model(cls, rules: dict[str, Rule], info: ValidationInfo) -> dict[str, Rule]:
        model = info.data.get("model")
        for name, rule in rules.items():
            if model is not None and label_anywhere(rule.for_model) not in (None, model.label):
                raise ValueError(
                    f"the bound of {name} was made for {rule.for_model} and means nothing for {model.label}: give this model "
                    f"its own, --set filters.{name}.min=, .fraction= or .null_quantile=")
        return rules


def _reads_semantic(rule: Rule) -> bool:
    """Whether a rule reads what is known after the clustering alone."""
    return any(name in COLUMNS and COLUMNS[name].origin == SEMANTIC for name in rule.reads)


def load(name_or_path: str, overrides: Sequence[str] = (), stages: Sequence[str] = ()) -> Recipe:
    """A preset by name, a file or a URL, with dotted `key=value` overrides. `stages` are the operator's own, as
    `package.module:Class`; one that the recipe does not name is asked for with its defaults. Raises RecipeError, which names every
    wrong key, its file and line (or override) and what to write instead."""
    source = written_recipe(name_or_path)
    apply(source, overrides)
    pin_lists(source)
    recipe = validated(source, requested_stages(source, stages))
    refuse_formats(name_or_path, recipe)
    return recipe


def refuse_formats(name: str, recipe: Recipe) -> None:
    """Raises RecipeError for pictures that nobody decodes, or that no trainer would read in the output. Not asked of a root's own
    recipe: what was written stays readable."""
    allowed = recipe.image.allowed_formats
    unknown = [format for format in allowed if format not in DECODABLE]
    if unknown:
        raise RecipeError(f"{name}: image.allowed_formats: {', '.join(unknown)} cannot be decoded; there is {', '.join(DECODABLE)}")
    foreign = [format for format in allowed if format not in TRAINERS_FORMATS]
    if foreign and recipe.export.transcode == NONE:
        raise RecipeError(
            f"{name}: image.allowed_formats has {', '.join(foreign)}, which trainers skip in the output: have them written "
            f"otherwise (--set export.transcode=png, or --set 'export.transcode=jpeg 95'), or leave them out")


def validated(source: Source, added: Sequence[Added]) -> Recipe:
    """The recipe that parsed data describes, with its further stages. Raises RecipeError, as `load` does."""
    try:
        return Recipe.model_validate(source.data, context={ADDED: added})
    except ValidationError as error:
        raise RecipeError("\n".join(problems(error, Recipe, source))) from None


def select_identity(recipe: Recipe, rules: Rules | None = None) -> str:
    """A digest that changes with whatever changes the verdicts of the same columns by these rules of the recipe, or by all: the
    rules, their order and names, and the seed where one is calibrated on shuffled pairs."""
    rules = recipe.filters if rules is None else rules
    calibrated = any(rule.null_quantile is not None for rule in rules.values())
    return digest([[[name, _meaning(rule)] for name, rule in rules.items()], recipe.seed if calibrated else None])


def _meaning(rule: Rule) -> dict[str, Any]:
    """What a rule does, however it is written: 3 and 3.0, lists in any order, what a file of uids holds."""
    meaning = rule.model_dump(exclude_none=True, exclude={"for_model"} if rule.fraction is not None else {"for_model", "ties"})
    for bound in (meaning, *meaning.get("unless", {}).values()):
        for key, value in bound.items():
            if isinstance(value, float) and value.is_integer():
                bound[key] = int(value)
            elif isinstance(value, tuple):
                bound[key] = sorted(value, key=str)
            elif key in KEYS:
                bound[key] = parted(value)[1] or value
    return meaning


def classes_identity(recipe: Recipe) -> str:
    """A digest that changes with whatever changes the centroids, levels and ids for the same embeddings and verdicts."""
    classes = recipe.classes
    if classes.fit_on not in FITTED_HERE:
        return digest(classes.fit_on)
    fitted = ("fit_on", "preset", "iterations", "min_size", "levels", "resampling", "ids_from")
    return digest([classes.k, classes.k and [classes.model_dump(mode="json", include=set(fitted)), recipe.seed]])


def names_identity(recipe: Recipe) -> str:
    """A digest that changes with whatever changes the names of the same classes, and what is reported of them."""
    classes = recipe.classes
    return digest([float(classes.text_weight), classes.reference_column, recipe.seed])


def labels_identity(recipe: Recipe) -> str:
    """A digest that changes with whatever changes the labels for the same centroids."""
    classes = recipe.classes
    searched = [classes.search, classes.search == "auto" and float(classes.recall)]
    weight = "auto" if classes.temperature == "auto" else float(classes.temperature)
    drawn = recipe.seed if "auto" in (classes.search, classes.temperature) else None
    return digest([classes.labels, classes.floor, searched, weight, drawn])


def semantic_identity(recipe: Recipe) -> str:
    """A digest that changes with whatever changes which samples of the same classes are duplicates by meaning."""
    semantic = recipe.semantic_duplicates
    drawn = recipe.seed if semantic.keep == "random" else None
    return digest([float(semantic.epsilon or 0), semantic.keep, drawn, semantic.greedy])


def balance_identity(recipe: Recipe) -> str:
    """A digest that changes with whatever changes the number of times that each sample is exported, for the same labels."""
    export = recipe.export
    return digest([export.balance, export.balance and [export.multiplier, export.balance_order, recipe.seed]])


def index_identity(recipe: Recipe) -> str:
    """A digest that changes with whatever changes the indexes of the same vectors."""
    index = recipe.index
    wish = [index.kind, float(index.recall), float(index.latency), float(index.memory)]
    return digest([index.of, list(index.modality), wish, recipe.seed])


def export_identity(recipe: Recipe) -> str:
    """A digest that changes with whatever changes the output shards for the same verdicts, labels and copies."""
    export = recipe.export
    written = [value for value, default in ((export.transcode, NONE), (export.orient, "keep")) if value != default]
    return digest([export.shard_size, [export.group, recipe.seed] if export.shuffle else None, *written])
