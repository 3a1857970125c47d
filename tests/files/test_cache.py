"""The machine's cache: an entry is whole or absent, and the first builder's work is kept."""

from pathlib import Path

import pytest

from painter_core.files.cache import build_once


def test_work_of_the_second_builder_is_thrown_away(cache: Path) -> None:
    def second(directory: Path) -> None:
        (directory / "file").write_text("second")
        build_once("name", lambda first: (first / "file").write_text("first"))

    assert (build_once("name", second) / "file").read_text() == "first"
    assert [p.name for p in cache.iterdir()] == ["name"]
    with pytest.raises(ValueError, match="broken"):
        build_once("other", broken)
    assert [p.name for p in cache.iterdir()] == ["name"]


def broken(directory: Path) -> None:
    raise ValueError("broken")
