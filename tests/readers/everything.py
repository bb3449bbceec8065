"""One export that was fed every kind of input that the tests have, and the bundled sample."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.api import shardmill
from pipeline.api.shardmill import Root
from tests.broken import CASES
from tests.damage import clean_pairs
from tests.loose import files
from tests.mixed import write_mixed
from tests.odd import OVERRIDES, write_odd
from tests.samples import SAMPLE

IMG2DATASET = Path(__file__).parents[1] / "input" / "img2dataset"


def export_everything(folder: Path, further: Sequence[str] = ()) -> Root:
    """A finished root in `folder`/root over `folder`/in, the bundled sample and these further inputs, with all rules off."""
    inputs = folder / "in"
    for name in ("odd", "mixed", "broken"):
        (inputs / name).mkdir(parents=True)
    write_odd(inputs / "odd", SAMPLE)
    write_mixed(inputs / "mixed", SAMPLE)
    for case in CASES:
        (inputs / "broken" / case.file).write_bytes(case.content())
        if case.side is not None:
            (inputs / "broken" / case.side[0]).write_bytes(case.side[1])
    shutil.copytree(IMG2DATASET, inputs / "img2dataset")
    for number, (image, text) in enumerate(list(clean_pairs(SAMPLE).values())[40:48]):
        files(folder / "loose", **{f"a b/ü.{number}.jpg": image, f"a b/ü.{number}.txt": text})
    shardmill.pack(folder / "loose", inputs / "packed")
    return shardmill.curate(
        "sample", [inputs, SAMPLE, *further], folder / "root", local=True, overrides=[*OVERRIDES, "export.shard_size=300"])
