import io
import json
import tarfile
from pathlib import Path

import pytest

from pipeline.queries.neighbours.catalogue import Catalogue
from tests.archives import member_bytes
from tests.curations import curated

KEYS = ("plain", "colon:0", "4711", "twice")
"""Of the first samples of both shards of `pool`: the same in each."""


def pool_uid(shard: int, number: int) -> str:
    """The uid that a sample of the pool brings: 32 hex digits that are none of ours."""
    return f"{0xabc00000 + 16 * shard + number:08x}{shard:024x}"


def pool(sample_folder: Path, folder: Path) -> list[Path]:
    """Two shards of ten samples each, as a pool has them: with uids of its own, some keys in both shards."""
    with tarfile.open(sample_folder / "00008.tar") as archive:
        keys = sorted({name.partition(".")[0] for name in archive.getnames() if name.endswith(".jpg")})[:20]
        contents = {name: member_bytes(archive, name) for name in archive.getnames() if name.partition(".")[0] in keys}
    for shard, chosen in enumerate((keys[:10], keys[10:])):
        with tarfile.open(folder / f"{shard:08d}.tar", "w") as archive:
            for number, key in enumerate(chosen):
                name = KEYS[number] if number < len(KEYS) else key
                for end in ("jpg", "txt", "json"):
                    content = contents[f"{key}.{end}"]
                    if end == "json":
                        content = json.dumps({**json.loads(content), "uid": pool_uid(shard, number)}).encode()
                    member = tarfile.TarInfo(f"{name}.{end}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    return sorted(folder.glob("*.tar"))


@pytest.fixture(scope="session")
def pool_root(sample_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over `pool` that was made twice, by two thresholds: the export of the first is a former one. Three classes, and
    an index that the second run goes on with."""
    root = tmp_path_factory.mktemp("pool") / "root"
    shards = pool(sample_folder, tmp_path_factory.mktemp("pool-input"))
    settings = ("classes.k=3", "export.shard_size=6", "index.of=kept", "model.compile=false")
    for least in ("0.5", "0.0"):
        curated(root, shards, (*settings, f"filters.clip_similarity.min={least}"))
    return root


@pytest.fixture(scope="session")
def demo(demo_root: Path) -> Catalogue:
    """The demo root, opened to be asked."""
    return Catalogue.open(str(demo_root))
