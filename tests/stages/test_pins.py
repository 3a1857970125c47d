"""A run is made from the content that it was planned with (faults 1, 2, 26)."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from painter_core.errors import Changed, Refused
from painter_core.model_files.directory import write_model
from painter_core.model_files.open import open_model
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.models.vqgan import VQGAN
from painter_core.runs.flags import TableFlags
from painter_core.stages.generate.config import GenerateConfig
from painter_core.stages.generate.identity import identity
from painter_core.stages.generate.paint import PaintUnits
from painter_core.stages.precompute_codes import EncodePictures
from painter_core.stages.train.plan import TrainPlan, as_recorded_before
from painter_core.text.tokenizer import builtin_tokenizer
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.run_flags import TrainingRunFlags
from tests.support.codes_table import make_codes
from tests.support.jobs import SMALL_VQGAN
from tests.support.training import planned
from tests.support.units import unit_row

TINY = {"model": "tiny", "n_layer": 1, "n_head": 1, "n_embd": 16, "text_len": 8}


@pytest.fixture(scope="module")
def tables(write_pairs: Callable, tiny_vqgan: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two codes tables with as many rows, made by one VQGAN."""
    root = tmp_path_factory.mktemp("tables")
    lines = write_pairs(root / "1.tsv", 32).read_text(encoding="utf-8").splitlines(keepends=True)
    (root / "2.tsv").write_text("".join("s" + line for line in lines), encoding="utf-8")
    return [make_codes(root / f"{i}.tsv", tiny_vqgan, root / f"codes{i}") for i in (1, 2)]


def plan(tables: list[Path], out: Path, *, precision: str = "fp32", **flags: bool) -> TrainPlan:
    config = TrainConfig(
        tables=",".join(map(str, tables)), checkpoint_dir=str(out), precision=precision,
        run=TrainingRunFlags(**flags), **TINY,
    )  # type: ignore[arg-type]  # fmt: skip
    found = planned(config)
    assert found is not None
    return found


def test_a_training_knows_its_data(tables: list[Path], tmp_path: Path) -> None:
    one, two = tables
    first = plan([one], tmp_path / "m")
    assert plan([one], tmp_path / "m").identity == first.identity, "resumed"
    with pytest.raises(Refused, match="tables_sha256: was "):
        plan([two], tmp_path / "m")
    plan([one, two], tmp_path / "both")
    with pytest.raises(Refused, match="tables_sha256: was "):
        plan([two, one], tmp_path / "both")
    with pytest.raises(Refused, match="precision: was 'fp32', is 'bf16'"):
        plan([one], tmp_path / "m", precision="bf16")
    assert plan([two], tmp_path / "m", overwrite=True).root == str(tmp_path / "m.new"), "trained anew"


def test_a_run_of_an_older_version_is_resumed_where_nothing_is_in_doubt(
    tables: list[Path], tmp_path: Path
) -> None:
    one, two = tables
    found = plan([one], tmp_path / "m")
    file = tmp_path / "m" / "_run" / "plan.json"
    stored = json.loads(file.read_text())
    for name in ("tables_sha256", "precision"):
        del stored["identity"][name]
    file.write_text(json.dumps(stored))
    again = plan([one], tmp_path / "m")
    assert (again.identity, again.tables_sha256) == (stored["identity"], found.tables_sha256)
    with pytest.raises(Refused, match="tables_sha256: was None"):
        plan([two], tmp_path / "m")
    with pytest.raises(Refused, match="precision: was None"):
        plan([one], tmp_path / "m", precision="bf16")
    began = file.stat().st_mtime
    manifest = one / "manifest.json"
    before = manifest.stat().st_mtime
    os.utime(manifest, (began + 5, began + 5))  # finished after the run began: perhaps another content
    try:
        with pytest.raises(Refused, match="tables_sha256: was None"):
            plan([one], tmp_path / "m")
    finally:
        os.utime(manifest, (before, before))
    assert as_recorded_before(found.identity, None, found.config, [str(one)]) == found.identity


def write(directory: Path, seed: int, vqgan: Path | None = None) -> Path:
    torch.manual_seed(seed)
    tokenizer = builtin_tokenizer()
    gpt = GPTConfig(
        text_vocab_size=tokenizer.vocab_size, codebook_size=64, text_len=8, image_len=SMALL_VQGAN.image_len,
        n_layer=1, n_head=1, n_embd=16,
    )  # fmt: skip
    write_model(directory, vqgan=vqgan or VQGAN(SMALL_VQGAN), gpt=GPT(gpt), tokenizer=tokenizer, card="")
    return directory


@pytest.mark.parametrize("file", ["gpt.safetensors", "vqgan.safetensors"])
def test_a_model_that_changes_under_a_job_stops_its_workers(file: str, tmp_path: Path) -> None:
    model, other = write(tmp_path / "model", 1), write(tmp_path / "other", 2)
    config = GenerateConfig(table=TableFlags(tables="t", outputs="o"), checkpoint_dir=str(model))
    made_by = identity(config, open_model(str(model)))
    PaintUnits(config=config, identity=made_by, precision="fp32", micro_batch_size=1)
    for name in (file, "checkpoint.json"):
        shutil.copyfile(other / name, model / name)
    if file == "vqgan.safetensors":  # the sums of the others are those of before
        (model / "checkpoint.json").unlink()
        with pytest.raises(Changed, match="vqgan_sha256"):
            EncodePictures(vqgan=str(model), identity=made_by, precision="fp32", micro_batch_size=1)
    else:
        shutil.copyfile(other / "vqgan.safetensors", model / "vqgan.safetensors")
    with pytest.raises(Changed, match=f"{file.split('.')[0]}_sha256 is .* it changed while the job ran"):
        PaintUnits(config=config, identity=made_by, precision="fp32", micro_batch_size=1)


def test_flags_of_a_new_model_mean_nothing_beside_a_pretrained_one() -> None:
    config = TrainConfig(tables="t", checkpoint_dir="m", pretrained_model_name_or_path="p")
    for name, value in ({**TINY, "vocab": "v"}).items():
        with pytest.raises(ValueError, match=f"--{name.replace('_', '-')}: means nothing beside"):
            dataclasses.replace(config, **{name: value})


def test_captions_that_are_cut_or_partly_unknown_are_counted(tmp_path: Path, one_thread: None) -> None:
    """What the model does not see of a caption is not passed over silently; the model has 8 text ids."""
    model = write(tmp_path / "model", 1)
    config = GenerateConfig(
        table=TableFlags(tables="t", outputs="o", keep_rejected=True), checkpoint_dir=str(model)
    )
    made_by = identity(config, open_model(str(model)))
    paint = PaintUnits(config=config, identity=made_by, precision="fp32", micro_batch_size=4)
    texts = ["红色的杯子", "红色的杯子和白色的裙子", "红色的안녕", "안녕" * 300]
    place = {"file": ["t.tsv"] * 4, "row": [1, 2, 3, 4], "byte_offset": [0, 9, 18, 27]}
    table = pa.table({**place, "idx": list("abcd"), "text": texts})
    painted = paint(unit_row(table))
    assert painted.warnings == {"text_cut": 1, "text_unk": 1}
    (line,) = painted.rejects.to_pylist()
    assert (line["reason"], line["text"]) == ("text_all_unk", texts[3]), "whole, with --keep-rejected"
