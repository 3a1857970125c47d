"""How likely a model finds the codes of given pictures, or their captions: row by row.

These are the losses that training reports, on any table and for single rows, so that odd rows are found.
Letters: B rows, V codebook_size, T text_len, W text_vocab_size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from painter_core.models.gpt import GPT
from painter_core.models.text_targets import NO_TARGET, text_targets


def bits_per_code(model: GPT, text: Tensor, codes: Tensor) -> Tensor:
    """Mean over a row's codes, float32 (B,).

    Args:
        model: on the device of the others.
        text: int64 (B, text_len), text ids.
        codes: int64 (B, image_len).
    """
    logits = model(torch.cat((text, codes[:, :-1]), dim=1))  # (B, image_len, V)
    nats = F.cross_entropy(logits.flatten(0, 1).float(), codes.flatten(), reduction="none")
    return nats.view(codes.shape).mean(1) / math.log(2)


def caption_nats(model: GPT, text: Tensor, codes: Tensor) -> Tensor:
    """-log p of each caption given its codes, and over how many ids that is a sum, float64 (B, 2).

    Args:
        model: one that captions, on the device of the others.
        text: int64 (B, text_len), text ids; those up to the first [PAD] count.
        codes: int64 (B, image_len).
    """
    logits = model(torch.cat((codes, text[:, :-1]), dim=1), 0)[1]  # (B, T, W)
    targets = text_targets(text, model.config.codebook_size)
    targets = targets.masked_fill(targets < 0, NO_TARGET)  # a batch may be filled up with ids of no text
    nats = F.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=NO_TARGET, reduction="none"
    )
    return torch.stack((nats.view(targets.shape).double().sum(1), (targets != NO_TARGET).sum(1).double()), 1)
