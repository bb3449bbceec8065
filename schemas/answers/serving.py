"""The typed API of `shardmill serve`: what it is asked, and what it answers.

`root` is a root's name; the first one that is served where it is not given. What is wrong with a request is told by `Refusal` and
a status of 4xx. Captions, keys and names of classes are untrusted text: escape them where they reach HTML.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from schemas.answers.base import Answer
from schemas.answers.classes import ClassRow
from schemas.answers.neighbours import FoundSample, Hit

Modality = Literal["image", "text"]
Uid = Annotated[str, Field(pattern="^[0-9a-f]{32}$", description="content identity, 32 hex digits")]
SampleName = Annotated[
    str, Field(pattern=r"^[^/\\\x00-\x1f\x7f]+$", min_length=3, max_length=320, description="a sample's uid, or SHARD:ROW")]
Word = Annotated[str, Field(max_length=10_000)]
Whole = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
Number = Whole | FiniteFloat
Words = Annotated[list[Word | Whole], Field(min_length=1, max_length=10_000)]
RootName = Annotated[str, Field(max_length=200, description="name of a root; null: the first one")] | None
Text = Annotated[str, Field(min_length=1, max_length=10_000)] | None


class Problem(Answer):
    """Why a request is refused."""

    code: str
    """for programs: bad_request, unknown_root, not_found, unauthorized, forbidden, too_large, too_many, unavailable, …"""
    message: str
    """for people: what is wrong and what to do"""
    field: str | None = None
    """the field of the request that is wrong; missing where it is none"""


class Refusal(Answer):
    """The answer with a status of 4xx or 5xx."""

    error: Problem


class Health(Answer):
    """Whether the service answers."""

    status: Literal["ok", "stopping"]
    """stopping: it finishes what it has begun, and takes nothing new"""
    version: str
    """of shardmill"""


class ServedColumn(Answer):
    """A column that `where` may name and `samples` has."""

    name: str
    type: str
    """Arrow's name of its type"""


class ServedIndex(Answer):
    """An index that a root has."""

    modality: Modality
    """of which embeddings"""
    kind: str
    """flat, hnsw, ivf or ivfpq"""
    size: int
    """vectors in it"""


class ServedRoot(Answer):
    """A root that is served."""

    name: str
    """what requests call it"""
    samples: int
    """all, whatever their verdict"""
    kept: int
    """samples that no rule rejects"""
    dimension: int
    """of its embeddings"""
    model: str
    """that made them"""
    classes: int
    """classes that label samples; 0 without any"""
    levels: tuple[int, ...]
    """of classes, the finest (0) first; none without classes"""
    indexes: tuple[ServedIndex, ...]
    """none: a search reads all embeddings, and is exact"""
    columns: tuple[ServedColumn, ...]
    """that `where` may name"""
    verdicts: dict[str, int]
    """samples by verdict: kept, rejected:RULE, failed:CODE; most first"""
    languages: dict[str, int]
    """samples by language, most first; of a part of the shards where there are many; none without that column"""


class ServedRoots(Answer):
    """The roots that are served."""

    roots: tuple[ServedRoot, ...]
    """the first is the one of requests that name none"""


class Request(BaseModel):
    """What is asked: unknown fields are refused, and so are numbers that are none."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


class Bounds(Request):
    """Conditions on one column, as a rule of a recipe has them; all that are given must hold, and a null meets none. No condition
    here names a file."""

    min: Number | None = None
    max: Number | None = None
    above: Number | None = None
    below: Number | None = None
    any_of: Words | None = None
    none_of: Words | None = None
    equals: bool | Word | Whole | None = None


Bound = Bounds | bool | Word | Whole | Words
"""A value stands for `equals`, a list for `any_of`."""
WhereOf = Annotated[dict[Annotated[str, Field(max_length=200)], Bound], Field(max_length=20)]


class SearchRequest(Request):
    """One query: exactly one of text, image, uid, class_id, entity and vector; minus_text goes with each of them."""

    root: RootName = None
    text: Text = None
    """a caption to look near"""
    minus_text: Text = None
    """what is taken away from the query"""
    image: Annotated[str, Field(min_length=1)] | None = None
    """an encoded picture in base64; a data: URL will do"""
    uid: SampleName | None = None
    """a sample of the root, by its uid or as SHARD:ROW"""
    class_id: Annotated[int, Field(ge=0, lt=1 << 31)] | None = None
    """a class of the root: its centroid"""
    entity: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """an entity of the root, by its id"""
    vector: Annotated[list[FiniteFloat], Field(min_length=1, max_length=1 << 16)] | None = None
    """an embedding of the root's model; any length but zero"""
    modality: Modality = "image"
    """which embeddings are searched"""
    k: Annotated[int, Field(ge=1, le=1_000_000)] = 40
    """hits; the service has a limit of its own"""
    verdict: Annotated[str, Field(max_length=200)] = "kept"
    """among which samples: kept, rejected, failed, one as rejected:tiny, or any; a bound on `verdict` takes its place"""
    where: WhereOf = {}
    """{column: bound}, as the rules of a recipe: {"language": "en", "clip_similarity": {"min": 0.25}}"""
    effort: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
    """lists or nodes that an approximate index looks at, for this query alone; null: as its recall was measured"""


