"""Photographs as users have them, through precompute and VQGAN training: every row is accounted for."""

import base64
import io
import json
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from painter_core.images.decode import decode_image
from painter_core.images.pixels import to_pixels
from painter_core.model_files.open import open_model
from tests.models.test_perceptual import vgg_state
from tests.support.jobs import Jobs

GEOMETRY = ("--image-size", 32, "--ch", 32, "--ch-mult", 1, 1, "--num-res-blocks", 1, "--attn-resolutions",
            16, "--z-channels", 8, "--embed-dim", 8, "--codebook-size", 32)  # fmt: skip
STEPS, SAVED = 8, 4  # steps of training, and between checkpoints
ORIENTATION = 0x0112  # Exif tag


def photograph(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Like a photograph: light and shade of every scale, and the grain of a sensor."""
    rng = np.random.default_rng((seed, *size))
    picture = np.zeros((size[1], size[0], 3), np.float32)
    for side in (3, 9, 27, 81):
        coarse = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
        picture += np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.float32) / side
    picture = picture / picture.max() * 240 + rng.normal(0, 8, picture.shape)
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def encoded(picture: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """The picture as a file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


@cache
def good() -> dict[str, bytes]:
    """Files that can be used, by what is special about them."""
    turned = Image.Exif()
    turned[ORIENTATION] = 6
    large, odd = photograph((1600, 1200)), photograph((97, 301))
    translucent = odd.copy()
    translucent.putalpha(Image.linear_gradient("L").resize(odd.size))
    sizes = ((33, 47), (101, 99), (200, 31), (17, 17), (255, 129), (640, 427), (64, 64), (40, 500))
    return {
        **{f"{w} x {h}": encoded(photograph((w, h))) for w, h in sizes},
        "large": encoded(large, quality=92),
        "large, progressive": encoded(large, progressive=True),
        "large, 4:4:4": encoded(large, subsampling=0),
        "coarse": encoded(odd, quality=5),
        "progressive": encoded(odd, progressive=True, optimize=True),
        "grey": encoded(odd.convert("L")),
        "CMYK": encoded(odd.convert("CMYK")),
        "turned by Exif": encoded(odd, exif=turned),
        "with a profile": encoded(odd, icc_profile=b"no profile at all"),
        "alpha": encoded(translucent, "PNG"),
        "palette": encoded(odd.convert("P", palette=Image.Palette.ADAPTIVE), "PNG"),
        "palette, one colour transparent": encoded(odd.quantize(16), "PNG", transparency=0),
        "two colours": encoded(odd.convert("1"), "PNG"),
        "grey with alpha": encoded(translucent.convert("LA"), "PNG"),
        "16 bits": encoded(Image.fromarray(np.arange(6400, dtype=np.uint16).reshape(80, 80) * 10), "PNG"),
        "WebP": encoded(odd, "WEBP"),
        "WebP with alpha": encoded(translucent, "WEBP"),
        "GIF": encoded(odd, "GIF"),
        "BMP": encoded(odd, "BMP"),
    }


@cache
def bad() -> dict[str, bytes]:
    """Files that cannot be used, by the reason."""
    return {
        "img_truncated": encoded(photograph((640, 427)))[:9000],
        "img_too_small": encoded(photograph((15, 200))),
        "img_aspect": encoded(photograph((900, 40))),
        "img_format": encoded(photograph((64, 64)), "TIFF"),
        "img_unidentified": b"<html>404 Not Found</html>",
    }


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pairs table of all of them, the bad ones in between."""
    rows = [(f"good {name}", image) for name, image in good().items()]
    for i, (reason, image) in enumerate(bad().items()):
        rows.insert(3 * i + 1, (f"bad {reason}", image))
    path = tmp_path_factory.mktemp("photographs") / "photographs.tsv"
    cells = (f"{idx}\t一张照片\t{base64.b64encode(image).decode()}\n" for idx, image in rows)
    path.write_text("".join(cells), encoding="utf-8")
    return path


def test_every_photograph_becomes_codes_or_a_reject(jobs: Jobs, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "codes"
    jobs.run("precompute_codes", "--tables", table, "--outputs", out, "--max-reject-fraction", 0.5)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["rows_in"] == len(good()) + len(bad())
    assert manifest["rejected"] == dict.fromkeys(bad(), 1)
    rejects = pq.read_table(sorted((out / "rejects").glob("*.parquet"))).to_pylist()
    assert {r["idx"]: r["reason"] for r in rejects} == {f"bad {reason}": reason for reason in bad()}
    rows = pq.read_table(sorted(out.glob("part-*.parquet"))).to_pylist()
    assert [row["idx"] for row in rows] == [f"good {name}" for name in good()]
    vqgan = open_model("bundled").load_vqgan()
    side = vqgan.config.image_size
    pictures = np.stack([decode_image(image, side) for image in good().values()])
    with torch.inference_mode():
        expected = vqgan.encode(to_pixels(pictures)).numpy()
    assert (np.array([row["codes"] for row in rows]) == expected).mean() > 0.99


@pytest.mark.slow
def test_a_vqgan_is_trained_on_photographs(jobs: Jobs, table: Path, tmp_path: Path) -> None:
    """By two workers, with every term of the loss; rank 0 is killed after its first checkpoint."""
    out, trace, vgg = tmp_path / "vqgan", tmp_path / "trace.jsonl", tmp_path / "vgg16.safetensors"
    save_file(vgg_state(), vgg)
    flags = ("--tables", table, "--outputs", out, *GEOMETRY, "--max-steps", STEPS, "--micro-batch-size", 2,
             "--num-workers", 2, "--quantize-after", 2, "--disc-start", 3, "--perceptual-weights", vgg,
             "--save-checkpoint-steps", SAVED, "--logging-steps", 1, "--precision", "fp32",
             "--max-reject-fraction", 0.5)  # fmt: skip
    faults = {
        "PAINTER_ENABLE_FAULTS": "1", "PAINTER_FAULT": "train_vqgan_saved:kill:2",
        "PAINTER_FAULT_DIR": str(tmp_path), "PAINTER_TRACE": str(trace),
    }  # fmt: skip
    jobs.run("train_vqgan", *flags, **faults)
    passed = [json.loads(line) for line in trace.read_text().splitlines()]
    saved = [e["step"] for e in passed if e["name"] == "train_vqgan_saved" and e["rank"] == 0]
    assert saved == [SAVED, STEPS], "the run went on from its checkpoint"
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "train_rec" in line]
    assert [line["step"] for line in steps] == list(range(1, STEPS + 1))
    assert all(line["train_perceptual"] > 0 for line in steps)
    assert ["train_disc" in line for line in steps] == [step > 3 for step in range(1, STEPS + 1)]
    assert {"valid_l1", "valid_psnr", "valid_usage", "valid_perplexity"} <= set().union(*lines)
    events = b"".join(path.read_bytes() for path in (out / "tensorboard").iterdir())
    assert b"valid/reconstruction" in events
    assert b"\x89PNG\r\n" in events
    made = open_model(str(out / "last")).load_vqgan()
    assert (made.config.image_size, made.config.ch_mult) == (32, (1, 1))
    card = (out / "last" / "README.md").read_text(encoding="utf-8")
    assert f"{len(good())} pictures" in card, "the bad rows were left out, and no other"
    assert "perceptual_weight" in jobs.run("train_vqgan", *flags, "--perceptual-weight", 2, code=4)
