"""What the service answers, held against the root itself; and that it goes on while the root changes."""

import base64
import io
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.sparse.csgraph import connected_components

from pipeline.api import shardmill
from pipeline.queries.neighbours.catalogue import Catalogue
from pipeline.serve.roots.results import representatives
from pipeline.serve.settings import Settings
from pipeline.vectors import unit
from schemas.answers.neighbours import Hit
from schemas.answers.serving import EntityPage
from tests.curations import curated
from tests.serve.running import Running, running


@pytest.fixture(scope="module")
def root(demo_root: Path) -> shardmill.Root:
    return shardmill.open(str(demo_root))


@pytest.fixture(scope="module")
def kept(root: shardmill.Root) -> list[dict[str, Any]]:
    """The kept samples, with their vectors."""
    columns = ["uid", "shard_id", "row", "caption", "clip_similarity", "class_id", "language", "image_embedding"]
    return root.samples(columns, where={"verdict": "kept"}).to_table().to_pylist()


def by_hand(kept: list[dict[str, Any]], query: Any, k: int) -> list[str]:
    """uids of the nearest kept samples, by one product."""
    vectors = unit(np.array([sample["image_embedding"] for sample in kept]))
    return [kept[place]["uid"] for place in np.argsort(-(vectors @ query), kind="stable")[:k]]


def test_texts_samples_classes_and_vectors_find_what_the_root_has_nearest(
    served: Running, kept: list[dict[str, Any]], demo_root: Path
) -> None:
    catalogue = Catalogue.open(str(demo_root), served.roots.settings.route)
    query = catalogue.encode_text(["a dog on grass"])[0]
    said = served.post("/search", {"text": "a dog on grass", "k": 10}).json
    assert [hit["uid"] for hit in said["hits"]] == by_hand(kept, query, 10)
    assert said["exact"] is True
    for hit in said["hits"]:
        Hit.model_validate(hit)
    one = kept[7]
    vector = unit(np.array([one["image_embedding"]]))[0]
    expected = by_hand(kept, vector, 5)
    for asked in ({"uid": one["uid"]}, {"uid": f"{one['shard_id']}:{one['row']}"}, {"vector": vector.tolist()}):
        found = served.post("/search", {**asked, "k": 5}).json["hits"]
        assert [hit["uid"] for hit in found] == expected
        assert found[0]["similarity"] == pytest.approx(1.0, abs=1e-3)
    picture = base64.b64encode(served.get(f"/image/{one['uid']}").content).decode()
    assert served.post("/search", {"image": picture, "k": 1}).json["hits"][0]["uid"] == one["uid"]
    of_class = served.post("/search", {"class_id": one["class_id"], "k": 1, "where": {"language": ["en", "de"]}}).json["hits"]
    assert of_class[0]["language"] in ("en", "de")
    less = served.post("/search", {"text": "a dog on grass", "minus_text": "grass", "k": 10}).json["hits"]
    assert [hit["uid"] for hit in less] != [hit["uid"] for hit in said["hits"]]


def test_queries_that_come_together_are_asked_together_and_get_their_own_answers(
    served: Running, kept: list[dict[str, Any]]
) -> None:
    answers: dict[int, list[str]] = {}

    def ask(place: int) -> None:
        vector = [float(value) for value in kept[place]["image_embedding"]]
        answers[place] = [hit["uid"] for hit in served.post("/search", {"vector": vector, "k": 3 + place % 2}).json["hits"]]

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place in range(16):
        vector = unit(np.array([kept[place]["image_embedding"]]))[0]
        assert answers[place] == by_hand(kept, vector, 3 + place % 2)
    lines = served.get("/metrics").content.decode().splitlines()
    sizes = {line.split('le="')[1].split('"')[0]: float(line.rpartition(" ")[2]) for line in lines
             if line.startswith('shardmill_batch_queries_bucket{le=') and 'of="search"' in line}
    assert sizes["+Inf"] > sizes["1.0"]   # some batch had more than one


def test_a_verdict_and_bounds_say_among_which_samples(served: Running, root: shardmill.Root) -> None:
    rejected = served.post("/search", {"text": "a dog", "k": 20, "verdict": "rejected:clip_similarity"}).json["hits"]
    assert {hit["verdict"] for hit in rejected} == {"rejected:clip_similarity"}
    bound = {"clip_similarity": {"min": 0.3}, "width": {"max": 200}}
    found = served.post("/search", {"text": "a dog", "k": 50, "where": bound}).json["hits"]
    assert found
    assert all(hit["clip_similarity"] >= 0.3 and hit["width"] <= 200 for hit in found)
    page = served.get(f"/samples?limit=1000&where={quote(json.dumps({**bound, 'verdict': 'kept'}))}").json
    assert {hit["uid"] for hit in found} <= {sample["uid"] for sample in page["samples"]}
    everything = root.samples(["uid"]).to_table()["uid"].to_pylist()
    listed, offset = list[str](), 0
    while offset >= 0:
        page = served.get(f"/samples?limit=300&offset={offset}").json
        assert page["total"] == len(everything)
        listed += [sample["uid"] for sample in page["samples"]]
        offset = page.get("next", -1)
    assert listed == everything
    kept = served.get("/samples?limit=5&verdict=kept").json
    assert kept["total"] == root.ledger.kept
    assert len(kept["samples"]) == 5
    assert kept["next"] > 4


