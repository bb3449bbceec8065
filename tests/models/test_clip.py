"""Embeddings against plain open_clip, and bits that do not depend on how samples are batched."""

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.models.clip import Encoder, open_encoder
from pipeline.models.machine import local_route
from pipeline.models.pixels.decoding import decode, reopened
from pipeline.models.route import RouteWish
from pipeline.models.spec import ASSETS
from pipeline.models.towers import padded
from tests.models.bundled import SPEC, encoder, opened, plain, plain_images, plain_texts, readable
from tests.models.zoo import picture, zoo

CAPTION = "a red disc before a colourful background"


def ours(data: bytes) -> Any:
    """What the clip stage would embed."""
    other = reopened(data)
    return decode(data, allowed_formats=("jpeg", "png", "webp"), max_pixels=10**8).pixels if other is None else other


@pytest.fixture(scope="module")
def some() -> tuple[torch.Tensor, list[str]]:
    """Preprocessed pictures and captions of 40 pairs of the sample."""
    pairs = list(readable().values())[:40]
    return encoder().preprocess([ours(data) for data, _ in pairs]), [caption for _, caption in pairs]


def test_similarity_is_open_clips_on_every_readable_pair_of_the_sample() -> None:
    pairs = list(readable().values())
    images = encoder().encode_images(encoder().preprocess(ours(data) for data, _ in pairs))
    texts = encoder().encode_texts([caption for _, caption in pairs])
    expected_images = np.concatenate([plain_images([opened(d) for d, _ in pairs[i:i + 64]]) for i in range(0, len(pairs), 64)])
    expected_texts = plain_texts([caption for _, caption in pairs])
    assert len(pairs) == 823
    assert np.abs((images * texts).sum(1) - (expected_images * expected_texts).sum(1)).max() <= 2e-3
    assert (images * expected_images).sum(1).min() >= 0.999
    assert np.abs(texts - expected_texts).max() <= 1e-5
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", sorted(zoo()))
def test_similarity_is_open_clips_for_every_format_and_orientation(name: str) -> None:
    found = encoder().encode_images(encoder().preprocess([ours(zoo()[name])]))[0] @ encoder().encode_texts([CAPTION])[0]
    expected = plain_images([opened(zoo()[name])])[0] @ plain_texts([CAPTION])[0]
    assert abs(found - expected) <= 2e-3


def test_the_fast_towers_are_within_1e_5_of_plain_fp32(some: tuple[torch.Tensor, list[str]]) -> None:
    pixels, captions = some
    model = plain()[0]
    with torch.inference_mode():
        normalised = encoder().towers.transform.normalised(pixels, torch.float32).contiguous()
        expected = model.encode_image(normalised, normalize=True).numpy()
    assert np.abs(encoder().encode_images(pixels) - expected).max() <= 1e-5
    assert np.abs(encoder().encode_texts(captions) - plain_texts(captions)).max() <= 1e-5


def test_no_bit_of_an_embedding_depends_on_the_batch_it_came_in(some: tuple[torch.Tensor, list[str]]) -> None:
    pixels, captions = some
    images, texts = encoder().encode_images(pixels), encoder().encode_texts(captions)
    rng = np.random.default_rng(0)
    for size in (1, 2, 5, 16, 17, 40):
        rows = rng.permutation(40)[:size]
        np.testing.assert_array_equal(encoder().encode_images(pixels[torch.from_numpy(rows)]), images[rows])
        np.testing.assert_array_equal(encoder().encode_texts([captions[row] for row in rows]), texts[rows])


def test_several_threads_get_the_bits_that_one_gets(some: tuple[torch.Tensor, list[str]]) -> None:
    pixels, captions = some
    expected = encoder().encode_images(pixels), encoder().encode_texts(captions)
    with ThreadPoolExecutor(4) as pool:
        for images, texts in pool.map(lambda _: (encoder().encode_images(pixels), encoder().encode_texts(captions)), range(8)):
            np.testing.assert_array_equal(images, expected[0])
            np.testing.assert_array_equal(texts, expected[1])


def bits() -> str:
    """A hash of embeddings of this process."""
    images = encoder().encode_images(encoder().preprocess([np.asarray(picture(200, 150, seed)) for seed in range(5)]))
    return hashlib.sha256(images.tobytes() + encoder().encode_texts([CAPTION, ""]).tobytes()).hexdigest()


def test_another_process_with_another_number_of_threads_gets_the_same_bits() -> None:
    threads = "1" if torch.get_num_threads() > 1 else "2"
    code = "import torch; from tests.models.test_clip import bits; print(torch.get_num_threads(), bits())"
    environment = {**os.environ, "PYTHONPATH": str(ASSETS.parent.parent), "OMP_NUM_THREADS": threads}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == [threads, bits()]


@pytest.mark.parametrize(("wish", "cosine"), [
    (RouteWish(packed=False), 0.999999), (RouteWish(precision="bf16"), 0.97), (RouteWish(precision="bf16", packed=False), 0.97),
])
def test_other_routes_stay_close_to_fp32(some: tuple[torch.Tensor, list[str]], wish: RouteWish, cosine: float) -> None:
    pixels, captions = some
    with open_encoder(SPEC, local_route(wish), micro_batch=8) as other:
        assert isinstance(other, Encoder)
        assert (other.encode_images(pixels[:8]) * encoder().encode_images(pixels[:8])).sum(1).min() >= cosine
        assert (other.encode_texts(captions[:8]) * encoder().encode_texts(captions[:8])).sum(1).min() >= cosine


def test_nothing_in_gives_nothing_out() -> None:
    assert encoder().encode_images(encoder().preprocess([])).shape == (0, 256)
    assert encoder().encode_texts([]).shape == (0, 256)


def test_a_short_micro_batch_is_filled_with_zeros() -> None:
    assert padded(torch.ones(2, 3), 4).tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]]
