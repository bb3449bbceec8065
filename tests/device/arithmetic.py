"""What each arithmetic costs and how far it is from fp32: the same model, route after route, over inputs in the device's memory."""

import time
from typing import Any

import open_clip
import torch

from pipeline.models.allocator import settle
from pipeline.models.route import RouteWish, can_compile, local_route, parse
from pipeline.models.towers import Towers, open_towers, sketch
from pipeline.models.weights import RANDOM, ModelSpec
from tests.device.gpu import rate

ROUTES = (("fp32", False), ("tf32", False), ("bf16", False), ("fp16", False), ("bf16", True), ("fp16", True))


def compared(model: str, micro_batch: int = 256, seconds: float = 2.0) -> dict[str, Any]:
    """Pairs per second of both towers, and the error of the embeddings of one batch."""
    settle()
    spec = ModelSpec(model, None if model.startswith("bundled") else RANDOM)
    found: dict[str, Any] = {"can compile": can_compile()}
    expected = None
    for precision, compile_ in ROUTES:
        name = f"{precision}{', compiled' * compile_}"
        try:
            route = parse(local_route(RouteWish(precision, "cuda", compile_)))   # type: ignore[arg-type]
            began = time.perf_counter()
            towers = open_towers(spec, route, micro_batch)
            opened = time.perf_counter() - began
            with torch.inference_mode():
                pixels, tokens = inputs(towers)
                vectors = towers.images(pixels).float(), towers.texts(tokens).float()
                expected = expected or vectors
                found[name] = {
                    "pairs_per_s": rate(lambda: (towers.images(pixels), towers.texts(tokens)), micro_batch, seconds),   # noqa: B023
                    "open_s": opened, "cosine to fp32": [float((a * b).sum(1).min()) for a, b in zip(vectors, expected, strict=True)],
                    "similarity off by": float(((vectors[0] * vectors[1]).sum(1) - (expected[0] * expected[1]).sum(1)).abs().mean()),
                }
        except Exception as error:  # noqa: BLE001 (the others are measured all the same)
            found[name] = {"failed": f"{type(error).__name__}: {error}"[:600]}
        torch.cuda.empty_cache()
    for precision in ("pure_bf16", "pure_fp16"):
        found[precision] = pure(spec, precision, micro_batch, seconds, expected)
    return found


def inputs(towers: Towers) -> tuple[torch.Tensor, torch.Tensor]:
    captions = [f"a photo of {i} red dogs and a flag" for i in range(towers.micro_batch)]
    return sketch(towers.micro_batch, towers.transform.size).cuda(), towers.tokenizer(captions).cuda()


def pure(spec: ModelSpec, precision: str, micro_batch: int, seconds: float, expected: Any) -> dict[str, Any]:
    """open_clip's own model with weights and sums in half precision."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = open_clip.create_model(spec.resolved, precision=precision, device="cuda").eval()
    route = parse(local_route(RouteWish("fp32", "cuda", False)))
    from pipeline.models.preprocess import Preprocess

    transform = Preprocess.of(net.visual.preprocess_cfg)
    tokens = open_clip.get_tokenizer(spec.resolved)([f"a photo of {i} red dogs and a flag" for i in range(micro_batch)]).cuda()
    kind = torch.bfloat16 if "bf16" in precision else torch.float16
    with torch.inference_mode():
        pixels = transform.normalised(sketch(micro_batch, transform.size).to(route.device), kind)
        vectors = [net.encode_image(pixels, normalize=True).float(), net.encode_text(tokens, normalize=True).float()]
        return {
            "pairs_per_s": rate(lambda: (net.encode_image(pixels, normalize=True), net.encode_text(tokens, normalize=True)), micro_batch,
                                seconds),
            "cosine to fp32": [float((a * b).sum(1).min()) for a, b in zip(vectors, expected, strict=True)] if expected else None,
        }
