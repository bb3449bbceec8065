"""A short fuzz run (`make fuzz` is the long one), and whether its oracle sees what it must."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.input.discovery import discover
from pipeline.input.reader import read
from tests.fuzz.campaign import campaign
from tests.fuzz.mutations import Mutant, mutant
from tests.fuzz.oracle import faults, places, uid

SEEDS = range(1, 60)


def read_back(made: Mutant, folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, int]]:
    (folder / made.file).write_bytes(made.content)
    reader = read(*discover([str(folder / made.file)]))
    rows = [row for batch in reader for row in batch.to_pylist()]
    return rows, [gap.as_dict() for gap in reader.gaps], dict(reader.ignored)


def test_mutated_shards_crash_nothing_and_every_account_balances(record_property: Callable[[str, object], None]) -> None:
    result = campaign(first=0, seconds=0, count=48)   # the next would be the first to open the model
    record_property("say", f"{result.mutants} mutated inputs, seeds 0 to 47: {len(result.failures)} failures")
    assert result.mutants == 48
    assert result.failures == {}, result.told()
    assert result.rows > 200


def test_a_seed_names_one_mutant_for_good() -> None:
    assert [mutant(seed).content for seed in range(5)] == [mutant(seed).content for seed in range(5)]
    assert len({mutant(seed).content for seed in SEEDS}) == len(SEEDS)


@pytest.mark.parametrize("loss", ["a row", "its image"])
def test_the_oracle_sees_a_sample_that_a_reader_loses(tmp_path: Path, loss: str) -> None:
    asked = seen = 0
    for made in map(mutant, SEEDS):
        if made.archive is None:
            continue
        rows, gaps, ignored = read_back(made, tmp_path)
        assert faults(made, rows, gaps, ignored) == []
        whole = {uid(one) for one in made.samples if places(made, one.key) is not None}
        lost = next((row for row in rows if row["uid"] in whole and row["samples_error"] is None), None)
        if lost is None or gaps:
            continue
        asked += 1
        rest = [row for row in rows if row is not lost]
        rest += [{**lost, "uid": "0" * 32}] if loss == "its image" else []
        seen += faults(made, rest, gaps, ignored) != []
    assert asked > 10
    assert seen == asked


def test_a_crash_and_a_hang_are_found_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.campaign.CHILD", "tests.fuzz.crashing")
    monkeypatch.setattr("tests.fuzz.campaign.LIMIT", 2)
    result = campaign(first=0, seconds=0, count=4)
    assert (result.mutants, result.crashes) == (4, 2)
    assert result.failures[1][0] == "its process died"
    assert result.failures[2][0] == "hung for 2 seconds"
    assert "python -m tests.fuzz --only 2" in result.told()
