"""cluster/quickstart.sh and `make clean`, with a stub for the jobs: only what they made is ever removed."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MARKER = ".painter-quickstart"
# `ray job submit ... --outputs X` and `python ... --outputs X`: makes X, and says so
STUB = """#!/bin/bash
while [ $# -gt 1 ]; do
  case $1 in
    --outputs | --checkpoint-dir) mkdir -p "$(dirname "$2")" && echo made > "$2" && echo "made $2" ;;
  esac
  shift
done
"""
# of a machine with as many GPUs as a test says, whatever is in this one
GPUS = """#!/bin/bash
for ((i = 0; i < ${STUB_GPUS:-0}; i++)); do echo "GPU $i: NVIDIA stub"; done
"""


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("ray", "python", "nvidia-smi"):
        (directory / name).write_text(STUB if name != "nvidia-smi" else GPUS)
        (directory / name).chmod(0o755)
    return directory


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """A directory of a user who followed the README: it has a file of a name that quickstart writes, too."""
    directory = tmp_path / "my data"
    (directory / "model").mkdir(parents=True)
    for name in ("pairs.parquet", "pictures.tsv", "model/gpt.safetensors"):
        (directory / name).write_text("mine")
    return directory


def names(directory: Path) -> set[str]:
    return {str(p.relative_to(directory)) for p in directory.rglob("*")}


def quickstart(*arguments: object, bin_dir: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    path = f"{bin_dir}:{os.environ['PATH']}"
    command = ["bash", str(ROOT / "cluster" / "quickstart.sh"), *map(str, arguments)]
    environment = os.environ | {"PATH": path} | variables
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)


def test_a_users_directory_is_refused_and_stays(users: Path, bin_dir: Path) -> None:
    before = names(users)
    for arguments in ([users], ["--clean", users], ["--clean", users / ".." / "absent", users]):
        done = quickstart(*arguments, bin_dir=bin_dir)
        assert done.returncode == 2, done.stderr
        assert f"{MARKER}" in done.stderr
        assert "nothing was changed" in done.stderr
        assert names(users) == before
    assert all(p.read_text() == "mine" for p in users.rglob("*") if p.is_file())


def test_make_clean_refuses_too(users: Path) -> None:
    before = names(users)
    command = [
        "make",
        "-s",
        "-C",
        str(ROOT),
        "clean",
        f"QUICKSTART={users}",
        f"SAMPLE_FULL={users / 'absent'}",
        f"SAMPLE_BOTH={users / 'absent'}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nothing was changed" in done.stderr
    assert names(users) == before


def test_a_finished_run_starts_over_an_unfinished_one_is_resumed(tmp_path: Path, bin_dir: Path) -> None:
    out = tmp_path / "out dir"
    done = quickstart(out, bin_dir=bin_dir)
    assert done.returncode == 0, done.stderr
    made = names(out)
    assert {
        MARKER,
        "train.parquet",
        "codes_train",
        "model",
        "pictures.tsv",
        "gallery.html",
        "model.html",
        "pictures.html",
    } <= made
    again = quickstart(out, bin_dir=bin_dir)
    assert "starting over" in again.stdout
    assert f"made {out}/train.parquet" in again.stdout, "everything is made anew"
    (out / "pictures.tsv").unlink()
    resumed = quickstart(out, bin_dir=bin_dir)
    assert "resuming" in resumed.stdout
    assert f"made {out}/train.parquet" not in resumed.stdout
    assert names(out) == made


def test_with_a_share_for_captions_they_are_made_and_removed_too(tmp_path: Path, bin_dir: Path) -> None:
    done = quickstart(tmp_path / "plain", bin_dir=bin_dir)
    assert "--image-to-text" not in done.stdout
    assert not {"held_out.tsv", "captions.parquet"} & names(tmp_path / "plain")
    out = tmp_path / "both"
    done = quickstart(out, bin_dir=bin_dir, IMAGE_TO_TEXT="0.3")
    assert done.returncode == 0, done.stderr
    assert "--save-checkpoint-steps 1000 --image-to-text 0.3" in done.stdout
    assert {"held_out.tsv", "captions.parquet"} <= names(out)
    assert quickstart("--clean", out, bin_dir=bin_dir).returncode == 0
    assert not out.exists()


def test_what_a_user_put_there_afterwards_stays(tmp_path: Path, bin_dir: Path) -> None:
    out = tmp_path / "out"
    quickstart(out, bin_dir=bin_dir)
    (out / "notes.txt").write_text("mine")
    (out / "model-of-mine").mkdir()
    assert quickstart(out, bin_dir=bin_dir).returncode == 0
    assert quickstart("--clean", out, bin_dir=bin_dir).returncode == 0
    assert names(out) == {"notes.txt", "model-of-mine"}


def test_all_that_was_made_is_removed_and_the_directory_with_it(tmp_path: Path, bin_dir: Path) -> None:
    for name in ("a b", "other"):
        quickstart(tmp_path / name, bin_dir=bin_dir)
    # as jobs leave them: a run directory, a lock of a killed run, a successor
    for name in ("pictures.tsv.run", "codes_train.lock", "model.new"):
        (tmp_path / "other" / name).write_text("made")
    done = quickstart("--clean", tmp_path / "a b", tmp_path / "other", tmp_path / "absent", bin_dir=bin_dir)
    assert done.returncode == 0, done.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"bin"}


def test_an_empty_directory_is_taken(tmp_path: Path, bin_dir: Path) -> None:
    (tmp_path / "out").mkdir()
    assert quickstart("--clean", tmp_path / "out", bin_dir=bin_dir).returncode == 0
    assert (tmp_path / "out").is_dir(), "nothing in it was made here"
    assert quickstart(tmp_path / "out", bin_dir=bin_dir).returncode == 0
    assert (tmp_path / "out" / MARKER).exists()


@pytest.mark.parametrize("arguments", [[], [""], ["--clean"], ["--clean", ""]])
def test_no_directory_is_not_the_root(arguments: list[str], tmp_path: Path, bin_dir: Path) -> None:
    done = quickstart(*arguments, bin_dir=bin_dir)
    assert done.returncode == 2
    assert "usage" in done.stderr


def test_a_file_is_no_directory(tmp_path: Path, bin_dir: Path) -> None:
    (tmp_path / "out").write_text("mine")
    for arguments in ([tmp_path / "out"], ["--clean", tmp_path / "out"]):
        assert quickstart(*arguments, bin_dir=bin_dir).returncode == 2
    assert (tmp_path / "out").read_text() == "mine"


RAY = r"""2026-11-26 03:51:28,773\tINFO cli.py:42 -- Job submission server address: http://127.0.0.1:22384
2026-11-26 03:51:28,773\tWARNING working_dir.py:101 -- Directory .venv is now ignored by default
2026-11-26 03:51:30,415\tSUCC cli.py:67 -- Job x submitted successfully
Running entrypoint for job x: python jobs/x.py
03:51:35 a line of the job
03:51:50 next: a command
2026-11-26 03:51:57,557\tERR cli.py:71 -- Job x failed
2026-11-26 03:51:57,557\tWARNING packaging.py:1 -- another warning
"""


def test_what_ray_says_of_its_own_affairs_is_left_out_and_its_errors_are_not(
    tmp_path: Path, bin_dir: Path
) -> None:
    (bin_dir / "ray").write_text(f"#!/bin/bash\nprintf '{RAY}'\nexit 3\n")
    done = quickstart(tmp_path / "out", bin_dir=bin_dir)
    assert done.returncode == 3, "a failing job ends the script"
    shown = [line for line in done.stdout.splitlines() if line and not line.startswith(("made", "+"))]
    assert shown == [
        "03:51:35 a line of the job",
        "2026-11-26 03:51:57,557\tERR cli.py:71 -- Job x failed",
        "2026-11-26 03:51:57,557\tWARNING packaging.py:1 -- another warning",
    ]


def test_it_says_that_it_computes_on_the_gpus(tmp_path: Path, bin_dir: Path) -> None:
    said = quickstart(tmp_path / "out", bin_dir=bin_dir, STUB_GPUS="2").stdout
    assert "computes on the GPU, in bf16 (NVIDIA GPUs here: 2)" in said
    assert "the GPU" not in quickstart(tmp_path / "other", bin_dir=bin_dir).stdout
