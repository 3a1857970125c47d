"""--parallel fsdp beside ddp and one worker: the same gradients, curves and weights, also across resumes.

Two or three gloo workers on the loopback (tests/support/ranks.py), without Ray.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from painter_core.model_files.open import open_model
from painter_core.models.gpt import GPT
from painter_core.stages.train.loop import train_as
from painter_core.stages.train.plan import TrainPlan
from painter_core.stages.train.previews import PreviewPlan
from painter_core.training.checkpoints import latest_checkpoint
from painter_core.training.gpt import train_step
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.sharding import shard, whole_tensor
from painter_core.training.worker import Worker
from painter_core.training.world_sizes import continued
from tests.support.codes_table import make_codes
from tests.support.local_run import faults
from tests.support.ranks import run_ranks
from tests.support.training import curve_of, gpt_config, train_by, train_here
from tests.training.test_training import ALONE, TINY, samples

pytestmark = pytest.mark.usefixtures("one_thread", "cache")

TOLERANCE = 1e-5
TABLE_ROWS, STEPS = 96, 6  # two epochs
LEG = 2  # steps until a run is broken off, in the middle of an epoch


@pytest.fixture(scope="module")
def codes(write_pairs, tiny_vqgan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("codes")
    return make_codes(write_pairs(place / "pairs.tsv", TABLE_ROWS), tiny_vqgan, place / "codes")


# --- one step ---------------------------------------------------------------------------------------


def step(worker: Worker, rows: int) -> dict[str, torch.Tensor]:
    """How far a step of plain gradient descent moves the weights, and the norm: their gradients."""
    torch.manual_seed(0)
    model = GPT(TINY)
    if worker.world_size > 1:
        shard(model, worker)
    before = {name: whole_tensor(p.detach()).clone() for name, p in model.named_parameters()}
    settings = TrainConfig(tables="-", checkpoint_dir="-", micro_batch_size=4, max_grad_norm=1e6)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    loss, norm = train_step(model, [optimizer], samples(), np.arange(rows), settings, worker)
    after = {name: whole_tensor(p.detach()) for name, p in model.named_parameters()}
    found = {name: before[name] - after[name] for name in before}
    return found | {"loss": torch.tensor(loss), "norm": torch.tensor(norm)}


ROWS = (15, 1)  # shares that differ, and one that is empty


def share_of(worker: Worker) -> float:
    """How much of the weights this worker holds."""
    model = GPT(TINY)
    shard(model, worker)
    parameters = list(model.parameters())
    return sum(p.to_local().numel() for p in parameters) / sum(p.numel() for p in parameters)


def some_steps(worker: Worker, out: Path) -> None:
    assert 0.45 < share_of(worker) < 0.55
    found = [step(worker, rows) for rows in ROWS]
    if worker.rank == 0:
        torch.save(found, out)


def test_gradients_are_those_of_one_process(tmp_path: Path) -> None:
    run_ranks(tmp_path / "ranks", 2, some_steps, tmp_path / "found.pt")
    for found, rows in zip(torch.load(tmp_path / "found.pt"), ROWS, strict=True):
        expected = step(ALONE, rows)
        ratio = float(found["norm"] / expected["norm"])
        assert ratio == pytest.approx(1, abs=1e-5), (
            "gloo summed the gradients instead of averaging them: pytorch issue 162338; use another torch"
        )
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=name)


# --- whole runs -------------------------------------------------------------------------------------


def train_ranks(
    config: TrainConfig, world_size: int, place: Path, *, fault: str = "", previews: PreviewPlan | None = None
) -> None:
    """A run of so many workers, to its end; AssertionError if a fault ended it."""
    variables = faults(place / "faults", fault) if fault else {}

    def workers(plan: TrainPlan) -> None:
        plan = dataclasses.replace(plan, previews=previews)
        run_ranks(place / "ranks", world_size, train_as, plan, **variables)

    train_by(config, workers)


def config_for(codes: Path, out: Path, parallel: str, **more: object) -> TrainConfig:
    return gpt_config(f"{codes},{codes}", out, batch=8, parallel=parallel, **({"epoch_num": 2.0} | more))


def close_to(found: Path, expected: Path, *, steps: int) -> None:
    """Losses and validation losses of every step within a hundred-thousandth, norms within ten times that."""
    curves = [curve_of(str(found)), curve_of(str(expected))]
    assert [line["step"] for line in curves[0] if "train_loss" in line] == list(range(1, steps + 1))
    for ours, theirs in zip(*curves, strict=True):
        norms = ours.pop("grad_norm", 0), theirs.pop("grad_norm", 0)
        assert ours == pytest.approx(theirs, rel=TOLERANCE)
        assert norms[0] == pytest.approx(norms[1], rel=10 * TOLERANCE)


@pytest.fixture(scope="module")
def alone(codes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed run of one worker, with the global batch of four micro-batches."""
    out = tmp_path_factory.mktemp("alone") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAINTER_CACHE", str(out.parent / "cache"))
        train_here(config_for(codes, out, "ddp", gradient_accumulation_steps=4))
    return out


def weights_close(found: Path, expected: Path) -> None:
    ours, theirs = (open_model(f"{path}/last").load_gpt().state_dict() for path in (found, expected))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.long
