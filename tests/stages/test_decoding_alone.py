"""generate.py --init-codes that only decodes: nothing but the VQGAN is needed, planned and read."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from painter_core.compute.memory import vqgan_row_bytes
from painter_core.errors import Changed
from painter_core.model_files.directory import weights_bytes, write_model
from painter_core.model_files.open import open_model
from painter_core.models.gpt import GPT
from painter_core.models.vqgan import VQGAN
from painter_core.painting.pipeline import pipeline
from painter_core.stages.generate.decode import DecodeUnits
from painter_core.stages.generate.identity import identity
from painter_core.stages.generate.run import table_job
from painter_core.tables.plan import fingerprint
from tests.support.jobs import SMALL_VQGAN
from tests.support.local_run import ALONE, code_of, faults, killed, rows_of
from tests.support.painting import config_of, paint_table, write_painter, write_prompts

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS = 20
NEW = "gen_imgbase64"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_painter(tmp_path_factory.mktemp("alone") / "model")


@pytest.fixture(scope="module")
def vqgan(model: Path) -> Path:
    """A directory with the model's VQGAN, and nothing else."""
    write_model(model.with_name("vqgan"), vqgan=model, card="")
    return model.with_name("vqgan")


@pytest.fixture(scope="module")
def painted(model: Path) -> pa.Table:
    """Pictures with their codes, in the directory `codes` beside the model."""
    prompts = write_prompts(model.with_name("prompts.tsv"), ROWS)
    return paint_table(config_of(model, prompts, model.with_name("codes"), codes_column=True))


@pytest.fixture
def decode(model: Path, painted: pa.Table, tmp_path: Path) -> Callable[..., pa.Table]:
    def decode(directory: Path, outputs: str, **flags: object) -> pa.Table:
        given = {"init_codes": "codes"} | flags
        return paint_table(config_of(directory, model.with_name("codes"), tmp_path / outputs, **given))

    return decode


def identity_of(outputs: Path) -> dict:
    return json.loads((outputs / "manifest.json").read_text())["identity"]


def test_a_vqgan_alone_decodes(
    decode: Callable, model: Path, vqgan: Path, painted: pa.Table, tmp_path: Path
) -> None:
    found = decode(vqgan, "alone", codes_column=True)
    assert found.equals(painted)
    assert decode(model, "whole", codes_column=True).equals(painted)
    assert identity_of(tmp_path / "alone") == identity_of(tmp_path / "whole")
    assert {"gpt_sha256", "tokenizer_sha256"}.isdisjoint(identity_of(tmp_path / "alone"))
    other = write_painter(tmp_path / "other", scale=1.0)  # the same VQGAN, another GPT
    decode(other, "of_another", codes_column=True)
    assert rows_of(tmp_path / "of_another") == rows_of(tmp_path / "alone")
    decode(other, "cells.tsv", vqgan=str(vqgan))
    cells = [line.split("\t")[2] for line in (tmp_path / "cells.tsv").read_text().splitlines()]
    assert cells == painted[NEW].to_pylist()


def test_the_gpt_is_not_opened(decode: Callable, model: Path, painted: pa.Table, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "broken")
    for name in ("gpt.safetensors", "vocab.txt"):
        (tmp_path / "broken" / name).unlink()
    assert decode(tmp_path / "broken", "out")[NEW].equals(painted[NEW])
    assert code_of(lambda: decode(tmp_path / "broken", "scored", score_columns=True)) == 2


def test_the_gpt_is_not_planned(model: Path, tmp_path: Path) -> None:
    opened, codes = open_model(str(model)), model.with_name("codes")
    for scored in (False, True):
        config = config_of(model, codes, tmp_path / "out", init_codes="codes", score_columns=scored)
        job = table_job(config, opened, ALONE)
        gpt = weights_bytes(GPT, opened.gpt_config) if scored else 0
        assert job.weights_bytes == weights_bytes(VQGAN, SMALL_VQGAN) + gpt
        assert (job.memory_per_row > vqgan_row_bytes(SMALL_VQGAN, "fp32")) == scored


