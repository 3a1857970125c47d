"""--dry-run of the training jobs: one step in the driver's own process, and how long it took."""

import logging
import os
import time
from typing import Literal

import numpy as np
import torch

from painter_core.checkpoint import open_model
from painter_core.devices import resolve_training_precision
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.models.vqgan import VQGAN, VQGANConfig
from painter_core.optimizers import make_optimizers
from painter_core.perceptual_weights import load_perceptual, perceptual_files
from painter_core.training import Samples, TrainConfig, Worker, train_step
from painter_core.vqgan_training import VQGANTrainConfig, VQGANTrainer

log = logging.getLogger(__name__)


def gpt_step(config: TrainConfig, gpt: GPTConfig, *, use_gpu: bool) -> None:
    """One update of the GPT on random codes, by one worker.

    Raises:
        ValueError: the pretrained weights do not load.
    """
    worker = _alone(config.precision, use_gpu=use_gpu)
    torch.manual_seed(config.random_seed)
    name = config.pretrained_model_name_or_path
    model = (open_model(name).load_gpt().train() if name else GPT(gpt)).to(worker.device)
    rows = np.arange(config.micro_batch_size * config.gradient_accumulation_steps)
    generator = np.random.default_rng(config.random_seed)
    text = generator.integers(gpt.codebook_size, gpt.vocab_size, (len(rows), gpt.text_len), np.int32)
    codes = generator.integers(0, gpt.codebook_size, (len(rows), gpt.image_len)).astype(np.uint16)
    samples = Samples(text_ids=text, codes=codes, pad_id=gpt.codebook_size)
    optimizers = make_optimizers(model, config)
    began = time.monotonic()
    train_step(model, optimizers, samples, rows, config, worker)
    _report(len(rows), time.monotonic() - began, worker)


def vqgan_step(config: VQGANTrainConfig, vqgan: VQGANConfig, *, use_gpu: bool) -> None:
    """One update of the VQGAN on random pictures, by one worker.

    Raises:
        ValueError: the weights of --vqgan do not load.
    """
    worker = _alone(config.precision, use_gpu=use_gpu)
    torch.manual_seed(config.random_seed)
    model = open_model(config.vqgan).load_vqgan() if config.vqgan else VQGAN(vqgan)
    flag = config.perceptual_weights
    perceptual = load_perceptual(perceptual_files(flag)) if flag else None
    trainer = VQGANTrainer(model.train(), config, worker, perceptual)
    generator = np.random.default_rng(config.random_seed)
    side = vqgan.image_size
    pictures = generator.integers(0, 256, (config.micro_batch_size, side, side, 3), np.uint8)
    began = time.monotonic()
    trainer.train_step(pictures)
    _report(len(pictures), time.monotonic() - began, worker)


def _alone(precision: Literal["auto", "fp32", "bf16"], *, use_gpu: bool) -> Worker:
    """A worker without others; on a CPU if this node, unlike the workers', has no GPU."""
    device = torch.device("cuda" if use_gpu and torch.cuda.is_available() else "cpu")
    torch.set_num_threads(os.cpu_count() or 1)
    precision = resolve_training_precision(precision, device)
    return Worker(rank=0, world_size=1, device=device, precision=precision)


def _report(num_samples: int, seconds: float, worker: Worker) -> None:
    log.info(
        "dry run: one step of one worker, %d samples, on %s in %s: %.2f s, %.1f samples/s",
        num_samples,
        worker.device,
        worker.precision,
        seconds,
        num_samples / seconds,
    )
