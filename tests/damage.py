"""A second, seeded damage of the sample's clean pairs: the same kinds as the planted one, other pairs, other hands."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.input.tar import write_tar
from tests.archives import member_bytes

SPAM = (
    "IMG_20190412_101533.jpg", "DSC_0042.JPG", "screenshot (3).png", "untitled-1", "", "   ", "Click to enlarge",
    "no image available", "Image may contain: 1 person", "https://example.com/products/12345", "<img src='x.gif'>",
    "© 2015 All rights reserved", "Buy now - free shipping", "thumbnail", "photo by admin", "a1b2c3d4e5f60718293a4b5c6d7e8f90",
    "Loading...",
)
COUNTS = {
    "swapped": 80, "spam_caption": len(SPAM), "exact_duplicate": 12, "near_duplicate": 12, "tiny": 6, "extreme_aspect": 6,
    "corrupt": 6,
}


def top_folders(sample: Path) -> dict[str, str]:
    """key -> top folder of the source picture."""
    truth = json.loads((sample / "ground_truth.json").read_text())["pairs"]
    return {key: pair["source"].split("/")[0] for key, pair in truth.items()}


def clean_pairs(sample: Path) -> dict[str, tuple[bytes, bytes]]:
    """key -> (image, caption) of the clean pairs."""
    truth = json.loads((sample / "ground_truth.json").read_text())["pairs"]
    found: dict[str, tuple[bytes, bytes]] = {}
    for path in sorted(sample.glob("*.tar")):
        with tarfile.open(path) as archive:
            members = {member.name: member_bytes(archive, member) for member in archive}
        found |= {
            name[:-4]: (members[name], members[f"{name[:-4]}.txt"])
            for name in members if name.endswith(".jpg") and truth[name[:-4]]["label"] == "clean"
        }
    return found


def jpeg(picture: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    picture.convert("RGB").save(file, "JPEG", quality=quality)
    return file.getvalue()


def broken(image: bytes, how: int) -> bytes:
    page = b"<!DOCTYPE html><html>not found</html>"
    return (image[: len(image) // 2], image[:40], b"", page, b"\x00" * len(image), b"XX" + image[2:])[how]


def changed(rng: np.random.Generator, label: str, image: bytes, number: int) -> bytes:
    """The image after the damage that concerns images alone."""
    picture = Image.open(io.BytesIO(image))
    width, height = picture.size
    if label == "tiny":
        side = int(rng.integers(12, 31))
        return jpeg(picture.resize((side, max(4, side * 2 // 3))), 85)
    if label == "extreme_aspect":
        return jpeg(picture.resize((256, int(rng.integers(14, 31)))), 85)
    if label == "near_duplicate":
        scale = rng.uniform(0.5, 0.8)
        return jpeg(picture.resize((max(24, round(width * scale)), max(24, round(height * scale)))), int(rng.choice([45, 65, 80])))
    return broken(image, number % 6) if label == "corrupt" else image


def write_damaged(sample: Path, folder: Path, seed: int) -> dict[str, str]:
    """Writes tars of 100 pairs; returns the label of every key. Copies come on top of their clean originals."""
    rng = np.random.default_rng(seed)
    clean, folders = clean_pairs(sample), top_folders(sample)
    keys = [list(clean)[i] for i in rng.permutation(len(clean))]
    pairs, labels = [], {}
    position = 0
    for label, count in COUNTS.items():
        chosen = keys[position : position + count]
        position += count
        for number, key in enumerate(chosen):
            image, caption = clean[key]
            if label == "swapped":
                others = [other for other in keys if folders[other] != folders[key]]   # as in the planted damage: no kin
                caption = clean[others[int(rng.integers(len(others)))]][1]
            elif label == "spam_caption":
                caption = SPAM[number].encode()
            if label.endswith("duplicate"):
                pairs.append((f"{key}-original", image, caption))
                labels[f"{key}-original"] = "clean"
            pairs.append((f"{key}-{label}", changed(rng, label, image, number), caption))
            labels[f"{key}-{label}"] = label
    for key in keys[position:]:
        pairs.append((f"{key}-clean", *clean[key]))
        labels[f"{key}-clean"] = "clean"
    order = rng.permutation(len(pairs))
    folder.mkdir(parents=True)
    for number, start in enumerate(range(0, len(pairs), 100)):
        some = [pairs[i] for i in order[start : start + 100]]
        with (folder / f"{number:05d}.tar").open("wb") as file:
            write_tar(file, ((key, "jpg", image, caption, b"{}") for key, image, caption in some))
    return labels
