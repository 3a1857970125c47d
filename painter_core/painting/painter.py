"""Text to pictures in one process: tokenize, sample codes with the GPT, paint them with the VQGAN's decoder.

Shapes: a micro-batch has a fixed number of rows B, the last one is filled up, so that what is computed for a
row does not depend on how many other rows there are.
"""

import copy
import dataclasses
import logging
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from painter_core.compute.devices import DTYPES, set_inference
from painter_core.compute.memory import kv_cache_bytes
from painter_core.compute.pieces import Pieces, filled
from painter_core.model_files.directory import ModelDirectory
from painter_core.models.cached_gpt import CachedGPT
from painter_core.painting.caption_scores import CaptionScores
from painter_core.painting.graphs import Capturer, Graphs, Streams, try_graphs
from painter_core.painting.picture_decoder import PictureDecoder
from painter_core.painting.sampling import SamplingConfig, row_uniforms, sample_codes
from painter_core.painting.scores import OF_CODES, Drawn, Score, log_probabilities_of, sums
from painter_core.painting.static_sampling import StaticSampler
from painter_core.text.ids import TextIds, text_ids

log = logging.getLogger(__name__)

# pictures of a model call at most, by default: a step reads all weights once, however many rows it has
GPU_ROWS = 512
CPU_ROWS = 64


@dataclass(frozen=True, kw_only=True)
class Request:
    """One picture to paint."""

    idx: str
    """Names the row: with the seed and `sample` it decides what is drawn."""
    text: str
    sample: int = 0
    start: np.ndarray | None = None
    """Codes that the picture begins with, or all of them, (K,); as many for all requests of a call."""


Painted = tuple[np.ndarray, np.ndarray]  # codes int64 (b, image_len), pictures uint8 (b, S, S, 3)


def _painted(codes: torch.Tensor, pictures: Callable[[], np.ndarray]) -> Painted:
    """A batch whose decoding was begun."""
    made = pictures()  # waits for the end
    return codes.cpu().numpy(), made


