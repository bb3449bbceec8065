"""Lists of uids in files: every form gives the same list; what is none is refused by its line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError, RecipeError, SourceError
from pipeline.recipe.lists.uids import among, digest_of, pinned, read_uids
from pipeline.recipe.recipe import load, select_identity
from pipeline.select.subset import halves

UIDS = [f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}{number % 256 << 56:016x}" for number in range(300)]   # some end in zeros
RULE = "filters.uid.none_of_file="


def written(folder: Path, name: str, uids: list[str]) -> Path:
    path = folder / name
    if name.endswith(".txt"):
        path.write_text("# what a person wrote\n\n" + "\r\n".join(uids))
    elif name.endswith(".parquet"):
        pq.write_table(pa.table({"caption": ["x"] * len(uids), "uid": uids}), path, row_group_size=100)
    elif name.startswith("text"):
        np.save(path, np.array(uids))
    else:
        np.save(path, halves(np.array([[int(uid[:16], 16), int(uid[16:], 16)] for uid in uids], np.uint64)))
    return path


@pytest.mark.parametrize("name", ["list.txt", "list.parquet", "datacomp.npy", "text.npy"])
def test_every_form_of_a_list_holds_the_same_uids_in_any_order(tmp_path: Path, name: str) -> None:
    keys = read_uids(str(written(tmp_path, name, [*reversed(UIDS), UIDS[7].upper()])))
    assert [key.ljust(16, b"\0").hex() for key in keys.tolist()] == sorted(UIDS)
    assert digest_of(keys) == digest_of(read_uids(str(written(tmp_path, f"text-{name}.npy", UIDS))))
    assert keys.nbytes == 16 * len(UIDS)


def test_values_of_a_column_are_looked_up_whatever_else_is_among_them(tmp_path: Path) -> None:
    listed = str(written(tmp_path, "list.npy", UIDS[::2]))
    values = [*UIDS, None, "", "no uid", UIDS[0] + "0", UIDS[4].upper(), "f" * 32]
    found = among(pa.chunked_array([values[:100], values[100:]], pa.string()), listed).to_pylist()
    assert found == [uid is not None and uid.lower() in UIDS[::2] for uid in values]
    assert among(pa.chunked_array([UIDS[:3]]), str(written(tmp_path, "none.txt", []))).to_pylist() == [False] * 3


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(("name", "damage", "says"), [
    ("list.txt", lambda path: path.write_text(f"{UIDS[0]}\nfoo\n"), "line 2: 'foo' is no uid: one has 32 hex digits"),
    ("list.txt", lambda path: path.write_bytes(b"\xff\xfe" * 500), "line 1: "),
    ("list.parquet", lambda path: pq.write_table(pa.table({"uid": [UIDS[0], None]}), path), "row 1: None is no uid"),
    ("list.parquet", lambda path: pq.write_table(pa.table({"a": ["x"], "b": ["y"]}), path), "has no column uid of text, but a, b"),
    ("list.parquet", cut, "is no parquet file that can be read"),
    ("datacomp.npy", cut, "is cut: it has 293 of 300 uids"),
    ("text.npy", lambda path: np.save(path, np.array(["x"])), "row 0: 'x' is no uid"),
    ("text.npy", lambda path: np.save(path, np.zeros((3, 2))), "holds float64[3, 2]: a list of uids is u8,u8 or text"),
    ("text.npy", lambda path: np.save(path, np.array([{"a": 1}]), allow_pickle=True), "holds object[1]"),
    ("text.npy", lambda path: path.write_text("no array"), "is no .npy file"),
])
def test_what_is_no_list_is_refused_by_its_line(tmp_path: Path, name: str, damage: Callable[[Path], Any], says: str) -> None:
    path = written(tmp_path, name, UIDS)
    damage(path)
    with pytest.raises(InputError) as refused:
        read_uids(str(path))
    assert str(path) in str(refused.value)
    assert says in str(refused.value)


def test_a_recipe_is_of_what_the_list_holds_and_not_of_its_name_or_form(tmp_path: Path) -> None:
    recipe = load("sample", [f"{RULE}{written(tmp_path, 'list.txt', UIDS)}"])
    same = load("sample", [f"{RULE}{written(tmp_path, 'other.npy', UIDS[::-1])}"])
    assert select_identity(recipe) == select_identity(same) != select_identity(load("sample"))
    assert recipe.model_dump(mode="json")["filters"]["uid"]["none_of_file"] == pinned(
        str(tmp_path / "list.txt"), digest_of(read_uids(str(tmp_path / "list.txt"))))
    written(tmp_path, "list.txt", [*UIDS[1:], "f" * 32])
    other = load("sample", [f"{RULE}{tmp_path}/list.txt"])
    assert select_identity(other) != select_identity(recipe)
    with pytest.raises(SourceError, match="is not what it was when its rule was made"):
        among(pa.chunked_array([UIDS]), str(recipe.filters["uid"].none_of_file))
    (tmp_path / "list.txt").unlink()
    with pytest.raises(SourceError, match="cannot be read here"):
        among(pa.chunked_array([UIDS]), str(recipe.filters["uid"].none_of_file))


@pytest.mark.parametrize(("override", "says"), [
    ("filters.uid.none_of_file=/none/such.txt", "filters.uid.none_of_file: /none/such.txt cannot be read: No such file"),
    ("filters.uid.any_of_file=empty.txt", "holds no uid, so that no sample would be kept"),
    ("filters.uid.none_of_file=list.csv", "is no list of uids: give a file .txt (one a line), .parquet or .npy"),
    ("filters.uid.none_of_file=list.txt#uids=00000000000000000000000000000000", "does not hold the uids that #uids= says"),
    ("filters.uid.none_of_file=a.txt::s3://b", "is a chain of file systems"),
    ("filters.uid.none_of_file=7", "filters.uid.none_of_file: expected text or null, not 7"),
    ("filters.language.none_of_file=list.txt", "none_of_file is a list of uids, and fits uid and source_uid alone"),
])
def test_a_list_that_cannot_be_had_is_an_error_of_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "list.txt", UIDS)
    written(tmp_path, "empty.txt", [])
    with pytest.raises(RecipeError) as refused:
        load("sample", [override])
    assert f"--set {override}" in str(refused.value)
    assert says in str(refused.value)
