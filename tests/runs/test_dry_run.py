"""--dry-run where the driver has no GPU and the workers have: the sample is done as on CPUs."""

import dataclasses
from pathlib import Path

import pytest
import torch._dynamo.utils

from painter_core.model_files.open import open_model
from painter_core.runs.cluster import Cluster
from painter_core.runs.run import Run
from painter_core.runs.steps import Parts
from painter_core.runs.table_run import TableRun
from painter_core.stages.generate.run import steps_of, table_job
from tests.support.painting import config_of, write_painter, write_prompts

pytestmark = pytest.mark.usefixtures("one_thread")

GPUS = Cluster(cpus=16, gpus=2, memory_bytes=2**36)


@pytest.mark.parametrize(("given", "taken"), [(None, 16), (4, 4)])
def test_a_head_without_a_gpu_takes_no_batch_of_a_gpu(
    given: int | None, taken: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """512 rows and compiled models are the plan's, and more than a head has memory for."""
    caplog.set_level("INFO")
    model = write_painter(tmp_path / "model")
    prompts = write_prompts(tmp_path / "prompts.tsv", 20)
    config = config_of(model, prompts, tmp_path / "out", micro_batch_size=given, compile="on")
    config = dataclasses.replace(config, table=dataclasses.replace(config.table, dry_run=True))
    opened = open_model(str(model))
    table = TableRun(table_job(config, opened, GPUS), Run({}), GPUS)
    assert table.plan.settings["micro_batch_size"] == (given or 512)
    torch._dynamo.utils.counters.clear()
    table.execute(*steps_of(config, opened, table), parts=Parts(build=config.output_table()))
    assert "this process has no GPU, so the sample is computed on its CPU" in caplog.text
    assert f"sampling: {taken} pictures a batch" in caplog.text
    assert "dry run: sample of 20 rows in this process: 20 out" in caplog.text
    assert not torch._dynamo.utils.counters["frames"], "nothing was compiled"
    assert not (tmp_path / "out").exists()
