"""The numeric route: one name for everything that may change a bit."""

import pytest
import torch

from pipeline.errors import InputError
from pipeline.models.machine import instructions, local_route, require
from pipeline.models.route import Route, RouteWish, parse


def test_a_route_reads_back_as_it_was_written() -> None:
    for text in ("cpu-avx512-fp32-packed", "cpu-avx2-bf16-eager", "cuda-sm90-fp16-eager"):
        assert str(parse(text)) == text
    assert parse("cuda-sm90-fp16-eager").dtype is torch.float16


@pytest.mark.parametrize("text", ["", "cpu", "tpu-v5-fp32-eager", "cpu-avx2-int8-eager", "cpu-avx2-fp32-fast"])
def test_what_is_no_route_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="not a numeric route"):
        parse(text)


def test_the_local_route_can_be_provided_here_and_honours_the_wish() -> None:
    for wish in (RouteWish(), RouteWish(packed=False), RouteWish(precision="bf16", device="cpu", packed=False)):
        route = parse(local_route(wish))
        require(route)
        assert route.precision == wish.precision
        assert wish.packed == "auto" or route.form == "eager"


def test_a_worker_of_another_kind_says_so_instead_of_mixing_routes() -> None:
    with pytest.raises(InputError, match="workers of one kind"):
        require(Route("cpu", "avx9000", "fp32", "eager"))


def test_a_worker_without_a_gpu_refuses_a_gpu_route(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)   # true here, and on a machine with a GPU
    with pytest.raises(InputError, match="needs a GPU"):
        require(Route("cuda", "sm90", "fp32", "eager"))
    with pytest.raises(InputError, match="no GPU answers"):
        local_route(RouteWish(device="cuda"))


def test_half_precision_on_the_cpu_has_no_packed_form() -> None:
    assert parse(local_route(RouteWish(precision="fp16", device="cpu"))).form == "eager"
    with pytest.raises(InputError, match=r"model\.compile"):
        require(Route("cpu", instructions("cpu"), "fp16", "packed"))
