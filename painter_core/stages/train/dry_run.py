"""--dry-run of jobs/train.py: one step in the driver's own process, and how long it took."""

import dataclasses
import time

import numpy as np
import torch

from painter_core.model_files.open import open_model
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.training.gpt import update
from painter_core.training.gpt_config import MICRO_BATCH, TrainConfig
from painter_core.training.optimizers import make_optimizers
from painter_core.training.samples import Samples
from painter_core.training.tasks import task_of
from painter_core.training.trained import Trained
from painter_core.training.worker import log_step, lone_worker


def gpt_step(config: TrainConfig, gpt: GPTConfig, *, use_gpu: bool) -> None:
    """One update of the GPT on random codes, by one worker.

    Raises:
        ValueError: the pretrained weights do not load.
    """
    worker = lone_worker(config.precision, use_gpu=use_gpu)
    if use_gpu and worker.device.type == "cpu":  # the head of a cluster: no GPU, and little memory
        most = min(config.micro_batch_size or MICRO_BATCH, MICRO_BATCH)
        config = dataclasses.replace(
            config, micro_batch_size=most, batch_size=None, gradient_accumulation_steps=1
        )
    torch.manual_seed(config.run.random_seed)
    name = config.pretrained_model_name_or_path
    start = open_model(name).load_gpt().train() if name else GPT(gpt)
    trained = Trained(config.both_ways.fitted(start), config, worker)
    trained.spread()
    model = trained.gpt
    rows = np.arange((config.micro_batch_size or MICRO_BATCH) * config.gradient_accumulation_steps)
    generator = np.random.default_rng(config.run.random_seed)
    text = generator.integers(gpt.codebook_size, gpt.vocab_size, (len(rows), gpt.text_len), np.int32)
    codes = generator.integers(0, gpt.codebook_size, (len(rows), gpt.image_len)).astype(np.uint16)
    samples = Samples(text_ids=text, codes=codes, pad_id=gpt.codebook_size)
    task = task_of(config, gpt, samples, epoch=0)
    optimizers = make_optimizers(model, config, worker.precision)
    if worker.device.type == "cuda":  # the first step loads kernels
        update(model, optimizers, task, rows, config, worker)
    began = time.monotonic()
    update(model, optimizers, task, rows, config, worker)
    log_step(len(rows), time.monotonic() - began, worker)
