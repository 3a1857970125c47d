"""--dry-run of trainings that are planned for GPUs, on a driver that has none."""

import pytest

from painter_core.models.gpt import GPTConfig
from painter_core.stages.train.dry_run import gpt_step
from painter_core.stages.train_vqgan.dry_run import vqgan_step
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.run_flags import TrainingRunFlags
from painter_core.training.vqgan_config import VQGANTrainConfig
from tests.support.jobs import SMALL_VQGAN

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = GPTConfig(
    text_vocab_size=50, codebook_size=64, text_len=4, image_len=16, n_layer=1, n_head=1, n_embd=8
)


def test_a_head_without_a_gpu_tries_few_samples_and_compiles_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    compiled = TrainingRunFlags(compile="on")
    vqgan = VQGANTrainConfig(tables="-", outputs="-", micro_batch_size=64, precision="fp32", run=compiled)
    vqgan_step(vqgan, SMALL_VQGAN, use_gpu=True)
    assert "one step of one worker, 4 samples, on cpu in fp32" in caplog.text
    with pytest.raises(ValueError, match="--compile on: not for a VQGAN on a CPU"):
        vqgan_step(vqgan, SMALL_VQGAN, use_gpu=False)
    gpt = TrainConfig(
        tables="-", checkpoint_dir="-", micro_batch_size=64, gradient_accumulation_steps=2, run=compiled,
        precision="fp32",
    )  # fmt: skip
    gpt_step(gpt, TINY, use_gpu=True)
    assert "one step of one worker, 16 samples, on cpu in fp32" in caplog.text
    gpt_step(gpt, TINY, use_gpu=False)
    assert "one step of one worker, 128 samples, on cpu in fp32" in caplog.text
