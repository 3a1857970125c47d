"""generate.py --codes-column: painted codes are a codes table's, to train on, to look at, to decode again."""

import base64
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from painter_core.images.decode import decode_image
from painter_core.images.pixels import to_uint8
from painter_core.model_files.open import open_model
from painter_core.painting.sampling import SamplingConfig
from painter_core.runs.run import Run
from painter_core.stages.codes_table import open_samples, open_vqgan
from painter_core.stages.inspect_table.config import InspectConfig
from painter_core.stages.inspect_table.report import inspect
from painter_core.stages.train.plan import make_plan
from painter_core.training.gpt_config import TrainConfig
from tests.support.gallery import facts, page_of
from tests.support.local_run import ALONE
from tests.support.painting import CAPTIONS, SMALL_VQGAN, config_of, paint_table, write_painter, write_prompts
from tests.support.training import planned

pytestmark = pytest.mark.usefixtures("one_thread", "cache")

SAMPLING = SamplingConfig(top_k=20)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_painter(tmp_path_factory.mktemp("codes") / "model")


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prompts(tmp_path_factory.mktemp("codes") / "prompts.tsv")


def paint(model: Path, prompts: Path, outputs: Path, **flags: object) -> pa.Table:
    flags = {"sampling": SAMPLING, "codes_column": True} | flags
    return paint_table(config_of(model, prompts, outputs, **flags))


def codes_of(table: pa.Table) -> np.ndarray:
    return np.array(table["codes"].to_pylist())


def test_pictures_are_those_of_their_codes(model: Path, prompts: Path, tmp_path: Path) -> None:
    table = paint(model, prompts, tmp_path / "out", max_generated_num=2, keep_best=1)
    plain = paint(model, prompts, tmp_path / "plain", max_generated_num=2, keep_best=1, codes_column=False)
    assert table.drop(["codes"]).equals(plain)
    assert table.schema.field("codes").type == pa.list_(
        pa.field("item", pa.uint16(), nullable=False), SMALL_VQGAN.image_len
    )
    vqgan = open_vqgan(str(tmp_path / "out")).load_vqgan()
    with torch.inference_mode():
        decoded = to_uint8(vqgan.decode(torch.from_numpy(codes_of(table).astype(np.int64))))
    for picture, cell in zip(decoded, table["gen_imgbase64"].to_pylist(), strict=True):
        shown = decode_image(base64.b64decode(cell), SMALL_VQGAN.image_size)
        assert np.abs(picture.astype(int) - shown).max() <= 1
    assert "p0" in facts(page_of(tmp_path, tables=str(tmp_path / "out")), "idx")


@pytest.mark.parametrize("name", ["codes", "codes.parquet"])
def test_codes_alone_are_a_codes_table(name: str, model: Path, prompts: Path, tmp_path: Path) -> None:
    table = paint(model, prompts, tmp_path / name, output_schema="idx,text", max_generated_num=2)
    assert table.column_names == ["idx", "text", "sample", "codes"]
    whole = paint(model, prompts, tmp_path / "whole", max_generated_num=2)
    assert table.equals(whole.drop(["gen_imgbase64"]))
    assert len(facts(page_of(tmp_path, tables=str(tmp_path / name)), "idx")) == 2 * len(CAPTIONS)
    report = inspect(InspectConfig(tables=str(tmp_path / name), verify=True))
    assert report is not None


def test_painted_codes_are_trained_on(model: Path, prompts: Path, tmp_path: Path) -> None:
    table = paint(model, prompts, tmp_path / "painted")
    config = TrainConfig(tables=str(tmp_path / "painted"), checkpoint_dir=str(tmp_path / "m"), n_layer=1)
    assert planned(config).num_samples == len(CAPTIONS)
    tokenizer = open_model(str(model)).load_tokenizer()
    samples = open_samples(str(tmp_path / "painted"), tokenizer, text_len=8, codebook_size=64)
    np.testing.assert_array_equal(samples.codes, codes_of(table))
    paint(model, prompts, tmp_path / "pictures", codes_column=False)
    bare = TrainConfig(tables=str(tmp_path / "pictures"), checkpoint_dir=str(tmp_path / "n"))
    with pytest.raises(ValueError, match=r"a table of outputs, expected codes .*--codes-column"):
        make_plan(bare, Run({}), ALONE)


def test_a_tsv_holds_no_codes(model: Path, prompts: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--codes-column: lists do not go into a TSV"):
        paint(model, prompts, tmp_path / "out.tsv")
