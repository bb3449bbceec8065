"""The clip stage: its columns, its fingerprint, and rows that cannot be embedded."""

import io
import pickle
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.captions.normal import normalised
from pipeline.errors import InputError
from pipeline.models.machine import local_route
from pipeline.models.route import RouteWish
from pipeline.models.spec import ASSETS
from pipeline.stage import checked, joined
from pipeline.stages.caption import CaptionStage
from pipeline.stages.clip import ClipStage, clip_columns, columns_of
from pipeline.stages.image import ImageStage
from schemas.columns import clip_schema
from tests.models.bundled import encoder, opened, plain_images, plain_texts, readable
from tests.models.zoo import turned, zoo
from tests.stages.test_image import batch_of, columns

CPU = local_route(RouteWish(device="cpu"))
STAGE = ClipStage("bundled:tinyclip-oc", None, "fp32", CPU)


def embedded(images: Sequence[bytes | None], captions: Sequence[str | None]) -> pa.RecordBatch:
    batch = batch_of(images, captions=captions)
    before = joined(batch, columns(ImageStage(), batch))
    return checked(STAGE, before, clip_columns(encoder(), before))


def test_columns_agree_with_open_clip_and_rows_keep_their_place() -> None:
    pairs = list(readable().values())[:6]
    images = [None, pairs[0][0], b"<html>", pairs[1][0], zoo()["png alpha"], pairs[2][0]]
    captions = ["no picture", pairs[0][1], "no pixels", None, "", pairs[2][1]]
    found = embedded(images, captions).to_pylist()
    whole = [1, 4, 5]
    pictures, texts = [opened(images[row] or b"") for row in whole], [captions[row] or "" for row in whole]
    expected = (plain_images(pictures) * plain_texts(texts)).sum(1)
    assert [row["clip_similarity"] is not None for row in found] == [row in whole for row in range(6)]
    np.testing.assert_allclose([found[row]["clip_similarity"] for row in whole], expected, atol=2e-3)
    for row in (0, 2, 3):
        assert (found[row]["image_embedding"], found[row]["text_embedding"], found[row]["clip_error"]) == (None, None, None)
    for row in whole:
        assert abs(np.linalg.norm(np.array(found[row]["image_embedding"], np.float32)) - 1) < 2e-3


def test_a_large_photograph_that_was_taken_upright_is_seen_upright() -> None:
    """An ordinary telephone's: too many pixels to be carried whole, and an orientation."""
    data, caption = turned("megapixels", 6), "a red disc before a colourful background"
    (row,) = embedded([data], [caption]).to_pylist()
    upright = plain_images([opened(data)])[0]
    lying = plain_images([Image.open(io.BytesIO(data))])[0]
    text = plain_texts([caption])[0]
    assert abs((lying - upright) @ text) > 0.01, "the test cannot tell"
    assert row["clip_similarity"] == pytest.approx(upright @ text, abs=2e-3)
    assert np.array(row["image_embedding"], np.float32) @ upright > 0.999


@pytest.mark.parametrize("caption", ["a cre\u200bme brul\u00ade", "a  red\u0000dog", "a\u2060red dog", "a \u202ered\u202c dog"])
def test_captions_are_embedded_as_they_came_and_not_in_their_normal_form(caption: str) -> None:
    """Design decision 9. (What is not NFC makes no difference here: open_clip's own tokenizer composes it.)"""
    image = next(iter(readable().values()))[0]
    batch = batch_of([image], captions=[caption])
    before = joined(joined(batch, columns(ImageStage(), batch)), columns(CaptionStage(), batch))
    assert before["caption_text"].to_pylist() == [normalised(caption)] != [caption]
    (row,) = checked(STAGE, before, clip_columns(encoder(), before)).to_pylist()
    raw, normal = plain_texts([caption, normalised(caption)])
    assert raw @ normal < 0.99, "the test cannot tell"
    np.testing.assert_allclose(row["text_embedding"], raw, atol=1e-3)


def test_the_stage_opens_its_model_and_gives_the_same_columns() -> None:
    images, captions = zip(*list(readable().values())[:3], strict=True)
    batch = batch_of(list(images), captions=list(captions))
    before = joined(batch, columns(ImageStage(), batch))
    with STAGE.open() as transform:
        assert checked(STAGE, before, transform(before)).equals(embedded(list(images), list(captions)))


def test_similarity_is_computed_before_the_cast_to_half_precision() -> None:
    rng = np.random.default_rng(0)
    images, texts = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in rng.normal(size=(2, 50, 64)).astype(np.float32))
    found = columns_of(batch_of([None] * 50)["uid"], np.ones(50, bool), images, texts)
    np.testing.assert_allclose(found["clip_similarity"], (images * texts).sum(1), atol=1e-6)


def test_a_vector_that_is_not_finite_is_an_error_of_its_row_alone() -> None:
    images, texts = np.eye(3, 8, dtype=np.float32), np.eye(3, 8, dtype=np.float32)
    images[1, 3], texts[2, 0] = np.nan, np.inf
    found = columns_of(batch_of([None] * 4)["uid"], np.array([True, True, False, True]), images, texts)
    assert found["clip_error"].to_pylist() == [None, "embedding_not_finite", None, "embedding_not_finite"]
    assert found["clip_similarity"].to_pylist() == [1.0, None, None, None]
    assert [vector is None for vector in found["image_embedding"].to_pylist()] == [False, True, True, True]
    values = np.frombuffer(found["image_embedding"].buffers()[2], np.float16).reshape(4, 8)
    assert not values[1:].any()


def test_the_fingerprint_knows_the_model_by_its_content_and_never_the_threads(tmp_path: Path) -> None:
    shutil.copytree(ASSETS / "model", tmp_path / "moved")
    moved = replace(STAGE, model=f"local-dir:{tmp_path / 'moved'}")
    assert moved.identity == STAGE.identity
    assert set(STAGE.identity) == {"model", "precision", "route", "micro_batch"}
    assert replace(STAGE, route="cpu-avx9-fp32-eager").identity != STAGE.identity
    assert replace(STAGE, model="ViT-B-32", pretrained="openai").identity["model"] == "ViT-B-32/openai"


def test_its_schema_has_the_width_of_the_model_and_it_travels() -> None:
    assert STAGE.writes.equals(clip_schema(256))
    assert replace(STAGE, model="ViT-B-32", pretrained="openai").writes.equals(clip_schema(512))
    again = pickle.loads(pickle.dumps(STAGE))
    assert again == STAGE
    assert again.identity == STAGE.identity


def test_a_worker_that_cannot_provide_the_route_says_so() -> None:
    with pytest.raises(InputError, match="workers of one kind"), replace(STAGE, route="cpu-avx9000-fp32-eager").open():
        pass
    with pytest.raises(InputError, match="precision bf16"), replace(STAGE, precision="bf16").open():
        pass


def test_a_batch_of_failed_rows_needs_no_model_call() -> None:
    assert embedded([None, b"x"], ["a", "b"])["clip_similarity"].null_count == 2
    assert embedded([], []).num_rows == 0
