"""pipeline(): captions in, pictures out, in one process, as with EasyNLP's."""

import base64
import logging
from typing import get_args

import numpy as np
import torch
from PIL import Image

from painter_core.compute.devices import Precision, resolve_precision
from painter_core.images.decode import encode_image
from painter_core.model_files import zoo
from painter_core.model_files.open import open_model
from painter_core.painting.graphs import Graphs
from painter_core.painting.painter import Painter, Request
from painter_core.painting.sampling import SamplingConfig

log = logging.getLogger(__name__)


class Pipeline:
    """Captions in, pictures out, in this process; made by pipeline(). Several threads may call it."""

    def __init__(self, painter: Painter, *, max_generated_num: int) -> None:
        self._painter = painter
        self._samples = max_generated_num

    def __call__(self, texts: str | list[str]) -> list[dict[str, str | list[str]]]:
        """Paints captions.

        Args:
            texts: a caption or several.

        Returns:
            A dict a caption; "gen_imgbase64" is a PNG in base64, or a list of them if max_generated_num is
            above 1.
        """
        encoded = [base64.b64encode(encode_image(p)).decode() for p in self._paint(texts)]
        n = self._samples
        return [
            {"gen_imgbase64": encoded[i : i + n] if n > 1 else encoded[i]} for i in range(0, len(encoded), n)
        ]

    def images(self, texts: str | list[str]) -> list[Image.Image]:
        """The same pictures for Pillow: all of the first caption, then all of the second, and so on."""
        return [Image.fromarray(picture) for picture in self._paint(texts)]

    def _paint(self, texts: str | list[str]) -> list[np.ndarray]:
        texts = [texts] if isinstance(texts, str) else list(texts)
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise ValueError(f"text {i}: got {type(text).__name__}, expected a string")
        if not texts:
            return []
        found = self._painter.text_ids(texts)
        seen = np.minimum(found.num_tokens, found.ids.shape[1])
        for row in np.flatnonzero(found.num_unk == seen):
            what = "all of its tokens are unknown to the model" if seen[row] else "leaves no token"
            raise ValueError(f"text {row}: {texts[row]!r}: {what}")
        samples = range(self._samples)
        requests = [Request(idx=str(i), text=t, sample=s) for i, t in enumerate(texts) for s in samples]
        return [picture for _, pictures in self._painter.paint(requests) for picture in pictures]


def pipeline(
    task_or_model: str = zoo.TASK,
    model_path: str | None = None,
    *,
    max_generated_num: int = 1,
    seed: int = 42,
    top_k: int = 100,
    top_p: float = 1.0,
    temperature: float = 1.0,
    guidance_scale: float = 1.0,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    micro_batch_size: int | None = None,
    compile: bool = False,
    graphs: Graphs = "auto",
) -> Pipeline:
    """A model ready to paint, as EasyNLP's pipeline() makes it.

    The idx of a caption is its position, so a call paints what jobs/generate.py paints for a table with idx
    0, 1, ... and the same seed. The same call gives the same pictures.

    Args:
        task_or_model: "text2image_generation", or a name of the zoo, or anything else that open_model takes.
        model_path: with the task: the model, by default zoo.DEFAULT.
        max_generated_num: pictures a caption.
        seed: seed of the draws.
        top_k, top_p, temperature, guidance_scale: see SamplingConfig.
        device: auto is the first GPU, else the CPU.
        precision: auto is bf16 on a GPU, fp32 on a CPU.
        micro_batch_size: pictures a model call; by default 16 on a GPU, 1 on a CPU.
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
    painter = Painter(
        open_model(_model_name(task_or_model, model_path)),
        device=torch.device(device),
        precision=resolve_precision(precision, gpu=gpu, bf16=bf16),
        sampling=SamplingConfig(
            top_k=top_k, top_p=top_p, temperature=temperature, guidance_scale=guidance_scale
        ),
        seed=seed,
        micro_batch_size=micro_batch_size or (16 if gpu else 1),
        compiled=compile,
        graphs=graphs,
    )
    if painter.graphs.reason:
        log.warning("CUDA graphs off: %s; painting is 2 to 3 times slower", painter.graphs.reason)
    return Pipeline(painter, max_generated_num=max_generated_num)


def _model_name(task_or_model: str, model_path: str | None) -> str:
    if task_or_model == zoo.TASK:
        return model_path or zoo.DEFAULT
    if model_path is not None:
        raise ValueError(
            f"model_path {model_path}: goes with {zoo.TASK!r}, but {task_or_model!r} names a model itself"
        )
    return task_or_model
