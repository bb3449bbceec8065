"""Weights and configs made to run code: nothing runs, and the error says what was wrong."""

import io
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from pipeline.errors import InputError
from pipeline.models.spec import ModelSpec
from pipeline.models.weights import load_model
from tests.security.hostile import Payload, watched

MODEL = Path(__file__).parents[2] / "pipeline" / "assets" / "model"


def saved(payload: Payload, how: str) -> bytes:
    file = io.BytesIO()
    if how == "pickle":
        pickle.dump(payload, file)
    elif how == "numpy":
        np.save(file, np.array([payload], object), allow_pickle=True)
    elif how == "npz":
        np.savez(file, params=np.array([payload], object))
    else:
        torch.save({"state_dict": {"weight": torch.zeros(1), "x": payload}}, file, _use_new_zipfile_serialization=how == "zip")
    return file.getvalue()


def refused(spec: ModelSpec, message: str, tmp_path: Path) -> None:
    with watched() as seen, pytest.raises(InputError, match=message):
        load_model(spec, "fp32", "cpu")
    assert [event for event in seen if "posix" in event or event.startswith(("os.", "subprocess"))] == []
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", ["open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth", "open_clip_model.safetensors"])
@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
def test_weights_in_a_models_folder_are_tensors_or_refused(tmp_path: Path, name: str, how: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in MODEL.glob("*.json"):
        shutil.copy(path, folder)
    (folder / name).write_bytes(saved(Payload(tmp_path / "canary"), how))
    refused(ModelSpec(f"local-dir:{folder}"), "cannot be loaded", tmp_path)


@pytest.mark.parametrize(("suffix", "how"), [
    (".pt", "zip"), (".pt", "legacy"), (".bin", "pickle"), (".safetensors", "zip"), (".npy", "numpy"), (".npz", "npz"),
])
def test_a_checkpoint_file_is_tensors_or_refused(tmp_path: Path, suffix: str, how: str) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(saved(Payload(tmp_path / "canary"), how))
    open_clip.add_model_config(MODEL / "tinyclip-oc.json")   # a small one, by name
    refused(ModelSpec("tinyclip-oc", str(path)), "cannot be loaded", tmp_path)


def test_a_model_that_wants_its_own_code_run_is_refused(tmp_path: Path) -> None:
    shutil.copytree(MODEL, tmp_path / "model")
    path = tmp_path / "model" / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["text_cfg"] |= {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"trust_remote_code": True}}
    path.write_text(json.dumps(config))
    (tmp_path / "model" / "tokenization_x.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    refused(ModelSpec(f"local-dir:{tmp_path / 'model'}"), "trust_remote_code", tmp_path)
