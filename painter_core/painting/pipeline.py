"""pipeline(): captions in, pictures out, in one process, as with EasyNLP's."""

import base64
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image

from painter_core.compute.devices import Precision, painting_precision, resolve_precision
from painter_core.compute.memory import fitting_rows, gpt_row_bytes, vqgan_row_bytes
from painter_core.images.decode import encode_image
from painter_core.model_files import zoo
from painter_core.model_files.caption_dropout import warn_of_gain
from painter_core.model_files.open import open_model
from painter_core.painting.caption_pipeline import (
    CAPTION_ROWS,
    CAPTION_TASK,
    CaptionPipeline,
    caption_pipeline,
)
from painter_core.painting.caption_sampling import CaptionSampling
from painter_core.painting.chosen import Pictures, paint_chosen
from painter_core.painting.graphs import Graphs
from painter_core.painting.painter import CPU_ROWS, GPU_ROWS, Painter, Request
from painter_core.painting.sampling import SamplingConfig
from painter_core.painting.scores import ChoiceConfig
from painter_core.painting.starting import Codes, starts_of_codes, starts_of_images

log = logging.getLogger(__name__)


class Pipeline:
    """Captions in, pictures out, in this process; made by pipeline(). Several threads may call it."""

    def __init__(
        self,
        painter: Painter,
        *,
        max_generated_num: int,
        choice: ChoiceConfig | None = None,
        most_rows: int | None = None,
    ) -> None:
        self._painter = painter
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
        found = self._paint(texts, init_images, init_codes, init_share, progress)
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
        found = self._paint(texts, init_images, init_codes, init_share, progress)
        return [Image.fromarray(picture) for picture in found.pixels]

    def _paint(
        self,
        texts: str | list[str],
        init_images: Sequence[Image.Image | bytes] | None,
        init_codes: Sequence[Codes] | None,
        init_share: float | None,
        progress: Callable[[int, int], None] | None,
    ) -> Pictures:
        texts = [texts] if isinstance(texts, str) else list(texts)
        self._check(texts)
        painter, total = self._painter, len(texts) * self._samples
        if self._most_rows and total:
            calls = -(-total // self._most_rows)
            painter = painter.variant(micro_batch_size=-(-total // calls))
        starts = self._starts(painter, len(texts), init_images, init_codes, init_share)
        done = 0

        def tell(count: int) -> None:
            nonlocal done
            done += count
            if progress is not None:
                progress(done, total)

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

    def _check(self, texts: list[str]) -> None:
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise ValueError(f"text {i}: got {type(text).__name__}, expected a string")
        if not texts:
            return
        found = self._painter.text_ids(texts)
        seen = np.minimum(found.num_tokens, found.ids.shape[1])
        for row in np.flatnonzero(found.num_unk == seen):
            what = "all of its tokens are unknown to the model" if seen[row] else "leaves no token"
            raise ValueError(f"text {row}: {texts[row]!r}: {what}")

    def _starts(
        self,
        painter: Painter,
        number: int,
        images: Sequence[Image.Image | bytes] | None,
        codes: Sequence[Codes] | None,
        share: float | None,
    ) -> Sequence[np.ndarray | None]:
        """The codes that each caption's pictures begin with."""
        for name, given in (("init_images", images), ("init_codes", codes)):
            if given is not None and len(given) != number:
                raise ValueError(f"{name}: got {len(given)} for {number} texts, expected one a text")
        if images is not None and codes is not None:
            raise ValueError("init_images and init_codes: expected one of them")
        if images is not None:
            return starts_of_images(painter, images, share)
        if codes is None:
            return [None] * number
        if share in (None, 1) and (self._samples > 1 or self._choice.keep_best):
            raise ValueError(
                "init_codes: whole pictures, of which nothing is drawn; max_generated_num and keep_best are "
                "for another pipeline(), or give init_share below 1"
            )
        return starts_of_codes(painter, codes, share)


def pipeline(
    task_or_model: str = zoo.TASK,
    model_path: str | None = None,
    *,
    max_generated_num: int = 1,
    keep_best: int | None = None,
    rank_by: str | None = None,
    scores: bool = False,
    seed: int = 42,
    top_k: int | None = None,
    top_p: float = 1.0,
    temperature: float = 1.0,
    guidance_scale: float = 1.0,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    micro_batch_size: int | None = None,
    compile: bool = False,
    graphs: Graphs = "auto",
) -> Pipeline | CaptionPipeline:
    """A model ready to paint, or to caption, as EasyNLP's pipeline() makes it.

    The idx of a caption is its position, so a call paints what jobs/generate.py paints for a table with idx
    0, 1, ... and the same seed. The same call gives the same pictures. Another number of captions is another
    size of model calls, which may round differently, unless micro_batch_size is given.

    Args:
        task_or_model: "text2image_generation", "image2text_generation" (caption_pipeline.py), or a name of
            the zoo, or anything else that open_model takes.
        model_path: with a task: the model; for painting by default zoo.DEFAULT.
        max_generated_num: pictures a caption, or captions a picture.
        keep_best: of these keep so many, by rank_by: "logp" (default), "gain" or "caption"; see ChoiceConfig.
        scores: whether results say score_logp and score_gain.
        seed: seed of the draws.
        top_k, top_p, temperature, guidance_scale: see SamplingConfig; top_k is 100 by default, but 1 for
            captions (CaptionSampling).
        device: auto is the first GPU, else the CPU.
        precision: auto is bf16 on a GPU and on a CPU with AMX, else fp32.
        micro_batch_size: pictures a model call, the last one filled up; by default all of a call's, at most
            256 on a GPU, 64 on a CPU, fewer where memory is short.
        compile: the decoder, and on a GPU the sampling's steps, by torch.compile.
        graphs: CUDA graphs of the sampling's steps; auto: on a GPU, if they work there.

    Raises:
        ValueError: no such model, or a wrong argument.
        RuntimeError: graphs are on, and do not work here.
    """
    if graphs not in get_args(Graphs):
        raise ValueError(f"graphs: got {graphs!r}, expected one of {', '.join(get_args(Graphs))}")
    for argument, value in (("max_generated_num", max_generated_num), ("micro_batch_size", micro_batch_size)):
        if value is not None and value < 1:
            raise ValueError(f"{argument}: got {value}, expected 1 or more")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    gpu = torch.device(device).type == "cuda"
    if graphs == "on" and not gpu:
        raise ValueError(f"graphs on: only GPUs have CUDA graphs, and the device is {device}")
    bf16 = gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    if task_or_model == CAPTION_TASK:
        if (keep_best, rank_by, scores, guidance_scale) != (None, None, False, 1.0):
            raise ValueError(f"keep_best, rank_by, scores, guidance_scale: mean nothing for {CAPTION_TASK}")
        return caption_pipeline(
            model_path,
            sampling=CaptionSampling(
                top_k=1 if top_k is None else top_k, top_p=top_p, temperature=temperature
            ),
            max_generated_num=max_generated_num,
            seed=seed,
            device=torch.device(device),
            precision=resolve_precision(precision, gpu=gpu, bf16=bf16),
            micro_batch_size=micro_batch_size or CAPTION_ROWS,
            compiled=compile,
        )
    choice = ChoiceConfig(keep_best=keep_best, rank_by=rank_by, score_columns=scores)
    choice.check(max_generated_num)
    found = painting_precision(precision, gpu=gpu, bf16=bf16)
    model = open_model(_model_name(task_or_model, model_path))
    if model.gpt_config is not None:
        choice.check_model(model.gpt_config)
    if "gain" in choice.scores:
        warn_of_gain(model)
    painter = Painter(
        model,
        device=torch.device(device),
        precision=found,
        sampling=SamplingConfig(
            top_k=100 if top_k is None else top_k,
            top_p=top_p,
            temperature=temperature,
            guidance_scale=guidance_scale,
        ),
        seed=seed,
        micro_batch_size=micro_batch_size or 1,
        compiled=compile,
        graphs=graphs,
    )
    if painter.graphs.reason:
        log.warning("CUDA graphs off: %s; painting is 2 to 3 times slower", painter.graphs.reason)
    most = None if micro_batch_size else _most_rows(painter, gpu=gpu)
    return Pipeline(painter, max_generated_num=max_generated_num, choice=choice, most_rows=most)


def _most_rows(painter: Painter, *, gpu: bool) -> int:
    """Pictures of a model call; a GPU that runs out of memory is given fewer."""
    if gpu:
        return GPU_ROWS
    gpt = painter.sampling.rows_per_picture * gpt_row_bytes(painter.gpt.config, painter.precision)
    row = gpt + vqgan_row_bytes(painter.vqgan.config, painter.precision)
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return fitting_rows(row, free, CPU_ROWS)


def _model_name(task_or_model: str, model_path: str | None) -> str:
    if task_or_model == zoo.TASK:
        return model_path or zoo.DEFAULT
    if model_path is not None:
        raise ValueError(
            f"model_path {model_path}: goes with {zoo.TASK!r}, but {task_or_model!r} names a model itself"
        )
    return task_or_model
