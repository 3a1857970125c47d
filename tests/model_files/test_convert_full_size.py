"""EasyNLP's directory of pai-painter-base-zh at full size, with formula weights: the golden outputs."""

import base64
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from painter_core.images.decode import encode_image
from painter_core.model_files.open import open_model
from painter_core.models.gpt import GPTConfig
from painter_core.models.vqgan import VQGANConfig
from tests.golden.formula import captions, image, tokens
from tests.support.foreign import write_easynlp
from tests.support.jobs import ROOT

GOLDEN = Path(__file__).parents[1] / "golden"

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cache")]


def full_size(directory: Path) -> Path:
    """The directory: 0.8 GB."""
    return write_easynlp(directory, VQGANConfig(), GPTConfig())


def test_full_size_golden(tmp_path: Path) -> None:
    """A full-size EasyNLP directory, opened as it is, gives the reference's codes and greedy ids."""
    model = open_model(str(full_size(tmp_path / "pai-painter-base-zh")))
    assert (model.vqgan_config, model.gpt_config) == (VQGANConfig(), GPTConfig())
    golden = np.load(GOLDEN / "vq_full.npz")
    pixels = (
        torch.from_numpy(np.stack([image(i, 256) for i in range(2)])).permute(0, 3, 1, 2).float() / 127.5 - 1
    )
    with torch.inference_mode():
        codes = model.load_vqgan().encode(pixels)
    np.testing.assert_array_equal(codes.numpy(), golden["codes"])
    golden = np.load(GOLDEN / "gpt_base.npz")
    gpt = model.load_gpt()
    text = torch.from_numpy(tokens(2, 32, 16384, 37512))
    steps = golden["greedy"].shape[1]
    sequence = torch.cat((text, torch.from_numpy(golden["greedy"])), 1)[:, :-1]
    with torch.inference_mode():
        # teacher-forced with the golden ids: the arg-max of every step is the next one
        greedy = gpt(sequence).argmax(2)
    assert greedy.shape == (2, steps)
    assert (greedy.numpy() == golden["greedy"]).mean() > 0.999


def run_job(*command: str) -> None:
    """Runs a job to its end; a failure shows its log."""
    run = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-4000:]


def full_size_by_command_line(directory: Path) -> tuple[np.ndarray, np.ndarray]:
    """EasyNLP directory -> convert, precompute_codes, generate --top-k 1, as a user runs them.

    Returns:
        Codes (2, 256) of the two golden pictures, and the pictures (2, 256, 256, 3) of the two golden
        captions.
    """
    source, model = full_size(directory / "pai-painter-base-zh"), directory / "model"
    run_job("jobs/convert_checkpoint.py", "--source", str(source), "--outputs", str(model))
    shutil.rmtree(source)
    cells = [base64.b64encode(encode_image(image(i, 256))).decode() for i in range(2)]
    (directory / "pairs.tsv").write_text("".join(f"{i}\t字\t{cell}\n" for i, cell in enumerate(cells)))
    texts = captions(tokens(2, 32, 16384, 37512))
    (directory / "prompts.tsv").write_text("".join(f"{i}\t{text}\n" for i, text in enumerate(texts)))
    common = ["--micro-batch-size", "2", "--num-actors", "1"]
    pairs, codes = str(directory / "pairs.tsv"), str(directory / "codes")
    run_job("jobs/precompute_codes.py", "--tables", pairs, "--vqgan", str(model), "--outputs", codes, *common)
    prompts, painted = str(directory / "prompts.tsv"), directory / "painted.parquet"
    flags = ["--checkpoint-dir", str(model), "--outputs", str(painted), "--top-k", "1", *common]
    run_job("jobs/generate.py", "--tables", prompts, *flags)
    rows = pq.read_table(painted).to_pylist()
    images = [Image.open(BytesIO(base64.b64decode(row["gen_imgbase64"]))) for row in rows]
    parts = sorted(Path(codes).glob("*.parquet"))
    encoded = [row["codes"] for part in parts for row in pq.read_table(part).to_pylist()]
    return np.array(encoded), np.stack([np.asarray(i) for i in images])


def test_full_size_by_command_line(tmp_path: Path) -> None:
    codes, pictures = full_size_by_command_line(tmp_path)
    np.testing.assert_array_equal(codes, np.load(GOLDEN / "vq_full.npz")["codes"])
    expected = np.load(GOLDEN / "gpt_base_pictures.npz")["pictures"]
    assert np.abs(pictures.astype(np.int16) - expected).max() <= 1
