"""What of the machine this process may use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.process import share
from pipeline.process.share import may_have_gpu, usable_cpus, usable_memory


@pytest.fixture(autouse=True)
def whole_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No cgroup and no Slurm around the test; the CPUs as they were after it."""
    monkeypatch.delenv(share.SLURM, raising=False)
    monkeypatch.setattr(share, "PROCESS", tmp_path)
    before = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, before)


def in_cgroup(folder: Path, *, lines: str, mounts: str, files: dict[str, str]) -> None:
    """What /proc/self says of the cgroups of a process, and what their files say."""
    (folder / "cgroup").write_text(lines)
    (folder / "mountinfo").write_text(mounts.format(at=folder))
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


VERSION_2 = "31 23 0:26 / {at}/v2 rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
VERSION_1 = (
    "33 25 0:28 / {at}/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "34 25 0:29 / {at}/memory rw,relatime shared:10 - cgroup cgroup rw,memory\n"
)


def test_a_process_that_is_held_to_some_cpus_counts_those() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    assert usable_cpus() == 1


def test_a_slurm_job_counts_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "12")
    assert usable_cpus() == 12


@pytest.mark.parametrize(("quota", "cpus"), [("400000 100000", 4), ("250000 100000", 2), ("50000 100000", 1), ("max 100000", 64)])
def test_the_quota_of_a_cgroup_counts_wherever_above_the_process_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cpus: int,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    in_cgroup(tmp_path, lines="0::/slurm/job_7/step_0\n", mounts=VERSION_2, files={
        "v2/slurm/job_7/cpu.max": f"{quota}\n", "v2/slurm/job_7/step_0/cpu.max": "max 100000\n"})
    assert usable_cpus() == cpus


def test_a_container_sees_its_own_cgroup_by_a_path_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    in_cgroup(tmp_path, lines="4:memory:/docker/ab12\n3:cpu,cpuacct:/docker/ab12\n0::/\n", mounts=VERSION_1, files={
        "cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000", "memory/memory.limit_in_bytes": "5000000"})
    assert usable_cpus() == 3
    assert usable_memory() == 5_000_000


def test_the_memory_is_that_of_the_machine_where_no_cgroup_has_less(tmp_path: Path) -> None:
    in_cgroup(tmp_path, lines="0::/a\n", mounts=VERSION_2, files={"v2/a/memory.max": "max\n", "v2/memory.max": str(1 << 62)})
    assert usable_memory() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(("devices", "visible", "there"), [
    ((), None, False), (("nvidia-uvm", "nvidiactl"), None, False), (("nvidia3",), None, True), (("kfd",), None, True),
    (("dxg",), "0", True), (("nvidia0",), "", False), (("nvidia0",), "-1", False),
])
def test_that_there_is_no_gpu_is_known_by_what_the_kernel_shows_and_by_what_is_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: tuple[str, ...], visible: str | None, *, there: bool,
) -> None:
    for name in devices:
        (tmp_path / name).touch()
    monkeypatch.setattr(share, "DEVICES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert may_have_gpu() is there
