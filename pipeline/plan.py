"""The plan of a run: from a recipe and its inputs to stages, fingerprints and folder names. Nothing is written.

Whatever changes a file's content is in its folder's name (design decision 1): a stage's fingerprint for columns, and for
tables the fingerprints of what they read and the list of input shards with their versions.

A plan is made (`Plan.of`), or read back from a root (`Plan.stored`). One that is made reads and hashes the files of the knowledge
base and of the model when its fingerprints are first asked for; one that is read back has them from run.json.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipeline.columns import Columns
from pipeline.entities import recogniser
from pipeline.entities.counts import Frequent
from pipeline.errors import RootError
from pipeline.export.samples import ExportColumns
from pipeline.input.discovery import Shard
from pipeline.input.inventory.stored import fingerprint, stored_inputs
from pipeline.outputs import BEFORE_RECORDED, BY_NAME, OUTPUTS, ClassFolders
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.rule_columns import ADDED
from pipeline.recipe.settled import Settled
from pipeline.registry import TRANSIENT, Added, added_from_record, producers
from pipeline.select.columns import RuleColumns
from pipeline.stage import Stage, digest, fingerprints
from pipeline.stages.entities import EntitiesStage
from pipeline.store.store import Store
from schemas.columns import SAMPLES

if TYPE_CHECKING:
    from pipeline.stages.clip import ClipStage

SAMPLES_VERSION = 4
"""Raised whenever the same input would give other columns of the source."""
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
"""What shardmill names shards and folders: in another's root the names in run.json must not lead out of it either."""


