"""Verdicts of the real run against known damage: the planted one, and a second one made here from the clean pairs."""

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from tests.curations import curated
from tests.damage import top_folders, write_damaged

READ = {
    "samples": ["key"], "image": ["image_error"], "clip": ["clip_similarity"],
    "caption": ["caption_characters", "caption_is_filename", "caption_is_boilerplate"],
}
UNREADABLE = {f"failed:image_{why}" for why in ("truncated", "empty", "not_an_image", "undecodable")}


def rows_of(root: Path) -> list[dict[str, Any]]:
    """Every input sample with its verdict, key and columns."""
    found = []
    for path in sorted(root.glob("verdicts@*/*.parquet")):
        row = {"verdict": pq.read_table(path).column("verdict")}
        for stage, names in READ.items():
            (folder,) = root.glob(f"columns/{stage}@*")
            table = pq.read_table(folder / path.name, columns=names)
            row |= {name: table.column(name) for name in names}
        found += pa.table(row).to_pylist()
    return found


@pytest.fixture(scope="module", params=["planted", "seeded"])
def damaged(
    request: pytest.FixtureRequest, demo_root: Path, sample_folder: Path, tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, dict[str, str]]:
    if request.param == "planted":
        truth = {key: pair["label"] for key, pair in json.loads((sample_folder / "ground_truth.json").read_text())["pairs"].items()}
        root = demo_root
    else:
        base = tmp_path_factory.mktemp("damaged")
        truth, root = write_damaged(sample_folder, base / "in", seed=11), base / "out"
        curated(root, [base / "in"])
    return root, truth


@pytest.fixture(scope="module")
def run(damaged: tuple[Path, dict[str, str]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of a run by what was done to them."""
    root, truth = damaged
    rows = defaultdict(list)
    for row in rows_of(root):
        rows[truth[row["key"]]].append(row)
    assert sum(map(len, rows.values())) == len(truth)
    return rows


@pytest.fixture(scope="module")
def threshold(damaged: tuple[Path, dict[str, str]]) -> np.floating:
    (path,) = damaged[0].glob("verdicts@*/thresholds.json")
    return np.float32(json.loads(path.read_text())["thresholds"]["clip_similarity"]["value"])


@pytest.fixture(scope="module")
def against_any_caption(damaged: tuple[Path, dict[str, str]], sample_folder: Path) -> NDArray[np.generic] | None:
    """For the second damage: similarities of each clean image to every caption of a picture from another top folder.

    80 swapped pairs would leave a share uncertain by 11 points; these are all the pairs that swapping could have made. None for
    the planted damage.
    """
    root, truth = damaged
    if not any(key.endswith("-clean") for key in truth):
        return None
    folders, keys, images, texts = top_folders(sample_folder), [], [], []
    (samples,), (clip,) = root.glob("columns/samples@*"), root.glob("columns/clip@*")
    for path in sorted(samples.glob("*.parquet")):
        keys += pq.read_table(path, columns=["key"]).column("key").to_pylist()
        images.append(np.load(clip / f"{path.stem}.image_embedding.npy"))
        texts.append(np.load(clip / f"{path.stem}.text_embedding.npy"))
    clean = [i for i, key in enumerate(keys) if truth[key] == "clean"]
    folder = np.array([folders[keys[i].split("-")[0]] for i in clean])
    similarity = np.concatenate(images)[clean].astype(np.float32) @ np.concatenate(texts)[clean].astype(np.float32).T
    return similarity[folder[:, None] != folder[None, :]]


def verdicts(rows: list[dict[str, Any]]) -> Counter[str]:
    return Counter(row["verdict"] for row in rows)


def test_every_corrupt_picture_fails_with_a_named_reason(run: dict[str, list[dict[str, Any]]]) -> None:
    assert all(row["verdict"] == f"failed:{row['image_error']}" for row in run["corrupt"])
    assert set(verdicts(run["corrupt"])) <= UNREADABLE
    assert not any(row["image_error"] for label, rows in run.items() if label != "corrupt" for row in rows)


@pytest.mark.parametrize(("label", "rule"), [("tiny", "tiny"), ("extreme_aspect", "extreme_aspect")])
def test_every_tiny_and_every_extreme_picture_is_rejected_by_its_rule(
    run: dict[str, list[dict[str, Any]]], label: str, rule: str,
) -> None:
    assert set(verdicts(run[label])) == {f"rejected:{rule}"}


def test_duplicates_are_rejected_as_duplicates(run: dict[str, list[dict[str, Any]]]) -> None:
    """All exact ones; of 12 near ones at least 11. A copy may be preferred to its original only if it has as many pixels."""
    exact = verdicts(run["exact_duplicate"])["rejected:exact_duplicate"]
    originals = verdicts(run["clean"])["rejected:exact_duplicate"] + verdicts(run["swapped"])["rejected:exact_duplicate"]
    assert exact + originals == len(run["exact_duplicate"]) == 12
    assert verdicts(run["near_duplicate"])["rejected:near_duplicate"] >= 11


def caught(rows: list[dict[str, Any]]) -> int:
    """By the caption rules of the recipe, whatever an earlier rule said."""
    return sum(row["caption_characters"] < 3 or row["caption_is_filename"] or row["caption_is_boilerplate"] for row in rows)


def test_spam_captions_are_caught_and_clean_ones_are_not(run: dict[str, list[dict[str, Any]]]) -> None:
    assert caught(run["spam_caption"]) >= 16
    assert caught(run["clean"]) <= 0.01 * len(run["clean"])


def test_similarity_separates_clean_from_swapped_captions(
    run: dict[str, list[dict[str, Any]]], against_any_caption: NDArray[np.generic] | None,
) -> None:
    clean = [row["clip_similarity"] for row in run["clean"]]
    swapped = [row["clip_similarity"] for row in run["swapped"]] if against_any_caption is None else against_any_caption
    truth = np.concatenate([np.ones(len(clean)), np.zeros(len(swapped))])
    assert roc_auc_score(truth, np.concatenate([clean, swapped])) >= 0.81


def test_the_calibrated_threshold_keeps_clean_and_removes_swapped_pairs(
    run: dict[str, list[dict[str, Any]]], threshold: np.floating, against_any_caption: NDArray[np.generic] | None,
) -> None:
    clean = np.array([row["clip_similarity"] for row in run["clean"]])
    swapped = np.array([row["clip_similarity"] for row in run["swapped"]]) if against_any_caption is None else against_any_caption
    assert np.mean(clean >= threshold) >= 0.82
    assert np.mean(swapped < threshold) >= 0.52
    decided = [row for rows in run.values() for row in rows if row["verdict"] in ("kept", "rejected:clip_similarity")]
    assert all((row["verdict"] == "kept") == (row["clip_similarity"] >= threshold) for row in decided)
