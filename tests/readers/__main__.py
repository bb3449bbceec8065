"""`make readers`: one export over everything that the tests have, read by readers that nobody here wrote, and its root served to
clip-retrieval's client. Equal counts and right answers, or exit 1.

What is no dependency of ours is installed into a folder of its own for each reader, and gone afterwards.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.readers.everything import export_everything
from tests.readers.read import READERS

MODEL = Path(__file__).parents[2] / "pipeline" / "assets" / "model"
OLD_WEBDATASET = ("webdataset==0.2.86",)
"""What open_clip's loader needs; it brings wids, too."""
DATASETS = ("datasets==4.*", "dill", "multiprocess", "xxhash")
"""The others that it needs are here already, by open_clip and Ray."""
PACKAGES = {
    "webdataset-0.2.86": OLD_WEBDATASET, "wids": OLD_WEBDATASET, "open_clip": OLD_WEBDATASET,
    "datasets": DATASETS, "datasets-streaming": DATASETS,
    "clip_client": ("clip-retrieval",),
    "orjson": ("orjson",), "simdjson": ("pysimdjson",),
}


def installed(packages: Sequence[str], folder: Path) -> Path:
    """A folder for PYTHONPATH that has these packages alone."""
    site = folder / "+".join(packages).replace("=", "").replace("*", "")
    if packages and not site.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), *packages]
        subprocess.run(command, check=True, timeout=300)
    return site


def said(command: Sequence[str], site: Path, folder: Path) -> dict[str, Any]:
    """The last line of a reader, or the last one of its error."""
    path = os.pathsep.join([str(site), os.getcwd()])
    environment = {**os.environ, "PYTHONPATH": path, "READERS": str(folder), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=600, env=environment, check=False)
    lines = (done.stdout if done.returncode == 0 else done.stderr).splitlines() or [f"exit {done.returncode}"]
    return dict(json.loads(lines[-1])) if done.returncode == 0 else {"samples": None, "error": lines[-1]}


def trainer(shards: Path, kept: int, site: Path, folder: Path) -> dict[str, Any]:
    """open_clip's own training loader."""
    last = sorted(shards.glob("*.tar"))[-1].stem
    urls = f"{shards}/{{000000..{last}}}.tar"
    found = said(["-m", "tests.end_to_end.trainer_loader", urls, str(kept)], site, folder)
    return {"samples": found.get("seen"), **found}


def trained(shards: Path, site: Path, folder: Path) -> bool:
    """A few steps of open_clip's trainer, by the command of docs/using.md. Prints its last word."""
    command = [
        sys.executable, "-m", "open_clip_train.main", "--dataset-type", "webdataset", "--train-data", f"{shards}/000000.tar",
        "--model", f"local-dir:{MODEL}", "--batch-size", "32", "--workers", "1", "--epochs", "1", "--precision", "fp32",
        "--train-num-samples", "64", "--logs", str(folder / "logs")]
    environment = {**os.environ, "PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment, check=False)
    steps = [line for line in done.stderr.splitlines() if "Train Epoch: 0 [64/64" in line]
    print(f"open_clip's trainer  {(steps or done.stderr.splitlines())[-1]}")
    return done.returncode == 0 and bool(steps)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs", nargs="*", help="further inputs")
    further = parser.parse_args().inputs
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        root = export_everything(folder, further)
        kept, shards = root.ledger.kept, (folder / "root" / "shards").resolve()
        print(f"{root.ledger.read} samples read, {kept} kept, failed: {dict(root.ledger.failed)}")
        wrong = 0
        for name in [*READERS, "open_clip"]:
            site = installed(PACKAGES.get(name, ()), folder)
            if name == "open_clip":
                found = trainer(shards, kept, site, folder)
            else:
                found = said(["-m", "tests.readers.read", name, str(shards)], site, folder)
            wrong += found["samples"] != kept
            print(f"{name:<20} {json.dumps(found)}{'' if found['samples'] == kept else '   <-- wrong'}", flush=True)
        wrong += not trained(shards, installed(OLD_WEBDATASET, folder), folder)
        found = said(["-m", "tests.readers.clip_client", str(folder / "root")], installed(PACKAGES["clip_client"], folder), folder)
        wrong += found["samples"] is None or found["samples"] != found["of"]
        print(f"{'ClipClient':<20} {json.dumps(found)}", flush=True)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
