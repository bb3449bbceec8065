"""The stages there are, by name, and as text: reading a recipe or looking at a root imports none of them, and so no torch.

`CORE` stages are in every run, in the order in which their errors decide a verdict. Further ones are made where a recipe names
them (`stages:`): those of this package (`BUNDLED`), those that installed distributions offer as entry points of the group
`shardmill.stages`, and those that whoever starts a run names as `package.module:Class` (`--stage`). A recipe may come from
anybody, so it can name a stage and never code (SECURITY.md).
"""

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, fields
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, get_type_hints

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, create_model

from pipeline.errors import InputError
from pipeline.stage import Stage, digest
from schemas import columns as schemas
from schemas.exports import EXPORT, SAMPLE_JSON

GROUP = "shardmill.stages"


@dataclass(frozen=True)
class Core:
    """A stage of every run: its class, and what it writes (an embedding's width aside)."""

    target: str
    schema: pa.Schema


CORE: Mapping[str, Core] = {
    "image": Core("pipeline.stages.image:ImageStage", schemas.IMAGE),
    "caption": Core("pipeline.stages.caption:CaptionStage", schemas.CAPTION),
    "language": Core("pipeline.stages.language:LanguageStage", schemas.LANGUAGE),
    "hashes": Core("pipeline.stages.hashes:HashesStage", schemas.HASHES),
    "clip": Core("pipeline.stages.clip:ClipStage", schemas.clip_schema(1)),
    "mentions": Core("pipeline.stages.mentions:MentionsStage", schemas.MENTIONS),
    "entities": Core("pipeline.stages.entities:EntitiesStage", schemas.ENTITIES),
}
BUNDLED: Mapping[str, str] = {"metadata": "pipeline.stages.metadata:MetadataStage"}
"""Further stages of this package: name -> `module:Class`."""


@dataclass(frozen=True)
class Offer:
    """A stage that a recipe may name."""

    target: str
    distribution: str
    """`name version` of what it is installed with, or a hash of its source file; a part of the fingerprint."""


@dataclass(frozen=True)
class Added:
    """A stage that a recipe asked for beside those of every run: what a root keeps of it, so that it can be read where the
    stage is not installed."""

    name: str
    target: str
    """Its class; empty where it was read back from a root, which must not name code."""
    distribution: str
    own: str
    """Fingerprint of its name, version, fields and distribution; what it reads comes on top."""
    reads: tuple[str, ...]
    gives: tuple[str, ...]
    """Columns that it writes or hands on, but for uid."""
    scalars: tuple[tuple[str, str, str], ...]
    """(name, Arrow type, meaning) of the columns that rules may read and exports carry."""

    def record(self) -> dict[str, Any]:
        """The stage as run.json keeps it; `added_from_record` reads it back."""
        return {key: value for key, value in asdict(self).items() if key not in ("name", "target")}

    @property
    def schema(self) -> pa.Schema:
        """The schema of its scalars. Raises ValueError for a type that Arrow does not know."""
        return pa.schema([schemas.field(name, pa.type_for_alias(type), doc) for name, type, doc in self.scalars])

    def stage(self, settings: Mapping[str, Any]) -> Stage:
        """The stage itself, with these settings as fields. Raises InputError where it is not installed."""
        if not self.target:
            raise InputError(f"stage {self.name} ({self.distribution}) was not looked for: run the recipe again")
        return stage_of_settings(import_stage(self.target), settings)


def added_from_record(name: str, stored: Mapping[str, Any]) -> Added:
    """The stage that `Added.record` described. Raises KeyError, TypeError or ValueError for anything else."""
    scalars = tuple((str(column), str(type), str(doc)) for column, type, doc in stored["scalars"])
    stage = Added(
        name, "", str(stored["distribution"]), str(stored["own"]), tuple(map(str, stored["reads"])),
        tuple(map(str, stored["gives"])), scalars,
    )
    stage.schema   # noqa: B018 (ValueError for a type that Arrow does not know)
    return stage


def added_stage(name: str, stage: Stage, offer: Offer) -> Added:
    """What a root keeps of a stage that a recipe asked for: its columns, and the fingerprint of its own parts."""
    contract = stage.contract
    fingerprint = digest([name, contract.version, stage.identity, offer.distribution])
    scalars = tuple(
        (field.name, str(field.type), (field.metadata or {}).get(b"doc", b"").decode())
        for field in stage.writes if is_scalar(field) and field.name != "uid"
    )
    gives = (*stage.writes.names[1:], *contract.carries.names)
    return Added(name, offer.target, offer.distribution, fingerprint, tuple(contract.reads), gives, scalars)


SOURCE = "samples"
"""What the input itself brings of a sample; its columns come before every stage's."""


TRANSIENT = ("image", "metadata")
"""What it brings and nobody stores: the encoded image and the metadata object."""


def producers(added: Sequence[Added] = ()) -> dict[str, str]:
    """The owner of each column, by the column's name: the source, or a stage. Transient columns are among them."""
    owners = dict.fromkeys([*schemas.SAMPLES.names, *TRANSIENT], SOURCE)
    for name, core in CORE.items():
        owners |= dict.fromkeys(core.schema.names[1:], name)
    owners |= dict.fromkeys(schemas.PIXELS.names, "image")
    for stage in added:
        owners |= dict.fromkeys(stage.gives, stage.name)
    return owners


