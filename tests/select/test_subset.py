"""The subset files by which DataComp's resharder takes samples out of a pool."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.select.subset import SUBSET, SUBSET_SOURCE_UID, SUBSET_UID, subset, subset_files


def test_the_subset_file_is_datacomp_s() -> None:
    rng = np.random.default_rng(8)
    uids = ["".join(rng.choice(list("0123456789abcdef"), 32)) for _ in range(500)]
    uids += [uids[0], "f" * 32, "0" * 32, "0" * 16 + "f" * 16]
    expected = np.array([(int(uid[:16], 16), int(uid[16:], 16)) for uid in uids], np.dtype("u8,u8"))
    expected.sort()
    found = subset(uids)
    assert found.dtype == np.dtype("u8,u8")
    assert np.array_equal(found, expected)
    assert subset([]).shape == (0,)


OURS, THEIRS = ["0" * 31 + digit for digit in "12"], ["a" * 32, "B" * 32]


@pytest.mark.parametrize(("brought", "files"), [
    (THEIRS, {SUBSET_UID: OURS, SUBSET: THEIRS}),
    ([None, THEIRS[0]], {SUBSET_SOURCE_UID: THEIRS[:1], SUBSET: OURS}),
    (["12", THEIRS[0] + "\n"], {SUBSET: OURS}),   # no uids as DataComp has them
    ([None, None], {SUBSET: OURS}),
])
def test_the_pool_s_own_uids_are_in_the_subset_file_where_every_sample_brings_one(
    brought: list[str | None], files: dict[str, list[str]],
) -> None:
    made = subset_files(pa.chunked_array([OURS]), pa.chunked_array([pa.array(brought, pa.string())]))
    assert list(made) == list(files)
    assert all(np.array_equal(made[name], subset(uids)) for name, uids in files.items())
