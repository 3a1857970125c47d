"""--checkpoint-dir and --outputs of the training jobs by URL: as on a disk.

Also when the run is broken off, and taken up by a machine that has nothing of it.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from painter_core.files.storage import filesystem, join, write_json
from painter_core.model_files.open import open_model
from painter_core.stages.inspect_table.verify import find_problems
from painter_core.stages.train.loop import train_as
from painter_core.stages.train.plan import TrainPlan
from painter_core.training.worker import Worker
from tests.support.disk_store import use_disk_store
from tests.support.fake_store import FakeStore
from tests.support.local_run import code_of, faults
from tests.support.ranks import run_ranks
from tests.support.training import curve_of, files_of, gpt_config, left_in, train_by, train_here, vqgan_config

pytestmark = pytest.mark.usefixtures("store", "cache")

ROOT = "s3://bucket/my model"
MODEL = {"README.md", "checkpoint.json", "config.json", "gpt.safetensors", "vocab.txt", "vqgan.safetensors"}


@pytest.fixture
def new_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Goes on with an empty cache."""
    caches = iter(tmp_path / f"cache{number}" for number in range(100))

    def change() -> Path:
        cache = next(caches)
        monkeypatch.setenv("PAINTER_CACHE", str(cache))
        return cache

    return change


@pytest.fixture(scope="module")
def local(codes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training on a disk."""
    out = tmp_path_factory.mktemp("local") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAINTER_CACHE", str(out.parent / "cache"))
        train_here(gpt_config(f"{codes},{codes}", out))
    return out


def models(root: str) -> dict[str, bytes]:
    return {name: data for name, data in files_of(root).items() if name.startswith(("best/", "last/"))}


def test_a_run_by_url_leaves_what_a_run_on_a_disk_does(codes: Path, local: Path, cache: Path) -> None:
    assert train_here(gpt_config(f"{codes},{codes}", ROOT))
    assert models(ROOT) == models(str(local))
    assert {name.removeprefix("best/") for name in models(ROOT) if name.startswith("best/")} == MODEL
    assert curve_of(ROOT) == curve_of(str(local))
    steps = {"step-00000004", "step-00000005"}
    found, expected = files_of(ROOT), files_of(str(local))
    for files in (found, expected):
        assert {name.split("/")[1] for name in files if name.startswith("checkpoints/")} == steps
        assert {"_SUCCESS", "summary.json", "_run/plan.json", "_run/outcome.json"} <= set(files)
        assert json.loads(files["summary.json"])["exit_code"] == 0
        assert len([name for name in files if name.startswith("tensorboard/")]) == 1
    names = {name for name in found if not name.startswith("tensorboard/")}
    assert names == {name for name in expected if not name.startswith("tensorboard/")}
    assert left_in(cache) == []
    assert FakeStore.store.keys().isdisjoint({"/bucket/my model.lock"})
    with pytest.raises(ValueError, match="--verify reads on a disk only"):
        find_problems(ROOT)
    # what other jobs read
    assert open_model(ROOT).gpt_sha256() == open_model(str(local)).gpt_sha256()
    assert (
        open_model(f"{ROOT}/last").load_tokenizer().sha256 == open_model(str(local)).load_tokenizer().sha256
    )


# between which files of one upload: test_remote_checkpoints.py
@pytest.mark.parametrize(
    "fault",
    ["checkpoint_upload:EIO:3", "checkpoint_upload:EIO:11", "checkpoint_publish:EIO:3", "train_step:EIO:5"],
)
def test_a_broken_run_is_taken_up_by_another_machine(
    fault: str, codes: Path, local: Path, tmp_path: Path, new_machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in faults(tmp_path / "faults", fault).items():
        monkeypatch.setenv(name, value)
    config = gpt_config(f"{codes},{codes}", ROOT)
    with pytest.raises(OSError, match=fault.split(":")[0]):
        train_here(config)
    monkeypatch.setenv("PAINTER_ENABLE_FAULTS", "0")
    assert "_SUCCESS" not in files_of(ROOT)
    cache = new_machine()
    assert train_here(config)
    assert models(ROOT) == models(str(local))
    assert curve_of(ROOT) == curve_of(str(local))
    assert left_in(cache) == []


def test_complete_other_settings_and_overwrite(codes: Path, tmp_path: Path, new_machine) -> None:
    config = gpt_config(codes, ROOT)
    assert train_here(config)
    before = files_of("s3://bucket")
    new_machine()
    assert not train_here(config), "already complete"
    assert code_of(lambda: train_here(gpt_config(codes, ROOT, learning_rate=2e-3))) == 4
    assert files_of("s3://bucket") == before
    other = gpt_config(codes, ROOT, learning_rate=2e-3, run={"overwrite": True})
    expected = tmp_path / "other"
    train_here(gpt_config(codes, expected, learning_rate=2e-3))
    assert train_here(other)
    assert models(ROOT) == models(str(expected))
    assert not files_of(ROOT + ".new")


@pytest.mark.parametrize("fault", ["train_step:EIO:4", "replacement_moving:EIO:4"])
def test_an_overwrite_that_is_broken_off(
    fault: str, codes: Path, tmp_path: Path, new_machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_here(gpt_config(codes, ROOT))
    old = files_of(ROOT)
    config = gpt_config(codes, ROOT, learning_rate=2e-3, run={"overwrite": True})
    for name, value in faults(tmp_path / "faults", fault).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OSError, match=fault.split(":")[0]):
        train_here(config)
    monkeypatch.setenv("PAINTER_ENABLE_FAULTS", "0")
    if fault.startswith("train"):
        assert files_of(ROOT) == old, "it stays till the end"
    new_machine()
    train_here(config)
    train_here(gpt_config(codes, tmp_path / "other", learning_rate=2e-3))
    assert models(ROOT) == models(str(tmp_path / "other"))
    assert not files_of(ROOT + ".new")


def test_another_run_at_work_and_a_foreign_directory_are_refused(codes: Path) -> None:
    fs, path = filesystem(join("s3://bucket/taken", "notes.txt"))
    fs.pipe_file(path, b"mine")
    assert code_of(lambda: train_here(gpt_config(codes, "s3://bucket/taken"))) == 4
    held = {
        "run_id": "x", "host": "other", "pid": 1, "machine": "other", "process_started": "1",
        "since": "now", "heartbeat_s": 0,
    }  # fmt: skip
    write_json(*filesystem(ROOT + ".lock"), held)
    beats = iter(range(1, 1000))
    read = FakeStore.cat_file

    def beating(self: FakeStore, path: str, *args: object, **options: object) -> bytes:
        if path.endswith(".lock"):
            self.pipe_file(path, json.dumps(held | {"heartbeat_s": next(beats)}).encode())
        return read(self, path, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeStore, "cat_file", beating)
        patch.setattr("painter_core.runs.lock.HEARTBEAT_S", 0.1)
        assert code_of(lambda: train_here(gpt_config(codes, ROOT))) == 4
    assert not files_of(ROOT)


def test_a_store_that_is_busy(codes: Path, local: Path, store: type[FakeStore]) -> None:
    store.failing = 0.1
    assert train_here(gpt_config(f"{codes},{codes}", ROOT))
    assert store.failed > 10
    store.failing = 0.0
    assert models(ROOT) == models(str(local))


def test_a_message_of_the_workers_reaches_the_driver(
    codes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in faults(tmp_path / "faults", "train_forward:nan:3").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match="1"):
        train_here(gpt_config(codes, ROOT))
    summary = json.loads(files_of(ROOT)["summary.json"])
    assert summary["exit_code"] == 1
    assert "at step 3: stopped before the update" in summary["message"]


@pytest.mark.long
def test_a_vqgan_by_url(pairs: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_here(vqgan_config(pairs, tmp_path / "local"))
    for name, value in faults(tmp_path / "faults", "checkpoint_upload:EIO:7").items():
        monkeypatch.setenv(name, value)
    config = vqgan_config(pairs, "s3://bucket/vqgan")
    with pytest.raises(OSError, match="checkpoint_upload"):
        train_here(config)
    monkeypatch.setenv("PAINTER_ENABLE_FAULTS", "0")
    assert train_here(config)
    assert models("s3://bucket/vqgan") == models(str(tmp_path / "local"))
    assert curve_of("s3://bucket/vqgan") == curve_of(str(tmp_path / "local"))
    assert left_in(cache) == []
    assert open_model("s3://bucket/vqgan").vqgan_config is not None


def train_in_disk_store(worker: Worker, plan: TrainPlan) -> None:
    use_disk_store()
    train_as(worker, plan)


@pytest.fixture
def disk_store(store: type[FakeStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A store that other processes see, in the place of the other one."""
    monkeypatch.setenv("DISK_STORE", str(tmp_path / "store"))
    use_disk_store()
    yield
    fsspec.register_implementation("s3", store, clobber=True)


@pytest.mark.long
@pytest.mark.usefixtures("disk_store")
def test_two_workers_of_a_node_share_the_copy_of_a_checkpoint(
    codes: Path, local: Path, cache: Path, tmp_path: Path
) -> None:
    config = gpt_config(f"{codes},{codes}", ROOT, batch=16, gradient_accumulation_steps=2)
    # ten passings of two workers: in step 5, after the checkpoint of step 4
    for number, fault in enumerate(("train_step:EIO:9", "")):
        variables = faults(tmp_path / f"faults{number}", fault) if fault else {}
        place = tmp_path / f"ranks{number}"
        run = lambda plan: run_ranks(place, 2, train_in_disk_store, plan, **variables)  # noqa: B023, E731
        if fault:
            with pytest.raises(AssertionError, match="train_step"):
                train_by(config, run)
        else:
            assert train_by(config, run)
    for ours, theirs in zip(curve_of(ROOT), curve_of(str(local)), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert models(ROOT).keys() == models(str(local)).keys()
    assert left_in(cache) == []
