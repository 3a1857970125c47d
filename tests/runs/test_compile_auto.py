"""--compile auto on GPUs: compiled where there is enough to do, and a run goes on as it began."""

import contextlib
import dataclasses
from pathlib import Path

import pytest

from painter_core.compute.devices import model_settings
from painter_core.compute.gpu import GpuLook
from painter_core.runs import gpus
from painter_core.runs.cluster import Cluster
from painter_core.runs.flags import ModelFlags, TableFlags
from painter_core.runs.run import Run
from painter_core.runs.table_run import TableJob, TableRun
from painter_core.tables.columns import Columns
from painter_core.training.run_flags import TrainingRunFlags

GPUS = Cluster(cpus=4, gpus=2, memory_bytes=2**34)


def planned(
    tmp_path: Path, rows: int, compile: str = "auto", cluster: Cluster = GPUS, compiled_from: int = 3
) -> bool:
    table = tmp_path / "pairs.tsv"
    if not table.exists():
        table.write_text("".join(f"r{i}\t杯子\tx\n" for i in range(rows)))
    flags = TableFlags(tables=str(table), outputs=str(tmp_path / "out"))
    job = TableJob(
        stage="precompute",
        table="codes",
        flags=flags,
        columns=Columns(schema=("idx", "text", "imgbase64"), text="text", image="imgbase64"),
        identity={"vqgan_sha256": "1"},
        model=ModelFlags(),
        settings=model_settings("auto", compile, gpu=cluster.gpus > 0),
        compiled_from=compiled_from,
    )
    with contextlib.suppress(SystemExit), Run({}) as run:
        made = TableRun(job, run, cluster)
        raise KeyboardInterrupt  # before the work, which gives the lock back
    assert made.job.settings["compile"] == made.plan.settings["compile"]
    return made.plan.settings["compile"]


@pytest.mark.parametrize(("rows", "compile", "expected"), [
    (6, "auto", True), (5, "auto", False), (5, "on", True), (6, "off", False),
])  # fmt: skip
def test_a_table_that_is_large_enough_is_compiled(
    tmp_path: Path, rows: int, compile: str, expected: bool
) -> None:
    assert planned(tmp_path, rows, compile) is expected


def test_a_cpu_does_not_compile_by_itself(tmp_path: Path) -> None:
    cpus = dataclasses.replace(GPUS, gpus=0)
    assert planned(tmp_path, 100, cluster=cpus) is False


def test_a_run_goes_on_as_it_began(tmp_path: Path) -> None:
    assert planned(tmp_path, 6) is True
    assert planned(tmp_path, 6, compiled_from=100) is True


def test_where_torch_cannot_compile_it_is_off_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    look = GpuLook(problem="", compile_problem="no gcc")
    monkeypatch.setattr(gpus, "look_at_gpus", lambda *, compiling: {"node 10.0.0.7": look})
    assert planned(tmp_path, 6) is False
    assert "NOT COMPILED: torch.compile does not work on node 10.0.0.7: no gcc" in caplog.text


def test_training_goes_on_uncompiled_where_torch_cannot_unless_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    look = GpuLook(problem="", compile_problem="no gcc")
    monkeypatch.setattr(gpus, "look_at_gpus", lambda *, compiling: {"node 10.0.0.7": look})
    flags = TrainingRunFlags()
    assert gpus.settle_compile(flags, use_gpu=True).compile == "off"
    assert "NOT COMPILED: torch.compile does not work on node 10.0.0.7: no gcc" in caplog.text
    assert gpus.settle_compile(flags, use_gpu=False) == flags
    with pytest.raises(ValueError, match=r"--compile on: torch.compile does not work on node 10\.0\.0\.7"):
        gpus.settle_compile(dataclasses.replace(flags, compile="on"), use_gpu=True)
