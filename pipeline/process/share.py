"""What of this machine its processes may use: a task set, a container or a scheduler's job may have less than the whole."""

import os
import resource
from pathlib import Path

PROCESS = Path("/proc/self")
SLURM = "SLURM_CPUS_ON_NODE"
"""CPUs that Slurm gave the job here. Some sites enforce it by nothing; it is the share all the same."""
GPUS = ("nvidia[0-9]*", "dxg", "kfd")
"""Devices of GPUs that torch can mean by cuda: NVIDIA's, those of Windows below Linux, AMD's."""
DEVICES = Path("/dev")
UNLIMITED = 1 << 60
"""Version 1 of cgroups writes a number above this where there is no limit."""


def usable_cpus() -> int:
    """CPUs that this process may use, at least 1: those it may run on, no more than the quota of its cgroups and a Slurm job's."""
    slurm = os.environ.get(SLURM, "")
    limits = [float(len(os.sched_getaffinity(0))), *_quotas()] + ([float(slurm)] if slurm.isdecimal() else [])
    return max(1, int(min(limits)))


def usable_memory() -> int:
    """Bytes of memory that this process may use: those of the machine, no more than its cgroups allow."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    texts = _texts("memory", "memory.limit_in_bytes") + _texts("", "memory.max")
    return min([whole, *(int(text) for text in texts if text.isdecimal() and 0 < int(text) < UNLIMITED)])


def address_space() -> int | None:
    """Bytes that this process may map (`ulimit -v`); None where there is no limit."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def may_have_gpu() -> bool:
    """Whether there may be a GPU that this process and its children may use. Without torch, which alone knows whether one answers:
    False is certain."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = visible is not None and visible.strip() in ("", "-1")
    return not hidden and any(True for name in GPUS for _ in DEVICES.glob(name))


def _quotas() -> list[float]:
    """CPUs by the quotas of the cgroups that the process is in."""
    pairs = [text.split() for text in _texts("", "cpu.max")]
    pairs += [[quota, period] for quota, period in zip(
        _texts("cpu", "cpu.cfs_quota_us"), _texts("cpu", "cpu.cfs_period_us"), strict=False)]
    numbers = [(int(quota), int(period)) for quota, period in pairs if quota.isdecimal() and period.isdecimal()]
    return [quota / period for quota, period in numbers if quota > 0 and period > 0]


def _texts(controller: str, name: str) -> list[str]:
    """What the file `name` of a controller says in every cgroup from that of this process to the root; "": of version 2. In a
    container the path is that of the host, and what is mounted begins at the container's own: that one is looked at in any case."""
    found = []
    for folder in _folders(controller):
        try:
            found.append((folder / name).read_text().strip())
        except OSError:   # no such controller there, or no such cgroup inside the container
            continue
    return found


def _folders(controller: str) -> list[Path]:
    folders: list[Path] = []
    for line in _lines("cgroup"):
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            for mount in _mounts(controller):
                inside = mount / path.lstrip("/")
                folders += [folder for folder in (inside, *inside.parents) if folder == mount or mount in folder.parents]
    return list(dict.fromkeys(folders))


def _mounts(controller: str) -> list[Path]:
    """Where the cgroups of a controller are mounted. A line of mountinfo: … ROOT MOUNT options - TYPE SOURCE OPTIONS."""
    mounts = []
    for line in _lines("mountinfo"):
        before, _, after = line.partition(" - ")
        kind, *_, options = after.split()
        if kind == ("cgroup" if controller else "cgroup2") and (not controller or controller in options.split(",")):
            mounts.append(Path(before.split()[4]))
    return mounts


def _lines(name: str) -> list[str]:
    try:
        return (PROCESS / name).read_text().splitlines()
    except OSError:   # not Linux
        return []
