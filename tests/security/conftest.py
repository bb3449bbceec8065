"""One curation of hostile inputs, in a sandbox of its own, for most of the promises."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.root.lifecycle import Result
from tests.curations import curated
from tests.damage import clean_pairs
from tests.security import hostile

OVERRIDES = (
    "filters={hasty: {column: caption_words, min: 1}}", "classes.k=3", "export.shard_size=32", "entities.background=16",
    'name="<script>document.title=1</script>\\e[31m"', "entities.ner=false",
)


@dataclass(frozen=True)
class Attacked:
    """What is left of a curation: its root, what it did, and what lay around it before and after."""

    root: Path
    sandbox: Path
    result: Result
    samples: int
    seen: tuple[str, ...]
    before: dict[str, bytes | str]
    after: dict[str, bytes | str]


@pytest.fixture(scope="session")
def pictures(sample_folder: Path) -> list[bytes]:
    """JPEG bytes of clean samples."""
    return [image for image, _ in clean_pairs(sample_folder).values()]


@pytest.fixture(scope="package")
def attacked(tmp_path_factory: pytest.TempPathFactory, pictures: list[bytes]) -> Attacked:
    import pipeline.models.clip  # noqa: F401 - torch makes a folder in the temporary one, once in a process: not in this one
    from pipeline.report.build import write_report

    sandbox = tmp_path_factory.mktemp("sandbox")
    root = sandbox / "a" / "b" / "c" / "root"
    for name in ("in", "cwd", "home/.ssh", "tmp", "a/b/c"):
        (sandbox / name).mkdir(parents=True)
    (sandbox / "home" / ".ssh" / "authorized_keys.jpg").write_text("mine")
    hostile.write_knowledge_base(sandbox / "kb.parquet")
    count = hostile.write_tar(sandbox / "in" / "<img src=x onerror=alert(1)>\x1b[31m\u202e.tar", sandbox, pictures)
    hostile.write_parquet(sandbox / "in" / "types.parquet", sandbox, pictures[200:208])
    before = hostile.files(sandbox, root)
    with pytest.MonkeyPatch.context() as patch, hostile.watched() as seen:
        patch.chdir(sandbox / "cwd")
        patch.setenv("HOME", str(sandbox / "home"))
        patch.setattr(tempfile, "tempdir", str(sandbox / "tmp"))
        overrides = (*OVERRIDES, f"entities.knowledge_base={sandbox / 'kb.parquet'}")
        result = curated(root, [sandbox / "in"], overrides)
        write_report(result.plan)
    return Attacked(root, sandbox, result, count + 8, tuple(seen), before, hostile.files(sandbox, root))
