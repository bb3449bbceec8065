"""What index.json says of the indexes of a root: how each is made, which file it is, and the recall that was measured."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Kind = Literal["flat", "hnsw", "ivf", "ivfsq", "ivfpq"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Tried(_Part):
    """What a search with one effort finds."""

    effort: int
    """lists that are looked into for each query (nprobe), or the width of the walk (efSearch)"""
    recall: float
    """share of the 10 true neighbours that are found, 0..1; of several kinds of queries the lowest"""


class Measured(_Part):
    """The effort of a search, and what was tried to find it."""

    share: float
    """share of the vectors that may be found, drawn by the seed: 1: all"""
    effort: int
    """the smallest that reaches the recall that the recipe asks for; the best, where none does"""
    recall: float
    """recall@10 with it, against exact search over the stored embeddings, vectors that tie with the tenth included"""
    reached: bool
    """whether it is what the recipe asks for"""
    curve: tuple[Tried, ...]
    """every effort that was tried, ascending"""


class IndexFile(_Part):
    """One index: of one kind of vectors."""

    file: str
    """its name in the folder, as FAISS reads it"""
    bytes: int
    """of the file"""
    sha256: str
    """of the file"""
    trained_sha256: str
    """of the file of the trained index without vectors, which what comes later is added to; empty: there is none"""
    vectors: int
    """how many it has"""
    dimension: int
    """values of a vector"""
    kind: Kind
    """flat: all are compared; hnsw: a graph; ivf: lists of half precision; ivfsq: of 8 bits a value; ivfpq: product-quantised"""
    code: str
    """how a vector is stored: fp16, sq8 or pq followed by the number of bytes"""
    lists: int
    """lists of an inverted file; 1: it has no more"""
    why: str
    """how the kind was chosen, in words"""
    trained_on: int
    """vectors that it was trained on, drawn by the seed"""
    trained_at: int
    """vectors that the index had when it was trained"""
    queries: dict[str, int]
    """held-out queries of the measurement, by kind: image, text"""
    measured: tuple[Measured, ...]
    """of searches among all vectors, and among a tenth and a hundredth of them; empty: there was nothing to measure"""


class IndexRecord(_Part):
    """index.json: it is written last, so where it is, all is there."""

    of: Literal["kept", "all"]
    """samples whose vectors it has"""
    columns: str
    """folder of the embeddings"""
    verdicts: str | None
    """folder of the verdicts that say which samples are kept; null where all are in it"""
    base: str | None
    """folder of the index that this one goes on from; null: it was trained by itself"""
    shards: int
    """rows of shards.parquet"""
    added: int
    """vectors that were added to those of `base`, of each kind"""
    removed: int
    """vectors of `base` that are no longer there, of each kind"""
    indexes: dict[str, IndexFile]
    """by kind of vectors: image, text"""
