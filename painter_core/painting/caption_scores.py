"""How likely the captions of painted pictures are, by the model that painted them."""

import numpy as np
import torch

from painter_core.compute.pieces import Pieces
from painter_core.models.cached_gpt import CachedGPT
from painter_core.painting.caption_sampling import caption_scores
from painter_core.text.ids import text_ids
from painter_core.text.tokenizer import Tokenizer


class CaptionScores:
    """Scores captions with a painter's own weights, turned around.

    Args:
        gpt: of the painter; one that captions too.
        tokenizer: of the model.
    """

    def __init__(self, gpt: CachedGPT, tokenizer: Tokenizer) -> None:
        self._gpt, self._tokenizer = gpt.turned(), tokenizer

    def __call__(self, texts: list[str], codes: torch.Tensor, pieces: Pieces) -> np.ndarray:
        """log p of each text given its codes, in nats, float32 (n,).

        Args:
            texts: n.
            codes: int64 (B, L) on the device, of a whole batch; rows after the first n are padding.
            pieces: in which a batch is computed.
        """
        config, filling = self._gpt.config, [""] * (len(codes) - len(texts))
        lengths = {"text_len": config.text_len, "codebook_size": config.codebook_size}
        ids = torch.from_numpy(text_ids(self._tokenizer, texts + filling, **lengths).ids).to(codes.device)
        found = pieces.run(lambda c, t: caption_scores(self._gpt, c, t)[:, 0], codes, ids)
        return found[: len(texts)].cpu().numpy().astype(np.float32)
