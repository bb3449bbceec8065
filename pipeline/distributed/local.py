"""The work in this process, one item after another: for tests, debugging and probes."""

from collections.abc import Iterator, Sequence

from pipeline.work import Item, Outcome, Work


class LocalExecutor:
    """Errors are not retried: here they are defects to be seen."""

    workers = 1

    def run(self, work: Work[Item], items: Sequence[Item]) -> Iterator[Outcome[Item]]:
        if not items:
            return
        with work.open() as run:
            for item in items:
                yield Outcome(item, run(item))
