"""A codes table as arrays of a node: what is in them, their room, and what is said of the captions."""

import json
import logging
import shutil
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest

from painter_core.stages import codes_table
from painter_core.stages.codes_table import check_captions, open_samples
from painter_core.tables.manifest import iter_parts
from painter_core.text.tokenizer import builtin_tokenizer, from_vocab
from tests.support.codes_table import make_codes

TEXT_LEN, CODEBOOK = 8, 64
KOREAN = "빨간 원피스와 파란 신발"  # four words that a Chinese vocabulary does not know
KNOWN = "红色连衣裙"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory, write_pairs) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.tsv", 64)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PAINTER_CACHE", str(tmp_path / "cache"))
    return tmp_path


def with_captions(pairs: Path, captions: list[str], vqgan: Path, outputs: Path) -> str:
    """A codes table whose captions are these, in turn."""
    lines = [line.split("\t") for line in pairs.read_text().splitlines()]
    text = "".join(f"{i}\t{captions[n % len(captions)]}\t{cell}\n" for n, (i, _, cell) in enumerate(lines))
    (outputs.parent / "pairs.tsv").write_text(text)
    return str(make_codes(outputs.parent / "pairs.tsv", vqgan, outputs))


def test_samples_are_the_rows_of_the_table(root: Path, pairs: Path, tiny_vqgan: Path) -> None:
    table = str(make_codes(pairs, tiny_vqgan, root / "codes"))
    samples = open_samples(table, builtin_tokenizer(), text_len=TEXT_LEN, codebook_size=CODEBOOK)
    rows = [row for part in iter_parts(table) for row in part.to_pylist()]
    assert samples.codes.tolist() == [row["codes"] for row in rows]
    first = builtin_tokenizer().encode([rows[0]["text"]])[0][:TEXT_LEN]
    assert samples.text_ids[0, : len(first)].tolist() == [CODEBOOK + i for i in first]


def test_counts_are_kept_with_the_arrays(
    root: Path, pairs: Path, tiny_vqgan: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = with_captions(pairs, [KOREAN, KNOWN, KNOWN * 2, KNOWN], tiny_vqgan, root / "codes")
    caplog.set_level(logging.INFO)
    for _ in range(2):  # built, then found
        caplog.clear()
        open_samples(table, builtin_tokenizer(), text_len=TEXT_LEN, codebook_size=CODEBOOK)
        # 16 captions each: of 4 words that nobody knows, of 5, of 8 that are left of 10, and of 5
        assert "64 captions, 18.2% of their tokens unknown, 25.0% of them cut at 8 tokens" in caplog.text
    (counts,) = (root / "cache").rglob("counts.json")
    assert json.loads(counts.read_text()) == {"captions": 64, "tokens": 352, "unknown": 64, "cut": 16}


def test_captions_that_nobody_knows_are_refused(root: Path, pairs: Path, tiny_vqgan: Path) -> None:
    table = with_captions(pairs, [KOREAN], tiny_vqgan, root / "codes")
    with pytest.raises(ValueError, match=r"64 captions, 100.0% of their tokens unknown(?s:.*)--vocab FILE"):
        check_captions(table, builtin_tokenizer(), text_len=TEXT_LEN)
    # a vocabulary has Hangul letter by letter, since accents are split off
    words = from_vocab("\n".join(["[PAD]", "[UNK]", *normalize("NFD", KOREAN).split()]).encode())
    check_captions(table, words, text_len=TEXT_LEN)
    assert not (root / "cache").exists(), "looking builds no cache"


def test_captions_that_are_known_in_part_are_a_line_of_the_log(
    root: Path, pairs: Path, tiny_vqgan: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = with_captions(pairs, [KOREAN, KNOWN], tiny_vqgan, root / "codes")
    caplog.set_level(logging.INFO)
    check_captions(table, builtin_tokenizer(), text_len=TEXT_LEN)
    assert "looked at 64 captions, 44.4% of their tokens unknown, 0.0% of them cut at 8 tokens" in caplog.text


def test_of_a_large_table_parts_from_everywhere_are_looked_at(
    root: Path,
    pairs: Path,
    tiny_vqgan: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    table = str(make_codes(pairs, tiny_vqgan, root / "codes"))
    parts = json.loads((Path(table) / "manifest.json").read_text())["parts"]
    assert len(parts) == 4
    monkeypatch.setattr(codes_table, "COUNTED_PARTS", 2)
    read = []
    monkeypatch.setattr(
        codes_table,
        "read_part",
        lambda path, sha, inner=codes_table.read_part: read.append(path) or inner(path, sha),
    )
    caplog.set_level(logging.INFO)
    check_captions(table, builtin_tokenizer(), text_len=TEXT_LEN)
    assert [Path(path).name for path in read] == [parts[0]["name"], parts[-1]["name"]]
    assert f"looked at {parts[0]['rows'] + parts[-1]['rows']} captions" in caplog.text


def test_no_room_for_the_arrays_is_an_error_that_names_the_cache(
    root: Path, pairs: Path, tiny_vqgan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = str(make_codes(pairs, tiny_vqgan, root / "codes"))
    usage = shutil.disk_usage(root)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(OSError, match=f"100 bytes are free|no room in the cache {root / 'cache'}") as caught:
        open_samples(table, builtin_tokenizer(), text_len=TEXT_LEN, codebook_size=CODEBOOK)
    assert "PAINTER_CACHE" in str(caught.value)
    assert list((root / "cache").iterdir()) == []


def test_an_array_takes_two_bytes_a_code(root: Path, pairs: Path, tiny_vqgan: Path) -> None:
    table = str(make_codes(pairs, tiny_vqgan, root / "codes"))
    samples = open_samples(table, builtin_tokenizer(), text_len=TEXT_LEN, codebook_size=CODEBOOK)
    assert (samples.codes.dtype, samples.text_ids.dtype) == (np.uint16, np.int32)
