"""The optimizers of a GPT and the schedule of their learning rate."""

import torch
from torch import Tensor, nn

from painter_core.models.gpt import GPT
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.muon import Muon32

# times the learning rate; on the sample 4 learned faster than 1, where updates are as large as AdamW's
MUON_RATE = 4.0


def learning_rate(config: TrainConfig, step: int, num_steps: int) -> float:
    """Learning rate of the update after `step` finished ones: linear warm-up, then linear to 0."""
    warmup = int(config.warmup_proportion * num_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * (num_steps - step) / max(1, num_steps - warmup)


def make_optimizers(model: GPT, config: TrainConfig, precision: str = "fp32") -> list[torch.optim.Optimizer]:
    """AdamW for everything that is trained, or Muon for the matrices of the blocks and AdamW for the rest.
    Only weight matrices of linear layers are decayed. A group's `rate` is its share of the scheduled learning
    rate.

    Args:
        precision: of the training; in fp32 Muon computes in float32 too.
    """
    flags, n_layer = config.fine_tuning, model.config.n_layer
    decayed = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
    by_muon = {id(m.weight) for m in model.blocks.modules() if isinstance(m, nn.Linear)}
    muon_groups, groups = dict[float, list[Tensor]](), dict[tuple[float, bool], list[Tensor]]()
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        rate = flags.rate(name, n_layer)
        if config.optimizer == "muon" and id(p) in by_muon:
            muon_groups.setdefault(rate, []).append(p)
        else:
            groups.setdefault((rate, id(p) in decayed), []).append(p)
    adamw = torch.optim.AdamW(
        [
            {"params": groups[key], "weight_decay": config.weight_decay * key[1], "rate": key[0]}
            for key in sorted(groups, reverse=True)
        ],
        lr=config.learning_rate,
        fused=True,
    )
    if not muon_groups:
        return [adamw]
    muon = (Muon32 if precision == "fp32" else torch.optim.Muon)(
        [{"params": found, "rate": MUON_RATE * rate} for rate, found in muon_groups.items()],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    return [muon, adamw]


def can_skip_on_device(optimizers: list[torch.optim.Optimizer], norm: Tensor) -> bool:
    """Whether a step can be left out without the host's word: by fused AdamW, of weights in one piece."""
    return type(norm) is Tensor and all(isinstance(o, torch.optim.AdamW) for o in optimizers)


def step_if_finite(optimizers: list[torch.optim.Optimizer], loss: Tensor, norm: Tensor) -> None:
    """Updates the weights, and clears the gradients; weights and moments stay as they are if the loss or the
    gradient norm, both (), is not finite. The device decides, and nobody waits for it."""
    spoilt = (~(loss.isfinite() & norm.isfinite())).float()
    for optimizer in optimizers:
        optimizer.found_inf = spoilt  # type: ignore[attr-defined]  # as torch's GradScaler hands it on
        optimizer.step()
        del optimizer.found_inf  # type: ignore[attr-defined]
        optimizer.zero_grad(set_to_none=True)


def set_learning_rate(optimizers: list[torch.optim.Optimizer], learning_rate: float) -> None:
    """Sets the learning rate of the next update."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * group["rate"]
