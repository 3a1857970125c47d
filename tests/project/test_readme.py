"""What the documents name is there: make targets, links, paths, tests."""

import re
import subprocess

import pytest

from tests.support.jobs import ROOT

DOCUMENTS = {p.name: p.read_text(encoding="utf-8") for p in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))}
HISTORY = "CHANGELOG.md"  # it may name what is gone
NOW = {name: text for name, text in DOCUMENTS.items() if name != HISTORY}
FOLDERS = "benchmarks|cluster|docs|jobs|painter_core|schemas|tests"
ROOMS = "|".join(path.name for path in (ROOT / "painter_core").iterdir() if path.is_dir())
TARGETS = sorted(
    {t for text in NOW.values() for t in re.findall(r"(?:^|`)make ([a-z0-9-]+)", text, re.MULTILINE)}
)


def names_of_tests(pattern: str) -> set[str]:
    """The tests in all files of tests/ whose names match."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob(pattern)]
    return {name for text in texts for name in re.findall(r"def (test_\w+)", text)}


@pytest.mark.parametrize("target", TARGETS)
def test_make_targets_exist(target: str) -> None:
    command = ["make", "--dry-run", target]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    files = re.findall(rf"\b(?:{FOLDERS})/[\w./]+", done.stdout)
    assert [file for file in files if not (ROOT / file).exists()] == []


@pytest.mark.parametrize("name", NOW)
def test_links_and_paths_exist(name: str) -> None:
    folder = ROOT if (ROOT / name).exists() else ROOT / "docs"
    links = re.findall(r"\]\((?!https?:)([^)#]+)", NOW[name])
    assert [link for link in links if not (folder / link).exists()] == []
    paths = re.findall(rf"`((?:{FOLDERS})/[\w./*-]*)`", NOW[name])
    paths += [f"painter_core/{path}" for path in re.findall(rf"`((?:{ROOMS})/[\w./*-]*)`", NOW[name])]
    assert [path for path in paths if not list(ROOT.glob(path)) and "NAME" not in path] == []


def test_tests_named_by_the_docs_exist() -> None:
    named = re.findall(r"(test_\w+\*?\.py)(?: -k (\"[^\"]+\"|\w+))?", "\n".join(NOW.values()))
    assert len(named) > 20
    for pattern, words in named:
        found = names_of_tests(pattern)
        assert found, pattern
        for word in words.strip('"').split(" or "):
            assert any(word in name for name in found), f"{pattern} -k {word}"
