"""A model that paints, for calls in Python: captions in, pictures out (pipeline.py opens it)."""

import base64
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from painter_core.images.decode import encode_image
from painter_core.painting.chosen import Pictures, paint_chosen
from painter_core.painting.painter import Painter, Request
from painter_core.painting.picture_decoder import PictureDecoder
from painter_core.painting.scores import ChoiceConfig
from painter_core.painting.starting import Codes, Given, starts_of_codes


class Pipeline:
    """Captions in, pictures out, in this process; made by pipeline(). Several threads may call it."""

    def __init__(
        self,
        decoder: PictureDecoder,
        painter: Painter | None = None,
        *,
        max_generated_num: int = 1,
        choice: ChoiceConfig | None = None,
        most_rows: int | None = None,
    ) -> None:
        self._decoder = decoder
        self._painter = painter  # None: of a VQGAN alone, which only decodes
        self._samples, self._choice = max_generated_num, choice or ChoiceConfig()
        self._most_rows = most_rows  # None: calls of the painter's own size

    def __call__(
        self,
        texts: str | list[str],
        *,
        init_images: Sequence[Image.Image | bytes] | None = None,
        init_codes: Sequence[Codes] | None = None,
        init_share: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[dict[str, Any]]:
        """Paints captions.

        Args:
            texts: a caption or several.
            init_images: a picture a caption, whose upper rows of codes are kept; the rest is painted.
            init_codes: a picture's codes a caption, instead of pictures: they are decoded, and nothing is
                drawn; with init_share below 1 their upper rows are kept.
            init_share: share of the rows that are kept: by default 0.4375 of pictures, all of codes.
            progress: called with the number of pictures that are drawn, and of those to draw.

        Returns:
            A dict a caption; "gen_imgbase64" is a PNG in base64, or a list of them if several pictures of a
            caption are kept. With keep_best there are "sample" and "rank" too, the best picture first, and
            with scores "score_logp" and "score_gain": numbers, or lists as long as the pictures'.
        """
        given = Given(images=init_images, codes=init_codes, share=init_share)
        found = self._paint(texts, given, progress)
        told: dict[str, list[Any]] = {
            "gen_imgbase64": [base64.b64encode(encode_image(p)).decode() for p in found.pixels]
        }
        if self._choice.keep_best is not None:
            told |= {"sample": found.kept.samples.tolist(), "rank": found.kept.ranks.tolist()}
        told |= {f"score_{name}": values.tolist() for name, values in found.scores.items()}
        n = self._choice.kept(self._samples)
        return [
            {name: values[i : i + n] if n > 1 else values[i] for name, values in told.items()}
            for i in range(0, len(found.pixels), n)
        ]

    def images(
        self,
        texts: str | list[str],
        *,
        init_images: Sequence[Image.Image | bytes] | None = None,
        init_codes: Sequence[Codes] | None = None,
        init_share: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Image.Image]:
        """The same pictures for Pillow: all of the first caption, then all of the second, and so on."""
        given = Given(images=init_images, codes=init_codes, share=init_share)
        found = self._paint(texts, given, progress)
        return [Image.fromarray(picture) for picture in found.pixels]

    def _paint(
        self, texts: str | list[str], given: Given, progress: Callable[[int, int], None] | None
    ) -> Pictures:
        texts = [texts] if isinstance(texts, str) else list(texts)
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise ValueError(f"text {i}: got {type(text).__name__}, expected a string")
        given.check(len(texts))
        total, done = len(texts) * self._samples, 0

        def tell(count: int) -> None:
            nonlocal done
            done += count
            if progress is not None:
                progress(done, total)

        if given.whole is not None and (self._samples > 1 or self._choice.keep_best):
            raise ValueError(
                "init_codes: whole pictures, of which nothing is drawn; max_generated_num and keep_best are "
                "for another pipeline(), or give init_share below 1"
            )
        if given.whole is not None and not self._choice.scores:
            return self._decode(given.whole, tell)
        return self._draw(texts, given, tell)

    def _rows(self, total: int) -> int | None:
        """Rows of a model call for so many pictures; None for those that are set."""
        if not (self._most_rows and total):
            return None
        return -(-total // -(-total // self._most_rows))

    def _decode(self, codes: Sequence[Codes], tell: Callable[[int], None]) -> Pictures:
        """Pictures of which all codes are given: no caption is read."""
        vqgan, rows = self._decoder.vqgan.config, self._rows(len(codes))
        decoder = self._decoder.variant(rows) if rows else self._decoder
        whole = np.array(starts_of_codes(vqgan, codes, None), np.uint16).reshape(-1, vqgan.image_len)
        kept = self._choice.choose({}, len(whole), 1)
        return Pictures(codes=whole, pixels=decoder.whole(whole, tell), kept=kept, scores={})

    def _draw(self, texts: list[str], given: Given, tell: Callable[[int], None]) -> Pictures:
        painter = self._painter
        if painter is None:
            raise ValueError(
                f"{self._decoder.name}: holds a VQGAN and no GPT, so it decodes whole init_codes and nothing "
                "else; give a directory that jobs/train.py wrote"
            )
        painter.check_captions(texts)
        if rows := self._rows(len(texts) * self._samples):
            painter = painter.variant(micro_batch_size=rows)
        starts = given.starts(painter, len(texts))
        return paint_chosen(
            painter,
            [
                Request(idx=str(i), text=text, start=start)
                for i, (text, start) in enumerate(zip(texts, starts, strict=True))
            ],
            choice=self._choice,
            max_generated_num=self._samples,
            best_first=True,
            progress=tell,
        )
