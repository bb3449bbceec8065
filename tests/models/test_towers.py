"""The arithmetic of the towers on a GPU, as far as a machine without one can tell."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pipeline.models.route import parse
from pipeline.models.towers import ImageTower, TextTower, arithmetic, input_type, loaded_precision

CARD = "cuda-sm90.card.torch2"


@pytest.mark.parametrize(("route", "weights", "inputs"), [
    (f"{CARD}-fp32-eager", "fp32", torch.float32), (f"{CARD}-tf32-eager", "fp32", torch.float32),
    (f"{CARD}-bf16-compiled", "fp32", torch.float32), (f"{CARD}-fp16-eager", "fp32", torch.float32),
    ("cpu-avx2-fp32-packed", "fp32", torch.float32), ("cpu-avx512-bf16-packed", "pure_bf16", torch.bfloat16),
    ("cpu-avx2-fp16-eager", "pure_fp16", torch.float16),
])
def test_a_gpu_keeps_float32_weights_and_a_cpu_those_of_its_precision(route: str, weights: str, inputs: torch.dtype) -> None:
    assert (loaded_precision(parse(route)), input_type(parse(route))) == (weights, inputs)


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_tf32_and_rounded_factors_are_the_routes_alone_and_no_kernel_is_chosen_by_timing(
    precision: str, monkeypatch: pytest.MonkeyPatch,
) -> None:
    casts = []
    autocast = torch.autocast

    def cast(device: str, dtype: torch.dtype) -> torch.autocast:
        casts.append((device, dtype))
        return autocast("cpu", enabled=False)

    monkeypatch.setattr(torch, "autocast", cast)
    before = torch.backends.cuda.matmul.allow_tf32
    try:
        with arithmetic(parse(f"{CARD}-{precision}-eager")):
            cudnn = torch.backends.cudnn
            assert torch.backends.cuda.matmul.allow_tf32 == cudnn.allow_tf32 == (precision == "tf32")
            assert (cudnn.deterministic, cudnn.benchmark) == (True, False)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    assert casts == {"bf16": [("cuda", torch.bfloat16)], "fp16": [("cuda", torch.float16)]}.get(precision, [])


class Halved(nn.Module):
    """A model that rounds: its residual sum is as wide as what its first norm gives."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = SimpleNamespace(ln_pre=nn.Identity())

    def encode_image(self, pixels: torch.Tensor, normalize: bool) -> torch.Tensor:
        return self.visual.ln_pre(pixels.half()) + 1e-4

    def encode_text(self, tokens: torch.Tensor, normalize: bool) -> torch.Tensor:
        return tokens.half()


@pytest.mark.parametrize("wide", [True, False])
def test_half_precision_keeps_the_residual_sum_and_the_vectors_lengths_in_float32(wide: bool) -> None:
    inputs = torch.tensor([[1.0, 2.0, 3.0]])
    image, text = ImageTower(Halved(), wide=wide), TextTower(Halved(), wide=wide)
    for tower in (image, text):
        found = tower(inputs)
        assert found.dtype == (torch.float32 if wide else torch.float16)
        assert (abs(found.double().norm() - 1) < 1e-6) == wide
    raw = image.model.encode_image(inputs, normalize=False)
    assert (raw.double() != inputs.double()).all() == wide, "1e-4 is lost in half precision"
