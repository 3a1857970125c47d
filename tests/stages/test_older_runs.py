"""Runs that version 0.1.0 began are resumed where nothing of theirs is in doubt, and refused with the reason.

The plans are as that version wrote them. A GPT's training: tests/stages/test_pins.py.
"""

import dataclasses
import json
import os
from pathlib import Path

import pytest

from painter_core.errors import Refused
from painter_core.stages.train_vqgan.plan import VQGANPlan
from painter_core.training.vqgan_config import VQGANTrainConfig
from tests.support.jobs import TINY_VQGAN
from tests.support.local_run import code_of, faults, killed, rows_of, run_here, write_input
from tests.support.training import planned

TABLE = """{
 "files": [{"kind": "tsv", "path": "PATH", "sha256": "", "size_bytes": 921, "version": "1000.0"}],
 "fingerprint": "008897c0305df59f397540d1eef56e2b6e11705abce78fd4e1e260321032570f",
 "format": 1,
 "identity": {"format": 1, "seed": 1, "stage": "test"},
 "settings": {"columns": ["idx", "text"], "limit": null, "micro_batch_size": 16, "schema": ["idx", "text"]},
 "stage": "test",
 "unit_fields": ["number", "file", "row_group", "start", "stop", "first_row", "num_rows"],
 "units": [[0, 0, -1, 0, 135, 1, 16], [1, 0, -1, 135, 283, 17, 16], [2, 0, -1, 283, 431, 33, 16],
  [3, 0, -1, 431, 585, 49, 16], [4, 0, -1, 585, 733, 65, 16], [5, 0, -1, 733, 887, 81, 16],
  [6, 0, -1, 887, 921, 97, 4]]
}
"""
VQGAN = """{
 "fingerprint": "a6652202c31be62dc8ec1b4599218cc639d893cd81f80a2621b14991ce3b9b39",
 "format": 1,
 "global_batch_size": 4,
 "identity": {
  "alpha": "white", "decoder_only": false, "disc_start": 1000000, "disc_weight": 0.5, "ema_decay": 0.998,
  "geometry": {"attn_resolutions": [], "ch": 32, "ch_mult": [1, 1, 2], "codebook_size": 64, "embed_dim": 8,
   "image_size": 32, "num_res_blocks": 1, "z_channels": 8},
  "input_schema": "idx:str:1,text:str:1,imgbase64:str:1", "l2_weight": 1.0, "learning_rate": 0.0005,
  "max_steps": 2, "perceptual_sha256": null, "perceptual_weight": 1.0, "precision": "fp32",
  "quantize_after": 1, "random_seed": 42, "resize": "antialias", "second_sequence": "imgbase64",
  "stage": "train_vqgan", "start_sha256": null, "tables": [[["PATH", 104, "1000.0"]]], "vqgan": null
 },
 "stage": "train_vqgan"
}
"""


def stop_after_two_units(table: Path, out: Path) -> None:
    """A run with the older plan that died in its third unit."""
    dies = faults(out.with_name("faults"), "part_written:kill:3")
    assert killed(lambda: run_here(table, out), dies)
    (out / "_run" / "plan.json").write_text(TABLE.replace("PATH", str(table)))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = write_input(tmp_path / "in.tsv")
    os.utime(path, (1000, 1000))
    return path


def test_a_table_goes_on(table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    run_here(table, tmp_path / "undisturbed")
    stop_after_two_units(table, tmp_path / "out")
    run_here(table, tmp_path / "out", micro_batch_size=None)
    assert "resuming: 2 of 7 units are done" in caplog.text
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "undisturbed")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"seed": 2}, "seed: was 1, is 2"),
        ({"limit": 5}, "limit: was None, is 5"),
        ({"micro_batch_size": 8}, "micro_batch_size: was 16, is 8"),
        ({}, "files changed"),
    ],
)
def test_a_table_that_is_in_doubt_is_refused(
    changed: dict, reason: str, table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stop_after_two_units(table, tmp_path / "out")
    before = rows_of(tmp_path / "out")
    if not changed:
        os.utime(table, (2000, 2000))
    assert code_of(lambda: run_here(table, tmp_path / "out", **changed)) == 4
    assert f"holds a run with other settings ({reason})" in caplog.text
    assert rows_of(tmp_path / "out") == before


def vqgan_plan(table: Path, out: Path, **changed: object) -> VQGANPlan:
    config = VQGANTrainConfig(
        tables=str(table), outputs=str(out), geometry=TINY_VQGAN, micro_batch_size=4, max_steps=2,
        quantize_after=1, precision="fp32",
    )  # fmt: skip
    found = planned(dataclasses.replace(config, **changed))
    assert found is not None
    return found


def test_a_vqgan_goes_on_with_the_pictures_that_it_began_with(tmp_path: Path) -> None:
    table, out = tmp_path / "pairs.tsv", tmp_path / "out"
    table.write_text("".join(f"r{i}\t文{i}\tAAAA\n" for i in range(8)))
    os.utime(table, (1000, 1000))
    (out / "_run").mkdir(parents=True)
    (out / "_run" / "plan.json").write_text(VQGAN.replace("PATH", str(table)))
    plan = vqgan_plan(table, out)
    assert plan.identity == json.loads(VQGAN.replace("PATH", str(table)))["identity"]
    assert (plan.columns.idx, plan.columns.text) == ("idx", "text"), (
        "rows without them are set aside, as then"
    )
    with pytest.raises(Refused, match=r"learning_rate: was 0.0005, is 0.1"):
        vqgan_plan(table, out, learning_rate=0.1)
    os.utime(table, (2000, 2000))
    with pytest.raises(Refused, match=r"tables: was .*1000\.0.*, is .*2000\.0"):
        vqgan_plan(table, out)
