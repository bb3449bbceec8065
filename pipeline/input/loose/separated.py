"""Records of a separated text (RFC 4180), of which a broken one costs its first line and nothing behind it."""

import csv
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from pipeline.input.loose.items import is_image

MAX_LINES = 100
"""Lines of a record."""
MAX_RECORD = 4 << 20
"""Characters of a record of several lines, but for its last one. With MAX_LINES the bound of what is read again."""


class Record(NamedTuple):
    """The fields of a record, and where it begins."""

    line: int
    """Of the text, from 1."""
    fields: list[str] | None
    """None where they cannot be told apart; none at all for an empty line."""


class Records:
    """Iterates once over the records of lines.

    A record that does not parse is its first line alone: reading goes on at its second one. So is one of several lines that has not
    as many fields as there are columns, or in whose quotes stands a row of an image: there a quote was left open. A record of one
    line may have fewer fields than columns.
    """

    def __init__(self, lines: Iterator[str], delimiter: str, *, quotes: bool) -> None:
        """`quotes`: whether they mean anything."""
        self._lines, self._quotes, self._delimiter = lines, quotes, delimiter
        self._again: deque[str] = deque()
        self._line = 1
        self._columns = 0

    def columns(self) -> list[str]:
        """The first record, which names the columns. Raises csv.Error where it does not parse."""
        taken: list[str] = []
        names = next(self._reader(taken), [])
        self._columns = len(names)
        self._line += len(taken)
        return names

    def __iter__(self) -> Iterator[Record]:
        while (record := self._next()) is not None:
            yield record

    def _next(self) -> Record | None:
        taken: list[str] = []
        fields: list[str] | None
        try:
            fields = next(self._reader(taken))
        except StopIteration:
            return None
        except csv.Error:
            fields = None
        if fields is not None and (len(fields) > self._columns or (len(taken) > 1 and self._is_open(fields, taken))):
            fields = None
        if fields is None:
            self._again.extendleft(reversed(taken[1:]))
        line = self._line
        self._line += 1 if fields is None else len(taken)
        return Record(line, fields)

    def _reader(self, taken: list[str]) -> Iterator[list[str]]:
        """Parses what comes next; `taken` gets its lines."""
        return csv.reader(self._take(taken), delimiter=self._delimiter, skipinitialspace=True, strict=True,
                          quoting=csv.QUOTE_MINIMAL if self._quotes else csv.QUOTE_NONE)

    def _take(self, taken: list[str]) -> Iterator[str]:
        size = 0
        while len(taken) < MAX_LINES and size <= MAX_RECORD:
            line = self._again.popleft() if self._again else next(self._lines, None)
            if line is None:
                return
            taken.append(line)
            size += len(line)
            yield line

    def _is_open(self, fields: list[str], taken: list[str]) -> bool:
        """Whether a record of several lines is several records. Lines without a quote lie as a whole in one field."""
        if len(fields) != self._columns:
            return True
        inside = (line for line in islice(taken, 1, len(taken) - 1) if '"' not in line)
        rows = csv.reader(inside, delimiter=self._delimiter, skipinitialspace=True)
        return any(len(row) == self._columns > 1 and any(map(is_image, row)) for row in rows)
