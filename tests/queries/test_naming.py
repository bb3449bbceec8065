"""Every command takes a sample by each of its names."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.api import shardmill
from pipeline.errors import InputError, RootError
from pipeline.queries import naming
from pipeline.queries.naming import RowId, find_samples
from pipeline.root.existing import open_root
from tests.queries.conftest import pool_uid
from tests.roots import asked


def rows(root: Path) -> list[dict[str, str]]:
    """Uid, shard and row of every sample, in the order of the input."""
    table = shardmill.open(root).samples(["uid", "shard_id", "row", "key", "source_uid"]).to_table()
    return [{**row, "row": str(row["row"])} for row in table.to_pylist()]


def found(root: Path, name: str) -> Sequence[RowId]:
    return find_samples(open_root(str(root)), name)


def test_a_sample_is_found_by_its_uid_the_uid_of_its_input_its_place_and_its_key(pool_root: Path) -> None:
    samples = rows(pool_root)
    assert len(samples) == 20
    for sample in (samples[7], samples[14]):
        place = (sample["shard_id"], int(sample["row"]))
        input_shard = next(shard for shard in open_root(str(pool_root)).shards if shard.shard_id == sample["shard_id"])
        shards = (sample["shard_id"], input_shard.url, input_shard.relative, input_shard.relative.removesuffix(".tar"))
        names = [sample["uid"], sample["uid"].upper(), sample["uid"][:8], sample["source_uid"], sample["source_uid"][:31].upper(),
                 sample["key"], *(f"{shard}:{sample['row']}" for shard in shards)]
        assert {name: found(pool_root, name) for name in names} == dict.fromkeys(names, (place,))


def test_a_key_that_several_shards_have_names_all_of_its_samples_and_may_have_a_colon(pool_root: Path) -> None:
    ids = [shard.shard_id for shard in open_root(str(pool_root)).shards]
    assert found(pool_root, "colon:0") == ((ids[0], 1), (ids[1], 1))
    assert found(pool_root, "4711") == ((ids[0], 2), (ids[1], 2))


def test_a_sample_of_the_export_is_found_by_its_key_there(pool_root: Path) -> None:
    for path in sorted((pool_root / "shards").glob("*.parquet")):
        for row in pq.read_table(path).to_pylist():
            assert found(pool_root, row["key"]) == ((row["source_shard_id"], row["source_row"]),)
    assert path.stem > "000000"


@pytest.mark.parametrize(("name", "words"), [
    ("nobody", r"has no sample 'nobody': name it by a uid \(its first 6 digits will do\), .*SHARD:ROW, or a key"),
    ("abc", "has no sample 'abc'"), ("", "has no sample ''"), ("\udcff", r"has no sample '\?'"),
    ("00000000:10", "shard 00000000-[0-9a-f]{8} has 10 samples, numbered from 0, and no row 10"),
    ("elsewhere:1", "has no sample 'elsewhere:1'"), ("0" * 32, "has no sample '0000"), ("9" * 30, "has no sample"),
])
def test_a_name_that_no_sample_has_is_refused_in_words(pool_root: Path, name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        found(pool_root, name)
    assert asked("explain", str(pool_root), name, check=2).stderr.startswith("shardmill: ")


def test_a_name_of_too_many_samples_is_refused_with_names_of_some(pool_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naming, "MOST", 1)
    with pytest.raises(InputError, match=r"2 samples of .* are named 'twice', e\.g\. 00000000-.*:3, .*: name one as SHARD:ROW"):
        found(pool_root, "twice")


def test_a_shard_that_is_not_read_yet_is_named(pool_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = open_root(str(pool_root))
    monkeypatch.setitem(plan.columns.folders, "samples", "columns/samples@000000000000")
    for name in ("twice", "00000000:1"):
        with pytest.raises(RootError, match=r"has not read shard 00000000-[0-9a-f]{8} yet: run its command again"):
            find_samples(plan, name)


def test_explain_answers_to_every_name_and_says_them_all(pool_root: Path) -> None:
    text = asked("explain", str(pool_root), "00000001:5").stdout.splitlines()
    uid, source_uid = rows(pool_root)[15]["uid"], pool_uid(1, 5)
    assert text[0].startswith(f"{uid}  00000001-")
    assert text[0].endswith(f":5  key {rows(pool_root)[15]['key']}  source uid {source_uid}")
    for name in (uid, source_uid, rows(pool_root)[15]["key"], text[0].split()[1]):
        assert asked("explain", str(pool_root), name).stdout.splitlines() == text
    assert len(shardmill.open(pool_root).explain("twice")) == 2


def test_an_image_is_found_by_every_name_of_its_sample_and_not_by_that_of_several(pool_root: Path) -> None:
    root, sample = shardmill.open(pool_root), rows(pool_root)[13]
    image = root.image((sample["shard_id"], int(sample["row"])))
    assert [root.image(name) for name in (sample["uid"], sample["source_uid"], "00000001:3")] == [image] * 3
    with pytest.raises(InputError, match=r"are named 'twice', with different images: name one, e\.g\. 00000000-.*:3"):
        root.image("twice")


def test_the_members_of_a_class_are_shown_by_names_that_explain_takes(pool_root: Path) -> None:
    lines = [line.split() for line in asked("classes", str(pool_root), "0").stdout.splitlines()]
    members = [words for words in lines if words[0] in ("nearest", "farthest")]
    assert members
    for _, _, uid, place in members:
        assert found(pool_root, uid) == found(pool_root, place)
