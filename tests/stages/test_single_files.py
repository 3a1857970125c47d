"""Tables that are one file: their run directory says what they hold, whatever reads them next."""

from pathlib import Path

import pytest

from painter_core.runs.flags import PairFlags, TableFlags
from painter_core.runs.run import Run
from painter_core.stages.evaluate.config import EvaluateConfig
from painter_core.stages.evaluate.sources import evaluate_columns
from painter_core.stages.make_gallery.entries import GalleryConfig, write_page
from painter_core.stages.train.codes import PairsConfig, TrainJobConfig, make_tables
from painter_core.stages.train.plan import make_plan
from painter_core.tables.run_directory import RunDirectory
from painter_core.training.gpt_config import TrainConfig
from tests.support.codes_table import make_codes
from tests.support.local_run import ALONE


@pytest.mark.parametrize("suffix", ["parquet", "tsv"])
def test_codes_as_one_file_are_a_codes_table(
    suffix: str, write_pairs, tiny_vqgan: Path, tmp_path: Path
) -> None:
    codes = tmp_path / f"codes.{suffix}"
    make_codes(write_pairs(tmp_path / "pairs.tsv", 16), tiny_vqgan, codes)
    train = TrainConfig(
        tables=str(codes),
        checkpoint_dir=str(tmp_path / "model"),
        model="tiny",
        n_layer=1,
        n_head=1,
        n_embd=16,
    )
    made = make_tables(TrainJobConfig(train=train, pairs=PairsConfig()), Run({}), ALONE)
    run = Run({})
    planned = make_plan(made.config, run, ALONE)
    run.ended()
    assert planned is not None
    assert (planned[0].num_samples, planned[0].train_table) == (16, f"{codes}.run")
    page = tmp_path / "page.html"
    assert write_page(GalleryConfig(tables=str(codes), outputs=str(page))) == 16


@pytest.mark.parametrize(
    "columns", [["idx", "text", "gen_imgbase64", "sample"], ["gen_imgbase64", "idx", "text"]]
)
def test_a_tsv_of_generate_is_read_by_its_own_columns(columns: list[str], tmp_path: Path) -> None:
    out = tmp_path / "pictures.tsv"
    plan = {"stage": "generate", "settings": {"output_columns": columns}, "units": []}
    RunDirectory(str(out)).write_json(plan, "_run", "plan.json")
    config = EvaluateConfig(table=TableFlags(tables=str(out), outputs="o"), attributes=True)
    assert evaluate_columns(config, str(out)).schema == tuple(columns)
    given = EvaluateConfig(
        table=TableFlags(tables=str(out), outputs="o"), attributes=True,
        input=PairFlags(input_schema="idx,text,picture", second_sequence="picture"),
    )  # fmt: skip
    assert evaluate_columns(given, str(out)).schema == ("idx", "text", "picture")