def test_pictures_come_as_they_lie_in_their_shards_and_as_thumbnails(served: Running, root: shardmill.Root) -> None:
    samples = root.samples(["uid", "shard_id", "row", "image_error"]).to_table().to_pylist()
    some = [sample for sample in samples if sample["image_error"] is None][:40:13]
    for sample in some:
        stored = root.image((sample["shard_id"], sample["row"]))
        for name in (sample["uid"], f"{sample['shard_id']}:{sample['row']}"):
            said = served.get(f"/image/{name}")
            assert said.content == stored
            assert said.headers["content-type"].startswith("image/")
            assert "sandbox" in said.headers["content-security-policy"]
        again = served.get(f"/image/{sample['uid']}", If_None_Match=said.headers["etag"])
        assert (again.status, again.content) == (304, b"")
        for size in (50, 128):
            thumb = Image.open(io.BytesIO(served.get(f"/thumb/{sample['uid']}?size={size}").content))
            assert thumb.format == "JPEG"
            assert max(thumb.size) == (64 if size == 50 else 128)
    damaged = next(sample for sample in samples if sample["image_error"] == "image_not_an_image")
    said = served.get(f"/image/{damaged['shard_id']}:{damaged['row']}")
    assert (said.headers["content-type"], said.headers["x-content-type-options"]) == ("application/octet-stream", "nosniff")
    assert served.get(f"/thumb/{damaged['shard_id']}:{damaged['row']}").code == "no_picture"


def test_what_is_known_of_a_root_is_what_the_commands_say(served: Running, root: shardmill.Root) -> None:
    [facts] = [facts for facts in served.get("/roots").json["roots"] if facts["name"] == "demo"]
    assert (facts["samples"], facts["kept"]) == (root.ledger.read, root.ledger.kept)
    assert facts["verdicts"] == root.ledger.verdicts
    names = {column["name"] for column in facts["columns"]}
    assert {"clip_similarity", "verdict", "class_id"} <= names
    assert "image_embedding" not in names
    uid = root.samples(["uid"]).head(1)["uid"][0].as_py()
    assert served.get(f"/explain/{uid}").json == [entry.as_json() for entry in root.explain(uid)]
    classes = served.get("/classes?limit=1000").json
    assert [row["class_id"] for row in classes["classes"]] == [row.class_id for row in root.classes()]
    assert classes["total"] == facts["classes"]
    first = classes["classes"][0]
    assert first["exemplars"][0]["uid"] == served.get(
        f"/explain/{first['exemplars'][0]['shard_id']}:{first['exemplars'][0]['row']}").json[0]["uid"]
    word = first["name"].split()[0]
    assert first["class_id"] in [row["class_id"] for row in served.get(f"/classes?q={quote(word.upper())}").json["classes"]]
    entities = served.get("/entities?limit=3").json["entities"]
    assert len(entities) == 3
    assert entities[0]["count"] >= entities[1]["count"]
    assert served.get(f"/entities?q={quote(entities[0]['name'])}").json["entities"][0] == entities[0]
    assert served.post("/search", {"entity": entities[0]["id"], "k": 1}).status == 200


def test_a_selection_is_a_table_datacomp_s_subset_or_a_list(served: Running, root: shardmill.Root) -> None:
    uids = root.samples(["uid"], where={"verdict": "kept"}).head(5)["uid"].to_pylist()
    said = served.post("/selection", {"uids": [*uids, uids[0]], "format": "txt"})
    assert said.content.decode().split() == uids
    assert said.headers["content-disposition"] == 'attachment; filename="selection.txt"'
    array = np.load(io.BytesIO(served.post("/selection", {"uids": uids, "format": "npy"}).content), allow_pickle=False)
    assert array.dtype == np.dtype("u8,u8")
    assert [f"{high:016x}{low:016x}" for high, low in array.tolist()] == sorted(uids)
    table = pq.read_table(io.BytesIO(served.post("/selection", {"uids": uids, "format": "parquet"}).content))
    assert table["uid"].to_pylist() == uids
    assert table["verdict"].to_pylist() == ["kept"] * 5


