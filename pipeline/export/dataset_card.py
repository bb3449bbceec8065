"""The dataset card of an export: README.md, by which Hugging Face's `datasets` reads the folder as it is.

Its head says which files are the samples (the JSON files beside the tars are none) and which features they have. Without it
`datasets` infers them from the first five samples, and stops where these have another kind of picture, or where a later one has
a value that was null in all of them.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa
import yaml

from schemas.exports import SAMPLE_JSON

CARD = "README.md"
TEXT = """
# An image-text dataset

{samples:,} pairs in {shards:,} WebDataset shards, made by shardmill with its recipe `{recipe}`.

```python
from datasets import load_dataset

pairs = load_dataset(FOLDER, split="train", streaming=True)             # the tars, with the features above
table = load_dataset("parquet", data_files="FOLDER/*.parquet", split="train")   # what is known of them, without the pictures
```

A sample has one picture, under the extension of its format ({extensions}): the others of these columns are null. `json` has what
shardmill says of it; whatever else its JSON object held is in the tar, and webdataset gives it. What says nothing (no entity, no
label) is not in that object, and null here. {sizes} has the samples of each tar, for open_clip; {shardlist} is for wids.
"""


def dataset_card(facts: Mapping[str, Any], extensions: Collection[str], added: Sequence[pa.Field], files: Mapping[str, str]) -> str:
    """The card. `facts`: `samples`, `shards` and `recipe`; `extensions`: those of the pictures; `added`: the columns that go out
    with every sample beside those of every run; `files`: names of the side files, `sizes` and `shardlist`."""
    pictures = [{"name": extension, "dtype": "image"} for extension in sorted(extensions)]
    about = {"name": "json", "struct": [feature(field) for field in (*SAMPLE_JSON, *added)]}
    texts = [{"name": name, "dtype": "string"} for name in ("txt", "__key__", "__url__")]
    head = {
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "*.tar"}]}],
        "dataset_info": {"features": [*pictures, texts[0], about, *texts[1:]]},
    }
    words = TEXT.format(**facts, extensions=", ".join(sorted(extensions)) or "none", **files)
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n{words}"


def feature(field: pa.Field) -> dict[str, Any]:
    """A feature as the head of a card has it."""
    return {"name": field.name, **_kind(field.type)}


def _kind(type: pa.DataType) -> dict[str, Any]:
    if pa.types.is_struct(type):
        return {"struct": [feature(field) for field in type]}
    if pa.types.is_list(type):
        inner = _kind(type.value_type)
        return {"list": inner["struct"]} if "struct" in inner else {"sequence": inner.get("dtype", inner)}
    return {"dtype": {"float": "float32", "halffloat": "float16", "double": "float64"}.get(str(type), str(type))}
