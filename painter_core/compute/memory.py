"""How many rows of a micro-batch fit the memory; arithmetic only, without torch."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from painter_core.models.gpt import GPTConfig
    from painter_core.models.vqgan import VQGANConfig

ITEM_BYTES = {"fp32": 4, "tf32": 4, "bf16": 2}
MOST_VALUES = {"cuda": 2**30, "cpu": 2**27}
"""Values of a tensor: a GPU's kernels may count with 32 bits, to 2**31; on a CPU more are no faster."""


def _largest_map(config: "VQGANConfig") -> int:
    """Values of a picture's largest feature map: the decoder's level 1 ends at the full side."""
    return config.image_size**2 * config.ch * max(config.ch_mult[:2])


def vqgan_row_bytes(config: "VQGANConfig", precision: str) -> int:
    """Memory that a picture needs in the encoder or decoder: about six of its largest feature maps."""
    return 6 * _largest_map(config) * ITEM_BYTES[precision]


def vqgan_most_rows(config: "VQGANConfig", device: str) -> int:
    """Pictures that the encoder or decoder is given at once: 128 of f16_16384's on cuda, 16 on a cpu."""
    return max(1, MOST_VALUES[device] // _largest_map(config))


def gpt_row_bytes(config: "GPTConfig", precision: str) -> int:
    """Memory that a row needs in sampling: keys and values, the text's activations while it is read, and the
    logits with three copies in float32."""
    return kv_cache_bytes(config, precision) + _text_bytes(config, precision) + 4 * 4 * config.codebook_size


def kv_cache_bytes(config: "GPTConfig", precision: str) -> int:
    """Keys and values of a row, at all positions."""
    return 2 * config.n_layer * config.n_embd * config.block_size * ITEM_BYTES[precision]


def _text_bytes(config: "GPTConfig", precision: str) -> int:
    """While the text is read: about eighteen vectors a position (measured), as wide as the model."""
    return 18 * config.text_len * config.n_embd * ITEM_BYTES[precision]


def training_row_bytes(
    config: "GPTConfig", precision: str, *, again: bool, with_dropout: bool = False
) -> int:
    """Memory that a training sample needs: about twenty vectors a position and block, or one if activations
    are computed again, and the logits with two copies in float32.

    Args:
        again: whether activations are computed again (--activation-checkpointing).
        with_dropout: whether attention weights are dropped: then they are kept, in about four copies.
    """
    item = ITEM_BYTES[precision]
    blocks = (20 + config.n_layer if again else 20 * config.n_layer) * config.n_embd * config.block_size
    weights = 4 * 4 * config.n_head * config.block_size**2 * (1 if again else config.n_layer)
    texts = config.text_len * config.text_vocab_size if config.captions else 0
    logits = max(config.image_len * config.codebook_size, texts) * (item + 2 * 4)
    return blocks * item + logits + weights * with_dropout


def fitting_rows(row_bytes: int, free_bytes: float, most: int) -> int:
    """Rows of a micro-batch: the largest power of two up to `most` that fits half of the free memory."""
    rows = most
    while rows > 1 and rows * row_bytes > free_bytes / 2:
        rows //= 2
    return rows
