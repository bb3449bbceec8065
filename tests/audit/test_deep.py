"""What only `verify --deep` can see: outputs and inputs that differ although every hash, count and marker fits."""

import gzip
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.audit import deep
from pipeline.audit.verify import verify
from pipeline.cli import printing
from pipeline.input.inventory.stored import write_inputs
from pipeline.input.samples import uid_of
from pipeline.input.tar import write_tar
from pipeline.root.existing import open_root
from pipeline.store.blocks.index import FOOTER
from pipeline.store.store import Store
from tests.manifests import repair
from tests.mixed import mixed
from tests.roots import counted


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory, sample_folder: Path, tmp_path: Path) -> Path:
    """A copy of the finished root over copies of its inputs, as if it had been made of these."""
    made = mixed(tmp_path_factory.getbasetemp() / "mixed", sample_folder)
    shutil.copytree(made / "root", tmp_path / "root", symlinks=True)
    shutil.copytree(made / "in", tmp_path / "in")   # keeps the modification times
    moved(tmp_path / "root", made / "in", tmp_path / "in")
    return tmp_path / "root"


def moved(root: Path, old: Path, new: Path) -> None:
    """The root names its inputs at another place; nothing else does, but for the hashes of what says so."""
    store = Store(str(root))
    write_inputs(store, [replace(shard, url=shard.url.replace(str(old), str(new))) for shard in open_root(str(root)).shards])
    path = root / "run.json"
    path.write_text(path.read_text().replace(str(old), str(new)))
    repair(store, "run.json", "inputs.parquet")


def output_samples(root: Path, path: str) -> list[dict[str, Any]]:
    """What an output tar holds, as `write_tar` takes it."""
    samples = []
    for p in deep._output(f"{root}/{path}"):
        assert p.image and p.text and p.json   # noqa: PT018
        samples.append({"key": p.key, "ext": p.image.extension, "image": p.image.content, "caption": p.text.content,
                        "json": p.json.content})
    return samples


