"""What the open web sends: each gets a 4xx that says why, nobody is asked, and the service goes on."""

import base64
import io
import json
import socket
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from pipeline.serve.guards import fetching
from pipeline.serve.guards.fetching import Fetcher, is_public
from pipeline.serve.problems import Refused
from tests.serve.running import Running, Said, connections

SQL = "x'; DROP TABLE samples; --"
UID = "0" * 32


def png(width: int, height: int) -> bytes:
    """A PNG whose header claims this size; a few bytes long."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    chunks = chunk(b"IHDR", size + b"\x08\x02\0\0\0") + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def knn(**fields: Any) -> dict[str, Any]:
    """A request of ClipClient's."""
    return {"text": None, "image": None, "image_url": None, "embedding_input": None, "modality": "image", "num_images": 3,
            "indice_name": "demo", **fields}


SEARCHES: dict[str, tuple[Any, str]] = {
    "nothing": ({}, "bad_request"),
    "two queries": ({"text": "a dog", "uid": UID}, "bad_request"),
    "an empty text": ({"text": ""}, "bad_request"),
    "a blank text": ({"text": "  \n"}, "bad_request"),
    "a text that is a number": ({"text": 7}, "bad_request"),
    "a text that is a list": ({"text": ["a dog"]}, "bad_request"),
    "a text of half a character": (b'{"text": "\\ud800"}', "bad_request"),
    "a long text": ({"text": "a" * 10_001}, "bad_request"),
    "an unknown field": ({"text": "a dog", "sql": SQL}, "bad_request"),
    "an unknown root": ({"text": "a dog", "root": "other"}, "unknown_root"),
    "a path as root": ({"text": "a dog", "root": "../../etc"}, "unknown_root"),
    "SQL as root": ({"text": "a dog", "root": SQL}, "unknown_root"),
    "k = 10^9": ({"text": "a dog", "k": 10**9}, "bad_request"),
    "k above the service's": ({"text": "a dog", "k": 1_001}, "bad_request"),
    "negative k": ({"text": "a dog", "k": -1}, "bad_request"),
    "k = 0": ({"text": "a dog", "k": 0}, "bad_request"),
    "k as text": ({"text": "a dog", "k": "5"}, "bad_request"),
    "k with a fraction": ({"text": "a dog", "k": 2.5}, "bad_request"),
    "k as truth": ({"text": "a dog", "k": True}, "bad_request"),
    "k of a thousand digits": (b'{"text": "a dog", "k": ' + b"9" * 1000 + b"}", "bad_request"),
    "k of ten thousand digits": (b'{"text": "a dog", "k": ' + b"9" * 10_000 + b"}", "bad_request"),
    "a vector of NaN": (b'{"vector": [' + b",".join([b"NaN"] * 256) + b"]}", "bad_request"),
    "a vector of infinity": (b'{"vector": [' + b",".join([b"1e999"] * 256) + b"]}", "bad_request"),
    "a vector beyond float32": ({"vector": [1e39] * 256}, "bad_request"),
    "a vector of zeros": ({"vector": [0.0] * 256}, "bad_request"),
    "a vector of another dimension": ({"vector": [1.0, 2.0]}, "bad_request"),
    "a vector of texts": ({"vector": ["1"] * 256}, "bad_request"),
    "an empty vector": ({"vector": []}, "bad_request"),
    "an endless vector": ({"vector": [1.0] * 70_000}, "bad_request"),
    "no base64": ({"image": "!!! no base64 !!!"}, "bad_request"),
    "base64 of text": ({"image": encoded(b"hello, this is no picture")}, "image_not_an_image"),
    "a data URL without base64": ({"image": "data:image/png,abc"}, "bad_request"),
    "an SVG": ({"image": encoded(b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>")}, "image_format_not_allowed"),
    "a damaged picture": ({"image": encoded(png(8, 8)[:-30])}, "image_undecodable"),
    "a bomb": ({"image": encoded(png(60_000, 60_000))}, "image_too_many_pixels"),
    "a smaller bomb": ({"image": encoded(png(6_000, 6_000))}, "image_too_many_pixels"),
    "a uid that is none": ({"uid": "zz"}, "bad_request"),
    "an unknown uid": ({"uid": UID}, "not_found"),
    "a path as uid": ({"uid": "../../../etc/passwd"}, "bad_request"),
    "a path as shard": ({"uid": "..:0"}, "not_found"),
    "SQL as uid": ({"uid": SQL}, "bad_request"),
    "an unknown class": ({"class_id": 10**6}, "bad_request"),
    "a negative class": ({"class_id": -1}, "bad_request"),
    "SQL as class": ({"class_id": SQL}, "bad_request"),
    "an unknown entity": ({"entity": "Q0"}, "bad_request"),
    "SQL as entity": ({"entity": SQL}, "bad_request"),
    "an unknown modality": ({"text": "a dog", "modality": "sound"}, "bad_request"),
    "an unknown verdict": ({"text": "a dog", "verdict": "liked"}, "bad_request"),
    "SQL as verdict": ({"text": "a dog", "verdict": SQL}, "bad_request"),
    "SQL as where": ({"text": "a dog", "where": "1 = 1"}, "bad_request"),
    "SQL as column": ({"text": "a dog", "where": {SQL: 1}}, "bad_request"),
    "an unknown column": ({"text": "a dog", "where": {"colour": "red"}}, "bad_request"),
    "a bound that does not fit": ({"text": "a dog", "where": {"clip_similarity": "high"}}, "bad_request"),
    "a bound that names a file": ({"text": "a dog", "where": {"uid": {"none_of_file": "/etc/passwd"}}}, "bad_request"),
    "a bound of NaN": (b'{"text": "a dog", "where": {"clip_similarity": {"min": NaN}}}', "bad_request"),
    "a bound of many digits": (b'{"text": "a dog", "where": {"width": {"min": ' + b"9" * 400 + b"}}}", "bad_request"),
    "a bound in bounds": ({"text": "a dog", "where": {"width": {"min": {"min": 1}}}}, "bad_request"),
    "a column of vectors": ({"text": "a dog", "where": {"image_embedding": 1}}, "bad_request"),
    "effort of zero": ({"text": "a dog", "effort": 0}, "bad_request"),
    "what comes to nothing": ({"text": "a dog", "minus_text": "a dog"}, "bad_request"),
    "no JSON": (b"{'text': 'a dog'}", "not_json"),
    "nothing at all": (b"", "bad_request"),
    "a list": ([], "bad_request"),
    "null": (b"null", "bad_request"),
    "deeply nested": (b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "bad_request"),
    "bytes that are no UTF-8": (b'{"text": "\xff\xfe"}', "bad_request"),
}
KNNS: dict[str, tuple[Any, str]] = {
    "no query": (knn(), "bad_request"),
    "no modality": ({"text": "a dog", "num_images": 1, "indice_name": "demo"}, "bad_request"),
    "no number": ({"text": "a dog", "modality": "image", "indice_name": "demo"}, "bad_request"),
    "an unknown index": (knn(text="a dog", indice_name="laion5B"), "unknown_root"),
    "a path as index": (knn(text="a dog", indice_name="../demo"), "unknown_root"),
    "an endless answer": (knn(text="a dog", num_images=10**9), "bad_request"),
    "endless ids": (knn(text="a dog", num_result_ids=10**9), "bad_request"),
    "a negative number": (knn(text="a dog", num_images=-1), "bad_request"),
    "a vector with null": (knn(embedding_input=[None] * 256), "bad_request"),
    "a vector too short": (knn(embedding_input=[1.0]), "bad_request"),
    "an aesthetic score of 99": (knn(text="a dog", aesthetic_score=99), "bad_request"),
    "no base64": (knn(image="***"), "bad_request"),
    "loopback": (knn(image_url="http://127.0.0.1/a.jpg"), "forbidden"),
    "loopback by name": (knn(image_url="http://localhost:8000/a.jpg"), "forbidden"),
    "the cloud's metadata": (knn(image_url="http://169.254.169.254/latest/meta-data/"), "forbidden"),
    "IPv6 loopback": (knn(image_url="http://[::1]/"), "forbidden"),
    "IPv6 around loopback": (knn(image_url="http://[::ffff:127.0.0.1]/"), "forbidden"),
    "IPv6 around metadata": (knn(image_url="http://[::ffff:a9fe:a9fe]/"), "forbidden"),
    "a private network": (knn(image_url="http://10.0.0.1/"), "forbidden"),
    "loopback in one number": (knn(image_url="http://2130706433/"), "forbidden"),
    "a listed host at another port": (knn(image_url="http://pictures.example:22/"), "forbidden"),
    "a listed host as credentials": (knn(image_url="http://pictures.example@127.0.0.1/"), "bad_request"),
    "a host that ends like a listed one": (knn(image_url="http://evilpictures.example/"), "forbidden"),
    "a file": (knn(image_url="file:///etc/passwd"), "bad_request"),
    "a store": (knn(image_url="s3://bucket/a.jpg"), "bad_request"),
    "gopher": (knn(image_url="gopher://pictures.example/"), "bad_request"),
    "a header in a URL": (knn(image_url="http://pictures.example/\r\nHost: evil"), "bad_request"),
}
METADATAS: dict[str, tuple[Any, str]] = {
    "an id of no sample": ({"ids": [(1 << 62) + 1], "indice_name": "demo"}, "not_found"),
    "a negative id": ({"ids": [-1], "indice_name": "demo"}, "bad_request"),
    "an id as text": ({"ids": ["a"], "indice_name": "demo"}, "bad_request"),
    "too many ids": ({"ids": [0] * 10_001, "indice_name": "demo"}, "bad_request"),
    "no ids": ({"indice_name": "demo"}, "bad_request"),
}
SELECTIONS: dict[str, tuple[Any, str]] = {
    "no uids": ({"uids": [], "format": "txt"}, "bad_request"),
    "a uid that is none": ({"uids": ["../x"], "format": "npy"}, "bad_request"),
    "an unknown uid": ({"uids": [UID], "format": "parquet"}, "not_found"),
    "another format": ({"uids": [UID], "format": "exe"}, "bad_request"),
}
PATHS: dict[str, str] = {
    "/nothing": "not_found",
    "//etc/passwd": "not_found",
    "/image/..%2f..%2f..%2fetc%2fpasswd": "not_found",
    "/image/..%2F00000.tar:0": "not_found",
    "/image/%00": "bad_request",
    "/image/C:%5Cboot.ini": "bad_request",
    "/image/%E0%80%AF": "bad_request",
    f"/image/{UID}": "not_found",
    "/image/00000-381bf958:999999": "not_found",
    "/image/00000-381bf958:99999999999999999999": "bad_request",
    "/thumb/00000-381bf958:0?size=0": "bad_request",
    "/thumb/00000-381bf958:0?size=100000": "bad_request",
    "/thumb/00000-381bf958:0?size=big": "bad_request",
    f"/explain/{UID}": "not_found",
    "/explain/%3Cscript%3Ealert(1)": "bad_request",
    "/explain/x?root=%27%20OR%201=1": "bad_request",
    "/samples?offset=-1": "bad_request",
    "/samples?offset=99999999999999999999999": "bad_request",
    "/samples?limit=0": "bad_request",
    "/samples?limit=1000000000": "bad_request",
    "/samples?where=1=1": "bad_request",
    "/samples?where=%7B%22uid%22%3A%7B%22any_of_file%22%3A%22/etc/passwd%22%7D%7D": "bad_request",
    "/samples?where=%5B%5D": "bad_request",
    "/samples?verdict=%27%3B--": "bad_request",
    "/classes?level=99": "ok",
    "/classes?level=-1": "bad_request",
    "/classes?parent=x": "bad_request",
    "/entities?limit=-5": "bad_request",
    f"/entities?q={'a' * 300}": "bad_request",
    "/map?root=nobody": "unknown_root",
    "/roots/../../etc/passwd": "not_found",
}
NAMES: dict[str, tuple[Any, str]] = {
    "nothing": ({}, "bad_request"),
    "both": ({"uid": UID, "image": "AAAA"}, "bad_request"),
    "an unknown uid": ({"uid": UID}, "not_found"),
    "no picture": ({"image": encoded(b"no picture")}, "image_not_an_image"),
}
TABLES = {"/search": SEARCHES, "/name": NAMES, "/knn-service": KNNS, "/metadata": METADATAS, "/selection": SELECTIONS}
POSTS = [pytest.param(path, *case, id=f"{path} {name}") for path, table in TABLES.items() for name, case in table.items()]


def refused(said: Said, code: str, field: Any = ...) -> None:
    """Holds an answer against what every refusal is."""
    assert 400 <= said.status < 500, said
    assert said.headers["content-type"] == "application/json"
    assert said.headers["x-content-type-options"] == "nosniff"
    error = said.json["error"]
    assert error["message"]
    assert len(error["message"]) <= 600
    assert error["code"] == code, error
    assert "/tmp/" not in error["message"]
    assert "Traceback" not in error["message"]


@pytest.fixture(autouse=True)
def nobody_is_asked(served: Running, request: pytest.FixtureRequest) -> Iterator[None]:
    """No case here makes the service connect to anybody, nor look a name up, but for the one whose own host is asked."""
    with connections(served.port) as seen:
        yield
    assert [address for address in seen if "redirect" not in request.node.name] == []


@pytest.mark.parametrize(("path", "body", "code"), POSTS)
def test_a_bad_body_is_refused_with_a_reason(served: Running, path: str, body: Any, code: str) -> None:
    refused(served.post(path, body), code)


@pytest.mark.parametrize(("path", "code"), PATHS.items(), ids=[path[:60] for path in PATHS])
def test_a_bad_path_is_refused_with_a_reason(served: Running, path: str, code: str) -> None:
    said = served.get(path)
    if code == "ok":
        assert said.json == {"classes": [], "total": 0}
        return
    refused(said, code)


def test_a_body_that_is_too_large_is_refused_whether_it_says_so_or_not(served: Running) -> None:
    limit = served.roots.settings.body_bytes
    said = served.ask("POST", "/search", b"", Content_Length=str(limit + 1), Content_Type="application/json")
    refused(said, "too_large")
    refused(served.ask("POST", "/knn-service", (bytes(1 << 20) for _ in range(17))), "too_large")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE"])
def test_other_methods_are_refused(served: Running, method: str) -> None:
    refused(served.ask(method, "/search", b"{}"), "method_not_allowed")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::1", "evil.example:80"])
def test_another_name_than_the_machine_s_own_is_refused(served: Running, host: str) -> None:
    refused(served.get("/roots", Host=host), "wrong_host")


def test_the_service_still_answers_and_counts_no_defect(served: Running) -> None:
    assert served.post("/search", {"text": "a dog", "k": 3}).status == 200
    assert b'status="500"' not in served.get("/metrics").content


FETCHES: dict[str, tuple[list[str], int]] = {
    "loopback": (["127.0.0.1"], 403),
    "metadata": (["169.254.169.254"], 403),
    "one private among public ones": (["93.184.216.34", "10.1.2.3"], 403),
    "IPv6-mapped loopback": (["::ffff:127.0.0.1"], 403),
    "IPv6-mapped metadata": (["::ffff:169.254.169.254"], 403),
    "6to4 of a private one": (["2002:0a00:0001::"], 403),
    "NAT64 of loopback": (["64:ff9b::7f00:1"], 403),
    "unique local": (["fd00::1"], 403),
    "link-local with its zone": (["fe80::1%eth0"], 403),
    "unspecified": (["0.0.0.0"], 403),
    "multicast": (["224.0.0.1"], 403),
    "shared address space": (["100.64.0.1"], 403),
    "no address": ([], 403),
}


@pytest.mark.parametrize(("addresses", "status"), FETCHES.values(), ids=FETCHES)
def test_a_listed_host_whose_address_is_not_public_is_not_asked(addresses: list[str], status: int) -> None:
    fetcher = Fetcher(("pictures.example",), 1 << 20, 1.0, resolve=lambda host, port: addresses)
    with pytest.raises(Refused) as error:
        fetcher.fetch("http://pictures.example/a.jpg")
    assert error.value.status == status


def test_public_addresses_are_public() -> None:
    assert all(map(is_public, ["93.184.216.34", "2606:2800:220:1::", "::ffff:93.184.216.34"]))


class Redirecting(BaseHTTPRequestHandler):
    """A host of pictures that sends who asks elsewhere, sends too much, or sends a picture."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "http://169.254.169.254/latest/meta-data/")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(bytes(2_000 if self.path == "/large" else 10))

    def log_message(self, *said: Any) -> None:
        """Says nothing."""


def test_a_redirect_is_not_followed_and_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch, served: Running) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as host:
        threading.Thread(target=host.serve_forever, daemon=True).start()
        port = host.server_address[1]
        monkeypatch.setitem(fetching.PORTS, "http", port)
        monkeypatch.setattr(fetching, "is_public", lambda address: address == "127.0.0.1")
        fetcher = Fetcher(("pictures.example",), 1_000, 5.0, resolve=lambda host, port: ["127.0.0.1"])
        connect, elsewhere = socket.create_connection, list[Any]()

        def seen(address: Any, *rest: Any) -> socket.socket:
            elsewhere.append(address)
            return connect(address, *rest)

        monkeypatch.setattr(socket, "create_connection", seen)
        for path, status in (("/moved", 400), ("/large", 413)):
            with pytest.raises(Refused) as error:
                fetcher.fetch(f"http://pictures.example{path}")
            assert error.value.status == status
        assert fetcher.fetch("http://pictures.example/fine?a=1") == bytes(10)
        assert elsewhere == [("127.0.0.1", port)] * 3
        assert Redirecting.asked == ["/moved", "/large", "/fine?a=1"]
        host.shutdown()


def test_a_picture_within_the_limits_is_answered(served: Running) -> None:
    file = io.BytesIO()
    Image.fromarray(np.full((40, 60, 3), 128, np.uint8)).save(file, "PNG")
    said = served.post("/search", {"image": f"data:image/png;base64,{encoded(file.getvalue())}", "k": 2})
    assert said.status == 200
    assert len(json.loads(said.content)["hits"]) == 2
