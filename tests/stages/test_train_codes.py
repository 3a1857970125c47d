"""The codes of a training over pairs tables: where they may go, and flags that are only for them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from painter_core.runs.run import Run
from painter_core.stages.train.codes import PairsConfig, TrainJobConfig, make_tables
from painter_core.training.gpt_config import TrainConfig
from tests.support.codes_table import make_codes
from tests.support.local_run import ALONE


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


@pytest.mark.parametrize(
    ("given", "flag"),
    [
        ({"codes_dir": "c"}, "codes-dir"),
        ({"alpha": "drop"}, "alpha"),
        ({"max_reject_fraction": 0.5}, "max-reject"),
    ],
)
def test_flags_of_pictures_do_nothing_where_codes_are_made(
    given: dict, flag: str, write_pairs: Callable, tiny_vqgan: Path, tmp_path: Path
) -> None:
    codes = make_codes(write_pairs(tmp_path / "pairs.tsv", 4), tiny_vqgan, tmp_path / "codes")
    train = TrainConfig(tables=str(codes), checkpoint_dir="model")
    with pytest.raises(ValueError, match=rf"--{flag}.*: does nothing where all --tables hold codes already"):
        make_tables(TrainJobConfig(train=train, pairs=PairsConfig(**given)), Run({}), ALONE)
    assert make_tables(TrainJobConfig(train=train, pairs=PairsConfig()), Run({}), ALONE).config.tables == str(
        codes
    )