class Hits(Answer):
    """What a search found, nearest first."""

    hits: tuple[Hit, ...]
    seconds: float
    """that the service took"""
    exact: bool
    """every embedding was compared; false: an approximate index was asked"""


class SamplePage(Answer):
    """Some samples in the order of the inputs."""

    samples: tuple[FoundSample, ...]
    total: int | None = None
    """samples that meet `where`; missing where counting them would read the whole run"""
    next: int | None = None
    """`offset` of the next page; missing at the end. A page may be short, even empty, and have a next one"""


class ClassPage(Answer):
    """Classes of a level, the largest first; their exemplars have their uids, the outliers and all but a few exemplars are left
    out."""

    classes: tuple[ClassRow, ...]
    total: int
    """classes that were asked for, shown or not"""


class EntityCount(Answer):
    """An entity of the run's knowledge base."""

    id: str
    """in the knowledge base"""
    name: str
    """preferred name"""
    count: int
    """samples that have it"""


class EntityPage(Answer):
    """Entities, the most frequent first."""

    entities: tuple[EntityCount, ...]


class PlacedClass(Answer):
    """Where the name of a class stands on the map."""

    class_id: int
    name: str
    x: float
    y: float


class SampleMap(Answer):
    """A run in two dimensions: of n samples, lists of n values each."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    uid: tuple[str, ...]
    shard_id: tuple[str, ...]
    """input shards that `shard` counts in: not n"""
    shard: tuple[int, ...]
    """place of the sample's shard in `shard_id`"""
    row: tuple[int, ...]
    """row of the sample in its shard"""
    class_id: tuple[int | None, ...]
    """nearest class"""
    value: tuple[float | None, ...]
    """what colours it, where that is a number: clip_similarity"""
    verdict: tuple[str, ...]
    classes: tuple[PlacedClass, ...]
    """names for the map: not n"""
    total: int
    """samples of the run that could be on it"""


class MapInWork(Answer):
    """There is no map yet: it is being drawn. Comes with status 202; ask again in a moment."""

    seconds: float
    """since it was begun; a map takes about a minute at most"""


class NameRequest(Request):
    """A picture, or a sample, that is to be named: one of image and uid."""

    root: RootName = None
    image: Annotated[str, Field(min_length=1)] | None = None
    """an encoded picture in base64"""
    uid: SampleName | None = None
    """a sample of the root, by its uid or as SHARD:ROW"""


class ScoredName(Answer):
    """A name out of the run's captions."""

    name: str
    score: float
    """higher is better; they compare within one answer"""


class Names(Answer):
    """Names of a picture, best first."""

    names: tuple[ScoredName, ...]


class SelectionRequest(Request):
    """Samples that are downloaded as a list."""

    root: RootName = None
    uids: Annotated[list[Uid], Field(min_length=1, max_length=100_000)]
    format: Literal["parquet", "npy", "txt"]
    """parquet: with shard, row and caption; npy: DataComp's subset; txt: one uid a line, as `filters` of a recipe read it"""


SERVED: dict[str, Any] = {
    "refusal": Refusal,
    "healthz": Health,
    "roots": ServedRoots,
    "search": Hits,
    "samples": SamplePage,
    "classes": ClassPage,
    "entities": EntityPage,
    "map": SampleMap,
    "map-in-work": MapInWork,
    "name": Names,
}
"""Every answer of the service in JSON, by the name of its schema file; `/explain/{uid}` answers as `explain --json` does."""
