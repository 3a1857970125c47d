"""LlamaGen's VQ-16 and the Gumbel f8 at full size, with formula weights: converted, they encode and decode.

The numbers of parameters are counted from the published geometry, not from a model: LlamaGen names 72 million
for its VQ-16.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from painter_core.model_files.from_foreign import ConvertOptions
from painter_core.model_files.open import open_model
from painter_core.models.vqgan import VQGANConfig
from tests.golden.formula import image
from tests.model_files.test_families import CASES, Case, reference
from tests.support.jobs import ROOT
from tests.support.reference_vqgan import Sizes

pytestmark = pytest.mark.slow

FULL = {
    "llamagen": Sizes(
        image_size=256, ch=128, ch_mult=(1, 1, 2, 2, 4), num_res_blocks=2, attended=(4,), z_channels=256,
        embed_dim=8, codebook_size=16384,
    ),
    "gumbel f8": Sizes(
        image_size=256, ch=128, ch_mult=(1, 1, 2, 4), num_res_blocks=2, attended=(3,), z_channels=256,
        embed_dim=256, codebook_size=8192,
    ),
}  # fmt: skip
PEAK_BYTES = {"convert": 0.75 * 2**30, "use": 1.1 * 2**30}  # the weights alone are 0.27 GiB, torch 0.22


def conv(inside: int, out: int, side: int) -> int:
    return out * inside * side**2 + out


def block(inside: int, out: int) -> int:
    """Two norms, two 3x3 convolutions, and a 1x1 shortcut where the width changes."""
    shortcut = conv(inside, out, 1) if inside != out else 0
    return 2 * inside + conv(inside, out, 3) + 2 * out + conv(out, out, 3) + shortcut


def attention(width: int) -> int:
    return 2 * width + 4 * conv(width, width, 1)


def parameters(sizes: Sizes, *, projected: bool) -> int:
    """Of a VQGAN, by its geometry."""
    widths = [sizes.ch * m for m in sizes.ch_mult]
    middle = 2 * block(widths[-1], widths[-1]) + attention(widths[-1])
    encoder = conv(3, sizes.ch, 3) + middle + 2 * widths[-1] + conv(widths[-1], sizes.z_channels, 3)
    inside = sizes.ch
    for i, width in enumerate(widths):
        for _ in range(sizes.num_res_blocks):
            encoder += block(inside, width) + (attention(width) if i in sizes.attended else 0)
            inside = width
        encoder += conv(width, width, 3) if i + 1 < len(widths) else 0
    decoder = conv(sizes.z_channels, widths[-1], 3) + middle + 2 * widths[0] + conv(widths[0], 3, 3)
    inside = widths[-1]
    for i, width in reversed(list(enumerate(widths))):
        for _ in range(sizes.num_res_blocks + 1):
            decoder += block(inside, width) + (attention(width) if i in sizes.attended else 0)
            inside = width
        decoder += conv(width, width, 3) if i > 0 else 0
    quantizer = sizes.codebook_size * sizes.embed_dim
    if projected:
        quantizer += sizes.codebook_size * (sizes.embed_dim + 1)
    between = conv(sizes.z_channels, sizes.embed_dim, 1) + conv(sizes.embed_dim, sizes.z_channels, 1)
    return encoder + decoder + quantizer + between


# runs a script and prints the most memory that this process held, in KiB
MEASURED = """
import runpy, sys
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def peak_of(script: str, *arguments: object) -> int:
    """Runs a script in a process of its own; the most memory that it held, in bytes."""
    command = [sys.executable, "-c", MEASURED, script, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return int(done.stdout.split()[-1]) * 1024


USE = """
import sys, torch
from painter_core.compute.devices import prepare_vqgan
from painter_core.model_files.open import open_model
torch.set_num_threads(1)
pixels = torch.load(sys.argv[2], weights_only=True)
with torch.inference_mode():
    model = prepare_vqgan(open_model(sys.argv[1]).load_vqgan(), torch.device("cpu"), "fp32")
    codes = model.encode(pixels)
    torch.save({"codes": codes, "pictures": model.decode(codes)}, sys.argv[3])
"""


@pytest.mark.parametrize(("name", "published"), [("llamagen", 72e6), ("gumbel f8", None)])
def test_full_size(tmp_path: Path, name: str, published: float | None) -> None:
    case = Case(**{**vars(CASES[name]), "sizes": FULL[name], "options": ConvertOptions()})
    made = reference(case)
    source = case.write(tmp_path, made.state)
    peak = peak_of(
        "jobs/convert_checkpoint.py", "--source", str(source), "--outputs", str(tmp_path / "model")
    )
    assert peak < PEAK_BYTES["convert"], f"{peak:,}"
    model = open_model(str(tmp_path / "model"))
    assert model.vqgan_config == VQGANConfig(
        image_size=256,
        ch_mult=case.sizes.ch_mult,
        attn_resolutions=(256 // 2 ** (len(case.sizes.ch_mult) - 1),),
        embed_dim=case.sizes.embed_dim,
        codebook_size=case.sizes.codebook_size,
        quantizer=case.form,  # type: ignore[arg-type]
    )
    count = sum(p.numel() for p in model.load_vqgan().parameters())
    assert count == parameters(case.sizes, projected=case.form == "projected")
    if published:
        assert count == pytest.approx(published, rel=0.01)
    pixels = torch.from_numpy(image(1, 256)).permute(2, 0, 1)[None].float() / 127.5 - 1
    torch.save(pixels, tmp_path / "pixels.pt")
    (tmp_path / "use.py").write_text(USE)
    files = [tmp_path / "model", tmp_path / "pixels.pt", tmp_path / "found.pt"]
    peak = peak_of(str(tmp_path / "use.py"), *files)
    assert peak < PEAK_BYTES["use"], f"{peak:,}"
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    with torch.inference_mode():
        codes, entries = case.quantize(made.state, made.latents(pixels))
        assert torch.equal(found["codes"], codes)
        expected = made.picture(entries)
    assert len(codes.unique()) > 50
    torch.testing.assert_close(found["pictures"], expected, rtol=0, atol=1e-3 * float(expected.abs().max()))


def test_published_sizes_of_the_reference() -> None:
    """The count holds for the model whose number is known to the last one: f16_16384."""
    f16 = Sizes(
        image_size=256, ch=128, ch_mult=(1, 1, 2, 2, 4), num_res_blocks=2, attended=(4,), z_channels=256,
        embed_dim=256, codebook_size=16384,
    )  # fmt: skip
    assert parameters(f16, projected=False) == 76_073_859