RECORDED = {
    "text": "a dog", "image": None, "image_url": None, "embedding_input": None, "deduplicate": True, "use_safety_model": True,
    "use_violence_detector": True, "indice_name": "demo", "use_mclip": False, "aesthetic_score": 9, "aesthetic_weight": 0.5,
    "modality": "image", "num_images": 40, "num_result_ids": 40,
}
"""The body that ClipClient 2.45.0 sends for query(text="a dog"), its settings those it has by itself."""


def recorded(served: Running, **fields: Any) -> Any:
    """As ClipClient sends it: no content type, and requests' other headers."""
    body = json.dumps({**RECORDED, **fields}).encode()
    said = served.ask("POST", "/knn-service", body, User_Agent="python-requests/2.34.2", Accept="*/*", Connection="keep-alive",
                      Accept_Encoding="gzip, deflate")
    assert said.status == 200, said
    return said.json


def test_the_recorded_requests_of_clip_client_get_right_answers(served: Running, root: shardmill.Root) -> None:
    rows = recorded(served)
    typed = {hit["uid"]: hit for hit in served.post("/search", {"text": "a dog", "k": 40}).json["hits"]}
    assert 30 < len(rows) <= 40
    assert {row["uid"] for row in rows} <= typed.keys()
    assert rows[0]["uid"] == next(iter(typed))
    for row in rows:
        assert isinstance(row["id"], int)
        assert row["similarity"] == pytest.approx(typed[row["uid"]]["similarity"])
        assert row["caption"] == typed[row["uid"]]["caption"]
        assert row["url"].startswith("http")
    Image.open(io.BytesIO(base64.b64decode(rows[0]["image"]))).verify()
    more = recorded(served, num_images=2, num_result_ids=5, deduplicate=False)
    assert [sorted(row) == ["id", "similarity"] for row in more] == [False, False, True, True, True]
    ids = [row["id"] for row in more]
    known = served.ask("POST", "/metadata", json.dumps({"ids": ids, "indice_name": "demo"}).encode()).json
    assert [entry["id"] for entry in known] == ids
    assert known[0]["metadata"]["caption"] == more[0]["caption"]
    image = base64.b64encode(root.image(f"{rows[3]['shard_id']}:{rows[3]['row']}")).decode()
    assert recorded(served, text=None, image=image, num_images=1, num_result_ids=1)[0]["uid"] == rows[3]["uid"]
    vector = unit(np.asarray(root.samples(["image_embedding"], where={"uid": rows[3]["uid"]}).embeddings()[:1]))[0].tolist()
    assert recorded(served, text=None, embedding_input=vector)[0]["uid"] == rows[3]["uid"]
    assert served.get("/indices-list").json[0] == "demo"


def test_near_duplicates_of_an_answer_are_left_out_by_connected_components(served: Running, kept: list[dict[str, Any]]) -> None:
    vectors = unit(np.array([sample["image_embedding"] for sample in kept]))
    groups, _ = connected_components(vectors @ vectors.T > 0.94)
    assert 1 < groups < len(kept)
    wanted = {"num_images": 1, "num_result_ids": len(kept)}
    assert len(recorded(served, **wanted, deduplicate=False)) == len(kept)
    rows = recorded(served, **wanted)
    assert len(rows) == groups
    assert [row["similarity"] for row in rows] == sorted((row["similarity"] for row in rows), reverse=True)
    chain = unit(np.array([[1, 0], [0.96, 0.28], [0.843, 0.538], [0, 1]]))   # the first and the third are like the second alone
    assert representatives(chain).tolist() == [0, 3]


def test_what_the_wire_api_cannot_do_is_said_in_a_header(served: Running) -> None:
    said = served.ask("POST", "/knn-service", json.dumps(RECORDED).encode())
    assert said.headers["x-shardmill-ignored"] == "use_safety_model, use_violence_detector, aesthetic_score"
    plain = {"text": "a dog", "modality": "image", "num_images": "2", "indice_name": "demo"}
    assert "x-shardmill-ignored" not in served.ask("POST", "/knn-service", json.dumps(plain).encode()).headers


def test_a_picture_and_its_sample_get_the_same_words(served: Running, kept: list[dict[str, Any]]) -> None:
    names = served.post("/name", {"uid": kept[7]["uid"]}).json["names"]
    assert names
    assert [name["score"] for name in names] == sorted((name["score"] for name in names), reverse=True)
    picture = base64.b64encode(served.get(f"/image/{kept[7]['uid']}").content).decode()
    assert served.post("/name", {"image": picture}).json["names"][0]["name"] == names[0]["name"]


