"""caption.py without Ray: pictures and codes to captions, rows that cannot be captioned, runs taken up."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from painter_core.model_files.open import open_model
from painter_core.stages.caption.config import CaptionConfig
from painter_core.stages.caption.run import open_captioner
from painter_core.stages.caption.write import CaptionUnits, caption_pins
from painter_core.stages.report.run import ReportConfig, write_page
from painter_core.tables.manifest import iter_parts
from painter_core.tables.rejects import RejectLog
from painter_core.tables.unit_row import UnitRow
from tests.support.captioning import caption_table, config_of, write_captioner
from tests.support.codes_table import make_codes
from tests.support.local_run import code_of, contents, faults, killed, rows_of
from tests.support.painting import write_painter

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS = 20


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_captioner(tmp_path_factory.mktemp("caption") / "model")


@pytest.fixture(scope="module")
def rows(write_pairs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("rows") / "pairs.tsv", ROWS)


@pytest.fixture(scope="module")
def codes(rows: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_codes(rows, model, tmp_path_factory.mktemp("codes") / "codes")


@pytest.fixture(scope="module")
def greedy(rows: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    return caption_table(config_of(model, rows, tmp_path_factory.mktemp("greedy") / "out"))


def test_columns_are_those_of_the_schema(greedy: pa.Table) -> None:
    assert greedy.column_names == ["idx", "gen_text", "sample", "score", "score_per_token"]
    assert greedy["idx"].to_pylist() == [f"r{i}" for i in range(ROWS)]
    assert set(greedy["sample"].to_pylist()) == {0}
    assert all(greedy["gen_text"].to_pylist())
    assert max(greedy["score"].to_pylist()) < 0
    per_token = np.array(greedy["score"].to_pylist()) / np.array(greedy["score_per_token"].to_pylist())
    np.testing.assert_allclose(per_token, per_token.round(), atol=1e-4)


def test_pictures_and_their_codes_have_the_same_captions(
    greedy: pa.Table, codes: Path, rows: Path, model: Path, tmp_path: Path
) -> None:
    assert caption_table(config_of(model, codes, tmp_path / "codes")).equals(greedy)
    cells = [line.split("\t") for line in rows.read_text(encoding="utf-8").splitlines()]
    bare = pa.table({"idx": [c[0] for c in cells], "photo": [c[2] for c in cells]})
    pq.write_table(bare, tmp_path / "bare.parquet")
    flags = {"input_schema": "idx,photo", "second_sequence": "photo"}
    assert caption_table(config_of(model, tmp_path / "bare.parquet", tmp_path / "bare", **flags)).equals(
        greedy
    )


def test_several_captions_and_columns_of_the_input(model: Path, rows: Path, tmp_path: Path) -> None:
    flags = {
        "top_k": 30,
        "max_generated_num": 2,
        "append_cols": "text",
        "output_schema": "idx,sample,gen_text",
    }
    found = caption_table(config_of(model, rows, tmp_path / "out.tsv", **flags))
    lines = [line.split("\t") for line in (tmp_path / "out.tsv").read_text(encoding="utf-8").splitlines()]
    given = [line.split("\t") for line in rows.read_text(encoding="utf-8").splitlines()]
    assert [line[0] for line in lines] == [cells[0] for cells in given for _ in range(2)]
    assert [line[1] for line in lines] == ["0", "1"] * ROWS
    assert [line[3] for line in lines] == [cells[1] for cells in given for _ in range(2)]
    assert [line[2] for line in lines] == found["gen_text"].to_pylist()
    assert sum(a[2] != b[2] for a, b in zip(lines[::2], lines[1::2], strict=True)) > ROWS / 2
    best = caption_table(config_of(model, rows, tmp_path / "beam", beam=2, max_generated_num=2))
    scores = np.array(best["score"].to_pylist()).reshape(-1, 2)
    assert (scores[:, 0] >= scores[:, 1]).all()


def test_given_captions_are_scored(model: Path, codes: Path, tmp_path: Path) -> None:
    found = caption_table(config_of(model, codes, tmp_path / "out", score_only=True))
    assert found.column_names == ["idx", "text", "score", "score_per_token"]
    assert found["text"].to_pylist() == pa.concat_tables(iter_parts(str(codes)))["text"].to_pylist()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["table"] == "captions"
    assert manifest["identity"]["score_only"] is True
    assert "seed" not in manifest["identity"]


def test_rows_that_cannot_be_captioned_are_rejects(model: Path, rows: Path, tmp_path: Path) -> None:
    lines = rows.read_text(encoding="utf-8").splitlines(keepends=True)
    cell = lines[0].split("\t")[2]
    lines[2] = "r2\t红\tAAAA\n"
    lines[5] = "r5\t红\t\n"
    lines[7] = f"r7\t\u200d\t{cell}"
    lines[9] = f"r9\t龘\t{cell}"
    (tmp_path / "broken.tsv").write_text("".join(lines), encoding="utf-8")
    written = caption_table(config_of(model, tmp_path / "broken.tsv", tmp_path / "out", append_cols="text"))
    kept = [f"r{i}" for i in range(ROWS) if i not in (2, 5)]
    assert written["idx"].to_pylist() == kept
    scored = caption_table(config_of(model, tmp_path / "broken.tsv", tmp_path / "scored", score_only=True))
    assert scored["idx"].to_pylist() == [i for i in kept if i not in ("r7", "r9")]
    found = {
        name: {
            (r["row"], r["column"], r["reason"], r["stage"])
            for r in pq.read_table(tmp_path / name / "rejects").to_pylist()
        }
        for name in ("out", "scored")
    }
    pictures = {(3, "imgbase64", "img_unidentified", "caption"), (6, "imgbase64", "img_empty", "caption")}
    assert found["out"] == pictures
    texts = {(8, "text", "text_empty", "caption"), (10, "text", "text_all_unk", "caption")}
    assert found["scored"] == pictures | texts


def test_cells_that_a_tsv_cannot_carry_are_rejects(model: Path, rows: Path, tmp_path: Path) -> None:
    cells = [line.split("\t") for line in rows.read_text(encoding="utf-8").splitlines()][:4]
    table = {
        "idx": [c[0] for c in cells],
        "note": ["a", "b\tc", None, "d"],
        "imgbase64": [c[2] for c in cells],
    }
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")
    flags = {"append_cols": "note", "output_schema": "idx"}
    caption_table(config_of(model, tmp_path / "rows.parquet", tmp_path / "out.tsv", **flags))
    assert (tmp_path / "out.tsv").read_text().splitlines() == ["r0\ta", "r2\t", "r3\td"]
    (reject,) = pq.read_table(tmp_path / "out.tsv.run" / "rejects").to_pylist()
    assert (reject["idx"], reject["column"], reject["reason"]) == ("r1", "note", "text_control")
    whole = caption_table(config_of(model, tmp_path / "rows.parquet", tmp_path / "out.parquet", **flags))
    assert whole["note"].to_pylist() == table["note"]


def test_codes_that_are_none_are_rejects(model: Path, codes: Path, tmp_path: Path) -> None:
    config = config_of(model, codes, tmp_path / "out")
    operator = CaptionUnits(
        config=config, identity=caption_pins(open_model(str(model))), precision="fp32", micro_batch_size=4
    )
    good = np.arange(16, dtype="<u2").tobytes()
    beyond = np.full(16, 64, "<u2").tobytes()
    table = pa.table(
        {
            "file": ["f"] * 3, "row": [1, 2, 3], "byte_offset": pa.array([None] * 3, pa.int64()),
            "idx": ["a", "b", "c"], "image": [good, good[:-2], beyond],
        }
    )  # fmt: skip
    done = operator(
        UnitRow(
            unit=0, rows_in=3, table=table, rejects=RejectLog(stage="caption").table(), warnings=Counter()
        )
    )
    assert done.table["idx"].to_pylist() == ["a"]
    rejects = done.rejects.to_pylist()
    assert [(r["idx"], r["reason"], r["column"]) for r in rejects] == [
        ("b", "codes_invalid", "codes"), ("c", "codes_invalid", "codes")
    ]  # fmt: skip
    assert [r["detail"] for r in rejects] == [
        "15 codes, the model reads 16", "code 64 is outside the codebook of 64"
    ]  # fmt: skip


@pytest.mark.parametrize("fault", ["unit_computed:kill:2", "part_written:kill:2", "unit_committed:kill:1"])
def test_a_killed_run_goes_on_to_the_same_bytes(fault: str, model: Path, rows: Path, tmp_path: Path) -> None:
    flags = {"top_k": 20, "max_generated_num": 2}
    whole, broken = (config_of(model, rows, tmp_path / name, **flags) for name in ("whole", "broken"))
    caption_table(whole)
    assert len(rows_of(tmp_path / "whole")) == 2, "two units"
    assert killed(lambda: caption_table(broken), faults(tmp_path / "faults", fault))
    assert not (tmp_path / "broken" / "manifest.json").exists()
    caption_table(broken)
    assert rows_of(tmp_path / "broken") == rows_of(tmp_path / "whole")


def test_other_settings_are_another_table(model: Path, rows: Path, tmp_path: Path) -> None:
    caption_table(config_of(model, rows, tmp_path / "out"))
    before = contents(tmp_path / "out")
    for flags in ({"top_k": 5}, {"random_seed": 1}, {"beam": 2}, {"score_only": True}, {"alpha": "drop"}):
        config = config_of(model, rows, tmp_path / "out", **flags)
        assert code_of(lambda config=config: caption_table(config)) == 4, flags
    assert contents(tmp_path / "out") == before


def test_what_does_not_fit_is_refused(
    model: Path, codes: Path, rows: Path, tiny_vqgan: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    others = make_codes(rows, tiny_vqgan, tmp_path / "others")
    assert code_of(lambda: caption_table(config_of(model, others, tmp_path / "no"))) == 2
    assert "its codes were made by another VQGAN" in caplog.text
    paints = write_painter(tmp_path / "paints")
    with pytest.raises(ValueError, match=r"this model only paints; train it with .* --image-to-text 0\.5"):
        open_captioner(config_of(paints, rows, tmp_path / "out"))
    with pytest.raises(ValueError, match="--sequence-length 9: the model has 24 positions"):
        open_captioner(config_of(model, rows, tmp_path / "out", sequence_length=9))
    cases: list[tuple[dict, str]] = [
        ({"score_only": True, "top_k": 3}, "--top-k: does nothing beside --score-only"),
        (
            {"score_only": True, "max_generated_num": 2, "top_k": 2},
            "--max-generated-num: does nothing beside",
        ),
        ({"max_generated_num": 2}, "with --top-k 1 all captions of a picture are the same"),
        ({"output_schema": "idx,text"}, r"unknown columns ['text']; known are idx, gen_text"),
        ({"output_schema": "idx,idx"}, "['idx'] stands twice"),
        ({"append_cols": "score"}, "['score'] are columns of the output itself"),
        ({"random_seed": -1}, "--random-seed"),
    ]
    for flags, message in cases:
        with pytest.raises(ValueError, match=re.escape(message)):
            config_of(model, rows, tmp_path / "out", **flags)
    assert isinstance(config_of(model, codes, tmp_path / "out", append_cols="text"), CaptionConfig)


def test_the_report_page_shows_them(model: Path, rows: Path, tmp_path: Path) -> None:
    made = caption_table(config_of(model, rows, tmp_path / "out"))
    write_page(ReportConfig(run_dir=str(tmp_path / "out"), outputs=str(tmp_path / "page.html")))
    page = (tmp_path / "page.html").read_text()
    assert made["gen_text"][0].as_py() in page
    assert ">Captions: out<" in page
