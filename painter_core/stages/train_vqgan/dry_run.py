"""--dry-run of jobs/train_vqgan.py: one step in the driver's own process, and how long it took."""

import dataclasses
import time

import numpy as np
import torch

from painter_core.model_files.open import open_model
from painter_core.models.vqgan import VQGAN, VQGANConfig
from painter_core.training.perceptual_weights import load_perceptual, perceptual_files
from painter_core.training.vqgan import VQGANTrainer
from painter_core.training.vqgan_config import VQGANTrainConfig
from painter_core.training.worker import log_step, lone_worker

CPU_ROWS = 4  # of a step that is planned for GPUs


def vqgan_step(config: VQGANTrainConfig, vqgan: VQGANConfig, *, use_gpu: bool) -> None:
    """One update of the VQGAN on random pictures, by one worker.

    Raises:
        ValueError: the weights of --vqgan do not load.
    """
    worker = lone_worker(config.precision, use_gpu=use_gpu)
    if use_gpu and worker.device.type == "cpu":  # the head of a cluster: no GPU, and little memory
        rows, run = min(CPU_ROWS, config.micro_batch_size), dataclasses.replace(config.run, compile="off")
        config = dataclasses.replace(config, micro_batch_size=rows, run=run)
    torch.manual_seed(config.run.random_seed)
    model = open_model(config.vqgan).load_vqgan() if config.vqgan else VQGAN(vqgan)
    flag = config.perceptual_weights
    perceptual = load_perceptual(perceptual_files(flag)) if flag else None
    trainer = VQGANTrainer(model.train(), config, worker, perceptual)
    generator = np.random.default_rng(config.run.random_seed)
    side = vqgan.image_size
    pictures = generator.integers(0, 256, (config.micro_batch_size, side, side, 3), np.uint8)
    if worker.device.type == "cuda":  # the first step is compiled
        trainer.train_step(pictures)
    began = time.monotonic()
    trainer.train_step(pictures)
    log_step(len(pictures), time.monotonic() - began, worker)
