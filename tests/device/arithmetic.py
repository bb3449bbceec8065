"""What each arithmetic costs and how far it is from fp32: the same model, route after route, over inputs in the device's memory."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import open_clip
import torch

from pipeline.models.machine import can_compile, local_route
from pipeline.models.process import prepare_process
from pipeline.models.route import RouteWish, parse
from pipeline.models.spec import RANDOM, ModelSpec
from pipeline.models.towers import Towers, example_pictures, open_towers
from tests.device.gpu import rate

Vectors = tuple[torch.Tensor, torch.Tensor]
CAPTION = "a photo of {} red dogs and a flag"


def compared(model: str, routes: Sequence[tuple[str, bool]], micro_batch: int = 256, seconds: float = 2.0) -> dict[str, Any]:
    """Pairs per second of both towers by each (precision, compiled), and the error of the embeddings of one batch."""
    prepare_process()
    spec = ModelSpec(model, None if model.startswith("bundled") else RANDOM)
    plain = open_towers(spec, parse(local_route(RouteWish("fp32", "cuda", False))), micro_batch)
    with torch.inference_mode():
        pixels = example_pictures(micro_batch, plain.transform.size).cuda()
        tokens = plain.tokenizer([CAPTION.format(i) for i in range(micro_batch)]).cuda()
        expected = plain.images(pixels), plain.texts(tokens)
        found = {"can compile": can_compile(), "fp32": of_towers(plain, (pixels, tokens), expected, seconds)}
        tf32 = replace(plain, route=replace(plain.route, precision="tf32"))
        found["tf32"] = of_towers(tf32, (pixels, tokens), expected, seconds)
        for precision, compile_ in routes:
            name = f"{precision}{', compiled' * compile_}"
            try:
                began = time.perf_counter()
                route = parse(local_route(RouteWish(precision, "cuda", compile_)))   # type: ignore[arg-type]
                towers = open_towers(spec, route, micro_batch)
                found[name] = {"open_s": time.perf_counter() - began, **of_towers(towers, (pixels, tokens), expected, seconds)}
                del towers
            except Exception as error:  # noqa: BLE001 (the others are measured all the same)
                found[name] = {"failed": f"{type(error).__name__}: {error}"[:900]}
            torch.cuda.empty_cache()
    return found


def of_towers(towers: Towers, inputs: Vectors, expected: Vectors, seconds: float) -> dict[str, Any]:
    pixels, tokens = inputs
    return {
        **distance((towers.images(pixels), towers.texts(tokens)), expected),
        "pairs_per_s": rate(lambda: (towers.images(pixels), towers.texts(tokens)), len(pixels), seconds),
    }


def distance(vectors: Vectors, expected: Vectors) -> dict[str, Any]:
    similarity, reference = ((images.double() * texts.double()).sum(1) for images, texts in (vectors, expected))
    return {
        "least cosine to fp32": [float((a.double() * b.double()).sum(1).min()) for a, b in zip(vectors, expected, strict=True)],
        "similarity off by, mean": float((similarity - reference).abs().mean()),
    }


def pure(model: str, precision: str, micro_batch: int = 256, seconds: float = 2.0) -> dict[str, Any]:
    """open_clip's own model with weights and sums in half precision, e.g. pure_fp16."""
    spec = ModelSpec(model, None if model.startswith("bundled") else RANDOM)
    plain = open_towers(spec, parse(local_route(RouteWish("fp32", "cuda", False))), micro_batch)
    net = open_clip.create_model(spec.resolved, precision=precision, device="cuda").eval()
    net.load_state_dict(plain.image.model.state_dict())   # type: ignore[attr-defined]
    with torch.inference_mode():
        raw = example_pictures(micro_batch, plain.transform.size).cuda()
        tokens = plain.tokenizer([CAPTION.format(i) for i in range(micro_batch)]).cuda()
        pixels = plain.transform.normalised(raw, torch.bfloat16 if "bf16" in precision else torch.float16)

        def both() -> Vectors:
            return net.encode_image(pixels, normalize=True), net.encode_text(tokens, normalize=True)

        return {**distance(both(), (plain.images(raw), plain.texts(tokens))), "pairs_per_s": rate(both, micro_batch, seconds)}