def test_captions_and_queries_of_script_stay_data(served: Running) -> None:
    script = "<script>alert(1)</script>"
    for said in (served.post("/search", {"text": script, "k": 1}), served.post("/search", {"text": script, "root": script}),
                 served.get(f"/samples?where={quote(script)}"), served.get(f"/{quote(script)}"), served.get("/docs"),
                 served.get("/openapi.json"), served.get("/metrics")):
        assert "html" not in said.headers["content-type"]
        assert said.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in said.headers["content-security-policy"]
        assert "access-control-allow-origin" not in said.headers
        assert b"<script>" not in said.content


def test_metrics_have_the_names_of_clip_retrieval_s(served: Running) -> None:
    served.ask("POST", "/knn-service", json.dumps(RECORDED).encode())
    said = served.get("/metrics").content.decode()
    for name in ("full_knn_request_time", "text_clip_inference_time", "metadata_get_time", "knn_index_time"):
        assert float(said.split(f"\n{name}_count ")[1].split("\n")[0]) >= 1
    assert 'shardmill_requests_total{route="/knn-service",status="200"}' in said
    assert "full_knn_request_time" in served.get("/metrics-summary").content.decode()


@pytest.fixture(scope="module")
def changing(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A copy of the demo root that a test changes, behind a token, looked at ten times a second, with few requests at once."""
    copy = shutil.copytree(demo_root, tmp_path_factory.mktemp("served") / "copy", symlinks=True)
    settings = Settings(token="a-token-of-some-length", watch_seconds=0.1, requests_at_once=4, seconds=20.0, origins=("https://a.example",),
                        encoder=False)
    with running([str(copy)], settings) as server:
        yield server


TOKEN = "Bearer a-token-of-some-length"


def test_a_token_is_asked_for_where_there_is_one(changing: Running) -> None:
    assert changing.get("/healthz").json["status"] == "ok"
    for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "a-token-of-some-length"},
                  {"Authorization": "Basic a-token-of-some-length"}, {"Authorization": "Bearer "}):
        said = changing.get("/roots", **wrong)
        assert (said.status, said.code, said.headers["www-authenticate"]) == (401, "unauthorized", "Bearer")
    assert changing.get("/metrics").status == 401
    assert changing.get("/roots", Authorization=TOKEN, Host="some.example").status == 200


def test_pages_of_listed_origins_alone_may_read_answers(changing: Running) -> None:
    allowed = changing.get("/roots", Authorization=TOKEN, Origin="https://a.example").headers
    assert allowed["access-control-allow-origin"] == "https://a.example"
    other = changing.get("/roots", Authorization=TOKEN, Origin="https://b.example").headers
    assert "access-control-allow-origin" not in other
    asked = changing.ask("OPTIONS", "/search", Origin="https://a.example", Access_Control_Request_Method="POST",
                         Access_Control_Request_Headers="authorization")
    assert asked.status == 200


def test_a_busy_service_says_when_to_come_again(changing: Running) -> None:
    release, begun = threading.Event(), threading.Semaphore(0)


    listing = changing.roots.all()[0].listing

    def wait(words: str, limit: int) -> EntityPage:
        begun.release()
        release.wait(20)
        return EntityPage(entities=())

    object.__setattr__(listing, "entities", wait)
    threads = [threading.Thread(target=lambda: changing.get("/entities", Authorization=TOKEN)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert begun.acquire(timeout=20)
    refused = changing.get("/roots", Authorization=TOKEN)
    assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "unavailable", "1")
    assert changing.get("/healthz").status == 200
    release.set()
    for thread in threads:
        thread.join()
    object.__delattr__(listing, "entities")
    assert changing.get("/entities", Authorization=TOKEN).status == 200


def test_a_new_publication_is_served_without_a_restart_and_no_request_is_lost(changing: Running) -> None:
    [url] = map(Path, changing.roots.urls.values())
    before = changing.roots.all()[0]
    stop, statuses = threading.Event(), list[int]()

    def ask() -> None:
        while not stop.wait(0.05):
            statuses.append(changing.post("/search", {"class_id": 0, "k": 3}, Authorization=TOKEN).status)

    thread = threading.Thread(target=ask)
    thread.start()
    curated(url, [], ("export.shard_size=50",))
    for _ in range(400):
        if changing.roots.all()[0] is not before:
            break
        stop.wait(0.05)
    asked = len(statuses)
    while len(statuses) < asked + 2 and thread.is_alive():
        stop.wait(0.05)
    stop.set()
    thread.join()
    after = changing.roots.all()[0]
    assert after.catalogue.plan.export != before.catalogue.plan.export
    assert json.loads((url / "current.json").read_text())["export"] == after.catalogue.plan.export
    assert set(statuses) == {200}
    assert b'shardmill_publications_total{root="copy"} 1.0' in changing.get("/metrics", Authorization=TOKEN).content
