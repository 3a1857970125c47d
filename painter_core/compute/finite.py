"""What a VQGAN computed, checked where it leaves the device: NaN and infinity stop a run.

A uint8 has neither, so pictures would be black and codes 0 without a word.
"""

import numpy as np
from torch import Tensor

from painter_core.models.vqgan import NO_CODE

ADVICE = (
    "its weights are damaged, or overflow in this precision. Copy the model again, or try --precision fp32"
)


def codes_on_host(codes: Tensor, model: str) -> np.ndarray:
    """Codes of VQGAN.encode (N, image_len) as uint16.

    Args:
        model: the VQGAN's name, for the message.

    Raises:
        RuntimeError: some stand for latents that are not finite.
    """
    found = codes.cpu().numpy()
    if bad := int((found == NO_CODE).any(axis=1).sum()):
        raise RuntimeError(
            f"{model}: the VQGAN's latents of {bad} of {len(found)} pictures are not finite: {ADVICE}"
        )
    return found.astype(np.uint16)


def check_pixels(finite: Tensor, model: str) -> None:
    """Raises RuntimeError unless `finite`, bool (), says that all pixels are."""
    if not finite:
        raise RuntimeError(f"{model}: the VQGAN's pixels are not finite: {ADVICE}")
