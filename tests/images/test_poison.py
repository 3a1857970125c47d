"""Pictures that kill or hang their decoder (case 23, T5). Whole jobs: tests/jobs/test_poisoned_jobs.py."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from painter_core.errors import Reject
from painter_core.images.isolate import decoder
from painter_core.runs.flags import TableFlags
from painter_core.sample.pictures import sample_row
from painter_core.stages.evaluate.judging import Judging
from painter_core.stages.evaluate.prepare import PreparePictures
from painter_core.stages.precompute_codes import PrecomputeConfig
from painter_core.stages.train_vqgan.pictures import open_pictures
from painter_core.tables.columns import Columns
from painter_core.tables.unit_row import unpack
from tests.support.doubler import Doubler
from tests.support.jobs import sample_cell
from tests.support.units import unit_row

TIMEOUT_S = 1.0


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch):
    def set_rows(rows: str) -> None:
        monkeypatch.setenv("PAINTER_ENABLE_FAULTS", "1")
        monkeypatch.setenv("PAINTER_POISON", rows)

    return set_rows


def decode_all(cells: list[str | None]) -> tuple[list[object], Counter[str]]:
    """Values, or reasons, of the cells of rows 0, 1, ..."""
    found: list[object] = []
    notes: Counter[str] = Counter()
    with decoder(Doubler(), timeout_s=TIMEOUT_S, in_child=True) as decode:
        for row, cell in enumerate(cells):
            try:
                found.append(int(decode(cell, notes, row=row)[0, 0]))
            except Reject as error:
                found.append(error.reason)
    return found, notes


def test_a_child_decodes_as_the_worker_does() -> None:
    cells = ["1", None, "7", "100"]
    assert decode_all(cells) == ([2, "img_empty", 14, 200], Counter(b64_padding=3))
    with decoder(Doubler()) as decode:
        assert [int(decode(cell, Counter(), row=0)[0, 0]) for cell in cells if cell] == [2, 14, 200]


@pytest.mark.long
def test_rows_that_kill_or_hang_are_set_aside_and_the_others_come_out(poisoned) -> None:
    poisoned("1:exit,2:hang,4:exit")
    began = time.monotonic()
    found, notes = decode_all([str(i) for i in range(6)])
    assert found == [0, "worker_crash", "decode_timeout", 6, "worker_crash", 10]
    assert notes == {"b64_padding": 3}
    assert time.monotonic() - began < 30


def test_no_child_is_left_behind(poisoned) -> None:
    def children() -> list[str]:
        mine = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
        return [pid for pid in mine if b"images.isolate" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    with decoder(Doubler(), in_child=True) as decode:
        decode("1", Counter(), row=0)
        (first,) = children()
        poisoned("1:exit")  # this one's environment is older
        decode("1", Counter(), row=1)
        assert children() == [first]
    assert children() == []
    with pytest.raises(RuntimeError), decoder(Doubler(), in_child=True) as decode:
        decode("no number", Counter(), row=0)
    assert children() == []


def test_a_hang_in_the_worker_itself_is_ended(poisoned, tmp_path: Path) -> None:
    """The first attempt: the kernel ends the process, so that Ray starts the task again."""
    poisoned("0:hang")
    code = (
        "from collections import Counter\nfrom painter_core.images.isolate import decoder\n"
        "from tests.support.doubler import Doubler\n"
        "with decoder(Doubler(), timeout_s=0.2) as decode: decode('1', Counter(), row=0)"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == -signal.SIGALRM


def test_a_bug_is_no_bad_row() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)decoding row 1: .*invalid literal for int"):
        decode_all(["0", "x"])


@pytest.mark.long
def test_a_unit_is_the_same_wherever_it_is_decoded(poisoned) -> None:
    """Pixels, rejects and warnings: in the worker, in a child, and done again where a row is poison."""
    cells = [sample_cell(0), "data:;base64," + sample_cell(1), "!", sample_cell(2)[:400], sample_cell(3)]
    places = {"file": "t.tsv", "text": "红"}
    rows = [places | {"row": i, "byte_offset": i, "idx": str(i), "image": c} for i, c in enumerate(cells)]
    unit = unit_row(pa.Table.from_pylist(rows))
    decode = PrecomputeConfig(table=TableFlags(tables="", outputs="")).decoder(32)
    here = decode(unit)
    decode = dataclasses.replace(decode, in_child=True)
    assert decode(unit) == here
    assert here.warnings == {"b64_data_uri": 1}
    poisoned("1:exit")
    first, again = decode(unit), decode(unit)
    assert first == again
    assert first.rejects["reason"].to_pylist() == ["worker_crash", "b64_invalid", "img_truncated"]
    assert first.table["idx"].to_pylist() == ["0", "4"]


def test_the_cache_of_a_vqgan_training_leaves_poison_out(
    poisoned, write_pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAINTER_CACHE", str(tmp_path / "cache"))
    columns = Columns(schema=("idx", "text", "imgbase64"), image="imgbase64")
    options = {"image_size": 16, "resize": "bilinear", "alpha": "white", "max_reject_fraction": 0.5}
    table = str(write_pairs(tmp_path / "t.tsv", 20))
    poisoned("3:exit")
    pictures = np.array(open_pictures(table, columns, **options))
    monkeypatch.delenv("PAINTER_POISON")
    monkeypatch.setenv("PAINTER_CACHE", str(tmp_path / "other"))
    whole = open_pictures(table, columns, **options)
    assert (len(whole), pictures.shape) == (20, (19, 16, 16, 3))
    assert (pictures == np.delete(whole, 2, axis=0)).all()


@pytest.mark.long
def test_evaluation_leaves_poison_out(poisoned) -> None:
    captions = [sample_row(5, i, split="train").text for i in range(4)]
    places = {"file": "t.tsv", "byte_offset": 0}
    rows = [
        places | {"row": i, "idx": str(i), "text": text, "image": sample_cell(i)}
        for i, text in enumerate(captions)
    ]
    unit = unit_row(pa.Table.from_pylist(rows))
    judging = Judging(attributes=True, columns={"text": "text", "image": "gen_imgbase64"})
    prepare = partial(PreparePictures, judging=judging, keep_rejected=False)
    here, child = (prepare(in_child=child)(unit) for child in (False, True))
    assert here == child
    poisoned("2:exit")
    done = prepare(in_child=True)(unit)
    assert done.rejects["reason"].to_pylist() == ["worker_crash"]
    judged = unpack(here.payload["pictures"]).to_pylist()
    assert unpack(done.payload["pictures"]).to_pylist() == [judged[i] for i in (0, 1, 3)]
