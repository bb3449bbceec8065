"""clip-retrieval's own ClipClient against a service over a root: `python -m tests.readers.clip_client ROOT`, in a process that has
clip-retrieval (its client alone: the package's `__init__` wants its server's libraries). Prints what it found, as JSON; `samples`
is how many of the answers are those of the typed API.
"""

import base64
import importlib.util
import json
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

from pipeline.serve.settings import Settings
from tests.serve.running import Running, running

PACKAGE = "clip_retrieval"
TEXTS = ("a dog on grass", "a red car", "food on a plate", "a map", "a woman smiling")


def client_class() -> Any:
    """ClipClient, without the rest of its package."""
    found = importlib.util.find_spec(PACKAGE)
    assert found is not None
    package = types.ModuleType(PACKAGE)
    package.__path__ = list(found.submodule_search_locations or ())
    sys.modules[PACKAGE] = package
    return importlib.import_module(f"{PACKAGE}.clip_client").ClipClient


def asked(served: Running, client: Any) -> int:
    """How many of its answers are right: texts, a picture in a file, and a vector."""
    right = 0
    for text in TEXTS:
        typed = [hit["uid"] for hit in served.post("/search", {"text": text, "k": 40}).json["hits"]]
        rows = client.query(text=text)
        uids = [row["uid"] for row in rows]
        right += bool(uids) and uids[0] == typed[0] and uids == [uid for uid in typed if uid in uids]
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        file.write(base64.b64decode(rows[0]["image"]))
        file.flush()
        right += client.query(image=file.name)[0]["uid"] == rows[0]["uid"]
    [root] = served.roots.all()
    vectors = root.catalogue.columns.vectors(rows[0]["shard_id"], "image_embedding")
    right += client.query(embedding_input=vectors[rows[0]["row"]].astype(float).tolist())[0]["uid"] == rows[0]["uid"]
    return right


def main() -> None:
    with running([f"demo={sys.argv[1]}"], Settings()) as served:
        client = client_class()(url=f"{served.url}/knn-service", indice_name="demo")
        print(json.dumps({"samples": asked(served, client), "of": len(TEXTS) + 2}))


if __name__ == "__main__":
    assert Path(sys.argv[1]).is_dir()
    main()
