"""The conversion job: outputs whole or absent, flags that mean nothing, exit codes."""

import sys
from pathlib import Path

import pytest
import torch

from jobs import convert_checkpoint
from painter_core.errors import Refused
from painter_core.model_files.from_foreign import ConvertOptions, to_painter
from painter_core.model_files.open import open_model
from painter_core.models.vqgan import VQGAN
from painter_core.stages.convert_checkpoint import ConvertConfig, convert
from tests.support.foreign import GPT_TINY, VQGAN_TINY, converted, formula_state, write_easynlp


def test_outputs_are_whole_or_absent(tmp_path: Path) -> None:
    source = write_easynlp(tmp_path / "easynlp")
    (tmp_path / "ours").mkdir()
    with pytest.raises(Refused, match="name another directory"):
        converted(source, tmp_path / "ours")
    with pytest.raises(ValueError, match="no such file or directory"):
        converted(tmp_path / "nothing", tmp_path / "ours2")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["easynlp", "ours"]


def test_a_url_is_no_place_for_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory of the name `s3:` in the working directory would be of use to nobody."""
    monkeypatch.chdir(tmp_path)
    config = ConvertConfig(source="bundled", outputs="s3://key:S3CRET@b/model")
    with pytest.raises(ValueError, match="--outputs s3://b/model: a directory of this machine is needed"):
        convert(config)
    assert not list(tmp_path.iterdir())


def test_flags_that_mean_nothing_are_errors(tmp_path: Path) -> None:
    torch.save(formula_state(VQGAN, VQGAN_TINY), tmp_path / "v.bin")
    with pytest.raises(ValueError, match="--n-head: means nothing"):
        to_painter(tmp_path / "v.bin", tmp_path, ConvertOptions(n_head=2))
    source = write_easynlp(tmp_path / "easynlp")
    with pytest.raises(ValueError, match="--vqgan: given, but the checkpoint holds a VQGAN"):
        converted(source, tmp_path / "ours", ConvertOptions(), "bundled")


def test_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    source = write_easynlp(tmp_path / "easynlp")
    flags = ["--source", str(source), "--outputs", str(tmp_path / "ours"), "--image_size", "32"]
    monkeypatch.setattr(sys, "argv", ["convert_checkpoint.py", *flags])
    with caplog.at_level("INFO"):
        convert_checkpoint.main()
    assert "n_head=2" in caplog.text
    assert open_model(str(tmp_path / "ours")).gpt_config == GPT_TINY
    with pytest.raises(SystemExit) as stopped:
        convert_checkpoint.main()
    assert stopped.value.code == 4
    monkeypatch.setattr(
        sys, "argv", ["convert_checkpoint.py", *flags[:-2], "--outputs", str(tmp_path / "other")]
    )
    with pytest.raises(SystemExit) as stopped:
        convert_checkpoint.main()
    assert stopped.value.code == 2
    assert "give --image-size" in caplog.text
