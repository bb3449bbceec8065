"""Whether embeddings through the server of a GPU are right: bits that depend on nothing, and their distance from fp32."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from pipeline.models.clip import Embedder, Encoder
from pipeline.models.device.client import connected
from pipeline.models.machine import local_route
from pipeline.models.route import RouteWish, parse
from pipeline.models.spec import ModelSpec
from pipeline.models.towers import open_towers
from tests.benchmarks.replicas import decoded, readable


def routes(device: str, precisions: tuple[str, ...], rows: int = 823) -> dict[str, Any]:
    """The bundled model, which has real weights: each precision beside fp32 on the CPU."""
    spec, pairs = ModelSpec(), readable()[:rows]
    reference = Encoder(open_towers(spec, parse(local_route(RouteWish(device="cpu", packed=False))), 16))
    pixels = reference.preprocess(decoded(data).pixels for data, _ in pairs)
    captions = [caption for _, caption in pairs]
    expected = reference.encode_pairs(pixels, captions)
    return {
        precision: of_route(spec, local_route(RouteWish(precision, device)), pixels, captions, expected)  # type: ignore[arg-type]
        for precision in precisions
    }


def of_route(spec: ModelSpec, route: str, pixels: torch.Tensor, captions: list[str], expected: Any) -> dict[str, Any]:
    embedder = connected(spec, route, parse(route).micro_batch, idle=1.0)
    images, texts = embedder.encode_pairs(pixels, captions)
    similarity, reference = (images * texts).sum(1), (expected[0] * expected[1]).sum(1)
    error = np.abs(similarity - reference)
    bounds = np.quantile(reference, (0.1, 0.3, 0.5))
    return {
        "route": route,
        "same bits from many threads in other batches": scattered(embedder, pixels, captions, images, texts),
        "largest difference of a component": float(max(np.abs(images - expected[0]).max(), np.abs(texts - expected[1]).max())),
        "error of the similarity, mean": float(error.mean()), "p99.9": float(np.quantile(error, 0.999)),
        "flips at the 10, 30, 50 % quantile": [int(((similarity >= t) != (reference >= t)).sum()) for t in bounds],
        "least cosine of an image": float((images * expected[0]).sum(1).min()),
        "length off 1": float(np.abs(np.linalg.norm(images, axis=1) - 1).max()),
    }


def scattered(embedder: Embedder, pixels: torch.Tensor, captions: list[str], images: Any, texts: Any) -> bool:
    draws = np.random.default_rng(0)
    parts = [draws.permutation(len(captions))[: draws.integers(1, 90)] for _ in range(60)]

    def same(rows: Any) -> bool:
        found = embedder.encode_pairs(pixels[torch.from_numpy(rows)], [captions[row] for row in rows])
        return bool((found[0] == images[rows]).all() and (found[1] == texts[rows]).all())

    with ThreadPoolExecutor(8) as pool:
        return all(pool.map(same, parts))
