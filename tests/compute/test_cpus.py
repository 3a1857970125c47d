"""How many CPUs this process may really use: by affinity, and by the quotas of its control groups."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from painter_core.compute.cpus import cgroup_cpus, cpu_has_amx, usable_cpus
from tests.support.jobs import ROOT

NONE = float("inf")


def write(directory: Path, **files: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text + "\n")


def own_group(tmp_path: Path, lines: str) -> Path:
    (tmp_path / "cgroup").write_text(lines)
    return tmp_path / "cgroup"


@pytest.mark.parametrize(
    ("top", "parent", "own", "expected"),
    [
        ("max 100000", "max 100000", "max 100000", NONE),
        ("max 100000", "max 100000", "400000 100000", 4),
        ("max 100000", "200000 100000", "400000 100000", 2),  # the tightest one counts
        ("150000 100000", "max 100000", "max 100000", 1.5),
        ("max 100000", "max 100000", "25000 50000", 0.5),
    ],
)
def test_quotas_of_version_2(top: str, parent: str, own: str, expected: float, tmp_path: Path) -> None:
    group = own_group(tmp_path, "0::/user.slice/job.scope\n")
    write(tmp_path / "fs", cpu__max=top)
    write(tmp_path / "fs/user.slice", cpu__max=parent)
    write(tmp_path / "fs/user.slice/job.scope", cpu__max=own)
    assert cgroup_cpus(tmp_path / "fs", group) == expected


@pytest.mark.parametrize("controllers", ["cpu,cpuacct", "cpu"])
@pytest.mark.parametrize(("quota", "expected"), [("-1", NONE), ("350000", 3.5)])
def test_quotas_of_version_1(controllers: str, quota: str, expected: float, tmp_path: Path) -> None:
    group = own_group(tmp_path, f"12:memory:/docker/x\n3:{controllers}:/docker/x\n0::/docker/x\n")
    # in a container its own group is the top of what it sees, whatever /proc says
    write(tmp_path / "fs" / controllers, cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000")
    assert cgroup_cpus(tmp_path / "fs", group) == expected


def test_a_group_of_version_1_with_its_whole_path(tmp_path: Path) -> None:
    group = own_group(tmp_path, "3:cpu,cpuacct:/slurm/job_7\n")
    write(tmp_path / "fs/cpu,cpuacct", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    write(tmp_path / "fs/cpu,cpuacct/slurm/job_7", cpu__cfs_quota_us="800000", cpu__cfs_period_us="100000")
    assert cgroup_cpus(tmp_path / "fs", group) == 8


@pytest.mark.parametrize("lines", ["", "0::/\n", "0::/../..\n", "nonsense\n"])
def test_without_control_groups_there_is_no_quota(lines: str, tmp_path: Path) -> None:
    (tmp_path / "fs").mkdir()
    assert cgroup_cpus(tmp_path / "fs", own_group(tmp_path, lines)) == NONE
    assert cgroup_cpus(tmp_path / "fs", tmp_path / "absent") == NONE


@pytest.mark.parametrize(("quota", "expected"), [("150000", 1), ("20000", 1), ("99900000", None)])
def test_whole_cpus_at_least_one_and_no_more_than_there_are(
    quota: str, expected: int | None, tmp_path: Path
) -> None:
    group = own_group(tmp_path, "0::/\n")
    write(tmp_path / "fs", cpu__max=f"{quota} 100000")
    here = len(os.sched_getaffinity(0))
    assert usable_cpus(tmp_path / "fs", group) == (expected or here)


def test_a_process_that_is_bound_to_one_cpu_has_one() -> None:
    """As batch systems and `taskset` do it; os.cpu_count() is that of the machine."""
    cpu = min(os.sched_getaffinity(0))
    code = (
        "import sys; from painter_core.compute.cpus import usable_cpus\n"
        "print(usable_cpus(), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        ["taskset", "-c", str(cpu), sys.executable, "-c", code],
        capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout == "1 False\n"


@pytest.mark.parametrize(
    ("flags", "amx"),
    [("fpu avx512f avx512_bf16", False), ("fpu amx_bf16 amx_tile", True), ("fpu avx2 avx512f", False)],
)
def test_who_multiplies_tiles_in_bf16(flags: str, amx: bool, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: amx_bf16_bug\n")
    assert cpu_has_amx(tmp_path / "cpuinfo") is amx
    assert not cpu_has_amx(tmp_path / "none")
