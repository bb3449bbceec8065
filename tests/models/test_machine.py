"""What a machine says of itself: on one without a GPU, and as values."""

import pytest

from pipeline.errors import InputError, RouteError
from pipeline.models.machine import (
    GpuState,
    driver_version,
    gpu_fault,
    gpu_state,
    local_route,
    offered_route,
    provides,
)
from pipeline.models.route import RouteQuestion, RouteWish, satisfies

OLD = "The NVIDIA driver on your system is too old (found version 12020)"


def test_a_driver_older_than_the_cuda_wheel_is_said_with_both_versions_and_what_to_do() -> None:
    said = gpu_fault(GpuState(present=True, usable=False, built_for="13.0", driver="535.104.05", error=OLD))
    for part in ("CUDA 13.0", "535.104.05", OLD, "update the driver", "model.device to cpu"):
        assert part in str(said)


def test_a_torch_for_the_cpu_on_a_machine_with_a_gpu_is_said() -> None:
    said = gpu_fault(GpuState(present=True, usable=False, built_for=None, driver="580.65.06"))
    assert "built for the CPU only" in str(said)
    assert "model.device to cpu" in str(said)


@pytest.mark.parametrize("seen", [
    GpuState(present=False, usable=False, built_for="13.0"), GpuState(present=False, usable=False, built_for=None),
    GpuState(present=True, usable=True, built_for="13.0", driver="580.65.06"),
])
def test_a_machine_without_a_gpu_or_with_one_that_works_has_no_fault(seen: GpuState) -> None:
    assert gpu_fault(seen) is None


@pytest.mark.parametrize(("line", "version"), [
    ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023", "535.104.05"),
    ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (root@b)", "570.86.15"),
    ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.95  Release Build", "580.95"),
    ("", None),
])
def test_the_version_of_the_driver_is_read_from_its_own_file(line: str, version: str | None) -> None:
    assert driver_version(line) == version


def test_a_gpu_that_torch_cannot_use_never_becomes_a_cpu_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that is not there, given by Ray all the same: as torch meets it under a driver that is too old."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")   # so on a machine that has one, too
    seen = gpu_state(gpu_assigned=True)
    assert (seen.present, seen.usable) == (True, False)
    with pytest.raises(InputError, match="there is a GPU, but torch"):
        offered_route(RouteQuestion(RouteWish(), gpu_assigned=True))
    assert offered_route(RouteQuestion(RouteWish(device="cpu"), gpu_assigned=True)).startswith("cpu-")


def test_what_a_machine_offers_it_provides_and_another_route_is_said_to_be_anothers() -> None:
    route = offered_route(RouteQuestion(RouteWish(device="cpu")))
    assert route == local_route(RouteWish(device="cpu"))
    provides(route)
    with pytest.raises(RouteError, match="workers of one kind"):
        provides(route.replace(route.split("-")[1], "avx9000"))


def test_a_stored_route_is_gone_on_with_only_where_the_recipe_may_come_to_it() -> None:
    assert satisfies("cpu-avx2-fp32-packed", RouteWish())
    assert satisfies("cuda-sm90-fp32-eager", RouteWish())
    assert satisfies("cuda-sm90-fp32-eager", RouteWish(packed=True))
    assert not satisfies("cuda-sm90-fp32-eager", RouteWish(device="cpu"))
    assert not satisfies("cpu-avx2-fp32-packed", RouteWish(device="cuda"))
    assert not satisfies("cpu-avx2-fp32-packed", RouteWish(packed=False))
    assert not satisfies("cpu-avx2-fp32-packed", RouteWish(precision="bf16"))
