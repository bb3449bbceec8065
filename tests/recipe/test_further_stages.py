"""What a recipe's own stages may read and be set to is checked before a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import pyarrow as pa
import pytest

from pipeline.errors import InputError, RecipeError
from pipeline.recipe.recipe import load
from pipeline.registry import GROUP, Offer, offers, refuse_malformed
from pipeline.stage import Contract, Stage, Transform, stage_schema

HERE = "tests.recipe.test_further_stages"


@dataclass(frozen=True)
class Plain(Stage):
    contract = Contract("plain", 1, ("caption",), stage_schema("plain", ("plainness", pa.float32(), "of the caption, 0..1")))
    limit: int = 3

    @contextmanager
    def open(self) -> Iterator[Transform]:
        yield lambda batch: batch


@dataclass(frozen=True)
class AfterTheRun(Plain):
    contract = Contract("late", 1, ("exact_duplicate",), stage_schema("late", ("lateness", pa.float32(), "nothing")))


def test_a_stage_that_reads_what_only_the_whole_run_knows_is_refused() -> None:
    with pytest.raises(RecipeError, match="late reads exact_duplicate, which nothing before it writes"):
        load("sample", [], [f"{HERE}:AfterTheRun"])


def test_a_stage_that_reads_the_source_is_taken() -> None:
    assert [one.name for one in load("sample", [], [f"{HERE}:Plain"]).added] == ["plain"]


def test_a_value_that_yaml_reads_as_a_date_is_told_of_by_its_key() -> None:
    with pytest.raises(RecipeError, match=r"stages\.plain\.limit: expected a whole number, not '2001-01-01'"):
        load("sample", ["stages.plain.limit=2001-01-01"], [f"{HERE}:Plain"])


@dataclass(frozen=True)
class Routed(Plain):
    route: str = "slow"


@dataclass(frozen=True)
class Choosy(Plain):
    def __post_init__(self) -> None:
        if self.limit > 9:
            raise ValueError("limit is a digit")


def test_a_field_that_means_something_to_shardmill_is_refused() -> None:
    with pytest.raises(RecipeError, match="a field cannot be called route"):
        load("sample", [], [f"{HERE}:Routed"])


def test_what_a_stage_itself_refuses_is_said_of_its_section() -> None:
    with pytest.raises(RecipeError, match=r"stages\.plain.*stage plain refuses its settings: limit is a digit"):
        load("sample", ["stages.plain.limit=12"], [f"{HERE}:Choosy"])


PLAINNESS = ("plainness", pa.float32(), "")


@pytest.mark.parametrize(("contract", "says"), [
    (None, "has no contract"),
    (Contract("clip", 1, ("caption",), stage_schema("clip", PLAINNESS)), "a stage called clip is in every run"),
    (Contract("samples", 1, ("caption",), stage_schema("samples", PLAINNESS)), "a stage called samples is in every run"),
    (Contract("Plain", 1, ("caption",), stage_schema("Plain", PLAINNESS)), "'Plain' is no name for a stage"),
    (Contract("../x", 1, ("caption",), stage_schema("../x", PLAINNESS)), "is no name for a stage"),
    (Contract("plain", 1, ("caption",), stage_schema("other", PLAINNESS)), "plain_error last, not uid, plainness, other_error"),
    (Contract("plain", 1, ("caption",), pa.schema(list(stage_schema("plain", PLAINNESS))[::-1])), "uid first and plain_error last"),
    (Contract("plain", 1, ("caption",), stage_schema("plain", ("sha256", pa.string(), ""))), "sha256 is a column of every run"),
    (Contract("plain", 1, ("caption",), stage_schema("plain", ("labels", pa.string(), ""))), "labels is a column of every run"),
])
def test_a_stage_that_would_break_a_run_in_its_middle_is_refused_before_it(contract: Contract | None, says: str) -> None:
    kind = type("Malformed", (Plain,), {"contract": contract})
    with pytest.raises(InputError, match=says):
        refuse_malformed("a_package:Malformed", kind)


@pytest.mark.parametrize(("target", "says"), [
    ("tests.recipe", "names no stage: write package.module:Class"),
    (":Plain", "names no stage"),
    ("no_such_package:Plain", r"cannot be imported \(No module named 'no_such_package'\): install its package on every machine"),
    (f"{HERE}:NoSuch", "cannot be imported"),
    (f"{HERE}:HERE", "is no stage: it must be a subclass of shardmill's Stage"),
    ("pathlib:Path", "is no stage"),
])
def test_what_the_operator_names_is_a_stage_or_is_refused_by_name(target: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        offers([target])


def test_what_the_operator_names_wins_over_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = EntryPoint("plain", "elsewhere : Plain", GROUP)
    monkeypatch.setattr("pipeline.registry.metadata.entry_points", lambda group: [installed] if group == GROUP else [])
    assert offers()["plain"] == Offer("elsewhere:Plain", "")
    assert offers([f"{HERE}:Plain"])["plain"].target == f"{HERE}:Plain"
