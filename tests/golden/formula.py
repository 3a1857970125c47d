"""The formula behind the golden cases: weights, pictures, token ids and captions from names and numbers
alone.

The expected values in this folder's .npz files were computed in float32 on a CPU by the reference
implementations (EasyNLP a4ee956: VQModel and minGPT) from the arrays that these functions give. numpy's
RandomState is frozen, so the arrays never change.
"""

import math
import zlib
from functools import lru_cache

import numpy as np

SMALL = 2**16  # values of an array that is drawn once and kept


def fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32 values of the parameter `name`: norms near 1, biases near 0, the rest scaled by its fan-in."""
    return _kept(name, shape).copy() if math.prod(shape) <= SMALL else _drawn(name, shape)


def _drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("quantize.embedding.weight"):
        scale, shift = 1.0, 0.0
    elif name.endswith("tok_emb.weight"):
        scale, shift = 0.5, 0.0
    elif name.endswith("pos_emb"):
        scale, shift = 0.3, 0.0
    elif len(shape) == 1:
        scale, shift = 0.1, 1.0 if name.endswith("weight") else 0.0
    else:
        scale, shift = 1.0 / np.sqrt(np.prod(shape[1:])), 0.0
    # the order of operations matters to the last bit: scale in float64, then shift, then round
    return (shift + scale * values if shift else values * scale).astype(np.float32)


_kept = lru_cache(maxsize=4096)(_drawn)


def image(index: int, size: int) -> np.ndarray:
    """uint8 (size, size, 3) test picture: colour waves and five discs."""
    rng = np.random.RandomState(1000 + index)
    y, x = np.mgrid[0:size, 0:size] / size
    waves = np.zeros((size, size, 3))
    for channel in range(3):
        for _ in range(4):
            fx, fy, phase = rng.uniform(0.5, 6), rng.uniform(0.5, 6), rng.uniform(0, 6.28)
            waves[..., channel] += np.sin(6.28 * (fx * x + fy * y) + phase)
    for _ in range(5):
        cx, cy, radius = rng.uniform(0, 1, 3)
        waves[(x - cx) ** 2 + (y - cy) ** 2 < (0.25 * radius) ** 2] += rng.uniform(-3, 3, 3)
    return np.clip(127.5 + 30 * waves, 0, 255).astype(np.uint8)


def tokens(batch: int, length: int, low: int, high: int, salt: int = 0) -> np.ndarray:
    """int64 (batch, length) ids in [low, high)."""
    return np.random.RandomState(77 + salt).randint(low, high, size=(batch, length)).astype(np.int64)


def vocab(size: int = 21128) -> list[str]:
    """vocab.txt lines: BERT's five special tokens at their ids, one Hanzi at every other id."""
    hanzi = (chr(c) for block in (range(0x4E00, 0x9FA6), range(0x3400, 0x4DB6)) for c in block)
    special = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    return [special[i] if i in special else next(hanzi) for i in range(size)]


def captions(text_ids: np.ndarray, codebook_size: int = 16384) -> list[str]:
    """Captions whose WordPiece ids under vocab() are `text_ids` - codebook_size (B, text_len)."""
    lines = vocab()
    return ["".join(lines[i - codebook_size] for i in row) for row in text_ids.tolist()]