@pytest.mark.parametrize(
    ("parallel", "world_size"),
    [("fsdp", 3), *(pytest.param(*case, marks=pytest.mark.slow) for case in (("fsdp", 2), ("ddp", 2)))],
)
def test_curves_are_those_of_one_worker(
    parallel: str, world_size: int, codes: Path, alone: Path, tmp_path: Path
) -> None:
    more = {"gradient_accumulation_steps": 4, "activation_checkpointing": world_size == 3}
    previews = PreviewPlan(captions=(("a", "红色"),), every=STEPS, seed=7)
    config = config_for(codes, tmp_path / "model", parallel, **more)
    train_ranks(config, world_size, tmp_path, previews=previews)
    assert len(list((tmp_path / "model").glob("previews/step-*.png"))) == 1
    close_to(tmp_path / "model", alone, steps=STEPS)
    weights_close(tmp_path / "model", alone)
    newest = latest_checkpoint(tmp_path / "model")
    assert newest is not None
    moments = sorted((newest / "training").glob("moments/*.safetensors"))
    assert len(moments) == (world_size if parallel == "fsdp" else 0)


@pytest.mark.long
@pytest.mark.parametrize(
    "way",
    [
        "fsdp 2, ddp 1, fsdp 3",
        pytest.param("fsdp 2, fsdp 3, ddp 2", marks=pytest.mark.slow),
        pytest.param("ddp 2, fsdp 2, fsdp 1", marks=pytest.mark.slow),
    ],
)
def test_a_run_goes_on_with_other_workers(way: str, codes: Path, alone: Path, tmp_path: Path) -> None:
    """2 -> 1 -> 3 workers, and between ddp and fsdp: broken off after the checkpoints of steps 2 and 4."""
    out, sizes, numbers = tmp_path / "model", list[list[int]](), list[int]()
    for number, leg in enumerate(way.split(", ")):
        parallel, workers = leg.split()
        world_size, begun = int(workers), LEG * number
        config = config_for(codes, out, parallel, gradient_accumulation_steps=4)
        place = tmp_path / f"leg{number}"
        sizes = continued(sizes, begun, world_size)
        numbers += [world_size] * LEG
        if number == 2:
            train_ranks(config, world_size, place)
            continue
        fault = f"train_step:EIO:{world_size * LEG + 1}"
        with pytest.raises(AssertionError, match="train_step"):
            train_ranks(config, world_size, place, fault=fault)
        newest = latest_checkpoint(out)
        assert newest is not None
        assert newest.name == f"step-{begun + LEG:08d}"
    assert json.loads((out / "_run" / "outcome.json").read_text())["world_sizes"] == sizes
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["num_workers"] for line in lines if "train_loss" in line] == numbers
    close_to(out, alone, steps=STEPS)
    weights_close(out, alone)


@pytest.mark.long
def test_a_worker_that_dies_while_all_save_leaves_the_old_checkpoint(
    codes: Path, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    config = config_for(codes, out, "fsdp", gradient_accumulation_steps=4)
    with pytest.raises(AssertionError, match="workers died"):
        train_ranks(config, 2, tmp_path / "killed", fault="moments_save:kill:4")
    newest = latest_checkpoint(out)
    assert newest is not None
    assert newest.name == "step-00000002"
    shutil.rmtree(tmp_path / "killed")
    train_ranks(config, 2, tmp_path / "again")
    close_to(out, alone, steps=STEPS)


def train_bf16(worker: Worker, plan: TrainPlan) -> None:
    train_as(dataclasses.replace(worker, precision="bf16"), plan)


@pytest.mark.slow
def test_bf16_keeps_float32_weights(codes: Path, alone: Path, tmp_path: Path) -> None:
    config = config_for(codes, tmp_path / "model", "fsdp", precision="bf16", gradient_accumulation_steps=4)
    train_by(config, lambda plan: run_ranks(tmp_path / "ranks", 2, train_bf16, plan))
    found, expected = curve_of(str(tmp_path / "model")), curve_of(str(alone))
    for ours, theirs in zip(found, expected, strict=True):
        for name in ("train_loss", "valid_loss"):
            assert ours.get(name, 0) == pytest.approx(theirs.get(name, 0), rel=5e-3)
    assert found != expected
    state = open_model(f"{tmp_path / 'model'}/last").load_gpt().state_dict()
    assert {value.dtype for value in state.values()} == {torch.float32}
    # not rounded to bf16
    assert any(not torch.equal(value, value.bfloat16().float()) for value in state.values())


@pytest.mark.slow
@pytest.mark.parametrize(("parallel", "world_size"), [("fsdp", 2), ("ddp", 2), ("fsdp", 3)])
def test_losses_of_200_steps(
    parallel: str, world_size: int, pairs: Path, tiny_vqgan: Path, tmp_path: Path
) -> None:
    codes = make_codes(pairs, tiny_vqgan, tmp_path / "codes")  # with fewer rows it learns them by heart
    more = {"epoch_num": 40.0, "gradient_accumulation_steps": 4, "run": {"save_checkpoint_steps": 1000}}
    train_here(config_for(codes, tmp_path / "alone", "ddp", **more))
    train_ranks(config_for(codes, tmp_path / "model", parallel, **more), world_size, tmp_path)
    close_to(tmp_path / "model", tmp_path / "alone", steps=200)


# --- what is refused --------------------------------------------------------------------------------


def test_muon_and_urls_are_refused() -> None:
    with pytest.raises(ValueError, match="--parallel fsdp: not with --optimizer muon"):
        config_for(Path("codes"), Path("out"), "fsdp", optimizer="muon")
    with pytest.raises(ValueError, match=r"s3://b/m is a URL.*give a path that all nodes see"):
        TrainConfig(tables="t", checkpoint_dir="s3://user:secret@b/m", parallel="fsdp")
