"""A model of few values with random weights, as a folder that open_clip loads: entities of a synthetic run are embedded by it."""

import json
from pathlib import Path

from tests.scale.sizes import DIMENSION

CONFIG = {
    "embed_dim": DIMENSION,
    "vision_cfg": {"image_size": 32, "patch_size": 16, "layers": 1, "width": 32, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def write_model(folder: Path) -> None:
    """Writes the folder."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    architectures = folder.parent / "architectures"
    architectures.mkdir(exist_ok=True)
    (architectures / "scale-16.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(str(architectures))
    torch.manual_seed(0)
    weights = open_clip.create_model("scale-16").state_dict()
    save_file({name: value.contiguous() for name, value in weights.items()}, str(folder / "open_clip_model.safetensors"))
    preprocess = {"size": [32, 32], "mode": "RGB", "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0,
                  "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG, "preprocess_cfg": preprocess}))
