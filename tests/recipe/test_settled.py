"""`auto` is settled once, when a root is begun."""

import pytest

from pipeline.recipe.reading.presets import presets
from pipeline.recipe.recipe import load
from pipeline.recipe.settled import Settled


def asked() -> bool:
    raise AssertionError("nobody is asked")


@pytest.mark.parametrize("installed", [True, False])
def test_auto_is_whether_a_recogniser_is_there_when_the_root_is_begun_and_stays_so(installed: bool) -> None:
    recipe = load("sample", ["entities.ner=auto"])
    settled = Settled("route").of_recipe(recipe, lambda: installed)
    assert (settled.route, settled.ner) == ("route", installed)
    assert settled.of_recipe(recipe, asked) == settled


@pytest.mark.parametrize("name", presets())
def test_no_preset_asks_for_the_recogniser_of_names(name: str) -> None:
    assert Settled().of_recipe(load(name), asked).ner is False


@pytest.mark.parametrize("before", [None, True, False])
def test_what_the_recipe_says_holds_whatever_was_settled_before(before: bool | None) -> None:
    assert Settled(ner=before).of_recipe(load("sample", ["entities.ner=true"]), asked).ner is True
    assert Settled(ner=before).of_recipe(load("sample", ["entities.ner=false"]), asked).ner is False


def test_what_a_root_has_recorded_is_read_back_and_an_older_root_has_not_settled_names() -> None:
    record = {"outputs": {"route": "cpu-avx2-fp32-eager", "others": {"fit_on": "tables/x"}}, "settled": {"ner": False}}
    assert Settled.recorded(record) == Settled("cpu-avx2-fp32-eager", False, {"fit_on": "tables/x"})
    assert Settled.recorded({"outputs": {"route": "r"}}) == Settled("r")
    assert Settled.recorded({**record, "settled": {"ner": "yes"}}).ner is None
    with pytest.raises(KeyError):
        Settled.recorded({"outputs": {}})
