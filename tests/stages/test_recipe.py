"""train.py --recipe few: it fills in what was not given, and a run is that of the flags written out."""

import dataclasses
import logging
from pathlib import Path

import pytest

from painter_core.runs.training_run import split_tables
from painter_core.stages.train.codes import PairsConfig, TrainJobConfig
from painter_core.stages.train.recipe import UPDATES, VIEWS, with_recipe, with_views
from painter_core.stages.views import ViewFlags
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.regularisation import RegularisationFlags
from painter_core.training.run_flags import TrainingRunFlags, bound_settings
from tests.support.codes_table import make_codes
from tests.support.training import planned

pytestmark = pytest.mark.usefixtures("cache")

ROWS = 160


@pytest.fixture(scope="module")
def codes(pairs: Path, tiny_vqgan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_codes(pairs, tiny_vqgan, tmp_path_factory.mktemp("codes") / "codes")


def job(tables: object, **more: object) -> TrainConfig:
    return TrainConfig(tables=str(tables), checkpoint_dir="model", **more)  # type: ignore[arg-type]


def test_without_it_nothing_changes(codes: Path) -> None:
    plain = TrainJobConfig(train=job(codes), pairs=PairsConfig())
    assert with_views(plain) == plain
    assert with_recipe(plain.train) == plain.train


def test_it_fills_in_what_was_not_given(codes: Path) -> None:
    given = job(
        codes,
        recipe="few",
        learning_rate=1e-3,
        regularisation=RegularisationFlags(pkeep=0.5),
        run=TrainingRunFlags(save_checkpoint_steps=7),
    )
    found = with_recipe(given)
    assert (found.learning_rate, found.regularisation.pkeep, found.run.save_checkpoint_steps) == (
        1e-3,
        0.5,
        7,
    )
    assert (found.optimizer, found.model, found.caption_dropout) == ("muon", "tiny", 0.1)
    assert found.epoch_num == UPDATES * 16 / ROWS
    assert with_recipe(found) == found


def test_a_model_that_goes_on_keeps_its_optimizer(codes: Path) -> None:
    found = with_recipe(job(codes, recipe="few", pretrained_model_name_or_path="base"))
    assert (found.optimizer, found.model, found.learning_rate) == ("adamw", None, TrainConfig.learning_rate)
    assert found.regularisation.pkeep < 1


def test_a_run_is_that_of_the_flags_written_out(codes: Path, tmp_path: Path) -> None:
    short = dataclasses.replace(job(codes, recipe="few"), checkpoint_dir=str(tmp_path / "model"))
    settings = with_recipe(short)
    written_out = dataclasses.replace(settings, recipe=None)
    assert bound_settings(settings) == bound_settings(written_out)
    assert planned(settings).identity == planned(written_out).identity


def test_codes_without_views_are_told(
    codes: Path, pairs: Path, tiny_vqgan: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with_recipe(job(codes, recipe="few"))
    assert "precompute_codes.py --variants 8 --augment crop" in caplog.text
    assert "pkeep 0." in caplog.text
    caplog.clear()
    views = ViewFlags(variants=2, augment="crop")
    with_recipe(job(make_codes(pairs, tiny_vqgan, tmp_path / "codes", views=views), recipe="few"))
    assert "precompute_codes.py" not in caplog.text


def test_codes_that_the_job_makes_have_views(codes: Path, pairs: Path) -> None:
    both = TrainJobConfig(train=job(f"{pairs},{codes}", recipe="few"), pairs=PairsConfig(codes_dir="c"))
    assert with_views(both).pairs == PairsConfig(codes_dir="c", views=VIEWS)
    other = dataclasses.replace(both, pairs=PairsConfig(views=ViewFlags(variants=2, augment="flip")))
    assert with_views(other) == other, "they were given"
    made = dataclasses.replace(both, train=job(codes, recipe="few"))
    assert with_views(made) == made, "where all tables hold codes the flag would be refused"
    assert split_tables(both.train.tables) == [str(pairs), str(codes)]
