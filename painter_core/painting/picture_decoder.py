"""Codes to pictures in one process: what a VQGAN alone does, without a GPT.

Shapes: a micro-batch has a fixed number of rows B, the last one is filled up, so that what is computed for a
row does not depend on how many other rows there are.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Self

import numpy as np
import torch

from painter_core.compute.devices import prepare_vqgan, set_inference
from painter_core.compute.finite import check_pixels
from painter_core.compute.memory import vqgan_most_rows
from painter_core.compute.pieces import Pieces
from painter_core.images.pixels import quantize_pixels
from painter_core.model_files.directory import ModelDirectory


class PictureDecoder:
    """A VQGAN ready to decode.

    Args:
        model: a directory with a VQGAN.
        device: where it runs.
        precision: fp32, tf32 or bf16.
        micro_batch_size: pictures a model call; fewer where they would need too much memory.
        compiled: by torch.compile.
    """

    def __init__(
        self,
        model: ModelDirectory,
        *,
        device: torch.device,
        precision: str,
        micro_batch_size: int,
        compiled: bool = False,
    ) -> None:
        self.vqgan = prepare_vqgan(model.load_vqgan(), device, precision, compiled=compiled)
        self.device, self.precision = device, precision
        self.beside: torch.cuda.Stream | None = None
        """A stream of its own, on which a GPU decodes beside other work."""
        self.name = str(model.path)
        self._resize(micro_batch_size)

    def _resize(self, rows: int) -> None:
        self._rows = rows
        self._pieces = Pieces(rows, vqgan_most_rows(self.vqgan.config, self.device.type))

    def variant(self, micro_batch_size: int) -> Self:
        """The same VQGAN with calls of another size."""
        found = copy.copy(self)
        found._resize(micro_batch_size)
        return found

    def pictures(self, codes: np.ndarray) -> Iterator[np.ndarray]:
        """One batch after another, uint8 (b, S, S, 3), of codes (n, image_len)."""
        for start in range(0, len(codes), self._rows):
            batch = codes[start : start + self._rows]
            full = np.zeros((self._rows, codes.shape[1]), np.int64)
            full[: len(batch)] = batch
            yield self.begin(torch.from_numpy(full).to(self.device), len(batch))()

    def whole(self, codes: np.ndarray, tell: Callable[[int], None] = lambda count: None) -> np.ndarray:
        """All pictures, uint8 (n, S, S, 3), of codes (n, image_len).

        Args:
            tell: called after each batch with its number of pictures.
        """
        size, done = self.vqgan.config.image_size, 0
        pixels = np.empty((len(codes), size, size, 3), np.uint8)
        for batch in self.pictures(codes):
            pixels[done : done + len(batch)] = batch
            done += len(batch)
            tell(len(batch))
        return pixels

    def begin(self, codes: torch.Tensor, rows: int) -> Callable[[], np.ndarray]:
        """Starts decoding codes (B, image_len) on the device, and returns a function that waits for the end:
        the pictures of the first rows."""
        if self.beside is None:
            found, finite = self._quantized(codes)
            check_pixels(finite, self.name)
            return lambda: found[:rows].cpu().numpy()
        self.beside.wait_stream(torch.cuda.current_stream())
        codes.record_stream(self.beside)
        with torch.cuda.stream(self.beside):
            found, finite = self._quantized(codes)
            copied = torch.empty(found.shape, dtype=found.dtype, pin_memory=True)
            copied.copy_(found, non_blocking=True)
            done = torch.cuda.Event()
            done.record()

        def wait() -> np.ndarray:
            done.synchronize()
            check_pixels(finite, self.name)
            return copied[:rows].numpy()

        return wait

    @torch.inference_mode()
    def _quantized(self, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 (B, S, S, 3) on the device, and whether all of their pixels were finite, bool ()."""
        set_inference(self.precision)  # settings of the whole process, which others change
        pixels = self._pieces.run(self.vqgan.decode, codes)
        return quantize_pixels(pixels), pixels.isfinite().all()
