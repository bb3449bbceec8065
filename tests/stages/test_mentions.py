import importlib.util
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.entities import recogniser as names
from pipeline.errors import RecipeError
from pipeline.stage import checked
from pipeline.stages.mentions import MentionsStage
from schemas.tables import KNOWLEDGE_BASE
from tests.samples import batch, labelled


def columns(stage: MentionsStage, texts: Sequence[str | None]) -> list[dict[str, Any]]:
    rows = batch(caption_text=pa.array(texts, pa.string()))
    with stage.open() as transform:
        return checked(stage, rows, transform(rows)).to_pylist()


def base(path: Path, name: str = "ibex") -> str:
    row = {"id": "Q1", "lemmas": [name], "sense_rank": [1], "sense_count": [1], "gloss": "a wild goat", "hypernyms": [],
           "domain": "noun.animal", "is_instance": False}
    pq.write_table(pa.Table.from_pylist([row], schema=KNOWLEDGE_BASE), path)
    return str(path)


def test_mentions_carry_their_words_their_alias_and_their_place(tmp_path: Path) -> None:
    row, = columns(MentionsStage(base(tmp_path / "b.parquet")), ["Zwo Ibexes, an ibex"])
    assert row["mentions"] == [
        {"text": "Ibexes", "alias": "ibex", "start": 4, "end": 10, "source": "aliases"},
        {"text": "ibex", "alias": "ibex", "start": 15, "end": 19, "source": "aliases"},
    ]
    assert row["known_words"] == 0.75
    assert row["mentions_error"] is None


def test_no_caption_gives_nulls_and_no_mention_an_empty_list(tmp_path: Path) -> None:
    missing, empty, none = columns(MentionsStage(base(tmp_path / "b.parquet")), [None, "", "qwx"])
    assert (missing["mentions"], missing["known_words"]) == (None, None)
    assert (empty["mentions"], none["mentions"], none["known_words"]) == ([], [], 0.0)


def test_identity_follows_the_content_of_the_knowledge_base_and_the_names(tmp_path: Path) -> None:
    first, same = base(tmp_path / "a.parquet"), base(tmp_path / "copy.parquet")
    other = base(tmp_path / "other.parquet", "goat")
    assert MentionsStage(first).identity == MentionsStage(same).identity
    assert MentionsStage(first).identity != MentionsStage(other).identity
    assert MentionsStage(first).identity != MentionsStage(first, stop=("ibex",)).identity
    assert pickle.loads(pickle.dumps(MentionsStage(first))) == MentionsStage(first)


def test_known_words_spare_the_clean_captions_of_the_sample() -> None:
    rows = columns(MentionsStage(), labelled("clean"))
    assert sum(row["known_words"] >= 0.5 for row in rows) / len(rows) >= 0.9
    assert sum(bool(row["mentions"]) for row in rows) / len(rows) >= 0.75


def test_names_fill_the_gaps_between_aliases(tmp_path: Path) -> None:
    text = "Angela Merkel feeds an ibex in Zermatt"
    row, = columns(MentionsStage(base(tmp_path / "b.parquet"), ner=True), [text])
    found = [(mention["text"], mention["alias"], mention["source"]) for mention in row["mentions"]]
    assert ("Angela Merkel", "angela merkel", "ner") in found
    assert ("ibex", "ibex", "aliases") in found
    assert [m["start"] for m in row["mentions"]] == sorted(m["start"] for m in row["mentions"])
    assert all(text[m["start"] : m["end"]] == m["text"] for m in row["mentions"])


def test_names_never_overlap_aliases(tmp_path: Path) -> None:
    row, = columns(MentionsStage(base(tmp_path / "b.parquet", "Angela"), ner=True), ["Angela Merkel in Berlin"])
    assert [mention["text"] for mention in row["mentions"] if mention["start"] < 13] == ["Angela"]


def test_names_are_part_of_the_identity(tmp_path: Path) -> None:
    path = base(tmp_path / "b.parquet")
    assert MentionsStage(path, ner=True).identity != MentionsStage(path).identity


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    assert not names.available()
    with pytest.raises(RecipeError, match=r"pip install 'shardmill\[ner\]'"):
        MentionsStage(ner=True).identity  # noqa: B018
