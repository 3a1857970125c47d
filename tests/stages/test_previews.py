"""Previews of a training: what generate.py would paint, the same numbers every time, no weight changed."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from painter_core.model_files.open import open_model
from painter_core.painting.painter import Painter, Request
from painter_core.painting.sampling import SamplingConfig
from painter_core.runs.training_run import OURS
from painter_core.stages.train.previews import PreviewFlags, PreviewPlan, Previews, plan_previews
from painter_core.training.metrics import MetricsLog
from painter_core.training.preview_sheet import laid_out
from painter_core.training.worker import Worker
from tests.support.painting import CAPTIONS, write_painter, write_prompts

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_painter(tmp_path_factory.mktemp("previews") / "model")


def plan(tmp_path: Path, rows: int = 5) -> PreviewPlan:
    flags = PreviewFlags(preview_table=str(write_prompts(tmp_path / "p.tsv", rows)))
    found = plan_previews(flags, every=100, seed=7)
    assert found is not None
    return found


def sheet_of(root: Path, step: int) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO((root / "previews" / f"step-{step:08d}.png").read_bytes())))


def test_the_sheet_is_what_would_be_painted(model: Path, tmp_path: Path) -> None:
    opened, root = open_model(str(model)), tmp_path / "run"
    worker = Worker(rank=0, world_size=1, device=torch.device("cpu"), precision="fp32")
    gpt = opened.load_gpt().train()
    metrics = MetricsLog(root)
    previews = Previews(plan(tmp_path), str(root), str(model), opened.load_tokenizer(), worker)
    torch.manual_seed(1)
    before, weights = torch.get_rng_state(), {k: v.clone() for k, v in gpt.state_dict().items()}
    previews.paint(gpt, 100, metrics)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(v, weights[k]) for k, v in gpt.state_dict().items())
    assert gpt.training
    painter = Painter(
        opened, device=torch.device("cpu"), precision="fp32", sampling=SamplingConfig(), seed=7,
        micro_batch_size=len(CAPTIONS),
    )  # fmt: skip
    requests = [Request(idx=f"p{i}", text=text) for i, text in enumerate(CAPTIONS)]
    expected = laid_out(np.concatenate([pictures for _, pictures in painter.paint(requests)]))
    assert np.abs(sheet_of(root, 100).astype(int) - expected).max() <= 1
    with torch.no_grad():
        gpt.head.weight *= 0.5
    previews.paint(gpt, 200, metrics)
    assert (sheet_of(root, 200) != sheet_of(root, 100)).any()
    with torch.no_grad():
        gpt.head.weight *= 2
    previews.paint(gpt, 300, metrics)
    np.testing.assert_array_equal(sheet_of(root, 300), sheet_of(root, 100))  # the same numbers every time
    metrics.close()
    assert (root / "previews" / "captions.txt").read_text().splitlines()[4] == f"5\t{CAPTIONS[4]}"
    assert all(OURS.fullmatch(path.name) for path in root.iterdir()), "--overwrite takes it away"


def test_at_most_sixteen_and_when(tmp_path: Path) -> None:
    found = plan(tmp_path, 40)
    assert [idx for idx, _ in found.captions] == [f"p{i}" for i in range(16)]
    assert [step for step in range(1, 251) if found.is_due(step, is_last=step == 250)] == [100, 200, 250]
    assert plan_previews(PreviewFlags(), every=100, seed=7) is None


def test_sheets_are_row_by_row() -> None:
    pictures = np.arange(5, dtype=np.uint8)[:, None, None, None] + np.full((5, 2, 2, 3), 10, np.uint8)
    sheet = laid_out(pictures)
    assert sheet.shape == (4, 6, 3)
    assert sheet[::2, ::2, 0].tolist() == [[10, 11, 12], [13, 14, 0]]


def test_flags_that_show_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--preview-steps 5: goes with --preview-table"):
        PreviewFlags(preview_steps=5)
    with pytest.raises(ValueError, match="--preview-steps: got 0"):
        PreviewFlags(preview_table="t", preview_steps=0)
    (tmp_path / "blank.tsv").write_text("a\t\nb\t \n")
    with pytest.raises(ValueError, match=r"--preview-table .*blank.tsv: no caption in its first 16 rows"):
        plan_previews(PreviewFlags(preview_table=str(tmp_path / "blank.tsv")), every=1, seed=1)
    with pytest.raises(ValueError, match=r"nowhere.tsv"):
        plan_previews(PreviewFlags(preview_table=str(tmp_path / "nowhere.tsv")), every=1, seed=1)
