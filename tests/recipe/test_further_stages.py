"""What a recipe's own stages may read and be set to is checked before a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pytest

from pipeline.errors import RecipeError
from pipeline.recipe.recipe import load
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
