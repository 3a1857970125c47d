"""jobs/upscale.py on Ray: the same bytes as in one process, also after a kill."""

import os
import signal
from pathlib import Path

import pytest

from painter_core.runs.flags import TableFlags
from painter_core.stages.upscale.config import UpscaleConfig
from painter_core.upscaling.flags import UpscaleFlags
from tests.support.jobs import Jobs, table_bytes
from tests.support.local_run import faults
from tests.support.upscaling import enlarge_table, import_spandrel, write_network, write_torchvision

NAMES = {"input_schema": "idx,text,imgbase64", "second_sequence": "imgbase64"}


def enlarged_here(pairs: Path, outputs: Path, upscaler: str = "lanczos") -> dict[str, bytes]:
    table = TableFlags(tables=str(pairs), outputs=str(outputs), max_reject_fraction=0.5)
    enlarge_table(UpscaleConfig(table=table, upscaling=UpscaleFlags(upscale=2, upscaler=upscaler), **NAMES))
    return table_bytes(outputs) | {f"rejects/{k}": v for k, v in table_bytes(outputs / "rejects").items()}


def broken_pairs(pairs: Path) -> Path:
    """A table with one picture that cannot be read."""
    lines = pairs.read_text(encoding="utf-8").splitlines(keepends=True)
    lines[17] = "r17\t红\tAAAA\n"
    pairs.write_text("".join(lines), encoding="utf-8")
    return pairs


def test_the_same_bytes_as_in_one_process(jobs: Jobs, write_pairs, tmp_path: Path) -> None:
    pairs = broken_pairs(write_pairs(tmp_path / "pairs.tsv", 40))
    flags = [x for name, value in NAMES.items() for x in (f"--{name.replace('_', '-')}", value)]
    jobs.run(
        "upscale", "--tables", pairs, "--outputs", tmp_path / "there", "--upscale", 2,
        "--max-reject-fraction", 0.5, *flags,
    )  # fmt: skip
    found = table_bytes(tmp_path / "there")
    found |= {f"rejects/{k}": v for k, v in table_bytes(tmp_path / "there" / "rejects").items()}
    assert found == enlarged_here(pairs, tmp_path / "here")
    assert len(found) == 4


@pytest.mark.slow
def test_a_killed_driver_and_poisoned_pictures_cost_nothing_else(
    jobs: Jobs, write_pairs, tmp_path: Path
) -> None:
    """The driver dies after the first unit; then one picture kills its decoder every time."""
    pairs = write_pairs(tmp_path / "pairs.tsv", 40)
    flags = [x for name, value in NAMES.items() for x in (f"--{name.replace('_', '-')}", value)]
    flags += ["--tables", pairs, "--outputs", tmp_path / "out", "--upscale", 2, "--max-reject-fraction", 0.5]
    dying = faults(tmp_path / "faults", "unit_counted:kill:1")
    jobs.run("upscale", *flags, code=-signal.SIGKILL, **dying)
    jobs.run("upscale", *flags)
    assert table_bytes(tmp_path / "out") == {
        name: data
        for name, data in enlarged_here(pairs, tmp_path / "here").items()
        if not name.startswith("rejects")
    }
    flags[flags.index(tmp_path / "out")] = tmp_path / "poisoned"
    jobs.run("upscale", *flags, PAINTER_ENABLE_FAULTS="1", PAINTER_POISON="9:exit")
    assert b"worker_crash" in b"".join(table_bytes(tmp_path / "poisoned" / "rejects").values())


@pytest.mark.slow
def test_a_network_enlarges_as_in_one_process(jobs: Jobs, write_pairs, tmp_path: Path) -> None:
    import_spandrel()
    pairs, network = (
        broken_pairs(write_pairs(tmp_path / "pairs.tsv", 40)),
        write_network(tmp_path / "x2.pth", 2),
    )
    flags = [x for name, value in NAMES.items() for x in (f"--{name.replace('_', '-')}", value)]
    paths = (write_torchvision(tmp_path / "packages"), *os.environ.get("PYTHONPATH", "").split(os.pathsep))
    jobs.run(
        "upscale", "--tables", pairs, "--outputs", tmp_path / "there", "--upscale", 2, "--upscaler", network,
        "--max-reject-fraction", 0.5, *flags,
        PYTHONPATH=os.pathsep.join(str(p) for p in paths if p),
        RAY_ADDRESS="",  # a Ray of its own, whose workers have this path too
    )  # fmt: skip
    found = table_bytes(tmp_path / "there")
    found |= {f"rejects/{k}": v for k, v in table_bytes(tmp_path / "there" / "rejects").items()}
    assert found == enlarged_here(pairs, tmp_path / "here", str(network))
    assert len(found) == 4
