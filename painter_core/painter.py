"""Text to pictures in one process: tokenize, sample codes with the GPT, paint them with the VQGAN's decoder.

Shapes: a micro-batch has a fixed number of rows B, the last one is filled up, so that what is computed for a row does
not depend on how many other rows there are.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from painter_core.checkpoint import ModelDirectory
from painter_core.devices import autocast
from painter_core.images import to_uint8
from painter_core.sampling import SamplingConfig, row_uniforms, sample_codes
from painter_core.sequence import TextIds, text_ids


@dataclass(frozen=True, kw_only=True)
class Request:
    """One picture to paint."""

    idx: str
    """Names the row: with the seed and `sample` it decides what is drawn."""
    text: str
    sample: int = 0


class Painter:
    """A model ready to paint.

    Args:
        model: a directory with VQGAN, GPT and tokenizer.
        device: where both networks run.
        precision: fp32, or bf16 for the GPT (the VQGAN's decoder stays in float32: in half precision it fails).
        sampling: how codes are drawn.
        seed: of the whole run.
        micro_batch_size: rows a model call.
    """

    def __init__(
        self,
        model: ModelDirectory,
        *,
        device: torch.device,
        precision: str,
        sampling: SamplingConfig,
        seed: int,
        micro_batch_size: int,
    ) -> None:
        self.tokenizer = model.load_tokenizer()
        self.gpt = model.load_gpt().to(device)
        self.vqgan = model.load_vqgan().to(device)
        self.device, self.precision = device, precision
        self.sampling, self.seed, self.micro_batch_size = sampling, seed, micro_batch_size

    def text_ids(self, texts: list[str]) -> TextIds:
        """Text ids of captions, with token counts."""
        config = self.gpt.config
        return text_ids(self.tokenizer, texts, text_len=config.text_len, codebook_size=config.codebook_size)

    def paint(self, requests: list[Request]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Codes int64 (b, image_len) and pictures uint8 (b, S, S, 3) of the next b <= micro_batch_size requests."""
        for start in range(0, len(requests), self.micro_batch_size):
            batch = requests[start : start + self.micro_batch_size]
            codes = self.sample(batch)
            yield codes[: len(batch)].cpu().numpy(), to_uint8(self.decode(codes))[: len(batch)]

    def sample(self, batch: list[Request]) -> torch.Tensor:
        """Codes (micro_batch_size, image_len) on the device; rows after the batch are filling."""
        filling = self.micro_batch_size - len(batch)
        batch = batch + [dataclasses.replace(batch[-1], text="")] * filling
        ids = torch.from_numpy(self.text_ids([r.text for r in batch]).ids).to(self.device)
        length = self.gpt.config.image_len
        uniforms = np.stack([row_uniforms(self.seed, r.idx, r.sample, length) for r in batch])
        with autocast(self.device, self.precision):
            return sample_codes(self.gpt, ids, torch.from_numpy(uniforms).to(self.device), self.sampling)

    @torch.inference_mode()
    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Pixels (B, 3, S, S) of codes (B, image_len)."""
        return self.vqgan.decode(codes)
