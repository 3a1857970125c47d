"""--compile on without a GPU: the VQGAN alone is compiled, which the log and the manifest say."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from painter_core.compute.devices import compiled_parts, model_settings
from painter_core.model_files.open import open_model
from painter_core.painting.painter import Painter, Request
from painter_core.painting.sampling import SamplingConfig
from painter_core.runs.flags import ModelFlags
from painter_core.stages.caption.run import table_job as caption_job
from painter_core.stages.generate.run import table_job
from tests.support import captioning
from tests.support.codes_table import make_codes
from tests.support.local_run import ALONE
from tests.support.painting import CAPTIONS, config_of, paint_table, write_painter, write_prompts

pytestmark = pytest.mark.usefixtures("one_thread")

NOTHING = "--compile on: on CPUs it compiles the VQGAN alone, which has nothing to do in this run"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_painter(tmp_path_factory.mktemp("compiling") / "model")


def test_codes_are_drawn_by_plain_steps(model: Path) -> None:
    """A compiled step has no packed weights, and takes longer."""
    asked = [Request(idx=str(i), text=text) for i, text in enumerate(CAPTIONS)]
    torch._dynamo.reset()
    before = counters["stats"]["unique_graphs"]
    drawn = []
    for compiled in (False, True):
        painter = Painter(
            open_model(str(model)), device=torch.device("cpu"), precision="fp32", sampling=SamplingConfig(),
            seed=1, micro_batch_size=4, compiled=compiled,
        )  # fmt: skip
        drawn.append(painter.draw(asked).codes)
        assert all(block.qkv.packed for block in painter.gpt._blocks)
    assert (drawn[0] == drawn[1]).all()
    assert counters["stats"]["unique_graphs"] == before


@pytest.mark.parametrize("compile", ["on", "off", "auto"])
def test_log_and_manifest_say_what_is_compiled(
    compile: str, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    config = config_of(model, write_prompts(tmp_path / "p.tsv"), tmp_path / "out", compile=compile)
    job, on = table_job(config, open_model(str(model)), ALONE), compile == "on"
    assert f"the model runs on CPUs, in fp32{', the VQGAN compiled' if on else ''}" in caplog.messages
    assert (job.settings["compile"], job.manifest) == (on, {"compiled": "vqgan"} if on else {})


def test_what_is_decoded_alone_is_compiled_as_a_whole(model: Path, tmp_path: Path) -> None:
    codes = tmp_path / "codes"
    paint_table(config_of(model, write_prompts(tmp_path / "prompts.tsv"), codes, codes_column=True))
    config = config_of(model, codes, tmp_path / "out", init_codes="codes", compile="on")
    job = table_job(config, open_model(str(model)), ALONE)
    assert (job.settings["compile"], job.manifest) == (True, {})


def test_a_run_that_compiles_nothing_is_refused(model: Path, write_pairs, tmp_path: Path) -> None:
    prompts, opened = write_prompts(tmp_path / "prompts.tsv"), open_model(str(model))
    flags = {"codes_column": True, "compile": "on"}
    config = config_of(model, prompts, tmp_path / "out", output_schema="idx,text", **flags)
    with pytest.raises(ValueError, match=NOTHING):
        table_job(config, opened, ALONE)
    painted_on = config_of(
        model, prompts, tmp_path / "out", output_schema="idx,text", init_image="photo", **flags
    )
    assert table_job(painted_on, opened, ALONE).manifest["compiled"] == "vqgan"


def test_captions_compile_the_encoder(model: Path, write_pairs, tmp_path: Path) -> None:
    captioner = captioning.write_captioner(tmp_path / "captioner")
    pairs, opened = write_pairs(tmp_path / "pairs.tsv", 4), open_model(str(captioner))
    config = captioning.config_of(captioner, pairs, tmp_path / "texts")
    config = dataclasses.replace(config, model=ModelFlags(precision="fp32", compile="on"))
    assert caption_job(config, opened, ALONE).manifest == {"compiled": "vqgan"}
    codes = make_codes(pairs, captioner, tmp_path / "codes")
    config = dataclasses.replace(config, table=dataclasses.replace(config.table, tables=str(codes)))
    with pytest.raises(ValueError, match=NOTHING):
        caption_job(config, opened, ALONE)


def test_a_gpu_compiles_the_steps_too() -> None:
    settings = model_settings("auto", "on", gpu=True)
    assert compiled_parts(settings, gpu=True, vqgan=False) == {}
