"""A handful of the kills of `make chaos`: the real command on a real cluster of four nodes, on this disk and behind an S3 API."""

import pytest

from tests.chaos.__main__ import assault


@pytest.mark.parametrize(("where", "seed"), [("disk", 11), ("s3", 2)])
def test_whatever_is_killed_in_whatever_pass_the_continued_run_writes_the_bytes_of_an_undisturbed_one(
    where, seed, tmp_path, request, capsys
):
    roots = str(tmp_path / "roots")
    if where == "s3":
        request.getfixturevalue("s3_server")
        roots = f"s3://bucket/{tmp_path.name}"
    kills, found = assault(5, seed, tmp_path, roots)
    with capsys.disabled():
        print(f"\n{len(kills)} kills, seed {seed}: {[(kill.victim, kill.moment) for kill in kills]}")
    assert len(kills) == 5
    assert {kill.moment for kill in kills} >= {"annotate", "export"}
    for damage in found:
        assert (damage.lost, damage.duplicated, damage.differing, damage.faults) == (0, 0, [], [])
