from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.entities.aliases import AliasIndex, Written, build
from pipeline.entities.knowledge_base import KnowledgeBase, content_id
from pipeline.entities.lemmas import folded, singulars, words
from pipeline.errors import InputError
from schemas.tables import KNOWLEDGE_BASE
from tests.samples import wordnet as bundled_wordnet


@pytest.fixture(scope="module")
def wordnet() -> KnowledgeBase:
    return bundled_wordnet()[0]


@pytest.fixture(scope="module")
def index() -> AliasIndex:
    return bundled_wordnet()[1]


@pytest.fixture(scope="module")
def found(index: AliasIndex) -> Callable[[str], list[str]]:
    return lambda text: [text[match.start : match.end] for match in index.matches(text)]


@pytest.fixture(scope="module")
def aliases(index: AliasIndex) -> Callable[[str], list[str]]:
    return lambda text: [match.alias for match in index.matches(text)]


ROWS: list[dict[str, Any]] = [
    {"id": "Q1", "lemmas": ["Zürich", "Turicum"], "sense_rank": [1, 1], "sense_count": [0, 0], "gloss": "a city", "hypernyms": None,
     "domain": None, "is_instance": True},
    {"id": "Q2", "lemmas": ["alpine ibex"], "sense_rank": [1], "sense_count": [3], "gloss": None, "hypernyms": ["Q3"],
     "domain": "species", "is_instance": None},
]


def written(path: Path, rows: Sequence[dict[str, Any]] = ROWS, schema: pa.Schema = KNOWLEDGE_BASE) -> str:
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return str(path)


def test_bundled_wordnet_loads_with_imagenet_ids(wordnet: KnowledgeBase) -> None:
    assert len(wordnet.ids) == 82_115
    dog = wordnet.row_of["n02084071"]
    assert (wordnet.name(dog), wordnet.domains[dog], wordnet.depictability(dog)) == ("dog", "noun.animal", 1.0)


def test_any_knowledge_base_in_the_schema_will_do(tmp_path: Path) -> None:
    base = KnowledgeBase.load(written(tmp_path / "base.parquet"))
    index = build(base)
    assert [base.ids[index.senses[match.alias][0].row] for match in index.matches("Alpine ibexes near zurich")] == ["Q2", "Q1"]
    assert base.depictability(0) == 0.0


def test_a_lemma_with_a_hyphen_means_the_same_without_it_however_short_it_becomes(tmp_path: Path) -> None:
    index = build(KnowledgeBase.load(written(tmp_path / "base.parquet", [{**ROWS[1], "lemmas": ["x-y"], "domain": "noun.object"}])))
    assert index.senses["xy"] == index.senses["x y"] != ()


def test_identity_of_a_knowledge_base_is_its_content(tmp_path: Path) -> None:
    first, second = written(tmp_path / "a.parquet"), written(tmp_path / "b.parquet")
    assert content_id(first) == content_id(second) == KnowledgeBase.load(first).sha256
    assert content_id(written(tmp_path / "c.parquet", ROWS[:1])) != content_id(first)


