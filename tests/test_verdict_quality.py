"""Verdicts of the real run against known damage: the planted one, and a second one made here from the clean pairs."""

import json
from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from tests.damage import write_damaged
from tests.roots import shardmill

SPAM_RULES = {"caption_too_short", "caption_is_filename", "caption_is_boilerplate"}


def rows_of(root):
    """Every input sample with its verdict, key and columns."""
    found = []
    for path in sorted(root.glob("verdicts@*/*.parquet")):
        row = {"verdict": pq.read_table(path).column("verdict")}
        for stage, names in {"samples": ["key"], "clip": ["clip_similarity"], "caption": ["caption_characters", "caption_is_filename",
                             "caption_is_boilerplate"], "image": ["image_error"]}.items():
            (folder,) = root.glob(f"columns/{stage}@*")
            table = pq.read_table(folder / path.name, columns=names)
            row |= {name: table.column(name) for name in names}
        found += pa.table(row).to_pylist()
    return found


@pytest.fixture(scope="module", params=["planted", "seeded"])
def run(request, demo_root, sample_folder, tmp_path_factory):
    if request.param == "planted":
        truth = {key: pair["label"] for key, pair in json.loads((sample_folder / "ground_truth.json").read_text())["pairs"].items()}
        root = demo_root
    else:
        base = tmp_path_factory.mktemp("damaged")
        truth, root = write_damaged(sample_folder, base / "in", seed=11), base / "out"
        shardmill("run", "sample", str(base / "in"), "--output", str(root), "--workers", "2")
    rows = defaultdict(list)
    for row in rows_of(root):
        rows[truth[row["key"]]].append(row)
    assert sum(map(len, rows.values())) == len(truth)
    return rows


def verdicts(rows):
    return Counter(row["verdict"] for row in rows)


def test_every_corrupt_picture_fails_with_a_named_reason(run):
    assert all(row["verdict"] == f"failed:{row['image_error']}" for row in run["corrupt"])
    assert set(verdicts(run["corrupt"])) <= {"failed:image_truncated", "failed:image_empty", "failed:image_not_an_image", "failed:image_undecodable"}
    assert not any(row["image_error"] for label, rows in run.items() if label != "corrupt" for row in rows)


@pytest.mark.parametrize(("label", "rule"), [("tiny", "tiny"), ("extreme_aspect", "extreme_aspect")])
def test_every_tiny_and_every_extreme_picture_is_rejected_by_its_rule(run, label, rule):
    assert set(verdicts(run[label])) == {f"rejected:{rule}"}


def test_duplicates_are_rejected_as_duplicates(run):
    """All exact ones; of 12 near ones at least 11. A copy may be preferred to its original only if it has as many pixels."""
    exact = verdicts(run["exact_duplicate"])["rejected:exact_duplicate"]
    originals = verdicts(run["clean"])["rejected:exact_duplicate"] + verdicts(run["swapped"])["rejected:exact_duplicate"]
    assert exact + originals == len(run["exact_duplicate"]) == 12
    assert verdicts(run["near_duplicate"])["rejected:near_duplicate"] >= 11


def caught(rows):
    """By the caption rules of the recipe, whatever an earlier rule said."""
    return sum(row["caption_characters"] < 3 or row["caption_is_filename"] or row["caption_is_boilerplate"] for row in rows)


def test_spam_captions_are_caught_and_clean_ones_are_not(run):
    assert caught(run["spam_caption"]) >= 16
    assert caught(run["clean"]) <= 0.01 * len(run["clean"])


def test_similarity_separates_clean_from_swapped_captions(run):
    clean, swapped = ([row["clip_similarity"] for row in run[label]] for label in ("clean", "swapped"))
    truth = np.concatenate([np.ones(len(clean)), np.zeros(len(swapped))])
    assert roc_auc_score(truth, clean + swapped) >= 0.81


def test_the_calibrated_threshold_keeps_clean_and_removes_swapped_pairs(run):
    """Among the pairs that no other rule had rejected before."""
    def share(label):
        counts = verdicts(run[label])
        return counts["kept"] / (counts["kept"] + counts["rejected:clip_similarity"])

    assert share("clean") >= 0.82
    assert 1 - share("swapped") >= 0.52
