"""The knowledge base: entities with names, a prior per name, a description and what they are kinds of."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.store.store import open_url
from pipeline.store.tables import parquet_table
from pipeline.work import collector_paused
from schemas.tables import KNOWLEDGE_BASE

BUNDLED = "bundled:wordnet"
"""The knowledge base in the package; any other name is the URL of a parquet file in schemas.tables.KNOWLEDGE_BASE."""

_BUNDLED_FILE = Path(__file__).parent.parent / "assets" / "wordnet" / "wordnet_nouns.parquet"

# How likely a picture can show a member of the domain (WordNet's lexicographer files); domains not listed are 0.
_DEPICTED = ("animal", "artifact", "food", "plant", "body")
_SOMETIMES = ("person", "object", "shape", "substance")
_NEVER = (
    "act", "attribute", "cognition", "event", "feeling", "motive", "possession", "process", "quantity", "relation", "state",
    "time",
)
DEPICTABILITY = {f"noun.{name}": weight for names, weight in ((_DEPICTED, 1.0), (_SOMETIMES, 0.5), (_NEVER, -1.0))
                 for name in names}


@dataclass(frozen=True, eq=False)
class KnowledgeBase:
    """Entities by row; the lists are parallel. `sha256` is of the file, so equal content has equal identity."""

    sha256: str
    ids: Sequence[str]
    lemmas: Sequence[Sequence[str]]
    ranks: Sequence[Sequence[int]]
    counts: Sequence[Sequence[int]]
    glosses: Sequence[str]
    hypernyms: Sequence[Sequence[str]]
    domains: Sequence[str]

    @classmethod
    def load(cls, name: str = BUNDLED) -> "KnowledgeBase":
        """The bundled one, or a parquet file by URL. Raises InputError when it is not a knowledge base."""
        return _loaded(name, _read(name))

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row by entity id."""
        return {id: row for row, id in enumerate(self.ids)}

    def name(self, row: int) -> str:
        """The preferred name."""
        return self.lemmas[row][0]

    def depictability(self, row: int) -> float:
        """1: pictures show such things; 0: unknown; -1: they cannot."""
        return DEPICTABILITY.get(self.domains[row], 0.0)


@lru_cache(maxsize=1)
@collector_paused()
def _loaded(name: str, content: bytes) -> KnowledgeBase:
    """A driver needs it three times (candidates, hypernyms, names), and a second to parse it each time."""
    table = _parsed(name, content)
    columns: dict[str, list[Any]] = {column: table[column].to_pylist() for column in KNOWLEDGE_BASE.names}
    _check(name, columns)
    return KnowledgeBase(
        hashlib.sha256(content).hexdigest(), columns["id"], columns["lemmas"], columns["sense_rank"],
        columns["sense_count"], columns["gloss"], columns["hypernyms"], columns["domain"],
    )


def content_id(name: str) -> str:
    """SHA-256 of a knowledge base's file."""
    return hashlib.sha256(_read(name)).hexdigest()


def _read(name: str) -> bytes:
    url = str(_BUNDLED_FILE) if name == BUNDLED else name
    try:
        with open_url(url) as file:
            return file.read()
    except OSError as error:
        raise InputError(f"knowledge base {name!r} cannot be read: {error}; give {BUNDLED!r} or a parquet file") from error


def _parsed(name: str, content: bytes) -> pa.Table:
    try:
        table = parquet_table(io.BytesIO(content))
    except pa.ArrowInvalid as error:
        raise InputError(f"knowledge base {name!r} is not a parquet file: {error}") from error
    missing = [field.name for field in KNOWLEDGE_BASE if field.name not in table.column_names]
    if missing:
        raise InputError(f"knowledge base {name!r} lacks the columns {missing}; it has {table.column_names}")
    try:
        return table.select(KNOWLEDGE_BASE.names).cast(KNOWLEDGE_BASE)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise InputError(f"knowledge base {name!r} has columns of other types than schemas.tables: {error}") from error


def _check(name: str, columns: dict[str, list[Any]]) -> None:
    if len(set(columns["id"])) != len(columns["id"]):
        raise InputError(f"knowledge base {name!r} has an id twice")
    rows = zip(columns["id"], columns["lemmas"], columns["sense_rank"], columns["sense_count"], strict=True)
    for id, lemmas, ranks, counts in rows:
        if not id or not lemmas or not len(lemmas) == len(ranks or ()) == len(counts or ()):
            raise InputError(
                f"knowledge base {name!r}: entity {id!r} needs at least one lemma, and one sense_rank and sense_count for each"
            )
    for column in ("gloss", "domain", "is_instance", "hypernyms"):
        default: Any = {"gloss": "", "domain": "", "is_instance": False, "hypernyms": []}[column]
        columns[column] = [default if value is None else value for value in columns[column]]
