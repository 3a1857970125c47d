"""Training jobs without Ray: plan, lock, checkpoints and end as in the jobs, one worker in this process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from painter_core.files.storage import filesystem, join
from painter_core.models.vqgan import VQGANConfig
from painter_core.runs.ray_train import complete
from painter_core.runs.run import Run
from painter_core.stages.train import loop as gpt_loop
from painter_core.stages.train import plan as gpt_plan
from painter_core.stages.train_vqgan import loop as vqgan_loop
from painter_core.stages.train_vqgan import plan as vqgan_plan
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.run_flags import TrainingRunFlags
from painter_core.training.vqgan_config import VQGANTrainConfig
from painter_core.training.worker import Worker
from tests.support.local_run import ALONE

ONE_CPU = Worker(rank=0, world_size=1, device=torch.device("cpu"), precision="fp32")
SMALL = {"n_layer": 2, "n_head": 2, "n_embd": 16, "text_len": 8}
VQGAN_SMALL = VQGANConfig(
    image_size=16, ch=32, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=(), z_channels=4, embed_dim=4,
    codebook_size=32,
)  # fmt: skip


def gpt_config(tables: object, out: object, *, batch: int = 32, run: dict | None = None, **more: Any) -> Any:
    """A tiny GPT's training, with a checkpoint every second step."""
    flags = {"save_checkpoint_steps": 2, "logging_steps": 1, "keep_checkpoints": 2, **(run or {})}
    settings = {"learning_rate": 1e-3, "precision": "fp32", **SMALL, **more}
    return TrainConfig(
        tables=str(tables), checkpoint_dir=str(out), micro_batch_size=batch, run=TrainingRunFlags(**flags),
        **settings,
    )  # fmt: skip


def vqgan_config(tables: object, out: object, **run: Any) -> VQGANTrainConfig:
    """A tiny VQGAN's training of four steps, with a checkpoint every second one."""
    return VQGANTrainConfig(
        tables=str(tables), outputs=str(out), geometry=VQGAN_SMALL, max_steps=4, micro_batch_size=8,
        quantize_after=1, precision="fp32",
        run=TrainingRunFlags(save_checkpoint_steps=2, logging_steps=1, keep_checkpoints=2, **run),
    )  # fmt: skip


def planned(config: TrainConfig | VQGANTrainConfig) -> Any:
    """The plan that a job would give its workers, its lock given back; None if the run is complete."""
    make_plan: Any = gpt_plan.make_plan if isinstance(config, TrainConfig) else vqgan_plan.make_plan
    run = Run({})
    try:
        found = make_plan(config, run, ALONE)
    finally:
        run.ended()
    return found and found[0]


def train_here(config: TrainConfig | VQGANTrainConfig) -> bool:
    """Trains to the end in this process; False if the run was complete before. Fails as the job does."""
    loop: Any = gpt_loop if isinstance(config, TrainConfig) else vqgan_loop
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums keep their order, and tiny tensors wait for nobody
    try:
        return train_by(config, lambda plan: loop.train_as(ONE_CPU, plan))
    finally:
        torch.set_num_threads(threads)


def train_by(config: TrainConfig | VQGANTrainConfig, workers: Callable[[Any], object]) -> bool:
    """The same with other workers, which are given the plan."""
    make_plan: Any = gpt_plan.make_plan if isinstance(config, TrainConfig) else vqgan_plan.make_plan
    with Run({}) as run:
        planned = make_plan(config, run, ALONE)
        if planned is None:
            return False
        plan, training = planned
        workers(plan)
        training.end(complete(plan.root))
    return True


def files_of(root: str) -> dict[str, bytes]:
    """Every file of a run's directory, by path or URL."""
    fs, path = filesystem(root)
    return {name[len(path) + 1 :]: fs.cat_file(name) for name in fs.find(path)}


def curve_of(root: str) -> list[dict]:
    """The lines of a run's metrics.jsonl, without what differs from run to run."""
    fs, path = filesystem(join(root, "metrics.jsonl"))
    lines = [json.loads(line) for line in fs.cat_file(path).decode().splitlines()]
    measured = ("time_s", "samples_per_s", "tokens_per_s", "num_workers")
    return [{k: v for k, v in line.items() if k not in measured} for line in lines]


def left_in(cache: Path) -> list[str]:
    """What trainings left in a machine's cache, data apart."""
    return sorted(p.name for p in cache.glob("*") if not p.name.startswith(("samples-", "pictures-")))
