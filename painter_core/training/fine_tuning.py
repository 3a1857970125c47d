"""What of a model is trained, and how fast: flags of a training that keeps what the model knew."""

import logging
from dataclasses import dataclass, field

from painter_core.flag_checks import check_range
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.models.low_rank import add_adapters
from painter_core.models.unfilled import unfilled
from painter_core.training.run_flags import BOUND_IF_SET

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FineTuningFlags:
    """For fine-tuning that keeps what was known (docs/FINE_TUNING.md)."""

    freeze: str | None = field(default=None, metadata=BOUND_IF_SET)
    """Weights that stay as they are: beginnings of their names, with commas between (tok_emb, pos_emb,
    blocks.0, blocks.1, ..., ln_f, head)."""
    layer_decay: float = field(default=1.0, metadata=BOUND_IF_SET)
    """Learning rate of a block, times that of the next one; the embeddings' is that of a block before the
    first."""
    lora_rank: int | None = field(default=None, metadata=BOUND_IF_SET)
    """Train adapters of this rank beside the matrices of the blocks (not the keys'), and nothing else; they
    are merged into the models that are written, and stand beside them as adapter.safetensors."""

    def __post_init__(self) -> None:
        check_range("--layer-decay", self.layer_decay, 0, 1, above=True)
        check_range("--lora-rank", self.lora_rank, 1, 4096)
        if self.lora_rank is not None and self.freeze is not None:
            raise ValueError(
                f"--freeze {self.freeze}: does nothing beside --lora-rank, which trains adapters only; leave "
                "it out"
            )

    def rate(self, name: str, n_layer: int) -> float:
        """Share of the learning rate that the weight of this name is trained with."""
        if self.layer_decay == 1 or name.startswith(("ln_f.", "head.", "text_head.")):
            return 1.0
        layer = int(name.split(".")[1]) if name.startswith("blocks.") else -1
        return self.layer_decay ** (n_layer - 1 - layer)


def choose_trained(gpt: GPT, flags: FineTuningFlags, seed: int) -> None:
    """Freezes what is not to be trained, or adds adapters.

    Raises:
        ValueError: --freeze names what the model has not, or all that it has.
    """
    if flags.lora_rank is not None:
        add_adapters(gpt, flags.lora_rank, seed)
    _freeze(gpt, flags.freeze)
    if flags != FineTuningFlags():
        trained = sum(p.numel() for p in gpt.parameters() if p.requires_grad)
        frozen = sum(p.numel() for p in gpt.parameters() if not p.requires_grad)
        log.info("%s weights are trained, %s stay", f"{trained:,}", f"{frozen:,}")


def check_freeze(flags: FineTuningFlags, config: GPTConfig) -> None:
    """Raises ValueError if --freeze does not fit a model of this geometry."""
    _freeze(unfilled(GPT, config), flags.freeze)


def _freeze(gpt: GPT, names: str | None) -> None:
    for name in [] if names is None else names.split(","):
        found = [p for key, p in gpt.named_parameters() if f"{key}.".startswith(f"{name}.")]
        if not found:
            raise ValueError(
                f"--freeze {name!r}: no weight's name begins so; expected some of tok_emb, pos_emb, blocks.0 "
                f"to blocks.{gpt.config.n_layer - 1}, ln_f, head"
            )
        for parameter in found:
            parameter.requires_grad_(False)
    if not any(p.requires_grad for p in gpt.parameters()):
        raise ValueError(f"--freeze {names}: leaves nothing to train")
