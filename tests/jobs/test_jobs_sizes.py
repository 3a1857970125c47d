"""The whole pipeline at two more sizes: pictures of 1,024 codes with captions of 256 tokens, and an f8 VQGAN
with Gumbel's quantizer at 64 x 64 pictures. Trained, painted, judged; killed and resumed to the same bytes.
"""

import base64
import io
import json
import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from painter_core.files.storage import file_sha256
from painter_core.images.pixels import to_uint8
from painter_core.model_files.directory import write_model
from painter_core.model_files.open import open_model
from painter_core.models.vqgan import VQGAN
from tests.model_files.test_families import CASES, reference
from tests.stages.test_long_pictures import VQGAN_LONG
from tests.support.jobs import Jobs, table_bytes
from tests.support.local_run import faults
from tests.support.reference_vqgan import Sizes

pytestmark = pytest.mark.slow

ROWS = 64
PICTURE = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]+)")


def f2_vqgan(jobs: Jobs, folder: Path) -> Path:
    """64 x 64 pixels as 32 x 32 codes, random weights."""
    torch.manual_seed(7)
    model = VQGAN(VQGAN_LONG)
    torch.nn.init.normal_(model.quantize.embedding.weight, std=0.3)
    write_model(folder / "vqgan", vqgan=model, card="test")
    return folder / "vqgan"


def gumbel_f8(jobs: Jobs, folder: Path) -> Path:
    """64 x 64 pixels as 8 x 8 codes, converted from a checkpoint in taming's naming."""
    sizes = Sizes(image_size=64, ch_mult=(1, 1, 1, 1), attended=(3,))
    made = reference(replace(CASES["gumbel f8"], sizes=sizes))
    torch.save({"state_dict": made.state}, folder / "last.ckpt")
    printed = jobs.run(
        "convert_checkpoint", "--source", folder / "last.ckpt", "--outputs", folder / "vqgan",
        "--image-size", 64
    )  # fmt: skip
    assert "quantizer projected: as in all models of taming-transformers with Gumbel softmax" in printed
    return folder / "vqgan"


def killed_once(jobs: Jobs, counters: Path, point: str, *command: object) -> None:
    """Runs a job whose driver gets SIGKILL when it passes a point the second time."""
    process = jobs.start(*command, **faults(counters, f"{point}:kill:2"))
    printed, _ = process.communicate(timeout=180)
    assert process.returncode == -signal.SIGKILL, printed


def killed_after_checkpoint(jobs: Jobs, directory: Path, *command: object) -> None:
    process = jobs.start(*command)
    deadline = time.monotonic() + 180
    while not list((directory / "checkpoints").glob("step-*")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize(
    ("make", "image_len", "text_len", "n_layer"), [(f2_vqgan, 1024, 256, 2), (gumbel_f8, 64, 32, 2)]
)
def test_trained_painted_and_judged(
    make: Callable[[Jobs, Path], Path],
    image_len: int,
    text_len: int,
    n_layer: int,
    jobs: Jobs,
    tmp_path: Path,
) -> None:
    vqgan, pairs = make(jobs, tmp_path), tmp_path / "pairs.parquet"
    jobs.run("make_table", "--sample", ROWS, "--outputs", pairs)
    codes = tmp_path / "codes"
    jobs.run("precompute_codes", "--tables", pairs, "--vqgan", vqgan, "--outputs", codes)
    assert json.loads((codes / "manifest.json").read_text())["image_len"] == image_len
    assert f"{ROWS} rows" in jobs.run("inspect_table", "--tables", codes, "--text-len", text_len)

    gpt = ("--model", "tiny", "--n-layer", n_layer, "--n-head", 2, "--n-embd", 32, "--text-len", text_len)
    steps = ("--micro-batch-size", 16, "--epoch-num", 2, "--save-checkpoint-steps", 2, "--logging-steps", 1)
    train = ("train", "--tables", codes, *gpt, *steps, "--precision", "fp32", "--learning-rate", "1e-3")
    model, resumed = tmp_path / "model", tmp_path / "resumed"
    jobs.run(*train, "--checkpoint-dir", model)
    killed_after_checkpoint(jobs, resumed, *train, "--checkpoint-dir", resumed)
    jobs.run(*train, "--checkpoint-dir", resumed)
    for part in ("last", "best"):
        files = [directory / part / "gpt.safetensors" for directory in (model, resumed)]
        assert file_sha256(files[0]) == file_sha256(files[1])

    generate = (
        "generate",
        "--tables",
        pairs,
        "--checkpoint-dir",
        model,
        "--top-k",
        20,
        "--micro-batch-size",
        4,
    )
    printed = jobs.run(*generate, "--outputs", tmp_path / "nothing", "--dry-run")
    cached = 2 * n_layer * 32 * (image_len + text_len) * 4
    assert f"{cached / 1e6:.1f} MB of keys and values each" in printed
    pictures, again = tmp_path / "pictures", tmp_path / "again"
    jobs.run(*generate, "--outputs", pictures)
    killed_once(jobs, tmp_path / "counters", "unit_counted", *generate, "--outputs", again)
    assert "resuming" in jobs.run(*generate, "--outputs", again)
    assert table_bytes(again) == table_bytes(pictures)
    jobs.run("evaluate", "--tables", pictures, "--outputs", tmp_path / "scores", "--attributes")
    assert json.loads((tmp_path / "scores" / "score.json").read_text())["num_pictures"] == ROWS

    for table in (pictures, codes):
        jobs.run("make_gallery", "--tables", table, "--outputs", tmp_path / f"{table.name}.html")
    shown = [np.asarray(Image.open(io.BytesIO(base64.b64decode(cell)))) for cell in
             PICTURE.findall((tmp_path / "codes.html").read_text())]  # fmt: skip
    parts = sorted(codes.glob("part-*.parquet"))
    written = np.array([row for part in parts for row in pq.read_table(part)["codes"].to_pylist()], np.int64)
    with torch.inference_mode():
        expected = to_uint8(open_model(str(vqgan)).load_vqgan().decode(torch.from_numpy(written)))
    assert len(shown) == ROWS
    assert np.abs(np.stack(shown).astype(int) - expected).max() <= 1
