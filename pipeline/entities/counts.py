"""How often an entity was found in a run, and which ones are frequent enough."""

from dataclasses import dataclass

import pyarrow.compute as pc

from pipeline.store.store import Store
from pipeline.store.tables import read_table


@dataclass(frozen=True)
class Frequent:
    """The cut of rare entities (MOFI's n_min): the table of counts over the run, and how many samples an entity needs."""

    store: Store
    path: str
    min_count: int

    def ids(self) -> frozenset[str]:
        """Ids of the entities that enough samples have."""
        table = read_table(self.store, self.path, ["id", "count"])
        return frozenset(table.filter(pc.greater_equal(table.column("count"), self.min_count)).column("id").to_pylist())
