"""--rank-by clip: how near pictures are to their captions, as evaluate.py --metrics clip measures it."""

import numpy as np
import torch
from PIL import Image

from painter_core.evaluation.features import ClipVectors
from painter_core.evaluation.picture_forms import squashed
from painter_core.model_files.chinese_clip import open_clip

ROWS = 16  # of a call


class ClipJudge:
    """Captions and pictures uint8 (n, S, S, 3) -> cosines float32 (n,).

    Args:
        directory: of a Chinese CLIP.
        device: where it runs, in float32.
    """

    def __init__(self, directory: str, device: torch.device) -> None:
        self._side = open_clip(directory).config.image_size
        self._vectors = ClipVectors(directory, device=device, micro_batch_size=ROWS)

    def __call__(self, captions: list[str], pictures: np.ndarray) -> np.ndarray:
        """The cosines."""
        if not captions:
            return np.zeros(0, np.float32)
        small = np.stack([squashed(Image.fromarray(picture), self._side) for picture in pictures])
        images, texts = self._vectors.images(small), self._vectors.texts(captions)
        return np.einsum("np,np->n", images.astype(np.float64), texts.astype(np.float64)).astype(np.float32)
