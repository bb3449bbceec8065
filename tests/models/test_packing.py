"""Packed graphs against the modules that they come from."""

from typing import Any

import pytest
import torch
from torch import nn

from pipeline.errors import InputError
from pipeline.models.packing import checked_tower, packed


class Block(nn.Module):
    """Uneven padding, convolution, batch norm, activation, residual sum, pooling, linear: what image towers are made of."""

    def __init__(self, activation: nn.Module, uneven: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.mix = nn.Conv2d(8, 8, 1, bias=False)
        self.mix_norm = nn.BatchNorm2d(8)
        self.activation = activation
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 5))
        self.uneven = uneven
        for norm in (self.norm, self.mix_norm):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            nn.init.uniform_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2)
            nn.init.uniform_(norm.weight)
            nn.init.uniform_(norm.bias)
            norm.eps = 1e-3   # large enough to be seen

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.activation(self.norm(self.stem(nn.functional.pad(x, self.uneven))))
        x = self.mix_norm(self.mix(self.activation(self.depthwise(x)))) + x
        return self.head(self.dropout(x).mean((2, 3)))


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(inplace=True), nn.SiLU(), nn.GELU(), nn.Hardtanh(-0.5, 2.0), nn.Tanh()])
@pytest.mark.parametrize("uneven", [(0, 1, 0, 1), (1, 0, 1, 0), (1, 1, 0, 1), (0, 0, 0, 0), (0, 3, 0, 3)])
def test_a_packed_tower_gives_what_the_plain_one_gives(activation: nn.Module, uneven: tuple[int, int, int, int]) -> None:
    torch.manual_seed(1)
    tower = Block(activation, uneven).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    example = torch.randn(4, 3, 17, 20).contiguous(memory_format=torch.channels_last)
    other = torch.randn(4, 3, 17, 20).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        graph: Any = packed(tower, example)
        assert float((graph(other) - tower(other)).abs().max()) < 2e-6
    targets = {str(node.target) for node in graph.graph.nodes}
    assert "aten.batch_norm.default" not in targets
    assert "aten.conv2d.default" not in targets
    assert "aten.linear.default" not in targets


def test_a_tower_that_cannot_be_followed_is_an_error_that_says_what_to_do() -> None:
    class Moody(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if x.sum() > 0 else x - 1

    with torch.inference_mode(), pytest.raises(InputError, match=r"model\.compile"):
        packed(Moody(), torch.ones(2, 2))


def test_a_packed_tower_that_disagrees_with_the_plain_one_is_refused() -> None:
    example = torch.ones(4, 2)
    assert checked_tower(lambda x: x, lambda x: x + 9e-6, example, 1e-5)(example) is example
    with pytest.raises(InputError, match=r"off by 2\.0e-05"):
        checked_tower(lambda x: x, lambda x: x + 2e-5, example, 1e-5)
    with pytest.raises(InputError, match="off by nan"):
        checked_tower(lambda x: x * float("nan"), lambda x: x, example, 1e-5)
