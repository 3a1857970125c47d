"""The pictures of a VQGAN's training as one array of a node."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from painter_core.errors import Stop
from painter_core.stages.train_vqgan.pictures import open_pictures
from painter_core.tables.columns import Columns

SIDE = 16
COLUMNS = Columns(schema=("idx", "text", "imgbase64"), image="imgbase64")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PAINTER_CACHE", str(tmp_path / "cache"))
    return tmp_path


def pictures_of(table: Path, most_rejected: float = 0.5) -> np.ndarray:
    return open_pictures(
        str(table),
        COLUMNS,
        image_size=SIDE,
        resize="bilinear",
        alpha="white",
        max_reject_fraction=most_rejected,
    )


def test_rejected_rows_shorten_the_array_in_its_place(
    root: Path, write_pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = np.array(pictures_of(write_pairs(root / "whole.tsv", 20)))
    lines = (root / "whole.tsv").read_text().splitlines()
    lines[7] = "r7\t红\t!!"
    lines[12] = "\t\t"
    (root / "table.tsv").write_text("\n".join(lines) + "\n\n")
    monkeypatch.setattr(np, "save", lambda *args: pytest.fail("the whole array was copied"))
    found = pictures_of(root / "table.tsv")
    assert (found == np.delete(whole, [7, 12], axis=0)).all()
    directories = {p.parent for p in (root / "cache").rglob("counts.json")}
    assert len(directories) == 2
    for directory in directories:
        assert {p.name for p in directory.iterdir()} == {"counts.json", "pictures.npy"}
        counts = json.loads((directory / "counts.json").read_text())
        kept = counts["rows_in"] - sum(counts["rejected"].values())
        size = (directory / "pictures.npy").stat().st_size
        assert size - kept * SIDE * SIDE * 3 == 128, "a header, and the pictures that are kept"


def test_a_table_of_which_no_picture_can_be_used(root: Path) -> None:
    (root / "table.tsv").write_text("r7\t红\t!!\n")
    with pytest.raises(Stop, match="1 of 1 rows cannot be used") as caught:
        pictures_of(root / "table.tsv", 1.0)
    assert caught.value.code == 3


def test_no_room_is_an_error_that_names_the_cache(
    root: Path, write_pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = write_pairs(root / "table.tsv", 20)
    usage = shutil.disk_usage(root)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=20 * SIDE * SIDE * 3))
    with pytest.raises(OSError, match=r"no room in the cache .*PAINTER_CACHE"):
        pictures_of(table)
    assert os.listdir(root / "cache") == []
