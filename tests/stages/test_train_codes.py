"""Where the codes of a training over pairs tables may go."""

from pathlib import Path

import pytest

from painter_core.stages.train.codes import PairsConfig, TrainJobConfig
from painter_core.training.gpt_config import TrainConfig


def config(tables: str, codes_dir: str) -> TrainJobConfig:
    train = TrainConfig(tables=tables, checkpoint_dir="model")
    return TrainJobConfig(train=train, pairs=PairsConfig(codes_dir=codes_dir))


def test_codes_do_not_lie_among_the_pictures(tmp_path: Path) -> None:
    """There they would be read as pictures when the job is submitted again."""
    (tmp_path / "d").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "d")
    for codes_dir in ("d", "d/codes", "link/codes", "d/a/../b"):
        with pytest.raises(ValueError, match=r"--codes-dir .* lies in --tables .*/d, where"):
            config(f"{tmp_path}/e,{tmp_path}/d", f"{tmp_path}/{codes_dir}")
    for codes_dir in ("codes", "d2", "d.codes"):
        config(f"{tmp_path}/d,{tmp_path}/e", f"{tmp_path}/{codes_dir}")
    config("memory://bucket/d", f"{tmp_path}/codes")
    with pytest.raises(ValueError, match="--codes-dir memory://bucket/d/codes lies in"):
        config("memory://bucket/d/", "memory://bucket/d/codes")