class Painter:
    """A model ready to paint.

    Args:
        model: a directory with VQGAN, GPT and tokenizer.
        device: where both networks run.
        precision: fp32, tf32 or bf16, of both networks.
        sampling: how codes are drawn.
        seed: seed of the whole run.
        micro_batch_size: pictures a model call; fewer after a GPU ran out of memory.
        compiled: the decoder by torch.compile, on a GPU the steps too.
        graphs: on a GPU, steps as CUDA graphs (graphs.py); auto: if they work here.
        vqgan: VQGAN of the same codes that decodes instead of the model's own.
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
        graphs: Graphs = "off",
        vqgan: ModelDirectory | None = None,
    ) -> None:
        self.tokenizer = model.load_tokenizer()
        # on a CPU steps with packed weights are faster than compiled ones, which cannot have them
        in_regions = compiled and device.type == "cuda"
        self.gpt = CachedGPT(model.load_gpt().to(device), DTYPES[precision], compiled=in_regions)
        self._likes = CaptionScores(self.gpt, self.tokenizer) if self.gpt.config.captions else None
        self.decoder = PictureDecoder(
            vqgan or model,
            device=device,
            precision=precision,
            micro_batch_size=micro_batch_size,
            compiled=compiled,
        )
        self.vqgan = self.decoder.vqgan
        self.device, self.precision = device, precision
        self.sampling, self.seed, self.micro_batch_size = sampling, seed, micro_batch_size
        self._sampling_pieces = Pieces(micro_batch_size)
        self._static: dict[tuple[int, SamplingConfig, bool], StaticSampler] = {}
        self._lock = threading.Lock()
        cached = sampling.rows_per_picture * kv_cache_bytes(self.gpt.config, precision)
        log.info(
            "sampling: %d pictures a batch, %.1f MB of keys and values each", micro_batch_size, cached / 1e6
        )
        self._streams = Streams(device) if graphs != "off" and device.type == "cuda" else None
        set_inference(precision)
        wanted = graphs if self._streams else "off"
        self.graphs = try_graphs(wanted, self._try_graphs, precision)
        """What came of `graphs`."""
        if not self.graphs.used:
            self._streams = None
            self._static.clear()
        self.decoder.beside = self._streams.decoding if self._streams else None

    def variant(self, *, sampling: SamplingConfig | None = None, micro_batch_size: int | None = None) -> Self:
        """The same models with other settings; they share memory and take turns."""
        found = copy.copy(self)
        found.sampling = sampling or self.sampling
        if micro_batch_size:
            found.micro_batch_size = micro_batch_size
            found._sampling_pieces = Pieces(micro_batch_size)
            found.decoder = self.decoder.variant(micro_batch_size)
        return found

    def text_ids(self, texts: list[str]) -> TextIds:
        """Text ids of captions, with token counts."""
        config = self.gpt.config
        return text_ids(self.tokenizer, texts, text_len=config.text_len, codebook_size=config.codebook_size)

    def check_captions(self, texts: list[str]) -> None:
        """Raises ValueError for a caption of which the model sees nothing."""
        if not texts:
            return
        found = self.text_ids(texts)
        seen = np.minimum(found.num_tokens, found.ids.shape[1])
        for row in np.flatnonzero(found.num_unk == seen):
            what = "all of its tokens are unknown to the model" if seen[row] else "leaves no token"
            raise ValueError(f"text {row}: {texts[row]!r}: {what}")

    def paint(self, requests: list[Request]) -> Iterator[Painted]:
        """One batch of b requests after another; with CUDA graphs a batch is decoded while the next one is
        sampled."""
        waiting: tuple[torch.Tensor, Callable[[], np.ndarray]] | None = None
        for start in range(0, len(requests), self.micro_batch_size):
            batch = requests[start : start + self.micro_batch_size]
            codes = self.sample(batch)
            begun = codes[: len(batch)], self.decoder.begin(codes, len(batch))
            if waiting is not None:
                yield _painted(*waiting)
            waiting = begun
        if waiting is not None:
            yield _painted(*waiting)

    def draw(
        self,
        requests: list[Request],
        scores: Collection[Score] = (),
        *,
        progress: Callable[[int], None] = lambda count: None,
    ) -> Drawn:
        """Codes of pictures, and how likely they are; nothing is decoded.

        Args:
            progress: called after each batch with its number of pictures.
        """
        config = self.gpt.config
        of_codes = [name for name in scores if name in OF_CODES]
        height = max(self.sampling.rows_per_picture, 2 if "gain" in scores else 1) if of_codes else 0
        liked = [np.empty(0, np.float32)]
        codes = [np.empty((0, config.image_len), np.uint16)]
        log_p = [torch.empty(0, height, config.image_len)]
        for start in range(0, len(requests), self.micro_batch_size):
            batch = requests[start : start + self.micro_batch_size]
            found = torch.zeros(self.micro_batch_size, height, config.image_len, device=self.device)
            drawn = self.sample(batch, found)
            codes.append(drawn[: len(batch)].cpu().numpy().astype(np.uint16))
            log_p.append(found[: len(batch)].cpu())
            if "caption" in scores:
                assert self._likes is not None
                with self._turn():
                    liked.append(self._likes([r.text for r in batch], drawn, self._sampling_pieces))
            progress(len(batch))
        made = sums(torch.cat(log_p), of_codes)
        if "caption" in scores:
            made["caption"] = np.concatenate(liked)
        return Drawn(codes=np.concatenate(codes), scores=made)

    def sample(self, batch: list[Request], log_p: torch.Tensor | None = None) -> torch.Tensor:
        """Codes (micro_batch_size, image_len) on the device; rows after the batch are padding.

        Threads take turns, a batch each: the GPT keeps the keys and values of one batch.

        Args:
            log_p: float32 (micro_batch_size, 1 or 2, image_len), filled with log p of the codes, with the
                caption, and without it where there is room.
        """
        filling = self.micro_batch_size - len(batch)
        batch = batch + [dataclasses.replace(batch[-1], text="")] * filling
        ids, length = self.text_ids([r.text for r in batch]).ids, self.gpt.config.image_len
        uniforms = np.stack([row_uniforms(self.seed, r.idx, r.sample, length) for r in batch])
        start = np.array([() if r.start is None else r.start for r in batch], np.int64)  # (B, K)
        given = [torch.from_numpy(values).to(self.device) for values in (ids, uniforms, start)]
        if log_p is None:
            log_p = torch.empty(len(batch), 0, length, device=self.device)
        with self._turn():
            return self._sampling_pieces.run(self._sample, *given, log_p)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with self._lock, self._streams.for_sampling() if self._streams else nullcontext():
            # settings of the whole process, which another painter may have changed
            set_inference(self.precision)
            yield

    def _sample(
        self, ids: torch.Tensor, uniforms: torch.Tensor, start: torch.Tensor, log_p: torch.Tensor
    ) -> torch.Tensor:
        """Codes (B, L); a start (B, 0) is none, one of (B, L) all, and log_p (B, 0, L) is not wanted."""
        if start.shape[1] == self.gpt.config.image_len:
            for i, text in enumerate((ids, None)[: log_p.shape[1]]):
                log_p[:, i] = log_probabilities_of(self.gpt, start, text)
            return start
        rows = self.sampling.rows_per_picture
        begun = start if start.shape[1] else None
        kept = log_p[:, :rows] if log_p.shape[1] else None
        if self._streams is None:
            codes = sample_codes(self.gpt, ids, uniforms, self.sampling, start=begun, log_p=kept)
        else:
            codes = self._sample_by_graphs(ids, uniforms, begun, kept)
        if log_p.shape[1] > rows:
            first = start.shape[1]
            # of as many rows as were sampled: graphs hold as long as the cache has these
            same = codes if self._streams is None else filled(codes, self._sampling_pieces.rows)
            log_p[:, 1, first:] = log_probabilities_of(self.gpt, same)[: len(codes), first:]
        return codes

    def _sample_by_graphs(
        self,
        ids: torch.Tensor,
        uniforms: torch.Tensor,
        start: torch.Tensor | None,
        log_p: torch.Tensor | None,
    ) -> torch.Tensor:
        """The same, of a piece that is filled up to the number of rows for which the graphs are."""
        count, rows = len(ids), max(len(ids), self._sampling_pieces.rows)
        found = None if log_p is None else filled(log_p, rows)
        begun = None if start is None else filled(start, rows)
        sampler = self._static_sampler(rows, scored=log_p is not None)
        codes = sampler.sample(filled(ids, rows), filled(uniforms, rows), start=begun, log_p=found)[:count]
        if log_p is not None and found is not None:
            log_p.copy_(found[:count])
        return codes

    def _static_sampler(self, pictures: int, *, scored: bool) -> StaticSampler:
        key = (pictures, self.sampling, scored)
        if key not in self._static or not self._static[key].holds:
            # for larger pieces, which did not fit, for other settings, or for a cache that was replaced
            self._static.clear()
            capture = Capturer(self._streams.sampling) if self._streams else None
            self._static[key] = StaticSampler(
                self.gpt, self.sampling, pictures, scored=scored, capture=capture
            )
        return self._static[key]

    @torch.inference_mode()
    def _try_graphs(self) -> float:
        """Samples a batch of empty captions by graphs; how far one of their steps is from the plain one."""
        config, rows = self.gpt.config, self.micro_batch_size
        ids = torch.full((rows, config.text_len), config.codebook_size, device=self.device)
        uniforms = torch.full((rows, config.image_len), 0.5, device=self.device)
        nothing = torch.empty(rows, 0, config.image_len, device=self.device)
        assert self._streams is not None
        with self._streams.for_sampling():
            self._sampling_pieces.run(self._sample, ids, uniforms, ids[:, :0], nothing)
            fitting = self._sampling_pieces.rows
            return self._static_sampler(fitting, scored=False).distance(ids[:fitting])
