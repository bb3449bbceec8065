"""Loose images and captions to shards, from Python."""

import os
from collections.abc import Sequence

from schemas.answers.packs import Packed

Path = str | os.PathLike[str]


def pack(
    inputs: Path | Sequence[Path], output: Path, *, root: Path = "", image_column: str = "", caption_column: str = "",
    encoding: str = "", shard_samples: int = 10_000, shard_size: int = 256, progress: bool = False,
) -> Packed:
    """Packs loose images with captions beside them, or named by a table, into shards that `curate` takes as its inputs; the same
    call again continues. The same as `shardmill pack`, and the same bytes.

    `inputs`: a folder of images, a table of their paths (csv, tsv, JSON lines, parquet), or several. `output`: a new folder or URL.
    `root`: where the paths of a table begin, which none leaves; by default the table's own folder. `image_column`,
    `caption_column`: by default found by their names. `encoding`: of tables of text, by default UTF-8 or what their mark says.
    `shard_samples`, `shard_size`: samples and MiB that end a shard. `progress`: a line for each shard on stderr.

    What was left out is in the answer, by reason and with examples (`left_out`, `incomplete`), and raises nothing. Raises
    InputError for what cannot be packed, RootError for an output that holds something else.
    """
    from pipeline.api.progress import Silent, reporter
    from pipeline.input.loose.pack import Packing
    from pipeline.input.loose.pack import pack as pack_loose
    from pipeline.timing.progress import phase

    several = [inputs] if isinstance(inputs, str | os.PathLike) else inputs
    packing = Packing(
        tuple(os.fspath(one) for one in several), os.fspath(root), image_column, caption_column, encoding, shard_samples,
        shard_size << 20)
    with phase(tell := reporter() if progress else Silent(), "packing"):
        return pack_loose(packing, os.fspath(output), tell.note)
