"""How likely a model finds the codes of given pictures: bits a code, row by row.

It is the loss that training reports, on any table and for single rows, so that odd rows are found. Letters: B
rows, V codebook_size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from painter_core.models.gpt import GPT


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
