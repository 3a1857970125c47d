"""pipeline("image2text_generation", ...): pictures in, captions out, in one process, as with EasyNLP's."""

import io
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from painter_core.images.cells import image_of_cell
from painter_core.images.decode import decode_image
from painter_core.model_files.easynlp_captioner import CLIP_NAMES
from painter_core.model_files.open import open_model
from painter_core.painting.caption_sampling import CaptionSampling
from painter_core.painting.captioner import Captioner

CAPTION_TASK = "image2text_generation"
CAPTION_ROWS = 16  # pictures a model call, the last one filled up
Picture = str | Path | bytes | Image.Image
"""A path, base64, an encoded picture, or Pillow's."""


class CaptionPipeline:
    """Pictures in, captions out, in this process; made by pipeline(). Not for several threads at once."""

    def __init__(self, captioner: Captioner, *, max_generated_num: int) -> None:
        self._captioner, self._each = captioner, max_generated_num

    def __call__(self, images: Picture | Sequence[Picture]) -> list[dict[str, Any]]:
        """Captions pictures.

        Args:
            images: a picture or several; a string is a path if such a file exists, else base64.

        Returns:
            A dict a picture; "gen_text" is its caption and "score" log p of it in nats, or lists of them if
            max_generated_num is above 1. The idx of a picture is its position, so that a call writes what
            jobs/caption.py writes for a table with idx 0, 1, ... and the same seed and micro-batch.

        Raises:
            ValueError: one of them is no picture.
        """
        given = [images] if isinstance(images, Picture) else list(images)
        size = self._captioner.vqgan.config.image_size
        pictures = np.zeros((len(given), size, size, 3), np.uint8)
        for i, image in enumerate(given):
            try:
                pictures[i] = decode_image(_encoded(image), size)
            except ValueError as error:
                raise ValueError(f"images[{i}]: {error}") from None
        codes = self._captioner.encode(pictures)
        found = self._captioner.write(codes, [str(i) for i in range(len(given))])
        told = {"gen_text": found.texts, "score": found.scores.tolist()}
        n = self._each
        return [
            {name: values[i : i + n] if n > 1 else values[i] for name, values in told.items()}
            for i in range(0, len(found.texts), n)
        ]


def caption_pipeline(
    model_path: str | None,
    *,
    sampling: CaptionSampling,
    max_generated_num: int,
    seed: int,
    device: torch.device,
    precision: str,
    micro_batch_size: int,
    compiled: bool,
) -> CaptionPipeline:
    """A model ready to caption; see pipeline().

    Raises:
        ValueError: no model is given, or one that does not caption.
    """
    if model_path is None:
        raise ValueError(
            f"{CAPTION_TASK}: give the path of a model that captions (model_path); EasyNLP's default, "
            f"{CLIP_NAMES[0]}, has another form, which is not supported"
        )
    sampling.check(max_generated_num)
    model = open_model(model_path)
    if model.gpt_config is None or model.vqgan_config is None or not model.gpt_config.captions:
        raise ValueError(f"{model_path}: does not caption; train it with jobs/train.py --image-to-text")
    captioner = Captioner(
        model,
        device=device,
        precision=precision,
        sampling=sampling,
        seed=seed,
        micro_batch_size=micro_batch_size,
        max_generated_num=max_generated_num,
        compiled=compiled,
    )
    return CaptionPipeline(captioner, max_generated_num=max_generated_num)


def _encoded(image: Picture) -> bytes:
    """The bytes of a picture's file."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, Image.Image):
        out = io.BytesIO()
        image.save(out, "PNG")
        return out.getvalue()
    if isinstance(image, Path) or os.path.isfile(image):
        return Path(image).read_bytes()
    return image_of_cell(image, Counter())
