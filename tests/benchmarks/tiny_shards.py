"""What a shard of one sample costs: a whole run over very many of them, in one process whose libraries are loaded."""

import io
import shutil
import tarfile
import tempfile
import time
from itertools import cycle
from pathlib import Path

from tests.archives import member_bytes
from tests.benchmarks.figures import Figure
from tests.curations import curated

SAMPLE = Path(__file__).parents[2] / "pipeline" / "assets" / "sample"
MOST_SECONDS = 0.02
MOST_FILES = 2.0


def measure(count: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        inputs, root = Path(folder) / "in", Path(folder) / "root"
        write_shards(inputs, count)
        curated(Path(folder) / "loads", [inputs / "000000.tar", inputs / "000001.tar"], ("model.compile=false",))
        processor, began = time.process_time(), time.perf_counter()
        curated(root, [inputs], ("model.compile=false",))
        processor, seconds = time.process_time() - processor, time.perf_counter() - began
        files = sum(path.is_file() for path in root.rglob("*"))
        shutil.rmtree(root)
    return [
        Figure(f"a shard of one sample, {count:,} shards", seconds / count, "s/shard", MOST_SECONDS, at_most=True),
        Figure("  by processor time", processor / count, "s/shard"),
        Figure("  files at the end", files / count, "files/shard", MOST_FILES, at_most=True),
    ]


def write_shards(folder: Path, count: int) -> None:
    """The sample's pairs in turn, one a tar."""
    folder.mkdir()
    pairs = []
    for path in sorted(SAMPLE.glob("*.tar")):
        with tarfile.open(path) as tar:
            members: dict[str, dict[str, bytes]] = {}
            for member in tar:
                key, _, suffix = member.name.partition(".")
                members.setdefault(key, {})[suffix] = member_bytes(tar, member)
        pairs += [pair for pair in members.values() if len(pair) > 1]
    for number, pair in zip(range(count), cycle(pairs), strict=False):
        with tarfile.open(folder / f"{number:06d}.tar", "w") as tar:
            for suffix, content in pair.items():
                info = tarfile.TarInfo(f"{number:08d}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
