"""Pictures to codes, a fixed number at a time: a row's codes do not depend on how many others there are."""

import numpy as np
import torch

from painter_core.compute.devices import set_inference
from painter_core.compute.finite import codes_on_host
from painter_core.compute.memory import vqgan_most_rows
from painter_core.compute.pieces import Pieces
from painter_core.images.pixels import to_pixels
from painter_core.models.vqgan import VQGAN


@torch.inference_mode()
def encode_pictures(
    vqgan: VQGAN, pictures: np.ndarray, *, device: torch.device, precision: str, micro_batch_size: int
) -> np.ndarray:
    """The codes of pictures, int64 (n, image_len).

    Args:
        vqgan: on the device.
        pictures: uint8 (n, S, S, 3).
        precision: fp32, tf32 or bf16, for which the VQGAN was prepared.
        micro_batch_size: pictures a model call; the last one is filled up.
    """
    set_inference(precision)  # settings of the whole process, which others change
    config = vqgan.config
    pieces = Pieces(micro_batch_size, vqgan_most_rows(config, device.type))
    found = [np.empty((0, config.image_len), np.int64)]
    for start in range(0, len(pictures), micro_batch_size):
        batch = pictures[start : start + micro_batch_size]
        # filled up: another shape could round differently
        full = np.zeros((micro_batch_size, *batch.shape[1:]), np.uint8)
        full[: len(batch)] = batch
        codes = pieces.run(lambda piece: vqgan.encode(to_pixels(piece)), torch.from_numpy(full).to(device))
        found.append(codes_on_host(codes[: len(batch)], "the VQGAN").astype(np.int64))
    return np.concatenate(found)
