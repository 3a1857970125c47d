"""How many CPUs this process may use, and what they can; the standard library only, and Linux' files.

os.cpu_count() counts those of the machine: a process that is bound to some CPUs (taskset, Slurm), or whose
container has a quota (docker --cpus, Kubernetes limits), would start too many workers and threads by it.
"""

import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
CPU_INFO = Path("/proc/cpuinfo")


def usable_cpus(cgroups: Path = CGROUPS, own_groups: Path = OWN_GROUPS) -> int:
    """CPUs of this process: those that it is bound to, fewer by a quota, at least 1.

    Args:
        cgroups: where control groups are mounted.
        own_groups: the file that names this process' own.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(bound, cgroup_cpus(cgroups, own_groups))))


def cpu_has_amx(cpu_info: Path = CPU_INFO) -> bool:
    """Whether this machine's CPU multiplies whole tiles in bfloat16, several times as fast as in float32.

    Others emulate it, or, with AVX512-BF16, are no faster in painting and slower in training.
    """
    return "amx_bf16" in _flags(cpu_info)


def _flags(cpu_info: Path) -> set[str]:
    try:
        return set(cpu_info.read_text().split("flags", 1)[-1].split("\n", 1)[0].split())
    except OSError:
        return set()


def cgroup_cpus(cgroups: Path, own_groups: Path) -> float:
    """The tightest CPU quota of the process' control group and those above it (v1 or v2), in CPUs; inf for
    none."""
    found = (_quota(directory) for directory in _groups(cgroups, own_groups))
    return min(found, default=float("inf"))


def _groups(cgroups: Path, own_groups: Path) -> Iterator[Path]:
    """Directories of the groups that limit this process' CPUs, from its own up to the top one.

    In a container its own group is often mounted as the top one, so those that are not there are passed over.
    """
    try:
        lines = own_groups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:  # version 2
            top = cgroups
        elif "cpu" in controllers.split(","):
            top = cgroups / controllers
        else:
            continue
        own = Path(path.lstrip("/"))
        if ".." not in own.parts:
            yield from (top / part for part in (own, *own.parents) if part.name)
        yield top


def _quota(group: Path) -> float:
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
    except OSError:  # a group without a quota, or not this process' to read
        return float("inf")
    return float("inf") if quota.strip() in ("max", "-1") else int(quota) / int(period)
