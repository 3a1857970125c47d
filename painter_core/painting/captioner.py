"""Pictures to text in one process: codes by the VQGAN's encoder, text by the GPT, turned around.

Shapes: n pictures, N captions of each, L image_len, T text_len. A micro-batch has a fixed number of pictures,
the last one is filled up, so that what is written for a row does not depend on how many other rows there are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from painter_core.compute.devices import DTYPES, prepare_vqgan, set_inference
from painter_core.compute.pieces import Pieces
from painter_core.model_files.directory import ModelDirectory
from painter_core.models.cached_gpt import CachedGPT
from painter_core.painting.caption_sampling import CaptionSampling, caption_scores, write_captions
from painter_core.painting.encoding import encode_pictures
from painter_core.painting.sampling import row_uniforms
from painter_core.text.ids import TextIds, text_ids


@dataclass(frozen=True, kw_only=True)
class Captions:
    """Captions of n pictures, N each, a picture's after each other."""

    texts: list[str]
    """n * N."""
    scores: np.ndarray
    """float32 (n * N,): log p of each, in nats; of its ids and of the [PAD] that ends it."""
    num_tokens: np.ndarray
    """int64 (n * N,): so many that is a sum over."""


class Captioner:
    """A model ready to caption; not for several threads at once.

    Args:
        model: a directory with VQGAN, GPT and tokenizer.
        device: where both networks run.
        precision: fp32, tf32 or bf16, of both networks.
        sampling: how captions are written.
        seed: seed of the whole run.
        micro_batch_size: pictures a model call; fewer after a GPU ran out of memory.
        max_generated_num: captions a picture.
        compiled: the encoder by torch.compile, on a GPU the steps too.
    """

    def __init__(
        self,
        model: ModelDirectory,
        *,
        device: torch.device,
        precision: str,
        sampling: CaptionSampling,
        seed: int,
        micro_batch_size: int,
        max_generated_num: int = 1,
        compiled: bool = False,
    ) -> None:
        self.tokenizer = model.load_tokenizer()
        in_regions = compiled and device.type == "cuda"
        self._gpt = CachedGPT(model.load_gpt().to(device), DTYPES[precision], compiled=in_regions).turned()
        self.config = self._gpt.config
        self.vqgan = prepare_vqgan(model.load_vqgan(), device, precision, compiled=compiled)
        self._device, self._precision = device, precision
        self._sampling, self._seed = sampling, seed
        self._rows, self._each = micro_batch_size, max_generated_num
        self._pieces = Pieces(micro_batch_size)
        self._no_words = torch.zeros(self.config.text_vocab_size, dtype=torch.bool, device=device)
        self._no_words[self.tokenizer.no_words()] = True

    def encode(self, pictures: np.ndarray) -> np.ndarray:
        """Codes int64 (n, L) of pictures uint8 (n, S, S, 3)."""
        return encode_pictures(
            self.vqgan,
            pictures,
            device=self._device,
            precision=self._precision,
            micro_batch_size=self._rows,
        )

    def text_ids(self, texts: list[str]) -> TextIds:
        """Text ids of captions, with token counts."""
        config = self.config
        return text_ids(self.tokenizer, texts, text_len=config.text_len, codebook_size=config.codebook_size)

    def write(self, codes: np.ndarray, idx: list[str]) -> Captions:
        """Captions of codes (n, L); with the seed, `idx` decides what is drawn for each."""
        length, each = self.config.text_len, self._each
        drawn = [[row_uniforms(self._seed, i, k, length) for k in range(each)] for i in idx]
        uniforms = np.array(drawn, np.float32).reshape(len(idx), each, length)
        found = self._run(
            lambda c, u: write_captions(self._gpt, c, u, self._sampling, self._no_words), codes, uniforms
        ).reshape(-1, length + 1)
        ids = found[:, :length].astype(np.int64)
        return Captions(
            texts=[self.tokenizer.caption(row) for row in ids.tolist()],
            scores=found[:, length].astype(np.float32),
            num_tokens=np.minimum((ids != 0).sum(1) + 1, length),
        )

    def score(self, codes: np.ndarray, texts: list[str]) -> Captions:
        """Given captions of codes (n, L), and how likely they are."""
        found = self._run(lambda c, t: caption_scores(self._gpt, c, t), codes, self.text_ids(texts).ids)
        return Captions(
            texts=texts, scores=found[:, 0].astype(np.float32), num_tokens=found[:, 1].astype(np.int64)
        )

    def _run(self, work: Callable[..., torch.Tensor], *arrays: np.ndarray) -> np.ndarray:
        """`work` of all rows, in batches of one size."""
        set_inference(self._precision)  # settings of the whole process, which somebody else may have changed
        found = []
        for start in range(0, max(len(arrays[0]), 1), self._rows):
            batch = [self._filled(array[start : start + self._rows]) for array in arrays]
            found.append(self._pieces.run(work, *batch).cpu().numpy())
        return np.concatenate(found)[: len(arrays[0])]

    def _filled(self, rows: np.ndarray) -> torch.Tensor:
        full = np.zeros((self._rows, *rows.shape[1:]), rows.dtype)
        full[: len(rows)] = rows
        return torch.from_numpy(full).to(self._device)
