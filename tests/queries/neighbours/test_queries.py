"""`shardmill query`: by text, picture, sample, class and entity, what it prints, saves and refuses."""

import json
import re
import tarfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.api import shardmill
from pipeline.errors import InputError
from pipeline.queries.neighbours.catalogue import Catalogue
from pipeline.queries.neighbours.query import Query
from schemas.answers.neighbours import Hit
from tests.answers import checked
from tests.archives import member_bytes
from tests.queries.neighbours.conftest import Stored
from tests.roots import asked


def answer(root: Path, *options: str) -> dict[str, Any]:
    said: dict[str, Any] = checked("query", asked("query", str(root), *options, "--json").stdout)
    return said


def test_captions_find_their_own_picture_as_often_as_their_stored_vectors_say(demo: Catalogue, stored: Stored) -> None:
    """Real scores of the bundled model: exact search finds what a product of all with all finds, captions encoded anew."""
    kept = np.flatnonzero([verdict == "kept" for verdict in stored.verdicts])[::8]
    captions = [hit.caption or "" for hit in demo.samples([
        (demo.plan.shards[id >> 32].shard_id, int(id & 0xFFFFFFFF)) for id in stored.ids[kept]])]
    vectors = demo.encode_text(captions)
    found = demo.nearest(vectors, 10)
    own = (found.ids == stored.ids[kept][:, None]).any(axis=1).mean()
    among = [verdict == "kept" for verdict in stored.verdicts]
    products = np.where(among, vectors @ stored.vectors.T, -1)
    by_hand = (np.argsort(-products, axis=1)[:, :10] == kept[:, None]).any(axis=1).mean()
    assert abs(own - by_hand) <= 0.01
    assert own > 0.25   # 10 of 576 by chance are 0.017


def test_a_picture_finds_its_sample_and_so_does_its_uid(demo: Catalogue, sample_folder: Path, tmp_path: Path) -> None:
    sample = next(hit for hit in demo.search(demo.vector(Query(class_id=0))[None], 5)[0])
    shard = next(shard for shard in demo.plan.shards if shard.shard_id == sample.shard_id)
    with tarfile.open(sample_folder / shard.relative) as archive:
        picture = tmp_path / "picture.jpg"
        picture.write_bytes(member_bytes(archive, f"{sample.key}.jpg"))
    root = demo.plan.root.url
    by_picture, by_uid = (answer(Path(root), *options, "-k", "3") for options in (
        ("--image", str(picture)), ("--uid", sample.uid)))
    assert by_picture["hits"][0]["uid"] == by_uid["hits"][0]["uid"] == sample.uid
    assert by_picture["hits"][0]["similarity"] > 0.999
    assert by_uid["query"] == f"sample {sample.uid}"


def test_words_are_added_and_taken_away(demo: Catalogue) -> None:
    both, plus, minus = (demo.vector(query) for query in (
        Query(text="a red car", minus_text="red"), Query(text="a red car"), Query(text="red")))
    difference = plus.astype(np.float64) - minus
    np.testing.assert_allclose(both, difference / np.linalg.norm(difference), atol=1e-6)
    together = demo.vector(Query(text="a flag", vector=(2 * minus).tolist()))
    np.testing.assert_allclose(together @ minus, together @ demo.vector(Query(text="a flag")), atol=1e-6)   # halfway


def test_a_hit_says_what_the_root_knows_of_it(demo: Catalogue) -> None:
    hit = answer(Path(demo.plan.root.url), "--text", "a flag", "-k", "1", "--verdict", "any")["hits"][0]
    names = ["uid", "key", "caption", "verdict", "clip_similarity", "width", "height", "language", "class_id", "class_name"]
    [row] = shardmill.open(demo.plan.root.url).samples(names, where={"uid": hit["uid"]}).head(1).to_pylist()
    assert {name: hit[name] for name in names} == {**row, "clip_similarity": pytest.approx(row["clip_similarity"])}


