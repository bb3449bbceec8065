"""The answers of `classes`: all of a level, one, those of two roots side by side, and how many there should be."""

from typing import Annotated, Any

from pydantic import BeforeValidator

from schemas.answers.base import Answer


def _null_for_nan(value: Any) -> Any:
    """None for NaN, which the table has as the mean of no samples."""
    return None if isinstance(value, float) and value != value else value


class ClassEntity(Answer):
    """An entity that stands out in a class."""

    id: str
    """of the knowledge base"""
    name: str
    """preferred name"""
    lift: float
    """share in the class / share in all"""
    share: float
    """of the class's samples that have the entity or one below it, 0..1"""
    confidence: float
    """chance that it describes the class, 0..1"""
    closeness: float
    """cosine of the centroid and the entity's text"""


class ClassMember(Answer):
    """A sample of a class."""

    shard_id: str
    """input shard"""
    row: int
    """row of the sample there"""
    similarity: float
    """cosine to the centroid"""
    uid: str | None = None
    """content identity; missing in the list of all classes"""


class ClassRow(Answer):
    """One pseudo-class."""

    class_id: int
    """stable id; kept over refits where the recipe says so"""
    level: int
    """0: the classes that label samples; above: coarser ones"""
    parent: int | None
    """class_id one level up; null at the top"""
    name: str
    """human name, unique in its level"""
    named: bool
    """false: no entity stands out, the name is only a handle"""
    confidence: float | None
    """chance that the name describes the class, 0..1; null without a name"""
    size: int
    """samples whose nearest class this is, or one below it"""
    mean_similarity: Annotated[float | None, BeforeValidator(_null_for_nan)]
    """mean cosine of those samples to the centroid; null above level 0 and for an empty class"""
    entities: tuple[ClassEntity, ...]
    """that stand out, best first"""
    exemplars: tuple[ClassMember, ...]
    """samples nearest to the centroid, best first; none above level 0"""
    outliers: tuple[ClassMember, ...]
    """samples farthest from the centroid, farthest first; none above level 0"""


class ClassHandle(Answer):
    """A class in one line."""

    class_id: int
    """stable id"""
    name: str
    """human name"""
    size: int
    """samples"""


class ConfusableClass(Answer):
    """A class that another one is easily taken for."""

    class_id: int
    """stable id"""
    name: str
    """human name"""
    cosine: float
    """of the two centroids"""
    share: float
    """of the samples of both that lie about as near to the one as to the other, 0..1"""


class ClassDetails(ClassRow):
    """Everything that is known of one class."""

    parent_name: str | None
    """name of the class one level up; null at the top"""
    children: tuple[ClassHandle, ...]
    """classes one level down, largest first"""
    confusable: tuple[ConfusableClass, ...]
    """most easily taken for it first; none above level 0"""


class MatchedClass(Answer):
    """A class of one root and the one that it is of another root."""

    class_id: int | None
    """in the first root; null: it has none like other_id"""
    other_id: int | None
    """in the other root; null: it has none like class_id"""
    name: str | None
    """name of class_id; null without one"""
    other_name: str | None
    """name of other_id; null without one"""
    cosine: float | None
    """of the two centroids; null without a partner"""
    overlap: float | None
    """Jaccard index of their samples among those in both roots, 0..1; null where that is not known"""
    size: int | None
    """samples of class_id"""
    other_size: int | None
    """samples of other_id"""


class ClassComparison(Answer):
    """The classes of two roots side by side."""

    root: str
    """the first root, as it was given"""
    other: str
    """the other root, as it was given"""
    common_samples: int
    """samples that both label, of at most some 200,000 that are compared"""
    ari: float | None
    """adjusted Rand index over these: 1 the same classes, 0 no more than chance; null without such samples"""
    ami: float | None
    """adjusted mutual information over these, as for `ari`; null also where it would take minutes"""
    matched: int
    """classes that have a partner"""
    classes: tuple[MatchedClass, ...]
    """pairs by class_id, then what has no partner in the other root, then what has none in the first"""


class JudgedNumber(Answer):
    """One number of classes on a sample of the kept samples, beside rows without classes (chance)."""

    k: int
    """classes"""
    stability: float
    """mean adjusted Rand index of the fits of two halves, applied to all rows of the sample"""
    spread: float
    """its standard deviation over the halvings"""
    stability_by_chance: float
    """the same of rows without classes"""
    evidence: float
    """(log score of these k classes - log score of one class) per row, nats"""
    evidence_by_chance: float
    """the same of rows without classes"""


class NumberAdvice(Answer):
    """Advice on the number of classes, not an estimate: the range given decides what can be found."""

    k: int | None
    """the number that stands out; null: none does"""
    between: tuple[int, int] | None
    """lowest and highest of the range that are not told apart from it"""
    judged: tuple[JudgedNumber, ...]
    """by k, ascending"""
    rows: int
    """samples looked at: all, or a seeded 20,000"""
    reason: str
    """why this number, and what to doubt about it"""


class SearchStart(Answer):
    """One start of the search for the number of classes, and where it ended."""

    classes: int
    """at the start"""
    found: int
    """at the end"""
    score: float
    """ln p(partition, rows) at the end, nats, up to a constant of the rows"""


class NumberEstimate(Answer):
    """The number of classes, estimated from the samples whose class is known."""

    k: int
    """classes, the known ones included"""
    rows: int
    """samples looked at: all, or a seeded 20,000"""
    known: int
    """classes that the reference column names"""
    new: int
    """classes that it does not name"""
    starts: tuple[SearchStart, ...]
    """by their number of classes, ascending"""
    reason: str
    """why this number, and what to doubt about it"""


class NumberOfClasses(Answer):
    """How many classes a run should have."""

    root: str
    """the root, as it was given"""
    advice: NumberAdvice
    """from fits over the given numbers"""
    reference_column: str | None
    """`classes.reference_column` of the root's recipe"""
    estimate: NumberEstimate | None
    """from the samples that have a value in that column; null without it"""
