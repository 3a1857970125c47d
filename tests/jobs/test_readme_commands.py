"""The README's commands, run as they stand there, in the order in which they stand."""

import re
import subprocess
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from painter_core.sample.pictures import sample_row
from tests.support.jobs import ROOT, Jobs

README = (ROOT / "README.md").read_text(encoding="utf-8")

COMMANDS = [line.strip() for line in README.splitlines() if re.match(r"\s*python jobs/\w+\.py .", line)]

SHORTER = {
    "train.py": "--epoch-num 1",
    "train_vqgan.py": "--max-steps 2 --micro-batch-size 2 --quantize-after 1",
}

TIMEOUT_S = 240


def write_photos(folder: Path, split: str, rows: int) -> None:
    """Pictures of several sizes and formats, a caption beside each."""
    folder.mkdir()
    for i in range(rows):
        row = sample_row(8, i, split=split)
        suffix = ("png", "jpg", "webp")[i % 3]
        picture = row.image.resize((96 + 7 * i, 128))
        picture.save(folder / f"{i}.{suffix}")
        (folder / f"{i}.txt").write_text(row.text, encoding="utf-8")


@pytest.mark.slow
def test_commands_run_as_they_stand(jobs: Jobs, tmp_path: Path) -> None:
    assert len(COMMANDS) >= 7
    write_photos(tmp_path / "photos", "train", 6)
    write_photos(tmp_path / "photos_valid", "valid", 3)
    (tmp_path / "shards").mkdir()
    with tarfile.open(tmp_path / "shards" / "0.tar", "w") as tar:
        for path in sorted((tmp_path / "photos").iterdir()):
            tar.add(path, path.name)
    (tmp_path / "prompts.tsv").write_text(f"a\t{sample_row(8, 0, split='held_out').text}\n", encoding="utf-8")
    valid = "python jobs/make_table.py --pictures $DATA/photos_valid --outputs $DATA/pairs_valid.parquet"
    environment = jobs.environment | {"DATA": str(tmp_path)}
    for command in [valid, *COMMANDS]:
        script = re.search(r"jobs/(\w+\.py)", command)[1]
        command = re.sub(r"jobs/\w+\.py", lambda job: f"'{ROOT}/{job[0]}'", command, count=1)
        command += " " + SHORTER.get(script, "")
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True,
            timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    assert (tmp_path / "pictures.tsv").read_text(encoding="utf-8").startswith("a\t")
    assert (tmp_path / "gallery.html").stat().st_size > 1000
    assert "Training: model" in (tmp_path / "model.report.html").read_text(encoding="utf-8")
    assert Image.open(tmp_path / "photos" / "0.png").size == (96, 128), "the user's pictures are left alone"
