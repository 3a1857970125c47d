"""Training workers compare what they load with the plan (fault 2), and keep no credentials (17b)."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from painter_core.errors import Changed, Stop
from painter_core.files.storage import filesystem
from painter_core.model_files.directory import write_model
from painter_core.models.vqgan import VQGAN, VQGANConfig
from painter_core.runs.run import Run
from painter_core.stages.train import loop as gpt_loop
from painter_core.stages.train.plan import TrainPlan
from painter_core.stages.train.plan import make_plan as gpt_make_plan
from painter_core.stages.train_vqgan import loop as vqgan_loop
from painter_core.stages.train_vqgan.plan import VQGANPlan
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.output import open_output
from painter_core.training.run_flags import TrainingRunFlags
from painter_core.training.vqgan_config import VQGANTrainConfig
from painter_core.training.worker import Worker
from tests.models.test_perceptual import vgg_state
from tests.stages.test_pins import plan as gpt_plan
from tests.stages.test_pins import write as gpt_model
from tests.support.codes_table import make_codes
from tests.support.jobs import SMALL_VQGAN
from tests.support.local_run import ALONE, code_of
from tests.support.training import planned

ONE = Worker(rank=0, world_size=1, device=torch.device("cpu"), precision="fp32")


pytestmark = pytest.mark.usefixtures("cache")


def begin(loop: ModuleType, plan: TrainPlan | VQGANPlan) -> Any:
    """What a worker loads, without Ray."""
    with open_output(plan.root) as output:
        return loop._Run(plan, output, ONE)


def vqgan_plan(tables: Path | str, out: Path, **flags: object) -> VQGANPlan:
    config = VQGANTrainConfig(
        tables=str(tables), outputs=str(out), max_steps=2, micro_batch_size=4, precision="fp32",
        run=TrainingRunFlags(keep_checkpoints=1, save_checkpoint_steps=1, logging_steps=1),
        **({"quantize_after": 1, "geometry": SMALL_VQGAN} | flags),
    )  # type: ignore[arg-type]  # fmt: skip
    found = planned(config)
    assert found is not None
    return found


def test_pictures_and_weights_that_change_under_a_training_stop_its_workers(
    write_pairs: Callable, tiny_vqgan: Path, tmp_path: Path
) -> None:
    table = write_pairs(tmp_path / "pairs.tsv", 8)
    start, weights = tmp_path / "start", tmp_path / "vgg.pth"
    shutil.copytree(tiny_vqgan, start)
    torch.save(vgg_state(), weights)
    given = {"vqgan": str(start), "geometry": VQGANConfig(), "quantize_after": 200}
    plan = vqgan_plan(table, tmp_path / "out", perceptual_weights=str(weights), **given)
    begin(vqgan_loop, plan)
    torch.save(vgg_state() | {"features.0.bias": torch.ones(64)}, weights)
    with pytest.raises(Changed, match="perceptual_sha256 is"):
        begin(vqgan_loop, plan)
    torch.manual_seed(9)
    shutil.rmtree(start)
    write_model(start, vqgan=VQGAN(SMALL_VQGAN), card="")
    with pytest.raises(Changed, match="start_sha256 is"):
        begin(vqgan_loop, plan)
    os.utime(table, (1, 1))
    with pytest.raises(Changed, match=r"tables is .*but the run was planned with"):
        begin(vqgan_loop, plan)


def test_a_vqgan_and_a_vocabulary_that_change_under_a_training_stop_its_workers(
    write_pairs: Callable, tiny_vqgan: Path, tmp_path: Path
) -> None:
    """The VQGAN of the codes becomes a part of every checkpoint."""
    codes = make_codes(write_pairs(tmp_path / "pairs.tsv", 16), tiny_vqgan, tmp_path / "codes")
    plan = gpt_plan([codes], tmp_path / "model")
    run = begin(gpt_loop, plan)
    kept = (codes / "_run" / "vqgan" / "vqgan.safetensors").read_bytes()
    torch.manual_seed(9)
    write_model(tmp_path / "other", vqgan=VQGAN(SMALL_VQGAN), card="")
    shutil.copyfile(tmp_path / "other" / "vqgan.safetensors", codes / "_run" / "vqgan" / "vqgan.safetensors")
    with pytest.raises(ValueError, match="but the codes were made by"):
        run._write(run.trained.gpt, {}, tmp_path / "checkpoint")
    with pytest.raises(ValueError, match="but the codes were made by"):
        begin(gpt_loop, plan)
    (codes / "_run" / "vqgan" / "vqgan.safetensors").write_bytes(kept)
    begin(gpt_loop, plan)
    with Path(plan.tokenizer_dir, "vocab.txt").open("a") as file:
        file.write("龘\n")
    with pytest.raises(Changed, match="tokenizer_sha256 is"):
        begin(gpt_loop, plan)


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The beginning of a URL with a key and a password; what it names lies in this process' directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key:S3CRET@b").mkdir()
    return "file://key:S3CRET@b"


def written(root: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_a_training_keeps_no_credentials(
    secret: str, write_pairs: Callable, tiny_vqgan: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """plan.json, checkpoints with their cards, best/, last/, metrics, TensorBoard, summary, log (17b)."""
    bucket = tmp_path / "key:S3CRET@b"
    caplog.set_level("INFO")
    make_codes(write_pairs(bucket / "pairs.tsv", 16), tiny_vqgan, bucket / "codes")
    caplog.clear()  # of a plain path, which is no URL
    shutil.copytree(gpt_model(tmp_path / "m", 1, tiny_vqgan), bucket / "model")
    run = Run({})
    config = TrainConfig(
        tables=f"{secret}/codes,{secret}/codes", checkpoint_dir=str(tmp_path / "out"), precision="fp32",
        pretrained_model_name_or_path=f"{secret}/model",
        run=TrainingRunFlags(save_checkpoint_steps=1, logging_steps=1),
    )  # fmt: skip

    def job() -> None:
        with run:
            planned = gpt_make_plan(config, run, ALONE)
            assert planned is not None
            gpt_loop.train_as(ONE, planned[0])
            raise Stop(1, f"--tables {secret}/codes: a message")

    assert code_of(job) == 1
    pairs = "memory://key:S3CRET@b/pairs.tsv"
    fs, path = filesystem(pairs)
    fs.pipe_file(path, (bucket / "pairs.tsv").read_bytes())
    vqgan = vqgan_plan(pairs, tmp_path / "vqgan")
    vqgan_loop.train_as(ONE, vqgan)
    for out in ("out", "vqgan"):
        files = written(tmp_path / out)
        names = {Path(name).name for name in files}
        assert {"plan.json", "README.md", "metrics.jsonl", "state.pt", "outcome.json"} <= names
        assert [name for name, data in files.items() if b"S3CRET" in data] == []
    assert "a message" in json.loads((tmp_path / "out" / "summary.json").read_text())["message"]
    assert "S3CRET" not in caplog.text
