"""Checkpoints in an object store: uploads and publications cut short anywhere, damage, what is kept."""

import shutil
from pathlib import Path

import pytest

from painter_core.files.storage import filesystem, join
from painter_core.model_files.sums import problem, read_sums
from painter_core.training.checkpoints import save_checkpoint
from painter_core.training.remote_checkpoints import (
    check_checkpoints,
    newest_checkpoint,
    publish_copy,
    upload_checkpoint,
)
from tests.support.local_run import faults

pytestmark = pytest.mark.usefixtures("store", "cache")

ROOT = "s3://bucket/model"
FILES = ("gpt.safetensors", "README.md", "training/state.pt")
KEEP = 2


def upload(tmp_path: Path, step: int, text: str = "") -> None:
    def write(directory: Path) -> None:
        for name in FILES:
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_text(f"{text or step} {name}")

    upload_checkpoint(ROOT, save_checkpoint(tmp_path / "local", step, write, keep=1), keep=KEEP)


def newest_step() -> int:
    """The step of the checkpoint that a run would go on from; its files are whole."""
    found = newest_checkpoint(ROOT)
    assert found is not None
    name, path = found
    sums = read_sums(path)
    assert sums is not None
    assert set(sums) == set(FILES)
    assert [problem(path, file, sums[file]) for file in sums] == [None] * 3
    assert int((path / FILES[0]).read_text().split()[0]) == int(name[5:])
    shutil.rmtree(path)  # as a worker does that has loaded it
    return int(name[5:])


def there(directory: str = "checkpoints") -> list[str]:
    fs, path = filesystem(join(ROOT, directory))
    return sorted(name[len(path) + 1 :] for name in fs.find(path))


def broken(call, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a call ended at a fault, after which nothing more reached the store."""
    for name, value in faults(tmp_path / "faults", fault).items():
        monkeypatch.setenv(name, value)
    try:
        call()
    except OSError:
        return True
    finally:
        monkeypatch.setenv("PAINTER_ENABLE_FAULTS", "0")
    return False


# a failpoint a file, the marker's among them, then old ones are removed
@pytest.mark.parametrize(
    "fault", [*(f"checkpoint_upload:EIO:{n}" for n in range(1, len(FILES) + 3)), "checkpoint_removal:EIO:1"]
)
def test_an_upload_that_is_cut_short(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2):
        upload(tmp_path, step)
    assert broken(lambda: upload(tmp_path, 3), fault, tmp_path, monkeypatch)
    is_whole = fault in (f"checkpoint_upload:EIO:{len(FILES) + 2}", "checkpoint_removal:EIO:1")
    assert newest_step() == (3 if is_whole else 2)
    upload(tmp_path, 3)
    upload(tmp_path, 4)
    assert newest_step() == 4
    assert {name.split("/")[0] for name in there()} == {"step-00000003", "step-00000004"}
    assert len(there()) == KEEP * (len(FILES) + 1)


@pytest.mark.parametrize("number", range(1, len(FILES) + 2))
def test_a_first_upload_that_is_cut_short_is_no_checkpoint(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert broken(lambda: upload(tmp_path, 1), f"checkpoint_upload:EIO:{number}", tmp_path, monkeypatch)
    assert newest_checkpoint(ROOT) is None
    check_checkpoints(ROOT)
    assert ("upload was cut short" in caplog.text) == (number > 1)


def damage(path: str) -> None:
    fs, inner = filesystem(join(ROOT, "checkpoints", path))
    data = bytearray(fs.cat_file(inner))
    data[len(data) // 2] ^= 4
    fs.pipe_file(inner, bytes(data))


def cut(path: str) -> None:
    fs, inner = filesystem(join(ROOT, "checkpoints", path))
    fs.pipe_file(inner, fs.cat_file(inner)[:5])


def lose(path: str) -> None:
    fs, inner = filesystem(join(ROOT, "checkpoints", path))
    fs.rm(inner)


@pytest.mark.parametrize("how", [damage, cut, lose])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(name: str, how, tmp_path: Path) -> None:
    for step in (1, 2):
        upload(tmp_path, step)
    how(f"step-00000002/{name}")
    assert newest_step() == 1
    check_checkpoints(ROOT)
    how(f"step-00000001/{name}")
    with pytest.raises(ValueError, match=r"model/checkpoints: none of \d checkpoints is whole"):
        newest_checkpoint(ROOT)
    # the run goes on from step 1, another way: the damaged one must not push it out
    upload(tmp_path, 1, text="1")
    assert newest_step() == 1
    assert {name.split("/")[0] for name in there()} == {"step-00000001"}


def test_a_marker_that_cannot_be_read_is_a_damaged_checkpoint(tmp_path: Path) -> None:
    upload(tmp_path, 1)
    cut("step-00000001/checkpoint.json")
    with pytest.raises(ValueError, match="none of 1 checkpoints is whole"):
        check_checkpoints(ROOT)


@pytest.mark.parametrize("number", range(1, 4))
def test_a_publication_that_is_cut_short_shows(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(tmp_path, 1)
    publish_copy(ROOT, "best", "step-00000001")
    before = {"README.md", "checkpoint.json", "gpt.safetensors"}
    assert set(there("best")) == before, "training state is left out"
    upload(tmp_path, 2)
    publish = lambda: publish_copy(ROOT, "best", "step-00000002")  # noqa: E731
    assert broken(publish, f"checkpoint_publish:EIO:{number}", tmp_path, monkeypatch)
    fs, path = filesystem(join(ROOT, "best"))
    fs.get(path, str(tmp_path / "read"), recursive=True)
    sums = read_sums(tmp_path / "read")
    assert sums is not None
    wrong = [problem(tmp_path / "read", file, sums[file]) for file in sums]
    assert any(wrong) == (number > 1), "a mixture of two models is none"
    publish()
    assert fs.cat_file(join(path, FILES[0])).decode().startswith("2 ")
    assert set(there("best")) == before
