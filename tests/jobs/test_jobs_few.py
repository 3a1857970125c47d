"""train.py with all that is for few pictures: views, noise, averaged weights, patience, adapters."""

import json
from pathlib import Path

import pytest

from tests.jobs.test_jobs_train import BATCH, FLAGS, curve, kill_after_checkpoint, losses, validations
from tests.support.jobs import Jobs

pytestmark = pytest.mark.slow

NOISE = (
    "--pkeep", 0.9, "--dropout", 0.1, "--label-smoothing", 0.05, "--ema-decay", 0.9, "--patience", 50,
    "--caption-dropout", 0.2,
)  # fmt: skip


@pytest.fixture(scope="module")
def views(jobs: Jobs, pairs: Path, tiny_vqgan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("views") / "codes"
    flags = ("--variants", 3, "--augment", "crop,colour", "--random-seed", 7)
    jobs.run("precompute_codes", "--tables", pairs, "--vqgan", tiny_vqgan, "--outputs", out, *flags)
    assert json.loads((out / "manifest.json").read_text())["variants"] == 3
    return out


@pytest.fixture(scope="module")
def alone(jobs: Jobs, views: Path, codes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed run of one worker."""
    out = tmp_path_factory.mktemp("few") / "model"
    jobs.run("train", *flags_for(views, codes, out), "--micro-batch-size", BATCH)
    return out


def flags_for(views: Path, codes: Path, out: Path) -> tuple[object, ...]:
    return ("--tables", f"{views},{codes}", "--checkpoint-dir", out, *FLAGS, *NOISE)


def test_a_killed_run_goes_on_with_equal_losses_and_bytes(
    jobs: Jobs, views: Path, codes: Path, alone: Path, tmp_path: Path
) -> None:
    flags = (*flags_for(views, codes, tmp_path / "model"), "--micro-batch-size", BATCH)
    kill_after_checkpoint(jobs, tmp_path / "model", *flags)
    jobs.run("train", *flags)
    assert curve(tmp_path / "model") == curve(alone)
    assert validations(tmp_path / "model") == validations(alone)
    found, expected = ((d / "last" / "gpt.safetensors").read_bytes() for d in (tmp_path / "model", alone))
    assert found == expected


def test_two_workers_have_the_losses_of_one(
    jobs: Jobs, views: Path, codes: Path, alone: Path, tmp_path: Path
) -> None:
    flags = ("--micro-batch-size", BATCH // 2, "--num-workers", 2)
    jobs.run("train", *flags_for(views, codes, tmp_path / "model"), *flags)
    assert list(losses(tmp_path / "model").values()) == pytest.approx(list(losses(alone).values()), rel=1e-4)


def test_an_adapter_paints_as_its_model(
    jobs: Jobs, views: Path, codes: Path, alone: Path, tmp_path: Path
) -> None:
    """A base and its adapter make the model that training wrote; the recipe goes with it."""
    jobs.run(
        "train", "--tables", f"{views},{codes}", "--checkpoint-dir", tmp_path / "tuned", "--recipe", "few",
        "--pretrained-model-name-or-path", alone / "best", "--lora-rank", 2, "--epoch-num", 2,
        "--precision", "fp32", "--micro-batch-size", BATCH,
    )  # fmt: skip
    tuned = tmp_path / "tuned" / "best"
    jobs.run(
        "convert_checkpoint", "--source", alone / "best", "--adapter", tuned / "adapter.safetensors",
        "--outputs", tmp_path / "merged",
    )  # fmt: skip
    weights = [(d / "gpt.safetensors").read_bytes() for d in (tuned, tmp_path / "merged", alone / "best")]
    assert weights[0] == weights[1] != weights[2]
    identity = json.loads((tmp_path / "tuned" / "_run" / "plan.json").read_text())["identity"]
    assert (identity["pkeep"], identity["lora_rank"]) == (0.9, 2)
