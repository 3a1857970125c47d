"""Networks of others as judges: pictures -> Inception's features, pictures and captions -> CLIP's vectors.

Always in float32 (batches.py): in bfloat16 the rounding is of the size of what is measured.
"""

from pathlib import Path

import numpy as np
import torch

from painter_core.evaluation.batches import Batches
from painter_core.model_files.chinese_clip import open_clip
from painter_core.model_files.inception_file import load_inception
from painter_core.models.chinese_clip import TEXT_LEN
from painter_core.text.tokenizer import Tokenizer


class InceptionFeatures:
    """Inputs (N, 3, 299, 299) of inception_input.py -> features float32 (N, 2048)."""

    def __init__(self, file: str, *, device: torch.device, micro_batch_size: int) -> None:
        model = load_inception(Path(file)).to(device)
        if device.type == "cpu":
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stubs lack it
        self._run = Batches(model, micro_batch_size, device)

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """The features of pictures."""
        return self._run(inputs)


class ClipVectors:
    """Pictures uint8 (N, S, S, 3) and captions -> vectors float32 (N, projection_dim) of length 1."""

    def __init__(self, directory: str, *, device: torch.device, micro_batch_size: int) -> None:
        found = open_clip(directory)
        model = found.load().to(device)
        self._tokenizer = found.load_tokenizer()
        self._images = Batches(model.embed_images, micro_batch_size, device)
        self._texts = Batches(model.embed_texts, micro_batch_size, device)

    def images(self, pictures: np.ndarray) -> np.ndarray:
        """Vectors of pictures that picture_forms.py brought to the model's size."""
        return self._images(pictures)

    def texts(self, captions: list[str]) -> np.ndarray:
        """Vectors of captions."""
        return self._texts(clip_ids(self._tokenizer, captions))


def clip_ids(tokenizer: Tokenizer, captions: list[str]) -> np.ndarray:
    """int64 (N, 52): [CLS], at most 50 tokens, [SEP], and 0 after them."""
    begin, end = tokenizer.id_of("[CLS]"), tokenizer.id_of("[SEP]")
    ids = np.zeros((len(captions), TEXT_LEN), np.int64)
    for row, tokens in zip(ids, tokenizer.encode(captions), strict=True):
        line = [begin, *tokens[: TEXT_LEN - 2], end]
        row[: len(line)] = line
    return ids
