"""Many small items as one: dispatch, log line and start are paid once, and what the items write becomes blocks.

A group is nobody's fault: where one of its items fails, those that fail are done again each by itself, as if they had never been
tried, and so are all of a group whose worker died. So attempts and quarantine stay those of single items.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pipeline.errors import OutputError, SourceError
from pipeline.store.blocks.writing import as_blocks
from pipeline.timing.bottleneck import Means
from pipeline.work import Facts, Item, Place, Units, Work

T = TypeVar("T")
SHARES = 64
"""Groups that a pass is divided into at least, so that each worker has several."""
MOST = 64
"""Items of a group at most."""
UNDONE = "undone"
"""In what a group says: positions of the items that failed."""


@dataclass(frozen=True)
class Group(Generic[Item]):
    """Several items that travel as one."""

    items: tuple[Item, ...]


def parts(item: Any) -> tuple[Any, ...]:
    """The items of a group; of any other item, itself."""
    return item.items if isinstance(item, Group) else (item,)


def undone(item: Any, facts: Facts) -> list[Any]:
    """The items of a group that were not done, though the group came back."""
    return [parts(item)[i] for i in facts.get(UNDONE, ())]


def grouped(work: Work[Item], items: Sequence[Item]) -> list[Any]:
    """The items in order, neighbours that are small and alike as groups."""
    return [Group(group) if len(group) > 1 else group[0] for group in divided(items, work.share, work.kind)]


def divided(
    items: Sequence[Item], share: Callable[[Item], float], kind: Callable[[Item], Hashable] = lambda item: None,
    most: int | None = None,
) -> list[tuple[Item, ...]]:
    """The items in order, neighbours together that are small and alike. Where there are few items, each is by itself. `share`: how
    much of a group an item makes, 0..1; `most`: items of a group, by default so many that there are groups enough for workers.
    Which ones are together changes no row."""
    most = min(MOST, len(items) // SHARES) if most is None else most
    groups: list[list[Item]] = []
    taken, last = 1.0, None
    for item in items:
        own, of = share(item), kind(item)
        if not groups or taken + own > 1.0 or of != last or len(groups[-1]) >= most:
            groups.append([])
            taken, last = 0.0, of
        groups[-1].append(item)
        taken += own
    return [tuple(group) for group in groups]


def each_written(
    items: Sequence[Item], share: Callable[[Item], float], write: Callable[[Sequence[Item]], Sequence[T]]
) -> list[T]:
    """What `write` says of some items of a few or many that one worker writes the files of: small neighbours' become blocks, unless
    there are few. `share` as in `divided`."""
    said: list[T] = []
    for group in divided(items, share, most=len(items) if len(items) >= SHARES else 1):
        with as_blocks() if len(group) > 1 else nullcontext():
            said += write(group)
    return said


@dataclass(frozen=True)
class Grouped(Work[Any]):
    """A work that takes its items and groups of them."""

    work: Work[Any]

    def name(self, item: Any) -> str:
        first, *others = parts(item)
        return f"{self.work.name(first)} and {len(others)} more" if others else self.work.name(first)

    @property
    def place(self) -> Place:
        return self.work.place

    def careful(self) -> "Grouped":
        return Grouped(self.work.careful())

    def means(self) -> Means:
        return self.work.means()

    @property
    def units(self) -> Units:
        return self.work.units

    @contextmanager
    def open(self) -> Iterator[Callable[[Any], Facts]]:
        with self.work.open_together() as run:
            yield lambda item: _run_group(run, item.items) if isinstance(item, Group) else run([item])[0]


def _run_group(run: Callable[[Sequence[Any]], list[Facts]], items: Sequence[Any]) -> Facts:
    """All items together; where one fails, one after another, and those that fail are named by their positions. Raises what is no
    item's fault."""
    try:
        with as_blocks():
            return together(run(items))
    except (OutputError, SourceError):
        raise
    except Exception:  # noqa: BLE001 (whose fault it is, each says when it is done by itself)
        done, failed = [], []
        for i, item in enumerate(items):
            try:
                done += run([item])
            except (OutputError, SourceError):
                raise
            except Exception:  # noqa: BLE001 (the executor tries it again)
                failed.append(i)
        return {**together(done), UNDONE: failed}


def together(facts: Sequence[Facts]) -> Facts:
    """What several items say, as one says it: sums, and where the time went, which the first tells of all."""
    found: Facts = {key: facts[0][key] for key in ("threads", "spent", "beside") if facts and key in facts[0]}
    found |= {"rows": sum(int(f.get("rows", 0)) for f in facts), "shards": len(facts)}
    if any("bytes_read" in f for f in facts):
        found["bytes_read"] = sum(int(f.get("bytes_read", 0)) for f in facts)
    if any("verdicts" in f for f in facts):
        verdicts: Counter[str] = Counter()
        for f in facts:
            verdicts.update(f.get("verdicts", {}))
        found["verdicts"] = dict(verdicts)
    return found
