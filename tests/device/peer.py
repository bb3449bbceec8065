"""clip-retrieval's way of inference, written anew after its documentation: a webdataset reader and open_clip's own transform in a
DataLoader's worker processes, half-precision towers in the main process, one batch after another, float16 arrays at the end."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import webdataset as wds

from tests.device.gpu import watched

BATCH = 256


class Prepared:
    """Sample -> tensors; a class, so that worker processes can get it."""

    def __init__(self, transform: Any, tokens: Any) -> None:
        self.transform, self.tokens = transform, tokens

    def __call__(self, sample: Any) -> Any:
        import io

        from PIL import Image

        image = self.transform(Image.open(io.BytesIO(sample["jpg"])).convert("RGB"))
        return image, self.tokens([sample["txt"].decode()])[0]


def inference(folder: Path, model: str, workers: int, rows: int, device: str = "cuda", batch: int = BATCH) -> dict[str, Any]:
    """Pairs per second after the first ten batches (the workers' start is not in it)."""
    precision = "fp16" if device == "cuda" else "fp32"
    net, _, transform = open_clip.create_model_and_transforms(model, precision=precision, device=device)
    urls = sorted(str(path) for path in (folder / "shards").glob("*.tar"))
    urls = urls[: len(urls) // workers * workers]
    data = wds.WebDataset(urls, shardshuffle=False).map(Prepared(transform, open_clip.get_tokenizer(model)))
    loader = torch.utils.data.DataLoader(
        data, batch_size=batch, num_workers=workers, prefetch_factor=4, pin_memory=device == "cuda", multiprocessing_context="fork",
    )
    kept, done, began, warm = [], 0, 0.0, 10 if device == "cuda" else 1
    with torch.no_grad(), watched() as busy:
        for number, (images, tokens) in enumerate(loader):
            if number == warm:
                began, done = time.perf_counter(), 0
            images = images.to(device, dtype=torch.float16 if device == "cuda" else torch.float32)
            for vectors in (net.encode_image(images), net.encode_text(tokens.to(device))):
                vectors = vectors / vectors.norm(dim=-1, keepdim=True)
                kept.append(vectors.cpu().to(torch.float16).numpy())
            done += len(images)
            if done >= rows:
                break
        seconds = time.perf_counter() - began
    assert np.isfinite(kept[-1]).all()
    return {"pairs_per_s": done / seconds, "rows": done, "gpu_busy_percent": busy.percent}
