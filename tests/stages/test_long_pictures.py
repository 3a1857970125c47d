"""Pictures of 1,024 codes and captions of 256 tokens, in one process: every code stands at its own place."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from painter_core.images.pixels import to_pixels
from painter_core.model_files.directory import write_model
from painter_core.model_files.open import open_model
from painter_core.models.cached_gpt import CachedGPT
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.models.vqgan import VQGAN, VQGANConfig
from painter_core.painting.painter import Painter, Request
from painter_core.painting.sampling import SamplingConfig, sample_codes
from painter_core.painting.starting import start_codes, start_rows
from painter_core.painting.static_sampling import StaticSampler
from painter_core.stages.codes_table import open_samples
from painter_core.text.tokenizer import builtin_tokenizer
from painter_core.training.gpt import train_step
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.optimizers import make_optimizers
from painter_core.training.worker import Worker
from tests.golden.formula import image
from tests.support.codes_table import make_codes

GRID, TEXT_LEN = 32, 256
VQGAN_LONG = VQGANConfig(
    image_size=64, ch=32, ch_mult=(1, 1), num_res_blocks=1, attn_resolutions=(), z_channels=8, embed_dim=8,
    codebook_size=64,
)  # fmt: skip
ONE_CPU = Worker(rank=0, world_size=1, device=torch.device("cpu"), precision="fp32")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAINTER_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def vqgan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "vqgan"
    torch.manual_seed(7)
    model = VQGAN(VQGAN_LONG)
    torch.nn.init.normal_(model.quantize.embedding.weight, std=0.3)
    write_model(directory, vqgan=model, card="test")
    return directory


@pytest.fixture(scope="module")
def gpt() -> GPT:
    torch.manual_seed(8)
    config = GPTConfig(
        text_vocab_size=builtin_tokenizer().vocab_size, codebook_size=64, text_len=TEXT_LEN,
        image_len=GRID**2, n_layer=2, n_head=2, n_embd=32,
    )  # fmt: skip
    model = GPT(config).eval()
    torch.nn.init.normal_(model.head.weight, std=0.3)  # so that positions differ
    return model


@pytest.mark.long
def test_codes_train_and_paint(tmp_path: Path, vqgan: Path, gpt: GPT, write_pairs) -> None:
    """precompute -> samples -> two training steps -> pictures."""
    pairs = write_pairs(tmp_path / "pairs.tsv", 20)
    table = make_codes(pairs, vqgan, tmp_path / "codes")
    parts = sorted(table.glob("part-*.parquet"))
    kinds = {pq.read_schema(part).field("codes").type for part in parts}
    assert {(kind.list_size, kind.value_type) for kind in kinds} == {(1024, pa.uint16())}
    samples = open_samples(str(table), builtin_tokenizer(), text_len=TEXT_LEN, codebook_size=64)
    assert samples.codes.shape == (20, 1024)
    assert samples.text_ids.shape == (20, TEXT_LEN)
    written = [row for part in parts for row in pq.read_table(part)["codes"].to_pylist()]
    np.testing.assert_array_equal(samples.codes, np.array(written))
    config = TrainConfig(tables="-", checkpoint_dir="-", learning_rate=1e-3, micro_batch_size=4)
    model = GPT(gpt.config)
    optimizers = make_optimizers(model, config)
    losses = [train_step(model, optimizers, samples, np.arange(8), config, ONE_CPU)[0] for _ in range(3)]
    assert losses[2] < losses[0]
    write_model(tmp_path / "model", vqgan=vqgan, gpt=model, tokenizer=builtin_tokenizer(), card="test")
    opened = open_model(str(tmp_path / "model"))
    painter = Painter(
        opened, device=torch.device("cpu"), precision="fp32", sampling=SamplingConfig(top_k=5), seed=1,
        micro_batch_size=2,
    )  # fmt: skip
    ((codes, pictures),) = painter.paint([Request(idx="a", text="红" * 300)])
    assert (codes.shape, pictures.shape) == ((1, 1024), (1, 64, 64, 3))


def test_a_picture_is_painted_on_below_its_own_rows(tmp_path: Path, vqgan: Path, gpt: GPT) -> None:
    """The first 14 of 32 rows of 32 codes are the picture's own."""
    write_model(tmp_path / "model", vqgan=vqgan, gpt=gpt, tokenizer=builtin_tokenizer(), card="test")
    painter = Painter(
        open_model(str(tmp_path / "model")), device=torch.device("cpu"), precision="fp32",
        sampling=SamplingConfig(top_k=5), seed=1, micro_batch_size=2,
    )  # fmt: skip
    pictures = np.stack([image(n, 64) for n in range(2)])
    starts = start_codes(painter, pictures, start_rows(0.4375, GRID))
    assert starts.shape == (2, 14 * GRID)
    own = painter.vqgan.encode(to_pixels(torch.from_numpy(pictures))).numpy()
    np.testing.assert_array_equal(starts, own[:, : 14 * GRID])
    requests = [Request(idx=str(n), text="红", start=start) for n, start in enumerate(starts)]
    codes = np.concatenate([codes for codes, _ in painter.paint(requests)])
    np.testing.assert_array_equal(codes[:, : 14 * GRID], starts)
    assert (codes[:, 14 * GRID :] != own[:, 14 * GRID :]).any()


def test_what_is_cached_is_what_is_computed(gpt: GPT) -> None:
    """Greedy codes of the cache, of static steps, and of the whole sequence at once are the same."""
    text = torch.randint(64, gpt.config.vocab_size, (2, TEXT_LEN), generator=torch.Generator().manual_seed(1))
    uniforms = torch.zeros(2, 1024)
    cached, greedy = CachedGPT(gpt, torch.float32), SamplingConfig(top_k=1)
    codes = sample_codes(cached, text, uniforms, greedy)
    static = StaticSampler(cached, greedy, 2)
    assert torch.equal(static.sample(text, uniforms), codes)
    with torch.inference_mode():
        logits = gpt(torch.cat((text, codes[:, :-1]), dim=1))  # (2, 1024, V)
    assert logits.shape == (2, 1024, 64)
    assert torch.equal(logits.argmax(2), codes)
    assert len(codes.unique()) > 4


def brightest(change: Tensor) -> tuple[int, int]:
    """Row and column where (C, H, W) is largest."""
    size = change.square().sum(0)
    return divmod(int(size.argmax()), size.shape[1])


@pytest.mark.parametrize("place", [(0, 0), (0, 31), (31, 0), (13, 22)])
def test_a_code_stands_for_its_own_square(vqgan: Path, place: tuple[int, int]) -> None:
    """Row and column of the grid are those of the picture, on the way in and on the way out."""
    row, column = place
    model = open_model(str(vqgan)).load_vqgan()
    pixels = torch.from_numpy(image(1, 64)).permute(2, 0, 1)[None].float() / 127.5 - 1
    other = pixels.clone()
    other[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] *= -1
    with torch.inference_mode():
        z, codes = model.latents(pixels), model.encode(pixels)
        found = brightest((model.latents(other) - z)[0])
        at = row * GRID + column
        assert codes[0, at] == model.quantize.codes(z[:, :, row, column])[0]
        changed = codes.clone()
        changed[0, at] = (changed[0, at] + 17) % 64
        painted = brightest((model.decode(changed) - model.decode(codes))[0])
    # a few convolutions away at most, of 32 rows and columns
    assert max(abs(found[0] - row), abs(found[1] - column)) <= 4
    assert max(abs(painted[0] // 2 - row), abs(painted[1] // 2 - column)) <= 4
