"""Hashes that find copies: against imagehash's definition, and on planted and made copies."""

import hashlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dct

from pipeline.stage import checked, joined
from pipeline.stages.hashes import HashesStage, cosines, perceptual_hashes, thumbnails_of
from pipeline.stages.image import ImageStage
from tests.models.bundled import ground_truth, readable
from tests.stages.test_image import batch_of, columns


def hashed(images: Sequence[bytes | None]) -> list[dict[str, Any]]:
    """Rows of the stage."""
    batch = batch_of(images)
    stage = HashesStage()
    with stage.open() as transform:
        before = joined(batch, columns(ImageStage(), batch))
        return checked(stage, before, transform(before)).to_pylist()


def distance(a: dict[str, Any], b: dict[str, Any]) -> int:
    return (a["phash"] ^ b["phash"]).bit_count()


def correlation(a: dict[str, Any], b: dict[str, Any]) -> float:
    with np.errstate(invalid="ignore"):
        first, second = (np.frombuffer(row["thumbnail"], np.uint8).astype(float) for row in (a, b))
        return np.corrcoef(first, second)[0, 1]


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, Any]]:
    return dict(zip(readable(), hashed([data for data, _ in readable().values()]), strict=True))


def reference(data: bytes) -> int:
    """imagehash.phash, written out."""
    grey = np.asarray(Image.open(io.BytesIO(data)).convert("L").resize((32, 32), Image.Resampling.LANCZOS))
    low = dct(dct(grey.astype(float), axis=0), axis=1)[:8, :8]
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


def test_hashes_are_imagehashs_up_to_the_resize(rows: dict[str, dict[str, Any]]) -> None:
    distances = np.array([(rows[key]["phash"] ^ reference(data)).bit_count() for key, (data, _) in readable().items()])
    assert distances.mean() < 1
    assert np.quantile(distances, 0.95) <= 4


def test_the_transform_is_the_dct() -> None:
    square = np.random.default_rng(0).normal(size=(32, 32))
    expected = dct(dct(square, axis=0), axis=1)[:8, :8]
    np.testing.assert_allclose(4 * cosines(32, 8) @ square @ cosines(32, 8).T, expected, atol=1e-9)


def test_every_planted_near_duplicate_is_near_by_hash_and_thumbnail(rows: dict[str, dict[str, Any]]) -> None:
    planted = {key: entry["duplicate_of"] for key, entry in ground_truth().items() if entry["label"] == "near_duplicate"}
    assert len(planted) == 12
    for key, other in planted.items():
        assert distance(rows[key], rows[other]) <= 8, key
        assert correlation(rows[key], rows[other]) >= 0.97, key


def test_resized_and_recompressed_copies_are_found_again(rows: dict[str, dict[str, Any]]) -> None:
    rng = np.random.default_rng(11)
    keys = [key for key in readable() if ground_truth()[key]["label"] == "clean"]
    copies = []
    for key in keys:
        image, file = Image.open(io.BytesIO(readable()[key][0])).convert("RGB"), io.BytesIO()
        scale, quality = rng.uniform(0.4, 0.9), int(rng.integers(40, 91))
        image.resize([max(1, round(n * scale)) for n in image.size]).save(file, "JPEG", quality=quality)
        copies.append(file.getvalue())
    pairs = zip([rows[key] for key in keys], hashed(copies), strict=True)
    assert np.mean([distance(*pair) <= 8 and correlation(*pair) >= 0.97 for pair in pairs]) >= 0.94


def test_equal_bytes_have_equal_hashes_and_the_digest_is_of_the_bytes(rows: dict[str, dict[str, Any]]) -> None:
    for key, entry in ground_truth().items():
        if entry["label"] == "exact_duplicate":
            other = rows[entry["duplicate_of"]]
            assert {k: v for k, v in rows[key].items() if k != "uid"} == {k: v for k, v in other.items() if k != "uid"}
    key = next(iter(readable()))
    assert rows[key]["sha256"] == hashlib.sha256(readable()[key][0]).hexdigest()


def test_flat_pictures_have_one_hash_and_no_noise_in_it() -> None:
    flat = np.stack([np.full((32, 32, 3), level, np.uint8) for level in (0, 1, 77, 254, 255)])
    assert perceptual_hashes(flat).tolist() == [0, *[1 << 63] * 4]


def test_a_thumbnail_has_the_mean_colour_of_each_block() -> None:
    small = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), np.uint8)
    means = small.reshape(2, 16, 2, 16, 2, 3).mean(axis=(2, 4))
    assert np.abs(thumbnails_of(small) - means).max() <= 0.5


def test_without_a_picture_there_are_nulls_and_without_pixels_only_the_digest() -> None:
    missing, broken = hashed([None, b"\xff\xd8\xff no jpeg"])
    assert {missing["sha256"], missing["phash"], missing["thumbnail"], missing["hashes_error"]} == {None}
    assert broken["sha256"] == hashlib.sha256(b"\xff\xd8\xff no jpeg").hexdigest()
    assert {broken["phash"], broken["thumbnail"], broken["hashes_error"]} == {None}
