"""Reads an export with one reader and prints what it found, as JSON: `python -m tests.readers.read READER FOLDER`, in a process
that has this reader."""

import glob
import json
import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

IMAGES = "jpg;png;jpeg;webp"


def tars(folder: str) -> list[str]:
    return sorted(glob.glob(f"{folder}/*.tar"))


def plain_webdataset(folder: str) -> dict[str, Any]:
    import webdataset

    read = webdataset.WebDataset(tars(folder), shardshuffle=False).decode("pilrgb").to_tuple(IMAGES, "txt", "json")
    return {"samples": sum(1 for _ in read), "version": webdataset.__version__}


def wids_index(folder: str) -> dict[str, Any]:
    import wids

    dataset = wids.ShardListDataset(f"{folder}/wids.json")
    return {"samples": sum(1 for number in range(len(dataset)) if dataset[number][".txt"] is not None)}


def hugging_face(folder: str, *, streaming: bool) -> dict[str, Any]:
    import datasets

    found = datasets.load_dataset(folder, split="train", streaming=streaming, cache_dir=f"{os.environ['READERS']}/cache")
    pictures = sum(any(one[name] is not None for name in IMAGES.split(";") if name in one) for one in found)
    return {"samples": pictures, "version": datasets.__version__}


def json_texts(folder: str) -> Iterator[bytes]:
    """Every JSON text of an export: of its samples, then the files beside the tars."""
    for path in tars(folder):
        with tarfile.open(path) as archive:
            for member in archive:
                if member.name.endswith(".json"):
                    content = archive.extractfile(member)
                    assert content is not None
                    yield content.read()


def strict(loads: Callable[[bytes], object], folder: str) -> dict[str, Any]:
    """How many samples' JSON this reader takes; those of the files beside the tars must be taken, too."""
    for path in glob.glob(f"{folder}/*.json"):
        with open(path, "rb") as file:
            loads(file.read())
    return {"samples": sum(1 for text in json_texts(folder) if isinstance(loads(text), dict))}


def by_orjson(folder: str) -> dict[str, Any]:
    import orjson

    return strict(orjson.loads, folder)


def by_simdjson(folder: str) -> dict[str, Any]:
    import simdjson

    return strict(lambda text: simdjson.Parser().parse(text, recursive=True), folder)


READERS: dict[str, Callable[[str], dict[str, Any]]] = {
    "webdataset": plain_webdataset,
    "webdataset-0.2.86": plain_webdataset,
    "wids": wids_index,
    "datasets": lambda folder: hugging_face(folder, streaming=False),
    "datasets-streaming": lambda folder: hugging_face(folder, streaming=True),
    "orjson": by_orjson,
    "simdjson": by_simdjson,
}


if __name__ == "__main__":
    print(json.dumps(READERS[sys.argv[1]](sys.argv[2])))
