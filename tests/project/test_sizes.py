"""CONTRIBUTING.md's limit for files: one that grows beyond it holds two subjects."""

from tests.support.jobs import ROOT

MOST_LINES = 300
FOLDERS = ("benchmarks", "cluster", "jobs", "painter_core", "schemas", "tests")


def test_files_are_short() -> None:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 150
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {str(path.relative_to(ROOT)): n for path, n in lines.items() if n > MOST_LINES} == {}
