"""Column files and tables."""

import io
import threading

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline.store.tables import parquet_table


class Watched(io.BytesIO):
    """Remembers which threads touched it."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.threads: set[int] = set()

    def read(self, size: int | None = -1, /) -> bytes:
        self.threads.add(threading.get_ident())
        return super().read(size)


@pytest.fixture
def file() -> Watched:
    out = io.BytesIO()
    pq.write_table(pa.table({"n": range(50_000), "text": [str(i) for i in range(50_000)]}), out, row_group_size=1000)
    return Watched(out.getvalue())


@pytest.mark.parametrize("filters", [None, pc.field("n") < 3])
def test_a_table_is_read_in_the_thread_that_asks(file: Watched, filters: pc.Expression | None) -> None:
    """A thread of Arrow's that still holds the Python file when the interpreter ends aborts the process."""
    table = parquet_table(file, filters=filters)
    assert table.num_rows == (50_000 if filters is None else 3)
    assert file.threads == {threading.get_ident()}


def test_columns_and_filters_choose(file: Watched) -> None:
    table = parquet_table(file, ["n"], pc.field("n").isin([7, 49_999]))
    assert table.to_pydict() == {"n": [7, 49_999]}
    assert parquet_table(file, ["n"], pc.field("n") < 0).schema == pa.schema([("n", pa.int64())])