def test_what_was_thrown_away_can_be_looked_at(demo: Catalogue) -> None:
    hits = answer(Path(demo.plan.root.url), "--entity", "n03354903", "--verdict", "rejected:clip_similarity", "--modality", "text")
    assert {hit["verdict"] for hit in hits["hits"]} == {"rejected:clip_similarity"}
    assert len(hits["hits"]) == 10
    assert hits["exact"]


def test_a_condition_in_sql_leaves_what_it_holds_for(demo: Catalogue) -> None:
    condition = "width > height AND language = 'en' -- wide"
    hits = answer(Path(demo.plan.root.url), "--class", "3", "-k", "500", "--where", condition)["hits"]
    wide = shardmill.open(demo.plan.root.url).samples(["uid", "width", "height"], where={"language": "en", "verdict": "kept"})
    expected = [row["uid"] for row in wide.to_table().to_pylist() if row["width"] > row["height"]]
    assert sorted(hit["uid"] for hit in hits) == sorted(expected)
    assert len(hits) > 100
    assert not answer(Path(demo.plan.root.url), "--class", "3", "--where", "width < 0")["hits"]


def test_the_table_has_a_line_and_a_bar_for_each_hit(demo: Catalogue) -> None:
    lines = asked("query", demo.plan.root.url, "--class", "3", "-k", "4").stdout.splitlines()
    assert lines[0] == "class 3: 4 nearest pictures of kept samples, every one was compared"
    hits = [re.fullmatch(r" +(\d+) +(0\.\d{3}) (█[█▏▎▍▌▋▊▉ ]{11})  ([0-9a-f]{32})  (.+)", line) for line in lines[1:]]
    assert [hit and int(hit[1]) for hit in hits] == [1, 2, 3, 4]
    assert hits[0] is not None
    assert hits[0][3] == "█" * 12


def test_a_subset_is_a_table_or_the_uids_in_the_form_of_datacomp(demo: Catalogue, tmp_path: Path) -> None:
    root, table, subset = Path(demo.plan.root.url), tmp_path / "hits.parquet", tmp_path / "hits.npy"
    hits = answer(root, "--class", "3", "-k", "30", "--save", str(table))["hits"]
    assert answer(root, "--class", "3", "-k", "30", "--save", str(subset))["hits"] == hits
    rows = pq.read_table(table).to_pylist()
    assert [row["uid"] for row in rows] == [hit["uid"] for hit in hits]
    assert rows[0] == {**hits[0], "similarity": pytest.approx(hits[0]["similarity"]),
                       "clip_similarity": pytest.approx(hits[0]["clip_similarity"])}
    uids = np.load(subset, allow_pickle=False)
    assert uids.dtype == np.dtype("u8,u8")
    assert [f"{high:016x}{low:016x}" for high, low in uids.tolist()] == sorted(hit["uid"] for hit in hits)
    assert {path.name for path in tmp_path.iterdir()} == {"hits.parquet", "hits.npy"}