def rewritten(root: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> tuple[str, str]:
    """An output tar whose first sample (as {"key", "ext", "image", "caption", "json"}) was changed, and everything that tells of
    it repaired. Returns its path and the name of that sample."""
    store = Store(str(root))
    folder = store.read_json("current.json")["export"]
    path = f"{folder}/000001.tar"
    samples = output_samples(root, path)
    samples[0] |= change(samples[0])
    buffer = io.BytesIO()
    write_tar(buffer, (tuple(sample.values()) for sample in samples))
    store.write(path, buffer.getvalue())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    sidecar, stats = f"{folder}/000001.parquet", f"{folder}/000001_stats.json"
    table = pq.read_table(root / sidecar)
    uids = [uid_of(sample["image"], sample["caption"]) for sample in samples]
    table = table.set_column(2, "uid", pa.array(uids)).replace_schema_metadata({FOOTER: json.dumps({"tar_sha256": digest})})
    pq.write_table(table, root / sidecar)
    store.write_json(stats, {**store.read_json(stats), "sha256": digest, "bytes": len(buffer.getvalue())})
    meta = store.read_json(f"{folder}/meta.json")
    store.write_json(f"{folder}/meta.json", {**meta, "sha256": {**meta["sha256"], "000001.tar": digest}})
    repair(Store(str(root)), path, sidecar, stats, f"{folder}/meta.json")
    return path, samples[0]["key"]


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def test_a_root_as_it_was_written_has_no_faults_and_every_sample_was_compared(
    root: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    found = counted(root, deep=True)
    assert found.faults == ()
    assert found.compared == found.kept > 12
    tables = [pq.read_table(path, columns=["source_url"]) for path in (root / "shards").glob("*.parquet")]
    assert {url.rpartition("/")[2] for table in tables for url in table.column(0).to_pylist()} == {"0.tar", "1.tar.gz", "2.parquet"}
    printing.verify(found)
    assert f"compared with the inputs {found.kept:>22}" in capsys.readouterr().out
    assert counted(root).compared is None


JSON_DIFFERS = "its JSON object, but for ours, is not"
CHANGES = {
    "its image is not": lambda sample: {"image": flipped(sample["image"])},
    "its caption is not": lambda sample: {"caption": flipped(sample["caption"])},
    JSON_DIFFERS: lambda sample: {"json": sample["json"].replace(b'": ', b'":  ', 1)},
    "the extension of its image is not": lambda sample: {"ext": "png"},
}


@pytest.mark.parametrize("says", CHANGES)
def test_one_byte_of_an_output_sample_that_everything_else_was_made_to_fit_is_named(root: Path, says: str) -> None:
    path, key = rewritten(root, CHANGES[says])
    assert verify(str(root)).faults == ()
    (fault,) = verify(str(root), deep=True).faults
    assert re.fullmatch(rf"{path}: sample {key}: {says} that of sample '.+' \(row \d\) of input {root.parent}/in/[012]\..*", fault)


@pytest.mark.parametrize(("change", "says"), [
    (lambda samples: samples[:-1], "3 samples, sizes.json says 4, its sidecar 4"),
    (lambda samples: [*samples, {**samples[0], "key": "0000010004"}], "5 samples, sizes.json says 4, its sidecar 4"),
    (lambda samples: [*samples[:2], samples[3], samples[2]], "keys or uids .* are not those of its sidecar"),
    (lambda samples: [{**samples[0], "image": flipped(samples[0]["image"])}, *samples[1:]], "keys or uids .* are not those"),
])
def test_a_tar_that_is_not_its_sidecar_s_is_named_although_the_manifest_was_made_to_fit(
    root: Path, change: Callable[[Any], Any], says: str,
) -> None:
    store = Store(str(root))
    path = f"{store.read_json('current.json')['export']}/000001.tar"
    buffer = io.BytesIO()
    write_tar(buffer, (tuple(sample.values()) for sample in change(output_samples(root, path))))
    store.write(path, buffer.getvalue())
    repair(Store(str(root)), path)
    (fault,) = verify(str(root)).faults
    assert re.fullmatch(rf"{path}: {says}.*", fault)


def test_an_output_sample_in_the_place_of_another_is_named(root: Path) -> None:
    store = Store(str(root))
    folder = store.read_json("current.json")["export"]
    sidecars = [f"{folder}/00000{number}.parquet" for number in range(2)]
    tables = [pq.read_table(root / path) for path in sidecars]
    columns = ["source_shard_id", "source_url", "source_key", "source_row"]
    for path, table, other in zip(sidecars, tables, tables[::-1], strict=True):
        for name in columns:
            table = table.set_column(table.schema.get_field_index(name), name, other.column(name))
        pq.write_table(table, root / path)
    repair(Store(str(root)), *sidecars)
    assert verify(str(root)).faults == ()
    faults = verify(str(root), deep=True).faults
    assert sum("its image is not" in fault for fault in faults) == 8
    assert faults.count("... and 2 more of this file") == 2, "image, caption and JSON object of four samples"


def touched(path: Path, content: bytes) -> None:
    """Another content of the same size and time."""
    before = path.stat()
    assert len(content) == before.st_size
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_byte_of_an_input_that_changed_behind_its_time_and_size_is_named(root: Path) -> None:
    tar = root.parent / "in" / "0.tar"
    content = tar.read_bytes()
    key = next(iter(deep._output(str(tar)))).key
    at = content.index(b"\xff\xd8\xff") + 500
    touched(tar, content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    assert verify(str(root)).faults == ()
    faults = verify(str(root), deep=True).faults
    assert faults[0] == f"input {tar}: sample '{key}' (row 0) is not what was read: uid differs"
    assert all(f"sample '{key}' (row 0)" in fault for fault in faults)
    verdict = pq.read_table(next(root.glob("verdicts@*/0-*.parquet"))).column("verdict")[0].as_py()
    assert len(faults) == (3 if verdict == "kept" else 1), "kept: the columns, its picture, and its output"


def test_a_metadata_object_that_changed_in_the_input_is_named(root: Path) -> None:
    tar = root.parent / "in" / "0.tar"
    touched(tar, tar.read_bytes().replace(b"https://example.org", b"https://example.com"))
    assert verify(str(root)).faults == ()
    faults = verify(str(root), deep=True).faults
    assert [fault.partition(": ")[2].partition(": ")[2].partition(" that")[0] for fault in faults] == [JSON_DIFFERS] * len(faults)
    assert len(faults) in (1, 2)


@pytest.mark.parametrize("name", ["1.tar.gz", "2.parquet"])
def test_samples_that_cannot_be_read_in_place_are_compared_as_well(root: Path, name: str) -> None:
    path = root.parent / "in" / name
    before = path.stat()
    if name.endswith(".gz"):
        content = gzip.decompress(path.read_bytes())
        at = content.index(b"\xff\xd8\xff") + 500
        path.write_bytes(gzip.compress(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :], 1, mtime=0))
    else:
        table = pq.read_table(path)
        years = table.column("year").to_pylist()
        pq.write_table(table.set_column(3, "year", pa.array([years[0] + 1, *years[1:]])), path, row_group_size=3)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    faults = [fault for fault in verify(str(root), deep=True).faults if "was touched" not in fault]
    assert faults
    assert all(str(path) in fault and "(row 0)" in fault for fault in faults)
    assert any("uid differs" in fault or JSON_DIFFERS in fault for fault in faults)


def test_an_input_that_lost_samples_or_is_gone_is_named(root: Path) -> None:
    inputs = root.parent / "in"
    (inputs / "1.tar.gz").unlink()
    content = (inputs / "0.tar").read_bytes()
    last = content.rindex(b"\xff\xd8\xff") - 512
    touched(inputs / "0.tar", content[:last] + bytes(len(content) - last))
    faults = verify(str(root), deep=True).faults
    assert f"input {inputs}/0.tar has 7 samples, it had 8 when it was read" in faults
    assert f"input {inputs}/1.tar.gz is no longer there: its samples in the output cannot be compared" in faults


def test_a_thousand_faults_of_one_file_are_ten_and_a_count() -> None:
    assert list(deep.first_faults(iter(map(str, range(12))))) == [*map(str, range(10)), "... and 2 more of this file"]
    assert list(deep.first_faults(iter(map(str, range(10))))) == [*map(str, range(10))]


@pytest.mark.parametrize(("original", "made", "whole"), [
    (b'{"a": 1, "b": [NaN]}', b'{"a": 1, "b": [null], "uid": "u"}', True),
    (b'{"a": 1, "b": [NaN]}', b'{"a": 1, "b": [NaN], "uid": "u"}', False),
    (b"[1, 2]", b'{"source": [1, 2], "uid": "u"}', True),
    (b'{"a": ', b'{"uid": "u"}', True),
    (b'{"a": 1}', b'{"a": true, "uid": "u"}', False),
    (b'{"a": 1}', b'{"uid": "u"}', False),
    (b"{}", b'{"a": 1, "uid": "u"}', False),
    (b'{"uid": "x"}', b'{"uid": "u", "source": {"uid": "x"}}', True),
    (b'{"uid": "x"}', b'{"uid": "u"}', False),
    (b'{"uid": "x", "source": "web"}', b'{"uid": "u", "source": {"source": "web", "uid": "x"}}', True),
    (b'{"uid": "x", "source": {"id": 1}}', b'{"uid": "u", "source": {"uid": "x"}}', False),
    (b'{"uid": "x", "source": {"uid": "y"}}', b'{"uid": "u", "source": {"uid": "x"}}', False),
    (b'{"uid": "x", "source": {"uid": "y"}}', b'{"uid": "u", "source": {"uid": "x", "source": {"uid": "y"}}}', True),
])
def test_what_the_original_object_had_is_all_in_the_exported_one(original: bytes, made: bytes, whole: bool) -> None:
    assert deep.carried(original, made) == whole


FORGED = {
    "kept is not what": lambda ledger: {**ledger, "kept": ledger["kept"] + 1},
    "gaps is not what": lambda ledger: {**ledger, "gaps": [{"shard_id": "x", "kind": "truncated"}]},
    "quarantined is not what": lambda ledger: {**ledger, "quarantined": ["lost"]},
    "shards is not what": lambda ledger: {**ledger, "shards": {**ledger["shards"], "more": {}}},
}


@pytest.mark.parametrize("says", FORGED)
def test_an_account_that_the_files_do_not_bear_out_is_a_fault(root: Path, says: str) -> None:
    path = next(root.glob("verdicts@*/ledger.json"))
    path.write_text(json.dumps(FORGED[says](json.loads(path.read_text()))))
    repair(Store(str(root)), path.relative_to(root).as_posix())
    assert [fault for fault in verify(str(root)).faults if fault.startswith("ledger: ")] == [
        f"ledger: {says} the files of the shards say"]


def test_a_sample_that_failed_and_is_called_rejected_is_a_fault(root: Path) -> None:
    path = next(root.glob("columns/image@*/0-*.parquet"))
    table = pq.read_table(path)
    codes = pa.array(["image_truncated", *[None] * (table.num_rows - 1)])
    table = table.set_column(table.num_columns - 1, "image_error", codes)
    pq.write_table(table, path)
    repair(Store(str(root)), path.relative_to(root).as_posix())
    shard_id = path.name.removesuffix(".parquet")
    assert list(verify(str(root)).faults) == [
        f"shard {shard_id}: the samples whose verdict is failed are not those that a stage could not process"]
