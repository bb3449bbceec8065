"""A day's soak in miniature: mixed load from eight clients on a service in a process of its own, while its root publishes again and
again; its memory is flat, no request is lost, and what is found stays right.

    python -m tests.serve.soak                   # ten minutes
    python -m tests.serve.soak --seconds 20      # shows that it runs
"""

import argparse
import base64
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from PIL import Image

from pipeline.queries.neighbours.catalogue import Catalogue
from tests.benchmarks.load import load
from tests.curations import curated
from tests.serve.conftest import quick_route

SAMPLE = Path(__file__).parents[2] / "pipeline" / "assets" / "sample"
CLIENTS, GROWTH = 8, 1.05
SIZES = (50, 100, 200)
"""Samples of an output shard, in turn: each makes another export, and so another publication."""


def requests(catalogue: Catalogue) -> list[dict[str, Any]]:
    """What the clients ask, in turn."""
    rows = embedded(catalogue)
    captions = catalogue.columns.read(catalogue.plan.shards[0].shard_id, ["caption"])["caption"].to_pylist()
    texts = [text for text in captions if text and text.strip()][:40]
    picture = base64.b64encode(picture_bytes()).decode()
    asked: list[dict[str, Any]] = []
    for place, text in enumerate(texts):
        uid = rows[place % len(rows)]
        asked += [
            {"method": "POST", "path": "/search", "body": json.dumps({"text": text[:200], "k": 20})},
            {"method": "POST", "path": "/search", "body": json.dumps({"uid": uid, "k": 20, "where": {"width": {"min": 100}}})},
            {"method": "GET", "path": f"/image/{uid}"},
            {"method": "GET", "path": f"/thumb/{uid}?size=128"},
            {"method": "GET", "path": f"/explain/{uid}"},
            {"method": "GET", "path": f"/samples?limit=20&offset={place * 7}"},
            {"method": "GET", "path": "/classes?limit=10"},
            {"method": "POST", "path": "/knn-service", "body": json.dumps({
                "text": text[:200], "modality": "image", "num_images": 10, "indice_name": "root", "deduplicate": True})},
            {"method": "POST", "path": "/search", "body": json.dumps({"image": picture, "k": 5})},
        ]
    return asked


def picture_bytes() -> bytes:
    """A small JPEG."""
    file = io.BytesIO()
    Image.new("RGB", (200, 100), (200, 30, 30)).save(file, "JPEG")
    return file.getvalue()


def embedded(catalogue: Catalogue) -> list[str]:
    """uids of samples of the first shard that have an embedding."""
    columns = catalogue.columns.read(catalogue.plan.shards[0].shard_id, ["uid", "image_embedding_valid"])
    return [uid for uid, valid in zip(*(column.to_pylist() for column in columns.values()), strict=True) if valid]


def resident(process: int) -> float:
    """MB."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def finds_itself(port: int, uid: str) -> bool:
    """Whether a sample is the nearest to itself."""
    body = json.dumps({"uid": uid, "k": 1, "verdict": "any"}).encode()
    with urlopen(Request(f"http://127.0.0.1:{port}/search", body, {"Content-Type": "application/json"})) as answer:
        return bool(json.load(answer)["hits"][0]["uid"] == uid)


def soak(root: Path, seconds: float) -> int:
    """Faults that were found, said as they are."""
    command = [sys.executable, "-m", "tests.serve.soak", "--serve", str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        port = int(child.stdout.readline())
        catalogue = Catalogue.open(str(root))
        asked = requests(catalogue)
        load(port, CLIENTS, seconds / 4, asked)   # until everything is loaded and its caches are full
        before, stop, publications = resident(child.pid), threading.Event(), 0

        def publish() -> None:
            nonlocal publications
            while not stop.wait(max(5.0, seconds / 20)):
                curated(root, [], (f"export.shard_size={SIZES[publications % len(SIZES)]}",))
                publications += 1

        publisher = threading.Thread(target=publish)
        publisher.start()
        seen = load(port, CLIENTS, seconds, asked)
        stop.set()
        publisher.join()
        time.sleep(5)
        after = resident(child.pid)
        right = sum(finds_itself(port, uid) for uid in embedded(catalogue)[:10])
        child.stdin.close()
    print(f"{seen.rate:.1f} answers a second, p50 {seen.p50:.0f} ms, p99 {seen.p99:.0f} ms, {publications} publications, "
          f"failures {seen.failures}, memory {before:.0f} -> {after:.0f} MB, {right} of 10 found themselves")
    return bool(seen.failures) + (after > before * GROWTH) + (right < 10)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--root", type=Path, help="a root of the bundled sample that may be changed; default: one is made")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        from pipeline.serve.settings import Settings
        from tests.serve.running import running

        with running([f"root={given.serve}"], Settings(route=quick_route(), watch_seconds=0.5)) as server:
            print(server.port, flush=True)
            sys.stdin.read()
        return 0
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        root = given.root
        if root is None:
            curated(root := Path(folder) / "root", [SAMPLE])
        return soak(root, given.seconds)


if __name__ == "__main__":
    sys.exit(main())