@pytest.mark.parametrize(
    "flags", [{"score_columns": True}, {"init_share": 0.5}, {"init_codes": None}, {"easynlp_format": True}]
)
def test_what_needs_a_gpt_says_so(
    flags: dict, decode: Callable, vqgan: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert code_of(lambda: decode(vqgan, "out.tsv", **flags)) == 2
    assert "vqgan: needs a GPT and a VQGAN (jobs/train.py writes both); a VQGAN alone decodes" in caplog.text
    assert not (tmp_path / "out.tsv").exists()


def test_a_flag_for_the_gpt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--sequence-length: does nothing .* no GPT is read"):
        config_of(tmp_path, tmp_path, tmp_path / "out", init_codes="codes", sequence_length=72)


def test_captions_are_carried_on_and_not_read(painted: pa.Table, vqgan: Path, tmp_path: Path) -> None:
    texts = ["😀", "杯子\tx"]
    table = painted.slice(0, 2).set_column(1, "text", pa.array(texts))
    pq.write_table(table, tmp_path / "rows.parquet")
    for outputs, number in (("out", 2), ("out.parquet", 2), ("out.tsv", 1)):  # a TSV holds no tab
        config = config_of(vqgan, tmp_path / "rows.parquet", tmp_path / outputs, init_codes="codes")
        found = paint_table(config)
        assert found["text"].to_pylist() == texts[:number]
        assert found[NEW].to_pylist() == painted[NEW].to_pylist()[:number]


def test_a_killed_run_goes_on_beside_another_gpt(decode: Callable, vqgan: Path, tmp_path: Path) -> None:
    write_painter(tmp_path / "changing")
    dies = faults(tmp_path / "faults", "part_written:kill:2")
    assert killed(lambda: decode(tmp_path / "changing", "out"), dies)
    assert not (tmp_path / "out" / "manifest.json").exists()
    shutil.rmtree(tmp_path / "changing")
    write_painter(tmp_path / "changing", scale=1.0)
    decode(tmp_path / "changing", "out")
    decode(vqgan, "whole")
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "whole")


def test_an_older_run_is_refused(
    decode: Callable, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its plan names the GPT, whose tokenizer had a say in which rows are rejected."""
    dies = faults(tmp_path / "faults", "part_written:kill:2")
    assert killed(lambda: decode(model, "out"), dies)
    path = tmp_path / "out" / "_run" / "plan.json"
    plan = json.loads(path.read_text())
    plan["identity"] |= {"gpt_sha256": open_model(str(model)).gpt_sha256(), "tokenizer_sha256": "1" * 64}
    plan["fingerprint"] = fingerprint(plan["identity"])
    path.write_text(json.dumps(plan))
    before = rows_of(tmp_path / "out")
    assert code_of(lambda: decode(model, "out")) == 4
    assert "holds a run with other settings (gpt_sha256: was '" in caplog.text
    assert "', is None; tokenizer_sha256: was '111" in caplog.text
    assert rows_of(tmp_path / "out") == before


def test_a_worker_compares_its_vqgan(model: Path, vqgan: Path, painted: pa.Table, tmp_path: Path) -> None:
    config = config_of(vqgan, model.with_name("codes"), tmp_path / "out", init_codes="codes")
    planned = identity(config, open_model(str(vqgan)))
    write_painter(tmp_path / "other", seed=4)
    changed = dataclasses.replace(config, checkpoint_dir=str(tmp_path / "other"))
    with pytest.raises(Changed, match=r"other: vqgan_sha256 is .*, but the run was planned with"):
        DecodeUnits(config=changed, identity=planned, precision="fp32", micro_batch_size=4)


def test_pipeline_decodes_by_a_vqgan_alone(vqgan: Path, painted: pa.Table) -> None:
    options = {"device": "cpu", "precision": "fp32", "micro_batch_size": 4}
    paint, told = pipeline(str(vqgan), **options), []
    texts, codes = painted["text"].to_pylist(), painted["codes"].to_pylist()
    found = paint(texts, init_codes=codes, progress=lambda done, total: told.append((done, total)))
    assert [r["gen_imgbase64"] for r in found] == painted[NEW].to_pylist()
    assert told == [(done, ROWS) for done in range(4, ROWS + 1, 4)]
    assert len(pipeline(str(vqgan), device="cpu").images(["😀"], init_codes=codes[:1])) == 1
    for given in ({}, {"init_codes": codes[:1], "init_share": 0.5}):
        with pytest.raises(ValueError, match="a VQGAN and no GPT, so it decodes whole init_codes"):
            paint(texts[:1], **given)
    with pytest.raises(ValueError, match=r"init_codes\[0\]: 15 codes, the model reads 16"):
        paint(texts[:1], init_codes=[codes[0][1:]])
    for wrong in ({"scores": True}, {"keep_best": 1}, {"temperature": 0.5}, {"max_generated_num": 2}):
        with pytest.raises(ValueError, match="a VQGAN and no GPT, so nothing is drawn or scored"):
            pipeline(str(vqgan), **options, **wrong)
