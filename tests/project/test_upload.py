"""What `ray job submit --working-dir .` copies to a cluster out of a clone in which people work."""

import re
import shutil
from pathlib import Path

import pytest
from ray._private.ray_constants import get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import create_package

ROOT = Path(__file__).resolve().parents[2]
TREES = ("jobs", "schemas", "painter_core", "cluster", "docs", "benchmarks")
LARGE = 2**23  # holes; together above the 100 MiB that Ray takes
# what the README's commands write, in the clone and under names of people's own
WRITTEN = (
    "pairs.parquet", "codes/train/part-000000.parquet", "codes/train/_run/vqgan/vqgan.safetensors",
    "model/best/gpt.safetensors", "model/checkpoints/step-00000001/training/state.pt", "pictures.tsv",
    "pictures.tsv.run/part-000000.parquet", "gallery.html", "samples/0.png", "report.json",
    "vqgan/best/vqgan.safetensors", "quickstart/model/best/gpt.safetensors", "photos/1.jpg",
    "my tables/今天.tsv", "x", ".cache/y", "core.1234",
)  # fmt: skip


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The files of this checkout that matter here, and what was written among them."""
    for name in TREES:
        shutil.copytree(ROOT / name, tmp_path / "clone" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".gitignore", ".rayignore", "constraints.txt", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / "clone" / name)
    for name in WRITTEN:
        path = tmp_path / "clone" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            file.truncate(LARGE)
    (tmp_path / "clone" / "mine.py").write_text("print('a script of my own')\n")
    return tmp_path / "clone"


def packed(clone: Path) -> dict[str, int]:
    """Name and size of each file that is sent, by Ray's own packing."""
    target = clone.parent / "package.zip"
    create_package(
        str(clone), target, include_gitignore=True, include_parent_dir=False,
        excludes=get_runtime_env_default_excludes(),
    )  # fmt: skip
    shutil.unpack_archive(target, clone.parent / "sent")
    sent = clone.parent / "sent"
    return {str(p.relative_to(sent)): p.stat().st_size for p in sent.rglob("*") if p.is_file()}


def test_only_what_jobs_need_is_sent(clone: Path) -> None:
    sent = packed(clone)
    assert sum(sent.values()) < 10 * 2**20, "far below Ray's 100 MiB"
    assert {name.split("/")[0] for name in sent} == {
        "jobs", "painter_core", "schemas", "constraints.txt", "mine.py"
    }  # fmt: skip
    code = {
        str(p.relative_to(ROOT))
        for tree in ("jobs", "painter_core", "schemas")
        for p in (ROOT / tree).rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    assert code <= set(sent), "the bundled VQGAN and the gallery's template too"


def test_the_readme_writes_outside_of_the_clone() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    flags = re.findall(
        r"^\s*python jobs/.*?--(?:outputs|checkpoint-dir|codes-dir|json) (\S+)", text, flags=re.MULTILINE
    )
    assert len(flags) >= 7
    assert [path for path in flags if not path.startswith("$DATA/")] == []
