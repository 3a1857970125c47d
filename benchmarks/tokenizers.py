"""python -m benchmarks.tokenizers: what public tokenizers cost, by their published geometry.

Operations of one picture, counted as in limits.py, without weights. docs/TOKENIZERS.md shows the table.
"""

import torch

from benchmarks.limits import vqgan_flops
from painter_core.models.vqgan import VQGAN, VQGANConfig

F8 = (1, 2, 2, 4)
GEOMETRIES = {
    "taming f16_16384": VQGANConfig(),
    "taming f16_1024": VQGANConfig(codebook_size=1024),
    "taming Gumbel f8": VQGANConfig(
        ch_mult=(1, 1, 2, 4), attn_resolutions=(32,), codebook_size=8192, quantizer="projected"
    ),
    "LDM vq-f8": VQGANConfig(ch_mult=F8, attn_resolutions=(32,), z_channels=4, embed_dim=4),
    "LDM vq-f8-n256": VQGANConfig(
        ch_mult=F8, attn_resolutions=(32,), z_channels=4, embed_dim=4, codebook_size=256
    ),
    "LDM vq-f16": VQGANConfig(z_channels=8, embed_dim=8),
    "LlamaGen VQ-16": VQGANConfig(embed_dim=8, quantizer="dot"),
    "LlamaGen VQ-8": VQGANConfig(ch_mult=F8, attn_resolutions=(32,), embed_dim=8, quantizer="dot"),
    "Janus VQ-16, 384 px": VQGANConfig(image_size=384, attn_resolutions=(24,), embed_dim=8, quantizer="dot"),
    "IBQ 16384": VQGANConfig(num_res_blocks=4, quantizer="dot"),
    "Chameleon, 512 px": VQGANConfig(image_size=512, attn_resolutions=(), codebook_size=8192),
}


def cost(config: VQGANConfig) -> tuple[int, int, int, int]:
    """Millions of parameters, codes a picture, and 10**9 operations to encode and to decode a picture."""
    with torch.device("meta"):
        parameters = sum(weight.numel() for weight in VQGAN(config).parameters())
    operations = (vqgan_flops(config, decoder=decoder) for decoder in (False, True))
    encode, decode = (round(count / 1e9) for count in operations)
    return round(parameters / 1e6), config.image_len, encode, decode


def main() -> None:
    """Prints the table."""
    print("tokenizer: million parameters, codes a picture, 10**9 operations to encode, to decode")
    for name, config in GEOMETRIES.items():
        print(f"{name}: " + ", ".join(map(str, cost(config))))


if __name__ == "__main__":
    main()