@pytest.mark.parametrize(("rows", "message"), [
    ([ROWS[0], ROWS[0]], "an id twice"),
    ([{**ROWS[0], "lemmas": []}], "at least one lemma"),
    ([{**ROWS[0], "sense_rank": [1]}], "one sense_rank and sense_count for each"),
])
def test_a_wrong_row_is_an_error_that_says_which(tmp_path: Path, rows: Sequence[dict[str, Any]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        KnowledgeBase.load(written(tmp_path / "base.parquet", rows))


def test_a_missing_file_a_missing_column_and_another_format_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        KnowledgeBase.load(str(tmp_path / "none.parquet"))
    short = pa.schema([field for field in KNOWLEDGE_BASE if field.name != "gloss"])
    with pytest.raises(InputError, match="lacks the columns \\['gloss'\\]"):
        KnowledgeBase.load(written(tmp_path / "short.parquet", schema=short))
    typed = pa.schema([pa.field("lemmas", pa.string()) if f.name == "lemmas" else f for f in KNOWLEDGE_BASE])
    with pytest.raises(InputError, match="other types"):
        KnowledgeBase.load(written(tmp_path / "typed.parquet", [{**ROWS[0], "lemmas": "x"}], typed))
    (tmp_path / "text.parquet").write_text("id,lemmas")
    with pytest.raises(InputError, match="not a parquet file"):
        KnowledgeBase.load(str(tmp_path / "text.parquet"))


def test_words_are_compared_without_case_and_diacritics() -> None:
    assert words("Crème-brûlée, T-shirt_2 & Łódź's Straße") == ["creme", "brulee", "t", "shirt", "2", "lodz", "s", "strasse"]
    assert folded("CAFÉ") == folded("cafe\u0301") == "cafe"


@pytest.mark.parametrize(("plural", "singular"), [
    ("dogs", "dog"), ("boxes", "box"), ("cherries", "cherry"), ("knives", "knife"), ("wolves", "wolf"), ("leaves", "leaf"),
    ("mice", "mouse"), ("feet", "foot"), ("firemen", "fireman"), ("vases", "vase"), ("potatoes", "potato"), ("cacti", "cactus"),
    ("cookies", "cookie"), ("churches", "church"), ("shoes", "shoe"), ("buses", "bus"), ("children", "child"), ("olives", "olive"),
])
def test_plurals_are_found_under_their_singular(aliases: Callable[[str], list[str]], plural: str, singular: str) -> None:
    assert aliases(f"two {plural}") == [singular]


def test_words_that_only_look_like_plurals_stay() -> None:
    assert singulars("bus") == singulars("glass") == singulars("cactus") == singulars("tennis") == ()


def test_the_longest_alias_wins_and_nothing_overlaps(found: Callable[[str], list[str]]) -> None:
    assert found("ice cream cones in New York City") == ["ice cream cones", "New York City"]
    assert found("a guinea_pig and a hot-dog") == ["guinea_pig", "hot-dog"]
    assert found("ice, cream") == ["ice", "cream"]   # a comma parts what an alias holds together


def test_camel_case_is_not_split_and_hyphens_may_be_left_out(aliases: Callable[[str], list[str]]) -> None:
    assert aliases("my iPod") == ["ipod"]
    assert aliases("tshirt, T-shirt and t shirt") == ["tshirt", "t shirt", "t shirt"]


def test_generic_words_colours_and_function_words_are_no_mentions(found: Callable[[str], list[str]]) -> None:
    assert found("a red picture icon of it in an image at the photo") == []
    assert found("ein Hund mit der Katze") == []


def test_aliases_mostly_used_for_what_no_picture_shows_are_no_mentions(
    found: Callable[[str], list[str]], index: AliasIndex,
) -> None:
    assert found("the age, the cost and the purpose of an idea") == []
    assert index.senses["age"] == ()
    assert found("Ice Age") == []   # blocked as a whole: neither "ice" nor "age"


def test_names_match_in_small_letters_unless_they_are_ordinary_words(
    found: Callable[[str], list[str]], index: AliasIndex, wordnet: KnowledgeBase,
) -> None:
    def meant(alias: str, text: str) -> set[str]:
        return {wordnet.ids[sense.row] for sense in index.candidates(alias, text)}

    assert found("eiffel tower, paris") == ["eiffel tower", "paris"]
    assert found("a dvd and a pda") == ["dvd", "pda"]
    assert found("to add, to aid") == []
    young = {wordnet.ids[s.row] for s in index.senses["young"]} if index.senses["young"] else set()
    assert young == set()   # a stop word
    brown_bear, bush_small, bush_name = meant("bear", "bear"), meant("bush", "bush"), meant("bush", "Bush")
    assert brown_bear
    assert bush_small < bush_name   # the presidents need their capital
    assert found("Nicu Buculei") == []   # NICU is a ward, Nicu is a man


def test_how_a_word_is_written_has_three_ways() -> None:
    assert [Written.of(text) for text in ("usb", "Usb", "USB", "iPod", "99")] == [
        Written.SMALL, Written.CAPITAL, Written.CAPITALS, Written.CAPITAL, Written.SMALL]


def test_priors_of_an_alias_sum_to_one_and_follow_the_corpus(index: AliasIndex, wordnet: KnowledgeBase) -> None:
    senses = index.senses["mouse"]
    assert sum(2.718281828 ** sense.log_prior for sense in senses) == pytest.approx(1, abs=1e-6)
    assert wordnet.domains[max(senses, key=lambda sense: sense.log_prior).row] == "noun.animal"


def test_further_stop_aliases_are_no_mentions(wordnet: KnowledgeBase) -> None:
    some = replace(wordnet, **{name: getattr(wordnet, name)[:20_000] for name in (
        "ids", "lemmas", "ranks", "counts", "glosses", "hypernyms", "domains")})
    assert build(some).matches("a dog")
    assert not build(some, stop=("Dog",)).matches("a dog")


def test_known_words_tell_english_from_other_languages_and_noise(index: AliasIndex) -> None:
    assert index.known_share("Two dogs chase a ball on the beach") == 1.0
    assert index.known_share("ragazza seduta") == 0.0
    assert index.known_share("xqzt flurbl dog") == pytest.approx(1 / 3)
    assert index.known_share("2004 !!") == 0.0


def test_a_long_caption_is_read_up_to_its_bound(index: AliasIndex) -> None:
    assert len(index.matches("dog " * 100_000)) == 2_500
