"""Galleries of finished tables: which rows, which pictures and scores beside them, and how little is read."""

import base64
import json
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from painter_core.sample.pictures import sample_row
from painter_core.stages.make_gallery.entries import GalleryConfig, write_page
from tests.support.jobs import ROWS, Jobs, sample_cell

PROMPTS, SAMPLES = 5, 2
DATA = re.compile(r'src="data:image/\w+;base64,([^"]*)"')


def page_of(directory: Path, **flags: object) -> str:
    path = directory / "page.html"
    write_page(GalleryConfig(**{"outputs": str(path), "overwrite": True} | flags))  # type: ignore[arg-type]
    return path.read_text(encoding="utf-8")


def facts(page: str, name: str) -> list[str]:
    return re.findall(rf"<dt>{name}</dt><dd>(.*?)</dd>", page)


@pytest.fixture(scope="module")
def scored(jobs: Jobs, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pictures/ of the sample's captions, and their scores/."""
    folder = tmp_path_factory.mktemp("scored")
    lines = (f"p{i}\t{sample_row(5, i, split='held_out').text}\n" for i in range(PROMPTS))
    (folder / "prompts.tsv").write_text("".join(lines), encoding="utf-8")
    flags = ("--checkpoint-dir", model, "--max-generated-num", SAMPLES, "--random-seed", 9)
    jobs.run("generate", "--tables", folder / "prompts.tsv", "--outputs", folder / "pictures", *flags)
    flags = ("--outputs", folder / "scores", "--attributes")
    jobs.run("evaluate", "--tables", folder / "pictures", *flags)
    return folder


def test_output_table_with_its_scores(scored: Path, tmp_path: Path) -> None:
    page = page_of(tmp_path, tables=str(scored / "pictures"), scores=str(scored / "scores"))
    assert facts(page, "idx") == [f"p{i}" for i in range(PROMPTS) for _ in range(SAMPLES)]
    assert facts(page, "sample") == [str(k) for _ in range(PROMPTS) for k in range(SAMPLES)]
    assert facts(page, "seed") == ["9"] * PROMPTS * SAMPLES
    assert all(sample_row(5, i, split="held_out").text in page for i in range(PROMPTS))
    right = [int(score.removesuffix("/5")) for score in facts(page, "score")]
    found = json.loads((scored / "scores" / "score.json").read_text())
    assert found["num_pictures"] == len(right) == PROMPTS * SAMPLES
    assert sum(right) / 5 / len(right) == pytest.approx(found["single"])
    assert not facts(page_of(tmp_path, tables=str(scored / "pictures")), "score")


def test_codes_table_beside_its_originals(codes: Path, pairs: Path, tmp_path: Path) -> None:
    page = page_of(tmp_path, tables=str(codes), originals=str(pairs), max_entries=20, random_seed=3)
    assert f"20 of {ROWS} shown, sampled with seed 3" in page
    rows = [int(idx.removeprefix("r")) for idx in facts(page, "idx")]
    assert rows == sorted(rows)
    assert rows[-1] > ROWS / 2
    pictures = DATA.findall(page)
    assert pictures[::2] == [sample_cell(row % 40) for row in rows], "each beside its own original"
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures[1::2])


def test_only_what_is_shown_is_read(codes: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(codes, tmp_path / "codes"))
    whole = page_of(tmp_path, tables=str(copy), max_entries=1)
    (idx,) = facts(whole, "idx")
    parts = sorted(copy.glob("part-*.parquet"))
    needless = [part for part in parts if idx not in pq.read_table(part).column("idx").to_pylist()]
    assert len(needless) == len(parts) - 1 > 0
    for part in needless:
        part.unlink()
    assert page_of(tmp_path, tables=str(copy), max_entries=1) == whole


def test_an_idx_of_several_originals_has_none(codes: Path, pairs: Path, tmp_path: Path) -> None:
    lines = pairs.read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "pairs.tsv").write_text("".join([*lines[:30], lines[7]]), encoding="utf-8")
    page = page_of(tmp_path, tables=str(codes), originals=str(tmp_path / "pairs.tsv"))
    assert page.count(">original<") == 29


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"max_entries": 501}, "--max-entries: got 501, expected 1 to 500"),
        ({"scores": "x"}, "--scores goes with an output table"),
        ({"originals": "nowhere.tsv"}, "nowhere.tsv"),
    ],
)
def test_flags_that_do_not_fit(codes: Path, tmp_path: Path, flags: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        page_of(tmp_path, tables=str(codes), **flags)