def is_scalar(field: pa.Field) -> bool:
    """Whether rules may read the column: it holds numbers, text or truth values, and is no error code."""
    scalar = pa.types.is_primitive(field.type) or pa.types.is_string(field.type)
    return scalar and not field.name.endswith("_error")


def offers(targets: Sequence[str] = ()) -> dict[str, Offer]:
    """Every stage that a recipe may name, by name; `targets` are the operator's `package.module:Class`, which are imported here
    and win. Raises InputError for a target that is no stage."""
    by_name = {name: Offer(target, "shardmill") for name, target in BUNDLED.items()}
    for entry in metadata.entry_points(group=GROUP):
        release = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else ""
        by_name[entry.name] = Offer(entry.value.replace(" ", ""), release)
    for target in targets:
        kind = import_stage(target)
        by_name[kind.contract.name] = Offer(target, release_of(kind))
    return by_name


def import_stage(target: str) -> type[Stage]:
    """The class that `package.module:Class` names. Raises InputError, which says what is wrong with it."""
    module, _, name = target.partition(":")
    if not module or not name:
        raise InputError(f"{target!r} names no stage: write package.module:Class")
    try:
        kind = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"stage {target} cannot be imported ({error}): install its package on every machine") from error
    if not (isinstance(kind, type) and issubclass(kind, Stage)):
        raise InputError(f"{target} is no stage: it must be a subclass of shardmill's Stage")
    refuse_malformed(target, kind)
    return kind


def refuse_malformed(target: str, kind: type[Stage]) -> None:
    """Raises InputError, before a run, for a stage whose contract would break the run in its middle."""
    contract = getattr(kind, "contract", None)
    if contract is None:
        raise InputError(f"{target} has no contract: give the class `contract = Contract(name, version, reads, writes)`")
    name, names = contract.name, contract.writes.names
    if name in CORE or name == "samples":
        raise InputError(f"{target}: a stage called {name} is in every run; give it another name")
    if not name.isidentifier() or name != name.lower():
        raise InputError(f"{target}: {name!r} is no name for a stage: small letters, digits and _")
    if len(names) < 2 or names[0] != "uid" or names[-1] != f"{name}_error":
        raise InputError(f"{target}: its columns must be uid first and {name}_error last, not {', '.join(names)}")
    taken = sorted(field.name for field in fields(kind) if field.name in MEMBERS)
    if taken:
        raise InputError(f"{target}: a field cannot be called {taken[0]}, which shardmill asks of every stage; rename it")
    clashing = sorted({*names[1:], *contract.carries.names} & RESERVED)
    if clashing:
        raise InputError(f"{target}: {', '.join(clashing)} is a column of every run; give its columns names of their own")


RESERVED = frozenset({
    *TRANSIENT, "row", "shard_id", "verdict", *schemas.PIXELS.names, *schemas.SAMPLES.names, *schemas.LABELS.names,
    *EXPORT.names, *SAMPLE_JSON.names, *(name for core in CORE.values() for name in core.schema.names),
})

MEMBERS = frozenset({"route", *(name for name in vars(Stage) if not name.startswith("_"))})
"""What shardmill asks of a stage: no field may have such a name. `route` marks the stage that asks the model."""


def release_of(kind: type[Stage]) -> str:
    """`name version` of the distribution that a class is installed with; for a loose file, the hash of its source."""
    package = kind.__module__.partition(".")[0]
    for name in metadata.packages_distributions().get(package, ()):
        return f"{name} {metadata.version(name)}"
    source = inspect.getsourcefile(kind)
    content = Path(source).read_bytes() if source else kind.__qualname__.encode()
    return f"sha256 {hashlib.sha256(content).hexdigest()[:12]}"


def settings_model(kind: type[Stage]) -> type[BaseModel]:
    """A model with the stage's own fields, which are its keys in a recipe."""
    hints = get_type_hints(kind)
    parts: dict[str, Any] = {f.name: (hints[f.name], default_of(f)) for f in fields(kind)}
    return create_model(kind.__name__, __config__=ConfigDict(extra="forbid", allow_inf_nan=False), **parts)


def default_of(field: Field[Any]) -> Any:
    """The default of a dataclass field; `...` where there is none."""
    if field.default is not MISSING:
        return field.default
    return ... if field.default_factory is MISSING else field.default_factory()


def stage_of_settings(kind: type[Stage], settings: Mapping[str, Any]) -> Stage:
    """The stage with these fields, as YAML or JSON gives them. Raises pydantic's ValidationError for wrong ones, InputError for
    those that the stage itself refuses (`__post_init__`)."""
    model = settings_model(kind).model_validate_json(json.dumps(dict(settings), default=str), strict=True)   # a date is text
    try:
        return kind(**{name: getattr(model, name) for name in type(model).model_fields})
    except (ValueError, TypeError) as error:
        raise InputError(f"stage {kind.contract.name} refuses its settings: {error}") from error
