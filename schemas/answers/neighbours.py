"""The answers about what is near: the hits of a query, and the words that name a picture."""

from schemas.answers.base import Answer


class FoundSample(Answer):
    """A sample, with what is known of it. Its strings come from the data: escape them where they reach HTML."""

    uid: str
    """content identity, 32 hex digits"""
    source_uid: str | None
    """uid that the input brought; null without one"""
    shard_id: str
    """input shard"""
    row: int
    """row of the sample there"""
    key: str
    """name of the sample there"""
    caption: str | None
    """raw caption; null without one"""
    verdict: str | None
    """kept, rejected:RULE or failed:CODE; null before there are verdicts"""
    clip_similarity: float | None
    """cosine of its picture and its own caption, -1..1; null where the model did not see both"""
    width: int | None
    """pixels, upright; null where it could not be decoded"""
    height: int | None
    """pixels, upright; null where it could not be decoded"""
    language: str | None
    """ISO 639 code of the caption's most probable language"""
    class_id: int | None
    """nearest class; null where it is not labelled"""
    class_name: str | None
    """name of that class"""
    entities: tuple[str, ...]
    """ids of the entities that its caption mentions and its picture confirms, the surest first"""
    entity_names: tuple[str, ...]
    """their names"""


class Hit(FoundSample):
    """A sample that was found, and how near it is."""

    similarity: float
    """cosine of the query and the sample's vector, -1..1"""


class QueryHits(Answer):
    """The samples of a root that are nearest to a query."""

    root: str
    """output root, as it was given"""
    query: str
    """what was asked for, in words"""
    modality: str
    """image or text: whose vectors were compared with the query"""
    verdict: str
    """which samples were looked among: kept, rejected, failed, one as rejected:tiny, or any"""
    exact: bool
    """every vector was compared; false: an index found most of the nearest"""
    hits: tuple[Hit, ...]
    """the nearest first; equal ones in the order of the input"""


class BatchAnswers(Answer):
    """What became of a file of queries."""

    root: str
    """output root, as it was given"""
    output: str
    """file of the answers: a row for each neighbour (`query`, from 0; `rank`, from 0; `uid`, `shard_id`, `row`, `similarity`), and
    for a query that cannot be answered a row with its `error`"""
    modality: str
    """image or text: whose vectors were compared with the queries"""
    verdict: str
    """which samples were looked among"""
    queries: int
    """in the file"""
    errors: int
    """queries that cannot be answered"""
    exact: bool
    """every vector was compared; false: an index found most of the nearest"""


class Name(Answer):
    """A word for a picture."""

    name: str
    """out of the run's captions: escape it where it reaches HTML"""
    score: float
    """0..1, how likely it is among the words for this picture: those of two pictures cannot be compared"""


class QueryNames(Answer):
    """Words for what was asked, out of the captions that are nearest to it."""

    root: str
    """output root, as it was given"""
    query: str
    """what was asked for, in words"""
    names: tuple[Name, ...]
    """the likeliest first; never none"""
