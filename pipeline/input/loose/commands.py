"""The commands that make shards of loose inputs, as errors name them; docs/inputs.md shows the same."""

import re
import shlex

from pipeline.input.loose.items import shown

TABLE = re.compile(r"\.(?:(csv|tsv|jsonl|ndjson)(?:\.gz|\.zst)?|parquet)\Z", re.IGNORECASE)
DOWNLOAD = (
    "img2dataset --url_list {table} --input_format {format} --url_col {url}{caption} --output_format webdataset "
    "--resize_mode no --skip_reencode True --output_folder shards"
)


def by_url(table: str, url: str, caption: str | None) -> str:
    """How images of a table of URLs become shards."""
    match = TABLE.search(table)
    kind = "txt" if match is None else (match[1] or "parquet").lower().replace("ndjson", "jsonl")
    column = f" --caption_col {shlex.quote(shown(caption))}" if caption else ""
    command = DOWNLOAD.format(table=shlex.quote(shown(table)), format=kind, url=shlex.quote(shown(url or "url")), caption=column)
    return (f"shardmill downloads nothing. Let img2dataset (pip install img2dataset) do it, then give `shards` as the input "
            f"(docs/inputs.md): {command}")


def packing(source: str) -> str:
    """How a folder or table of files becomes shards."""
    command = f"shardmill pack {shlex.quote(shown(source))} --output shards"
    return f"pack it first, then give `shards` as the input (docs/inputs.md): {command}"
