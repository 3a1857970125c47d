"""A moving average of a GPT's weights (--ema-decay): what is validated and saved in place of the weights."""

import copy

import torch

from painter_core.models.gpt import GPT


class WeightAverage:
    """Follows a GPT.

    Args:
        gpt: before its weights are spread over workers; the copy is spread like it.
        decay: share that stays in a step.
    """

    def __init__(self, gpt: GPT, decay: float) -> None:
        self.gpt, self.decay = copy.deepcopy(gpt).requires_grad_(requires_grad=False), decay

    @torch.no_grad()
    def follow(self, gpt: GPT, step: int) -> None:
        """Takes up the weights after an update; `step` counts updates from 1."""
        # young averages follow faster, or they would remember the start
        decay = min(self.decay, (1 + step) / (10 + step))
        for average, weight in zip(self.gpt.parameters(), gpt.parameters(), strict=True):
            average.lerp_(weight, 1 - decay)
