"""The answers that are tables of a root, or files of them: `sql`, `embeddings`."""

from typing import Any

from schemas.answers.base import Answer


class TableColumn(Answer):
    """A column of a table."""

    name: str
    """its name in the query"""
    type: str
    """its Arrow type"""


class SqlAnswer(Answer):
    """What a query gives."""

    root: str
    """output root, as it was given"""
    columns: tuple[TableColumn, ...]
    """in the order of the query"""
    rows: tuple[dict[str, Any], ...]
    """value by column; bytes as hex digits, dates and times in ISO 8601, what is no number as null"""


class Embedded(Answer):
    """Embeddings of a root as other tools read them."""

    root: str
    """output root, as it was given"""
    output: str
    """the folder that they are in, as a URL"""
    layout: str
    """whose they are: clip-retrieval"""
    of: str
    """which samples: kept or all"""
    samples: int
    """rows of all files"""
    partitions: int
    """files of each kind"""
    dimension: int
    """of a vector"""
