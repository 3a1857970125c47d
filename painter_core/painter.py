"""Text to pictures in one process: tokenize, sample codes with the GPT, paint them with the VQGAN's decoder.

Shapes: a micro-batch has a fixed number of rows B, the last one is filled up, so that what is computed for a
row does not depend on how many other rows there are.
"""

import base64
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from painter_core import zoo
from painter_core.checkpoint import ModelDirectory, open_model
from painter_core.devices import DTYPES, Pieces, Precision, prepare_vqgan, resolve_precision
from painter_core.images import encode_image
from painter_core.memory import vqgan_most_rows
from painter_core.models.cached_gpt import CachedGPT
from painter_core.pixels import quantize_pixels, to_uint8
from painter_core.sampling import SamplingConfig, row_uniforms, sample_codes
from painter_core.sequence import TextIds, text_ids
from painter_core.static_sampling import StaticSampler


@dataclass(frozen=True, kw_only=True)
class Request:
    """One picture to paint."""

    idx: str
    """Names the row: with the seed and `sample` it decides what is drawn."""
    text: str
    sample: int = 0


Painted = tuple[np.ndarray, np.ndarray]  # codes int64 (b, image_len), pictures uint8 (b, S, S, 3)


class Painter:
    """A model ready to paint.

    Args:
        model: a directory with VQGAN, GPT and tokenizer.
        device: where both networks run.
        precision: fp32, tf32 or bf16, of both networks.
        sampling: how codes are drawn.
        seed: of the whole run.
        micro_batch_size: pictures a model call; fewer after a GPU ran out of memory.
        compiled: steps and decoder by torch.compile, on a GPU as CUDA graphs.
        vqgan: decodes instead of the model's own; of the same codes.
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
        compiled: bool = False,
        vqgan: ModelDirectory | None = None,
    ) -> None:
        self.tokenizer = model.load_tokenizer()
        self.gpt = CachedGPT(model.load_gpt().to(device), DTYPES[precision], pack=not compiled)
        self.vqgan = prepare_vqgan((vqgan or model).load_vqgan(), device, precision, compiled=compiled)
        self.device, self.compiled = device, compiled
        self.sampling, self.seed, self.micro_batch_size = sampling, seed, micro_batch_size
        self._sampling_pieces = Pieces(micro_batch_size)
        self._decoding_pieces = Pieces(micro_batch_size, vqgan_most_rows(self.vqgan.config, device.type))
        self._static: dict[int, StaticSampler] = {}
        self._beside = torch.cuda.Stream(device) if compiled and device.type == "cuda" else None

    def text_ids(self, texts: list[str]) -> TextIds:
        """Text ids of captions, with token counts."""
        config = self.gpt.config
        return text_ids(self.tokenizer, texts, text_len=config.text_len, codebook_size=config.codebook_size)

    def paint(self, requests: list[Request]) -> Iterator[Painted]:
        """One batch of b requests after another; with CUDA graphs a batch is decoded while the next one is
        sampled."""
        waiting: Callable[[], Painted] | None = None
        for start in range(0, len(requests), self.micro_batch_size):
            batch = requests[start : start + self.micro_batch_size]
            decoding = self._begin_decoding(self.sample(batch), len(batch))
            if waiting is not None:
                yield waiting()
            waiting = decoding
        if waiting is not None:
            yield waiting()

    def _begin_decoding(self, codes: torch.Tensor, rows: int) -> Callable[[], Painted]:
        """Starts decoding; what is returned waits for its end."""
        if self._beside is None:
            pictures = to_uint8(self.decode(codes))
            return lambda: (codes[:rows].cpu().numpy(), pictures[:rows])
        self._beside.wait_stream(torch.cuda.current_stream())
        codes.record_stream(self._beside)
        with torch.cuda.stream(self._beside):
            found = quantize_pixels(self.decode(codes))
            copied = torch.empty(found.shape, dtype=found.dtype, pin_memory=True)
            copied.copy_(found, non_blocking=True)
            done = torch.cuda.Event()
            done.record()

        def wait() -> Painted:
            done.synchronize()
            return codes[:rows].cpu().numpy(), copied[:rows].numpy()

        return wait

    def sample(self, batch: list[Request]) -> torch.Tensor:
        """Codes (micro_batch_size, image_len) on the device; rows after the batch are filling."""
        filling = self.micro_batch_size - len(batch)
        batch = batch + [dataclasses.replace(batch[-1], text="")] * filling
        ids = torch.from_numpy(self.text_ids([r.text for r in batch]).ids).to(self.device)
        length = self.gpt.config.image_len
        uniforms = np.stack([row_uniforms(self.seed, r.idx, r.sample, length) for r in batch])
        return self._sampling_pieces.run(self._sample, ids, torch.from_numpy(uniforms).to(self.device))

    def _sample(self, ids: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
        if not self.compiled:
            return sample_codes(self.gpt, ids, uniforms, self.sampling)
        if len(ids) not in self._static:
            self._static.clear()  # what was built for larger pieces did not fit
            self._static[len(ids)] = StaticSampler(self.gpt, self.sampling, len(ids), compiled=True)
        return self._static[len(ids)].sample(ids, uniforms)

    @torch.inference_mode()
    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Pixels (B, 3, S, S) of codes (B, image_len)."""
        return self._decoding_pieces.run(self.vqgan.decode, codes)


class Pipeline:
    """Captions in, pictures out, in this process; made by pipeline()."""

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
) -> Pipeline:
    """A model ready to paint, as EasyNLP's pipeline() makes it.

    The idx of a caption is its position, so a call paints what jobs/generate.py paints for a table with idx
    0, 1, ... and the same seed. The same call gives the same pictures.

    Args:
        task_or_model: "text2image_generation", or a name of the zoo, or anything else that open_model takes.
        model_path: with the task: the model, by default zoo.DEFAULT.
        max_generated_num: pictures a caption.
        seed: of the draws.
        top_k, top_p, temperature, guidance_scale: see SamplingConfig.
        device: auto is the first GPU, else the CPU.
        precision: auto is bf16 on a GPU, fp32 on a CPU.
        micro_batch_size: pictures a model call; by default 16 on a GPU, 1 on a CPU.

    Raises:
        ValueError: no such model, or a wrong argument.
    """
    for argument, value in (("max_generated_num", max_generated_num), ("micro_batch_size", micro_batch_size)):
        if value is not None and value < 1:
            raise ValueError(f"{argument}: got {value}, expected 1 or more")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    gpu = torch.device(device).type == "cuda"
    painter = Painter(
        open_model(_model_name(task_or_model, model_path)),
        device=torch.device(device),
        precision=resolve_precision(precision, gpu=gpu),
        sampling=SamplingConfig(
            top_k=top_k, top_p=top_p, temperature=temperature, guidance_scale=guidance_scale
        ),
        seed=seed,
        micro_batch_size=micro_batch_size or (16 if gpu else 1),
    )
    return Pipeline(painter, max_generated_num=max_generated_num)


def _model_name(task_or_model: str, model_path: str | None) -> str:
    if task_or_model == zoo.TASK:
        return model_path or zoo.DEFAULT
    if model_path is not None:
        raise ValueError(
            f"model_path {model_path}: goes with {zoo.TASK!r}, but {task_or_model!r} names a model itself"
        )
    return task_or_model
