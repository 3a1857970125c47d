"""The networks: VQGAN encode and decode, and the GPT's training step."""

from collections.abc import Iterator

import numpy as np
import torch

from benchmarks import easynlp, limits
from benchmarks.measure import Row, Setup, Work, in_turns, rows
from painter_core.compute.devices import prepare_vqgan, set_tf32
from painter_core.images.pixels import to_uint8
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.models.vqgan import VQGAN, VQGANConfig
from painter_core.training.gpt import flops_per_sample, train_step
from painter_core.training.gpt_config import PRESETS, TrainConfig
from painter_core.training.optimizers import make_optimizers
from painter_core.training.regions import compile_regions
from painter_core.training.samples import Samples
from painter_core.training.worker import Worker

TINY_VQGAN = VQGANConfig(
    image_size=16,
    ch=32,
    ch_mult=(1, 1, 2),
    num_res_blocks=1,
    attn_resolutions=(4,),
    z_channels=8,
    embed_dim=8,
    codebook_size=64,
)
COMPILED = ", compiled"


def vqgan_config(setup: Setup) -> VQGANConfig:
    """f16_16384, or a tiny one."""
    return TINY_VQGAN if setup.short else VQGANConfig()


def gpt_config(setup: Setup, name: str) -> GPTConfig:
    """A GPT of the published size `base` or `large`, or a tiny one."""
    vqgan = vqgan_config(setup)
    n_layer, n_head, n_embd = (2, 2, 32) if setup.short else PRESETS[name]
    return GPTConfig(
        codebook_size=vqgan.codebook_size,
        image_len=vqgan.image_len,
        text_vocab_size=50 if setup.short else 21128,
        n_layer=n_layer,
        n_head=n_head,
        n_embd=n_embd,
    )


def random_ids(config: GPTConfig, batch: int, device: torch.device) -> torch.Tensor:
    """Text ids (B, text_len)."""
    return torch.randint(config.codebook_size, config.vocab_size, (batch, config.text_len), device=device)


def stock(work: Work) -> Work:
    """A baseline with torch's own settings: on a GPU its convolutions round to tf32."""

    def run() -> None:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = True
        work()

    return run


def make_vqgans(setup: Setup) -> tuple[VQGAN, dict[str, VQGAN]]:
    """The baseline's, and ours in each precision, on a GPU also compiled."""
    config = vqgan_config(setup)
    plain = VQGAN(config).eval()
    torch.nn.init.normal_(plain.quantize.embedding.weight)
    ours = {}
    for compiled in (False, True) if setup.device.type == "cuda" else (False,):
        for precision in limits.precisions(setup.device):
            model = VQGAN(config).eval()
            model.load_state_dict(plain.state_dict())
            name = precision + (COMPILED if compiled else "")
            ours[name] = prepare_vqgan(model, setup.device, precision, compiled=compiled)
    return plain.to(setup.device), ours


def _vqgan_rows(
    part: str, setup: Setup, variants: dict[str, Work], peaks: limits.Peaks, batch: int, notes: dict[str, str]
) -> Iterator[Row]:
    flops = limits.vqgan_flops(vqgan_config(setup), decoder="decode" in part)
    most = {name: peaks.rate(name[:4] if name[:4] in peaks.flops else "fp32", flops) for name in variants}
    timings = in_turns(variants, setup)
    yield from rows(f"{part}, batch {batch}", timings, items=batch, unit="picture", limits=most, notes=notes)


@torch.inference_mode()
def encode(setup: Setup, peaks: limits.Peaks) -> Iterator[Row]:
    """Pixels to codes."""
    batch = 128 if setup.device.type == "cuda" else 4
    plain, ours = make_vqgans(setup)
    size = plain.config.image_size
    pixels = torch.rand(batch, 3, size, size, device=setup.device) * 2 - 1
    nhwc = pixels.contiguous(memory_format=torch.channels_last)  # as to_pixels() gives them
    variants: dict[str, Work] = {"EasyNLP": stock(lambda: easynlp.encode(plain, pixels))}
    notes = {}
    for name, model in ours.items():
        set_tf32(name[:4])
        same = (model.encode(nhwc) == ours["fp32"].encode(nhwc)).float().mean()
        notes[name] = f"{float(same):.1%} of the codes as in fp32 (random weights)"
        variants[name] = lambda name=name, model=model: (set_tf32(name[:4]), model.encode(nhwc))
    yield from _vqgan_rows("VQGAN encode", setup, variants, peaks, batch, notes)


@torch.inference_mode()
def decode(setup: Setup, peaks: limits.Peaks) -> Iterator[Row]:
    """Codes to uint8 pixels, each batch once."""
    batch = 64 if setup.device.type == "cuda" else 4
    plain, ours = make_vqgans(setup)
    codes = torch.randint(0, plain.config.codebook_size, (batch, plain.config.image_len), device=setup.device)
    variants: dict[str, Work] = {"EasyNLP, once": stock(lambda: to_uint8(easynlp.decode(plain, codes)))}
    notes = {}
    for name, model in ours.items():
        set_tf32(name[:4])
        off = abs(to_uint8(model.decode(codes)).astype(int) - to_uint8(ours["fp32"].decode(codes)))
        notes[name] = f"off by {off.mean():.2f} of 255, at most {off.max()} (random weights)"
        variants[name] = lambda name=name, model=model: (set_tf32(name[:4]), to_uint8(model.decode(codes)))
    yield from _vqgan_rows("VQGAN decode", setup, variants, peaks, batch, notes)


def train(setup: Setup, peaks: limits.Peaks, name: str) -> Iterator[Row]:
    """A training step: the baseline's from pictures, ours from codes."""
    gpu = setup.device.type == "cuda"
    config, batch = gpt_config(setup, name), (64 if gpu else 4)
    vqgan = VQGAN(vqgan_config(setup)).eval().to(setup.device)
    size = vqgan.config.image_size
    pixels = torch.rand(batch, 3, size, size, device=setup.device) * 2 - 1
    text = random_ids(config, batch, setup.device)
    model = GPT(config).to(setup.device)
    plain_optimizer = easynlp.make_optimizer(model, 1e-5)
    variants: dict[str, Work] = {
        "EasyNLP": stock(lambda: easynlp.train_step(model, vqgan, plain_optimizer, text, pixels))
    }
    settings = TrainConfig(tables="-", checkpoint_dir="-", learning_rate=1e-5, micro_batch_size=batch)
    samples = Samples(
        text_ids=text.cpu().numpy().astype(np.int32),
        codes=np.random.default_rng(0).integers(
            0, config.codebook_size, (batch, config.image_len), np.uint16
        ),
        pad_id=config.codebook_size,
    )
    networks = {"": (model, make_optimizers(model, settings))}
    if gpu:
        regions = GPT(config).to(setup.device)
        compile_regions(regions)
        networks[COMPILED] = (regions, make_optimizers(regions, settings))
    for how, (network, optimizers) in networks.items():
        for precision in ("fp32", "bf16"):
            worker = Worker(rank=0, world_size=1, device=setup.device, precision=precision)
            variants[precision + how] = lambda n=network, o=optimizers, w=worker: train_step(
                n, o, samples, np.arange(batch), settings, w
            )
    flops = flops_per_sample(config)
    most = {v: peaks.rate(v[:4] if v[:4] in peaks.flops else "fp32", flops) for v in variants}
    timings = in_turns(variants, setup, most=None if gpu else 3 if name == "base" else 1)
    yield from rows(f"train step {name}, batch {batch}", timings, items=batch, unit="sample", limits=most)