@dataclass(frozen=True)
class Plan:
    """What a recipe means for these inputs, once everything is settled."""
    root: Store
    recipe: Recipe
    shards: tuple[Shard, ...]
    settled: Settled
    recorded: Mapping[str, str] | None = None
    """Fingerprints of the source and of the stages of every run up to mentions, as a run recorded them; None: made from stages."""
    output_versions: Mapping[str, int] = field(default_factory=dict)
    """Of the outputs, by name, as a run recorded them; those that are missing are this package's."""
    inputs_recorded: str | None = None
    """Fingerprint of the input list, where that is left behind (`without_inputs`)."""

    @classmethod
    def of(cls, root: Store, recipe: Recipe, shards: Sequence[Shard], settled: Settled) -> "Plan":
        """The plan of a run that is to be made. Looks for spaCy where `entities.ner` is not settled; reads no file of the root."""
        return cls(root, recipe, tuple(shards), settled.of_recipe(recipe, recogniser.available))

    @classmethod
    def stored(cls, root: Store) -> "Plan":
        """The plan of the run that claimed the root last, over all its inputs. Raises FileNotFoundError where
        there is none, ValueError (pydantic's ValidationError too), KeyError or TypeError where it is damaged."""
        record = root.read_json("run.json")
        added = [added_from_record(name, stage) for name, stage in record.get("stages", {}).items()]
        recipe = Recipe.model_validate(record["recipe"], context={ADDED: added})
        shards = stored_inputs(root, record)
        derived = {"entities", *(stage.name for stage in added)}   # their fingerprints follow from the others
        columns = {name: folder.rpartition("@")[2] for name, folder in record["outputs"]["columns"].items() if name not in derived}
        for name in [*columns, *columns.values(), *derived, *(shard.shard_id for shard in shards)]:
            if not NAME.fullmatch(name):
                raise ValueError(f"no shard or stage is named {name!r}")
        return cls(root, recipe, shards, Settled.recorded(record).of_recipe(recipe, recogniser.available), columns,
                   {name: int(version) for name, version in dict(record.get("output_versions", BEFORE_RECORDED)).items()})

    @cached_property
    def versions(self) -> dict[str, int]:
        """Of every output, by name; they are in the names of its folders."""
        return {output.name: self.output_versions.get(output.name, output.version) for output in OUTPUTS}

    @property
    def route(self) -> str:
        """Numeric route of the embeddings."""
        return self.settled.route

    @property
    def others(self) -> Mapping[str, str]:
        return self.settled.others

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of the annotate pass, in order; `linked_stages` come later, for they read what the whole run says."""
        return (*self._core, *self._added(self.annotated))

    @cached_property
    def _core(self) -> tuple[Stage, ...]:
        """Those of every run."""
        # Imported here: they bring torch, and whoever only looks at a root needs none of it.
        from pipeline.stages.caption import CaptionStage
        from pipeline.stages.hashes import HashesStage
        from pipeline.stages.image import ImageStage
        from pipeline.stages.language import LanguageStage
        from pipeline.stages.mentions import MentionsStage
        image, base = self.recipe.image, self.recipe.entities.knowledge_base
        return (ImageStage(image.allowed_formats, image.max_pixels), CaptionStage(), LanguageStage(), HashesStage(), self.clip,
                MentionsStage(base, bool(self.settled.ner)))

    @cached_property
    def linked_stages(self) -> tuple[Stage, ...]:
        """The entities stage and what reads its columns."""
        return (self.entities, *self._added(self.linked))

    def _added(self, names: Sequence[str]) -> tuple[Stage, ...]:
        return tuple(stage.stage(self.recipe.stages[stage.name]) for stage in self.recipe.added if stage.name in names)

    @cached_property
    def clip(self) -> "ClipStage":
        """The stage that embeds. Raises InputError for a route that is none."""
        from pipeline.models.route import parse
        from pipeline.stages.clip import ClipStage
        model, route = self.recipe.model, parse(self.route)
        micro_batch = route.micro_batch if model.micro_batch == "auto" else model.micro_batch
        return ClipStage(model.name, model.pretrained, route.precision, self.route, micro_batch)

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Of the source's own columns and of every run's stages of the annotate pass, in order."""
        if self.recorded is not None:
            return dict(self.recorded)
        source = digest(["samples", SAMPLES_VERSION, asdict(self.recipe.reading)])
        behind = {name: source for name in [*SAMPLES.names[1:], *TRANSIENT]}
        return {"samples": source, **fingerprints(self._core, behind)}

    @cached_property
    def inputs(self) -> str:
        """Fingerprint of the input list; a changed file changes it."""
        return fingerprint(self.shards) if self.inputs_recorded is None else self.inputs_recorded

    @cached_property
    def folders(self) -> dict[str, str | None]:
        """Of every output beside the stages' columns, by name; None, or missing, for what the recipe does not ask for."""
        return {output.name: getattr(self, output.name) for output in OUTPUTS if not output.seldom or output.folder(self)}

    @cached_property
    def duplicates(self) -> str:
        """Folder of `duplicates.parquet`."""
        return self._table("duplicates")

    @cached_property
    def run_columns(self) -> str:
        """Folder of the columns that need the whole run."""
        return self._table("run_columns")

    @cached_property
    def calibration(self) -> str:
        """Folder of the entity table and its threshold."""
        return self._table("calibration")

    @cached_property
    def counts(self) -> str:
        """Folder of `counts.parquet`: how often each entity is confirmed."""
        return self._table("counts")

    @cached_property
    def verdicts(self) -> str:
        """Folder of the verdicts, the thresholds behind them, the account of the run and DataComp's subset file."""
        return self._table("verdicts")

    @cached_property
    def selected(self) -> str:
        """The same by the rules on columns alone, whose kept samples have classes; `verdicts` where there are no others."""
        return BY_NAME["selected"].folder(self) or self.verdicts

    @cached_property
    def semantic_columns(self) -> str | None:
        """Folder of the columns on duplicates by meaning; None where they are not looked for, and so the next."""
        return BY_NAME["semantic_columns"].folder(self)

    @cached_property
    def semantic_pairs(self) -> str | None:
        return BY_NAME["semantic_pairs"].folder(self)

    @cached_property
    def centroids(self) -> str | None:
        """As in `ClassFolders`; None without classes, and so the next three."""
        return BY_NAME["centroids"].folder(self)

    @cached_property
    def labels(self) -> str | None:
        return BY_NAME["labels"].folder(self)

    @cached_property
    def tallies(self) -> str | None:
        return BY_NAME["tallies"].folder(self)

    @cached_property
    def classes(self) -> str | None:
        return BY_NAME["classes"].folder(self)

    @cached_property
    def balance(self) -> str | None:
        """Folder of how often the export takes each sample; None when it takes all that are kept, once."""
        return BY_NAME["balance"].folder(self)

    @cached_property
    def index(self) -> str | None:
        """Folder of the indexes; None where the recipe asks for none."""
        return BY_NAME["index"].folder(self)

    @cached_property
    def export(self) -> str:
        """Folder of the output shards and their side files."""
        return self._table("export")

    def _table(self, name: str) -> str:
        """The folder of what every run has."""
        folder = BY_NAME[name].folder(self)
        assert folder is not None
        return folder

    @property
    def fitted(self) -> ClassFolders:
        """The folders of the classes, for passes that run only where there are some. Raises RootError where there are none."""
        if self.centroids is None or self.labels is None or self.tallies is None or self.classes is None:
            raise RootError(f"{self.root.url} has no classes: set classes.k in its recipe, and run it again")
        return ClassFolders(self.centroids, self.labels, self.tallies, self.classes)

    @cached_property
    def entities(self) -> EntitiesStage:
        return EntitiesStage((self.root / self.calibration).url)

    @cached_property
    def entities_fingerprint(self) -> str:
        """Of the entities stage."""
        behind = {"mentions": self.fingerprints["mentions"], "image_embedding": self.fingerprints["clip"]}
        return fingerprints([self.entities], behind)["entities"]

    @property
    def frequent(self) -> Frequent:
        """The entities that the cut of rare ones leaves."""
        return Frequent(self.root, f"{self.counts}/counts.parquet", self.recipe.entities.min_count)

    @cached_property
    def columns(self) -> Columns:
        """Where the columns of the source and of every stage are."""
        fingerprints = {**self.fingerprints, "entities": self.entities_fingerprint, **self.added_fingerprints}
        return Columns(self.root, {name: f"columns/{name}@{fingerprint}" for name, fingerprint in fingerprints.items()})

    @cached_property
    def added_fingerprints(self) -> dict[str, str]:
        """Of the stages that the recipe adds to those of every run, in its order."""
        behind = {**self.fingerprints, "entities": self.entities_fingerprint}
        added: dict[str, str] = {}
        for stage in self.recipe.added:
            added[stage.name] = digest([stage.own, sorted({{**behind, **added}[name] for name in self._read_by(stage)})])
        return added

    def _read_by(self, stage: Added) -> set[str]:
        """The source or stages whose columns a stage reads."""
        return set(map(producers(self.recipe.added).__getitem__, stage.reads))

    @cached_property
    def linked(self) -> tuple[str, ...]:
        """Names of the stages that come after the entities are calibrated: that stage, and what reads its columns."""
        names = ["entities"]
        for stage in self.recipe.added:
            if self._read_by(stage) & set(names):
                names.append(stage.name)
        return tuple(names)

    @property
    def annotated(self) -> tuple[str, ...]:
        """Names of the annotate pass's files, in the order in which they are committed."""
        return (*self.fingerprints, *(stage.name for stage in self.recipe.added if stage.name not in self.linked))

    @property
    def rule_columns(self) -> RuleColumns:
        """What rules read."""
        return RuleColumns(self.columns, self.run_columns, self.semantic_columns)

    @cached_property
    def exported(self) -> ExportColumns:
        """What an export reads of each sample."""
        return ExportColumns(
            self.columns, self.verdicts, self.labels, self.classes, self.frequent,
            {stage.name: stage.schema for stage in self.recipe.added}, with_empty=self.versions["export"] < 3)

    def restricted(self, shards: Sequence[Shard]) -> "Plan":
        """The same plan over the shards that could be read."""
        return replace(self, shards=tuple(shards), inputs_recorded=None)

    def without_inputs(self) -> "Plan":
        """The same plan with the same names, for workers: neither do they get the list of inputs, nor hash anything again."""
        return replace(self, shards=(), recorded=self.fingerprints, inputs_recorded=self.inputs)

    def describe(self) -> Mapping[str, Any]:
        """Names of all outputs, for run.json."""
        return {"route": self.route, "columns": dict(self.columns.folders), **self.folders, "others": dict(self.others)}
