import pytest

from pipeline.errors import ConservationError
from pipeline.select.ledger import balanced, from_dict

VERDICTS = {"a": {"kept": 3, "rejected:tiny": 1}, "b": {"failed:image_empty": 2}}


def test_counts_add_up_by_reason() -> None:
    ledger = balanced({"a": 4, "b": 2}, VERDICTS, ([], {"other extension": 3}), ["c"])
    assert (ledger.read, ledger.kept, ledger.rejected, ledger.failed) == (6, 3, {"tiny": 1}, {"image_empty": 2})
    assert from_dict(ledger.as_dict()) == ledger


def test_a_lost_sample_is_an_error_that_names_its_shard() -> None:
    with pytest.raises(ConservationError, match="shard a: 5 samples read, 4 verdicts"):
        balanced({"a": 5, "b": 2}, VERDICTS, ([], {}), [])


def test_a_shard_without_verdicts_is_an_error() -> None:
    with pytest.raises(ConservationError, match="'c'"):
        balanced({"a": 4, "b": 2, "c": 0}, VERDICTS, ([], {}), [])
