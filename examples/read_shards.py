"""Reads an export with plain webdataset: how many samples, and the pictures, captions and classes of the first few.

    python examples/read_shards.py ROOT [N]
"""

import io
import json
import sys
from pathlib import Path

import webdataset
from PIL import Image

PICTURES = ("jpg", "jpeg", "png", "webp")


def main(root: str, shown: int = 5) -> int:
    """Prints the first `shown` samples of the published shards of a local root; returns how many samples there are."""
    tars = sorted(str(path) for path in (Path(root) / "shards").glob("*.tar"))
    samples = webdataset.WebDataset(tars, shardshuffle=False, empty_check=False)
    count = 0
    for count, sample in enumerate(samples, start=1):
        if count <= shown:
            picture = Image.open(io.BytesIO(next(sample[name] for name in PICTURES if name in sample)))
            known = json.loads(sample["json"])
            names = ", ".join(known.get("label_names") or [])
            print(f"{picture.size[0]} x {picture.size[1]}  {sample['txt'].decode()!r}  {names}")
    print(f"{count:,} samples in {len(tars):,} shards")
    return count


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:3]))
