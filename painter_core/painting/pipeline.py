"""pipeline(): captions in, pictures out, in one process, as with EasyNLP's."""

import logging
import os
from typing import Any, get_args

import torch

from painter_core.compute.devices import Precision, painting_precision, resolve_precision
from painter_core.compute.memory import fitting_rows, gpt_row_bytes, vqgan_row_bytes
from painter_core.model_files import zoo
from painter_core.model_files.caption_dropout import warn_of_gain
from painter_core.model_files.directory import ModelDirectory
from painter_core.model_files.open import open_model
from painter_core.painting.caption_pipeline import (
    CAPTION_ROWS,
    CAPTION_TASK,
    CaptionPipeline,
    caption_pipeline,
)
from painter_core.painting.caption_sampling import CaptionSampling
from painter_core.painting.graphs import Graphs
from painter_core.painting.painter import CPU_ROWS, GPU_ROWS, Painter
from painter_core.painting.painting_pipeline import Pipeline
from painter_core.painting.picture_decoder import PictureDecoder
from painter_core.painting.sampling import SamplingConfig
from painter_core.painting.scores import ChoiceConfig

log = logging.getLogger(__name__)


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

    Of a directory with a VQGAN alone it decodes whole init_codes, and nothing else.

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
    sampling = SamplingConfig(
        top_k=SamplingConfig.top_k if top_k is None else top_k,
        top_p=top_p,
        temperature=temperature,
        guidance_scale=guidance_scale,
    )
    found = painting_precision(precision, gpu=gpu, bf16=bf16)
    model = open_model(_model_name(task_or_model, model_path))
    networks: dict[str, Any] = {
        "device": torch.device(device),
        "precision": found,
        "micro_batch_size": micro_batch_size or 1,
        "compiled": compile,
    }
    if model.gpt_config is not None:
        choice.check_model(model.gpt_config)
        painter = _open_painter(model, choice, sampling=sampling, seed=seed, graphs=graphs, **networks)
        drawing = painter.sampling.rows_per_picture * gpt_row_bytes(painter.gpt.config, painter.precision)
        most = None if micro_batch_size else _most_rows(painter.decoder, drawing, gpu=gpu)
        return Pipeline(
            painter.decoder, painter, max_generated_num=max_generated_num, choice=choice, most_rows=most
        )
    if (max_generated_num, choice, sampling, graphs) != (1, ChoiceConfig(), SamplingConfig(), "auto"):
        raise ValueError(
            f"{model.path}: holds a VQGAN and no GPT, so nothing is drawn or scored: leave out what says "
            "how, or give a directory that jobs/train.py wrote"
        )
    decoder = PictureDecoder(model, **networks)
    return Pipeline(decoder, most_rows=None if micro_batch_size else _most_rows(decoder, gpu=gpu))


def _open_painter(model: ModelDirectory, choice: ChoiceConfig, **settings: Any) -> Painter:
    """A painter, with warnings of what it does not do well."""
    if "gain" in choice.scores:
        warn_of_gain(model)
    painter = Painter(model, **settings)
    if painter.graphs.reason:
        log.warning("CUDA graphs off: %s; painting is 2 to 3 times slower", painter.graphs.reason)
    return painter


def _most_rows(decoder: PictureDecoder, sampling_bytes: int = 0, *, gpu: bool) -> int:
    """Pictures of a model call; a GPU that runs out of memory is given fewer.

    Args:
        sampling_bytes: that a picture needs while it is drawn.
    """
    if gpu:
        return GPU_ROWS
    row = sampling_bytes + vqgan_row_bytes(decoder.vqgan.config, decoder.precision)
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