class Page(HTMLParser):
    """Tags, and where pictures and links lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.said: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def test_the_page_has_the_pictures_in_it_and_nothing_of_captions_but_text(demo: Catalogue) -> None:
    from pipeline.queries.neighbours.asked import Scope, query_hits
    from pipeline.report.hits_page import hits_page

    found = query_hits(demo, "root", Query(class_id=3), Scope(k=6))
    hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u202e"

    def page_of(words: str) -> Page:
        hits = tuple(Hit(**{**dict(hit), "caption": words, "class_name": words, "entity_names": (words,)}) for hit in found.hits)
        return Page(hits_page(demo.plan, found.model_copy(update={"query": words, "root": words, "hits": hits})))

    page, harmed = page_of("words"), page_of(hostile)
    assert harmed.tags == page.tags
    assert page.tags.count("img") == 6
    assert all(link.startswith("data:image/jpeg;base64,") for link in [*page.links, *harmed.links])
    assert "script" not in page.tags
    assert "\u202e" not in "".join(harmed.said)
    assert "default-src 'none'" in hits_page(demo.plan, found)


@pytest.mark.parametrize(("options", "message"), [
    ([], "nothing is asked for: give a text, a picture"),
    (["--minus-text", "red"], "nothing is asked for"),
    (["--text", "  "], "the text is empty"),
    (["--text", "a" * 10_001], "the text has 10,001 characters: at most 10,000"),
    (["--text", "red", "--minus-text", "red"], "comes to nothing"),
    (["--class", "999"], "has no class 999; `shardmill classes"),
    (["--entity", "dog"], "2 entities of .* are named 'dog': give the id of one: n02084071 \\(a member"),
    (["--entity", "kyrgyzstann"], "mentions an entity 'kyrgyzstann'; did you mean"),
    (["--uid", "ffffffffffffffffffffffffffffffff"], "has no sample 'f{32}': name it by"),
    (["--text", "a", "-k", "0"], "k is 0: ask for 1 to 100,000"),
    (["--text", "a", "-k", "1000000000"], "k is 1,000,000,000: ask for 1 to 100,000"),
    (["--text", "a", "--modality", "sound"], "--modality sound: choose image or text"),
    (["--text", "a", "--verdict", "rejected:tony"], "has no verdict 'rejected:tony'; did you mean"),
    (["--text", "a", "--where", "wdth > 3"], "the condition.*wdth"),
    (["--text", "a", "--where", "1) OR (1"], "the condition"),
    (["--text", "a", "--save", "hits.csv"], "hits.csv: the name of the file says what it holds"),
    (["--text", "a", "--html", "hits.pdf"], "end it with .html"),
    (["--image", "/nowhere/a.jpg"], "/nowhere/a.jpg cannot be read: No such file"),
    (["--image", __file__], "the picture cannot be read: it is no image"),
])
def test_what_cannot_be_asked_is_said_in_one_line(demo: Catalogue, options: list[str], message: str) -> None:
    said = asked("query", demo.plan.root.url, *options, check=2)
    assert re.search(message, said.stderr), said.stderr
    assert "Traceback" not in said.stderr


def test_a_sample_that_failed_has_nothing_that_is_near(demo: Catalogue, stored: Stored) -> None:
    failed = stored.ids[[verdict.startswith("failed:") for verdict in stored.verdicts]][0]
    name = f"{demo.plan.shards[failed >> 32].shard_id}:{failed & 0xFFFFFFFF}"
    said = asked("query", demo.plan.root.url, "--uid", name, check=2)
    assert f"sample {name} has no embedding, for it failed before: `shardmill explain" in said.stderr


def test_a_root_without_classes_or_embeddings_says_so(tmp_path: Path, demo: Catalogue) -> None:
    started = tmp_path / "started"
    started.mkdir()
    for name in ("run.json", "inputs.parquet"):
        (started / name).write_bytes((Path(demo.plan.root.url) / name).read_bytes())
    for options in (["--text", "a"], ["--class", "1"], ["--entity", "flag"], ["--uid", "00001-f462fd6e:1"]):
        said = asked("query", str(started), *options, check=2)
        assert "run its command again" in said.stderr
    assert "is not an output root" in asked("query", str(tmp_path), "--text", "a", check=2).stderr


def test_another_model_than_the_run_s_is_refused(demo: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.models.clip import Encoder
    from pipeline.queries.neighbours.encoder import QueryEncoder

    monkeypatch.setattr(Encoder, "encode_texts", lambda self, texts: np.eye(1, demo.dimension, 1, np.float32))
    with pytest.raises(InputError, match=r"gives other vectors here than .* its weights are others now"):
        QueryEncoder(demo.plan).open()


def test_json_and_the_class_agree(demo: Catalogue) -> None:
    said = json.loads(asked("query", demo.plan.root.url, "--class", "3", "-k", "2", "--json").stdout)
    hits = demo.search(demo.vector(Query(class_id=3))[None], 2)[0]
    assert [hit.as_json() for hit in hits] == said["hits"]
