"""Members of archives that belong to no sample: counted by reason, with examples."""

from collections import Counter
from collections.abc import Container

from schemas.reasons import IgnoredKind

EXAMPLES, LONGEST_EXAMPLE = 3, 200
"""Ignored members that are named for each reason, and the characters of a name that are shown."""


class IgnoredMembers(Counter[str]):
    """How many members belong to no sample, by reason (IgnoredKind)."""

    def __init__(self) -> None:
        super().__init__()
        self.examples: dict[str, list[str]] = {}
        """The names of the first few of each reason, as the archive has them: data, to be shown cleaned."""

    def note(self, reason: str, name: str = "") -> None:
        """Counts one member."""
        self[reason] += 1
        named = self.examples.setdefault(reason, [])
        if name and len(named) < EXAMPLES:
            named.append(name[:LONGEST_EXAMPLE])

    def note_unread(self, name: str, extension: str, read: Container[str]) -> None:
        """Counts a member whose extension is none of those that are read."""
        if not extension:
            self.note(IgnoredKind.NO_EXTENSION, name)
        else:
            self.note(IgnoredKind.DOTS if extension.rpartition(".")[2] in read else IgnoredKind.OTHER_EXTENSION, name)
