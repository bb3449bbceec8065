"""Which model: names, identities, and errors that say what to write instead."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.models.spec import ASSETS, ModelSpec, describe
from pipeline.models.weights import load_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    target = tmp_path / "model"
    shutil.copytree(ASSETS / "model", target)
    return target


def test_a_model_is_known_by_its_content_wherever_its_folder_is(folder: Path) -> None:
    bundled = describe(ModelSpec("bundled:tinyclip-oc"))
    assert (bundled.dimension, bundled.image_size) == (256, (128, 128))
    assert describe(ModelSpec("bundled")) == bundled
    assert describe(ModelSpec(f"local-dir:{folder}")) == bundled
    (folder / "MODEL_CARD.md").unlink()
    assert describe(ModelSpec(f"local-dir:{folder}")) == bundled


def test_changed_weights_are_another_model(folder: Path) -> None:
    before = describe(ModelSpec(f"local-dir:{folder}")).identity
    weights = folder / "open_clip_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert describe(ModelSpec(f"local-dir:{folder}")).identity != before


def test_open_clips_models_are_described_without_their_weights() -> None:
    assert describe(ModelSpec("ViT-L-14", "datacomp_xl_s13b_b90k")).dimension == 768
    assert describe(ModelSpec("ViT-L-14", "datacomp_xl_s13b_b90k")).identity == "ViT-L-14/datacomp_xl_s13b_b90k"
    assert describe(ModelSpec("ViT-B-16-SigLIP-384", "webli")).image_size == (384, 384)


@pytest.mark.parametrize(("spec", "message"), [
    (ModelSpec("bundled:other"), "not in this package"),
    (ModelSpec("ViT-B32", "openai"), "the nearest that it knows is ViT-B-32"),
    (ModelSpec("ViT-B-32"), r"needs weights: set model\.pretrained to one of openai"),
    (ModelSpec("ViT-B-32", "nonsense"), "has no weights 'nonsense'"),
    (ModelSpec("local-dir:/nowhere"), "there is no"),
    (ModelSpec("bundled", "openai"), "brings its own weights"),
])
def test_a_model_that_does_not_exist_is_an_error_that_says_what_to_write(spec: ModelSpec, message: str) -> None:
    with pytest.raises(InputError, match=message):
        describe(spec)


def test_a_folder_without_weights_or_with_a_broken_config_is_refused(folder: Path) -> None:
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(InputError, match="there are no weights in"):
        load_model(ModelSpec(f"local-dir:{folder}"), "fp32", "cpu")
    (folder / "open_clip_config.json").write_text(json.dumps({"preprocess_cfg": {}}))
    with pytest.raises(InputError, match="not an open_clip config"):
        describe(ModelSpec(f"local-dir:{folder}"))


@pytest.mark.parametrize(("content", "message"), [
    (b"", "is empty: fetch it again"), (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
    (b"<!DOCTYPE html><html>Not found", "is a web page"),
])
def test_weights_that_were_not_fetched_are_named_before_anything_is_loaded(
    folder: Path, tmp_path: Path, content: bytes, message: str,
) -> None:
    (folder / "open_clip_model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=rf"open_clip_model\.safetensors {message}|open_clip_model\.safetensors is .*{message}"):
        describe(ModelSpec(f"local-dir:{folder}"))
    checkpoint = tmp_path / "w.pt"
    checkpoint.write_bytes(content)
    with pytest.raises(InputError, match=rf"w\.pt .*{message}"):
        describe(ModelSpec("ViT-B-32", str(checkpoint)))


def test_weights_that_are_cut_have_a_message(folder: Path) -> None:
    """Some of torch's errors say nothing, or are none that open_clip expects."""
    (folder / "open_clip_model.safetensors").unlink()
    for content in (b"\x80", b"\x80\x02X\x01", b"\x80\x02]", b"PK\x03\x04", b"\n", bytes(100)):
        (folder / "open_clip_pytorch_model.bin").write_bytes(content)
        with pytest.raises(InputError, match=r"model local-dir:.* cannot be loaded: ."):
            load_model(ModelSpec(f"local-dir:{folder}"), "fp32", "cpu")


def test_weights_that_are_a_pickle_of_code_are_not_run(folder: Path, tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[Callable[[str | bytes | os.PathLike[str] | os.PathLike[bytes]], int], tuple[str]]:
            return os.system, (f"touch {tmp_path / 'owned'}",)

    (folder / "open_clip_model.safetensors").unlink()
    (folder / "open_clip_pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model(ModelSpec(f"local-dir:{folder}"), "fp32", "cpu")
    assert not (tmp_path / "owned").exists()


def test_random_weights_are_the_same_every_time() -> None:
    spec = ModelSpec("RN50-quickgelu", "random")
    first, second = (dict(load_model(spec, "fp32", "cpu")[0].named_parameters()) for _ in range(2))
    assert all(bool((first[name] == second[name]).all()) for name in first)
