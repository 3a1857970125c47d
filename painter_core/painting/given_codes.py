"""Codes that are given and not drawn: what they must be."""

import numpy as np

from painter_core.models.vqgan import VQGANConfig


def codes_problem(codes: np.ndarray, config: VQGANConfig, *, least: int | None = None) -> str:
    """What is wrong with one picture's codes for a VQGAN; empty if nothing is.

    Args:
        codes: whole numbers (n,).
        least: how many there must be at least; by default all of a picture.
    """
    length = config.image_len
    if not (length if least is None else least) <= len(codes) <= length:
        some = "" if least in (None, length) else f", or the first {least} and more"
        return f"{len(codes)} codes, the model reads {length}{some}"
    for code in (codes.min(), codes.max()):
        if not 0 <= code < config.codebook_size:
            return f"code {code} is outside the codebook of {config.codebook_size}"
    return ""
