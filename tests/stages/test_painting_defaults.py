"""What generate.py chooses by itself: rows a call and precision, and that a run keeps what it began with."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from painter_core.compute.devices import painting_precision
from painter_core.model_files.open import open_model
from painter_core.runs.cluster import Cluster
from painter_core.runs.nodes import all_have_amx, nodes_without_amx
from painter_core.runs.run import Run
from painter_core.runs.table_run import TableRun
from painter_core.stages.generate import run as stage
from painter_core.stages.generate.config import GenerateConfig
from painter_core.stages.generate.run import table_job, warn_of_slow_nodes
from tests.support.local_run import ALONE, code_of, rows_of
from tests.support.painting import config_of, paint_table, write_painter, write_prompts

pytestmark = pytest.mark.usefixtures("one_thread")

OWN = painting_precision("auto", gpu=False)  # what this machine's CPU is fast in
OTHER = {"fp32": "bf16", "bf16": "fp32"}[OWN]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_painter(tmp_path_factory.mktemp("defaults") / "model")


def planned(config: GenerateConfig, cluster: Cluster = ALONE) -> tuple[int, str]:
    """Rows a call and precision of a run; nothing is written."""
    config = replace(config, table=replace(config.table, dry_run=True))
    table = TableRun(table_job(config, open_model(config.checkpoint_dir), cluster), Run({}), cluster)
    return table.micro_batch_size, table.job.settings["precision"]


def auto(model: Path, prompts: Path, outputs: Path, **flags: object) -> GenerateConfig:
    """No flag of speed."""
    return config_of(model, prompts, outputs, precision="auto", micro_batch_size=None, **flags)


def test_a_new_run_is_fast(model: Path, tmp_path: Path) -> None:
    for rows, expected in ((20, 16), (300, 32), (600, 64)):
        prompts = write_prompts(tmp_path / f"{rows}.tsv", rows)
        assert planned(auto(model, prompts, tmp_path / "o")) == (expected, OWN)
    assert planned(auto(model, prompts, tmp_path / "o"), replace(ALONE, cpus=64, memory_bytes=2**38)) == (
        64,
        OWN,
    )
    small = replace(ALONE, cpus=1, memory_bytes=10e6)
    assert planned(auto(model, prompts, tmp_path / "o"), small)[0] < 64
    assert planned(config_of(model, prompts, tmp_path / "o")) == (4, "fp32"), "as given"


def test_an_old_run_goes_on_as_it_began(model: Path, tmp_path: Path) -> None:
    prompts, out = write_prompts(tmp_path / "prompts.tsv", 20), tmp_path / "out"
    begun = config_of(model, prompts, out, precision=OTHER, micro_batch_size=2)
    paint_table(begun)
    whole = rows_of(out)
    for path in [out / "_SUCCESS", out / "manifest.json", sorted(out.glob("part-*"))[1]]:
        path.unlink()
    (out / "_run" / "commits" / "000001.json").unlink()
    assert planned(auto(model, prompts, out)) == (2, OTHER)
    paint_table(auto(model, prompts, out))
    assert rows_of(out) == whole
    settings = json.loads((out / "manifest.json").read_text())["settings"]
    assert (settings["precision"], settings["micro_batch_size"]) == (OTHER, 2)
    # asked for, another precision is another run; and so is another seed, which does not inherit
    assert (
        code_of(lambda: paint_table(config_of(model, prompts, out, precision=OWN, micro_batch_size=2))) == 4
    )
    other = auto(model, prompts, out, random_seed=1)
    assert table_job(other, open_model(str(model)), ALONE).settings["precision"] == OWN


def test_the_nodes_decide_and_not_the_driver(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert (all_have_amx(lambda: True), all_have_amx(lambda: False)) == (True, False)
    assert caplog.text == "", "one machine is as it is"
    prompts, out = write_prompts(tmp_path / "prompts.tsv", 20), tmp_path / "out"
    paint_table(config_of(model, prompts, out))
    monkeypatch.setattr(stage, "all_have_amx", lambda: OTHER == "bf16")
    assert planned(auto(model, prompts, tmp_path / "new")) == (16, OTHER)
    assert planned(auto(model, prompts, out)) == (4, "fp32"), "a run that was begun keeps its own"


def test_a_node_that_emulates_the_precision_is_named(caplog: pytest.LogCaptureFixture) -> None:
    nodes = partial(nodes_without_amx, lambda: False)
    warn_of_slow_nodes("fp32", nodes)
    warn_of_slow_nodes("bf16", partial(nodes_without_amx, lambda: True))
    assert caplog.text == ""
    warn_of_slow_nodes("bf16", nodes)
    assert "this machine: its CPU has no AMX for bf16, the precision of this run's plan" in caplog.text
