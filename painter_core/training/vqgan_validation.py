"""How well a VQGAN reconstructs pictures: figures, and a picture to look at."""

import numpy as np
import torch

from painter_core.compute.finite import codes_on_host
from painter_core.compute.memory import vqgan_most_rows
from painter_core.images.pixels import sent_pixels, to_uint8
from painter_core.models.vqgan import VQGAN


@torch.inference_mode()
def validate(vqgan: VQGAN, pictures: np.ndarray, batch_size: int = 32) -> dict[str, float]:
    """L1 in units of [-1, 1] and PSNR in dB, over pixels as saved, and how much of the codebook is used.

    Args:
        pictures: uint8 (n, S, S, 3).
    """
    device = vqgan.quantize.embedding.weight.device
    batch_size = min(batch_size, vqgan_most_rows(vqgan.config, device.type))
    errors, squares, counts = [], [], np.zeros(vqgan.config.codebook_size, np.int64)
    for start in range(0, len(pictures), batch_size):
        batch = pictures[start : start + batch_size]
        codes = vqgan.encode(sent_pixels(batch, device))
        counts += np.bincount(codes_on_host(codes, "training").ravel(), minlength=len(counts))
        error = to_uint8(vqgan.decode(codes)).astype(np.float64) - batch
        errors.append(np.abs(error).mean(axis=(1, 2, 3)) / 127.5)
        squares.append((error**2).mean(axis=(1, 2, 3)))
    shares = counts[counts > 0] / counts.sum()
    return {
        "valid_l1": float(np.mean(np.concatenate(errors))),
        "valid_psnr": float(np.mean(10 * np.log10(255**2 / np.maximum(np.concatenate(squares), 1e-9)))),
        "valid_usage": float((counts > 0).mean()),
        "valid_perplexity": float(np.exp(-(shares * np.log(shares)).sum())),
    }


def contact_sheet(vqgan: VQGAN, pictures: np.ndarray) -> np.ndarray:
    """Originals above reconstructions, uint8 (2 S, n S, 3)."""
    device = vqgan.quantize.embedding.weight.device
    with torch.inference_mode():
        rec = to_uint8(vqgan.decode(vqgan.encode(sent_pixels(pictures, device))))
    return np.concatenate([np.concatenate(list(row), axis=1) for row in (pictures, rec)])
