"""The answer of a query as a file."""

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.store.store import Store, absolute


def save_parquet(reader: pa.RecordBatchReader, url: str) -> int:
    """Makes or replaces a parquet file, local or remote, a batch at a time, and returns the number of its rows; nothing is there
    before it is whole. Raises InputError for a type that parquet does not have, and what the stream raises."""
    folder, _, name = absolute(url).rpartition("/")
    rows = 0
    try:
        with Store(folder).create(name) as file, pq.ParquetWriter(file, reader.schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_batch(batch)
                rows += batch.num_rows
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise InputError(f"{url}: parquet cannot hold such a column ({error}): cast it in the query") from None
    return rows
