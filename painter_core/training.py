"""Training the GPT on cached codes: settings, start, one step, validation. Knows nothing of Ray.

A step sees one global batch: every rank takes its share, cut into micro-batches; gradients of the mean loss
over all codes of the global batch, whatever the number of ranks and however uneven the shares.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from painter_core.data_order import rank_share
from painter_core.devices import autocast
from painter_core.models.gpt import GPT, INIT_STD, GPTConfig

CODEBOOK_SHARE = 0.95  # of a new code embedding, the rest is its own: equal entries would never part

Preset = Literal["tiny", "base", "large"]
PRESETS: dict[str, tuple[int, int, int]] = {
    "tiny": (4, 8, 192),
    "base": (12, 12, 768),
    "large": (24, 16, 1024),
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """codes tables (train, valid) -> model directory."""

    tables: str
    """Codes tables, as jobs/precompute_codes.py writes them: TRAIN or TRAIN,VALID. Or pairs tables, with
    --codes-dir."""
    checkpoint_dir: str
    """Output: best/ and last/ model directories, checkpoints/, metrics.jsonl, tensorboard/; all workers must
    see it."""
    pretrained_model_name_or_path: str | None = None
    """Model directory to start from; its geometry and vocabulary are taken."""
    model: Preset = "base"
    """Geometry of a new model: tiny (4 layers, 192 wide), base (12, 768) or large (24, 1024)."""
    n_layer: int | None = None
    """Blocks of a new model, instead of the preset's."""
    n_head: int | None = None
    """Heads of a new model, instead of the preset's."""
    n_embd: int | None = None
    """Width of a new model, instead of the preset's."""
    text_len: int = 32
    """Text ids of a new model; longer captions are cut."""
    vocab: str | None = None
    """vocab.txt or tokenizer.json of a new model; by default a built-in vocabulary."""
    learning_rate: float = 4e-5
    """Highest learning rate, reached after the warm-up."""
    epoch_num: float = 1.0
    """Passes over the training table; may be a fraction."""
    weight_decay: float = 1e-4
    """Of weight matrices; biases, norms and embeddings are not decayed."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """adamw, as EasyNLP; muon for the matrices of the blocks learns from scratch in about a third of the
    steps."""
    warmup_proportion: float = 0.1
    """Share of all steps in which the learning rate rises; then it falls linearly to 0."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    caption_dropout: float = 0.0
    """Share of the samples, in each epoch others, that are learned without their caption; 0.1 makes
    --guidance-scale of generate.py work."""
    micro_batch_size: int = 16
    """Samples a forward pass of one worker."""
    gradient_accumulation_steps: int = 1
    """Forward passes an update; global batch = micro_batch_size x workers x this."""
    logging_steps: int = 100
    """Steps between lines of metrics."""
    save_checkpoint_steps: int = 1000
    """Steps between checkpoints, each with a validation."""
    keep_checkpoints: int = 3
    """Checkpoints kept."""
    sequence_length: int | None = None
    """Checked against text_len + image_len, if given (288 for the published models)."""
    expect: str = ""
    """Sizes that the model must have, `image_size=256,text_len=32,...`; changes nothing."""
    random_seed: int = 42
    """Seed of the weights and of the data order."""
    num_workers: str = "1"
    """Training workers: N, or MIN,MAX."""
    use_gpu: Literal["auto", "yes", "no"] = "auto"
    """One GPU a worker; auto: if the cluster has any."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 is autocast with float32 weights; auto: bf16 where the hardware has it."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile of the model; auto: on a GPU."""
    overwrite: bool = False
    """Replace a run with other settings in --checkpoint-dir, and in --codes-dir; it stays until the new
    one is complete."""
    dry_run: bool = False
    """Check inputs, models and settings, do one step in this process, write nothing."""

    def __post_init__(self) -> None:
        positive = (
            "learning_rate",
            "epoch_num",
            "max_grad_norm",
            "micro_batch_size",
            "gradient_accumulation_steps",
            "logging_steps",
            "save_checkpoint_steps",
            "keep_checkpoints",
            "text_len",
        )
        for name in positive:
            if not getattr(self, name) > 0:
                raise ValueError(f"--{name.replace('_', '-')}: got {getattr(self, name)}, expected above 0")
        if not 0 <= self.caption_dropout < 1:
            raise ValueError(f"--caption-dropout: got {self.caption_dropout}, expected 0 to below 1")
        if not 0 <= self.warmup_proportion <= 1:
            raise ValueError(f"--warmup-proportion: got {self.warmup_proportion}, expected 0..1")

    def new_gpt(self, *, text_vocab_size: int, codebook_size: int, image_len: int) -> GPTConfig:
        """Geometry of a model trained from scratch."""
        n_layer, n_head, n_embd = PRESETS[self.model]
        return GPTConfig(
            text_vocab_size=text_vocab_size,
            codebook_size=codebook_size,
            text_len=self.text_len,
            image_len=image_len,
            n_layer=self.n_layer or n_layer,
            n_head=self.n_head or n_head,
            n_embd=self.n_embd or n_embd,
        )


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Captions and codes of a table, memory-mapped."""

    text_ids: np.ndarray
    """int32 (n, text_len), offset by codebook_size."""
    codes: np.ndarray
    """uint16 (n, image_len)."""
    pad_id: int
    """Text id of [PAD]: an empty caption is nothing else."""

    def __len__(self) -> int:
        return len(self.codes)

    def batch(
        self, rows: np.ndarray, device: torch.device, dropped: np.ndarray | None = None
    ) -> tuple[Tensor, Tensor]:
        """int64 text ids (B, text_len) and codes (B, image_len) of some rows, on the device; `dropped`, a
        bool for every row of the table, says whose caption is left out."""
        # a memory map is read faster in order, and the order within a batch does not matter
        order = np.sort(rows)
        text = torch.from_numpy(self.text_ids[order].astype(np.int64))
        if dropped is not None:
            text[torch.from_numpy(dropped[order])] = self.pad_id
        codes = torch.from_numpy(self.codes[order].astype(np.int64))
        if device.type == "cuda":
            text, codes = text.pin_memory(), codes.pin_memory()
        return text.to(device, non_blocking=True), codes.to(device, non_blocking=True)


@torch.no_grad()
def start_from_codebook(model: GPT, codebook: Tensor) -> None:
    """Gives a new GPT's codes embeddings and output weights that lie to each other as the VQGAN's entries do.

    What it learns of one code then holds for its neighbours from the start: the training sample's validation
    loss is 0.4 nats a code lower after 800 steps.

    Args:
        codebook: (codebook_size, embed_dim), the VQGAN's.
    """
    entries = (codebook - codebook.mean(0)) / codebook.std(0).clamp(min=1e-6)
    for weight in (model.tok_emb.weight[: len(codebook)], model.head.weight):
        # random directions keep lengths: the weights stay about as large as those of any other start
        directions = torch.randn(entries.shape[1], weight.shape[1]) / entries.shape[1] ** 0.5
        own = torch.randn_like(weight) * (1 - CODEBOOK_SHARE**2) ** 0.5
        weight.copy_(INIT_STD * (CODEBOOK_SHARE * entries @ directions + own))


def loss_sum(model: nn.Module, text: Tensor, codes: Tensor) -> Tensor:
    """Sum of the cross entropies of all codes, float32."""
    logits = model(torch.cat((text, codes[:, :-1]), dim=1))  # (B, image_len, V)
    return F.cross_entropy(logits.flatten(0, 1).float(), codes.flatten(), reduction="sum")


@dataclass(frozen=True, kw_only=True)
class Worker:
    """Who takes part: this rank, how many there are, and how it computes."""

    rank: int
    world_size: int
    device: torch.device
    precision: Literal["fp32", "bf16"]

    def total(self, value: Tensor) -> Tensor:
        """Sum over all ranks."""
        if self.world_size > 1:
            dist.all_reduce(value)
        return value


def train_step(
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    samples: Samples,
    rows: np.ndarray,
    config: TrainConfig,
    worker: Worker,
    dropped: np.ndarray | None = None,
) -> tuple[float, float]:
    """One update on the global batch `rows` (row numbers, the same on every rank).

    Args:
        dropped: bool for every row of the table: whose caption is left out.

    Returns:
        Mean loss a code over the global batch, and the gradient norm before clipping. If either is not finite
        the weights were not touched.
    """
    share = rank_share(rows, worker.rank, worker.world_size)
    num_codes = len(rows) * samples.codes.shape[1]
    # every rank runs as many backward passes, also when its share is smaller
    passes = math.ceil(math.ceil(len(rows) / worker.world_size) / config.micro_batch_size)
    total = torch.zeros((), device=worker.device)
    for i in range(passes):
        micro = share[i * config.micro_batch_size : (i + 1) * config.micro_batch_size]
        with contextlib.ExitStack() as stack:
            if i + 1 < passes and isinstance(model, nn.parallel.DistributedDataParallel):
                stack.enter_context(model.no_sync())
            weight = 1.0 if len(micro) else 0.0  # an empty share still takes part in the reduction
            text, codes = samples.batch(micro if len(micro) else rows[:1], worker.device, dropped)
            with autocast(worker.device, worker.precision):
                loss = loss_sum(model, text, codes) * weight
            # DistributedDataParallel averages over ranks; world_size makes it the sum
            (loss * (worker.world_size / num_codes)).backward()
        total += loss.detach()
    mean = float(worker.total(total)) / num_codes
    norm = float(nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm))
    for optimizer in optimizers:
        if np.isfinite(mean) and np.isfinite(norm):
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return mean, norm


@torch.inference_mode()
def validate(model: nn.Module, samples: Samples, worker: Worker, micro_batch_size: int) -> float:
    """Mean loss a code over a whole table."""
    share = rank_share(np.arange(len(samples)), worker.rank, worker.world_size)
    total = torch.zeros((), device=worker.device, dtype=torch.float64)
    for micro in _pieces(share, micro_batch_size):
        with autocast(worker.device, worker.precision):
            total += loss_sum(model, *samples.batch(micro, worker.device)).double()
    return float(worker.total(total)) / (len(samples) * samples.codes.shape[1])


def _pieces(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (rows[i : i + size] for i in range(0, len(rows), size))


def flops_per_sample(config: GPTConfig) -> float:
    """Of one training sample, forward and backward: linear layers, head and causal attention, 2 a multiply-
    add."""
    positions = config.block_size - 1
    linear = 12 * config.n_layer * config.n_embd**2 * positions
    head = config.n_embd * config.codebook_size * config.image_len
    attention = config.n_layer * config.n_embd * positions**2
    return 6.0 * (linear + head) + 6.0 * attention
