"""Headers in other words, plain captions, quotes of spreadsheets, byte order marks, numbers as captions."""

import csv
import logging
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from painter_core.tables.columns import Columns
from painter_core.tables.inputs import find_files
from painter_core.tables.reader import UnitReader
from painter_core.tables.tsv import cells_of, is_quoted
from painter_core.tables.units import plan_units

PROMPTS = Columns(schema=("idx", "text"))
LINES = Columns.of_flags("text")
CSV = Columns(schema=("idx", "text"), quoting="csv")


def read(path: Path, columns: Columns = PROMPTS) -> tuple[list[tuple[str, str]], list[dict], Counter[str]]:
    """Rows, rejects and warnings of a table."""
    files = find_files(str(path))
    units = plan_units(files, columns, micro_batch_size=16, limit=None)
    rows, rejects, warnings = [], [], Counter[str]()
    for unit in UnitReader(files=files, columns=columns, stage="x", keep_rejected=False).read(units):
        table = unit.table
        rows += list(zip(table["idx"].to_pylist(), table["text"].to_pylist(), strict=True))
        rejects += unit.rejects.to_pylist()
        warnings.update(unit.warnings)
    return rows, rejects, warnings


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


BODY = "1\t红色的杯子\n2\t蓝色的鞋子\n3\t白色的裙子\n4\t黑色的包\n"


@pytest.mark.parametrize(
    "header",
    ["编号\t文本", "序号\t标题", "ID\tCaption", "id\tprompt", "key\ttext", "no.\t描述", "标题\t编号",
     "Id\tname\ttitle"],
)  # fmt: skip
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_a_header_in_other_words_is_refused(header: str, bom: str, tmp_path: Path) -> None:
    path = write(tmp_path / "t.tsv", bom + header + "\n" + BODY)
    with pytest.raises(ValueError, match=r"t\.tsv: the first line looks like a header") as caught:
        read(path)
    assert "--skip-first-line" in str(caught.value)
    if header.count("\t") == 1:
        rows, _, _ = read(path, Columns(schema=("idx", "text"), skip_first_line=True))
        assert [idx for idx, _ in rows] == ["1", "2", "3", "4"]


def test_a_header_before_pictures_names_flags_that_are_there(tmp_path: Path) -> None:
    """train_vqgan and make_gallery --originals have none for captions, nor --skip-first-line."""
    path = write(tmp_path / "t.tsv", "编号\t文本\timgbase64\n" + "1\t红\tAAAA\n" * 3)
    pictures = Columns.of_flags(
        "idx,text,imgbase64", idx_column="row", first_sequence=None, second_sequence="imgbase64"
    )
    with pytest.raises(ValueError, match="name the columns in this order with --input-schema, and") as caught:
        read(path, pictures)
    assert "--skip-first-line" not in str(caught.value)
    named = Columns.of_flags(
        "编号,文本,imgbase64", idx_column="row", first_sequence=None, second_sequence="imgbase64"
    )
    units = plan_units(find_files(str(path)), named, micro_batch_size=1, limit=None)
    assert (units[0].first_row, sum(unit.num_rows for unit in units)) == (2, 3)


def test_a_header_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "t.tsv", "编号\t文本\n" + BODY)
    columns = Columns.of_flags("编号:str:1,文本:str:1", idx_column="编号", first_sequence="文本")
    assert read(path, columns)[0][0] == ("1", "红色的杯子")


def test_a_first_key_of_its_own_kind_is_asked_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows, _, _ = read(write(tmp_path / "t.tsv", "货号\t叫什么\n" + BODY))
    assert len(rows) == 5
    assert "t.tsv: is the first line ['货号', '叫什么'] a header? It is read as a row" in caplog.text
    caplog.clear()
    for body in (BODY, "杯子\t红\n鞋子\t蓝\n裙子\t白\n包\t黑\n", "a\tx\n1\tx\n"):
        read(write(tmp_path / "t.tsv", body))
    assert "header" not in caplog.text


def test_plain_captions_one_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "p.txt", "红色的杯子\n蓝色, 的鞋子\n\n[白色]的裙子\n")
    expected = r"p\.txt: 1 columns .* one caption a line is read with --input-schema text"
    with pytest.raises(ValueError, match=expected):
        read(path)
    rows, rejects, warnings = read(path, LINES)
    assert rows == [("1", "红色的杯子"), ("2", "蓝色, 的鞋子"), ("4", "[白色]的裙子")]
    assert (rejects, warnings) == ([], {"blank_line": 1})
    rows, rejects, _ = read(write(path, "红\n蓝\t色\n \n"), LINES)
    assert rows == [("1", "红")]
    assert [(r["row"], r["idx"], r["reason"]) for r in rejects] == [
        (2, "2", "bad_columns"), (3, "3", "text_empty")
    ]  # fmt: skip
    path.write_bytes("红\n".encode() + b"\xff\n")
    assert [(r["row"], r["idx"], r["reason"]) for r in read(path, LINES)[1]] == [(2, "2", "text_encoding")]
    caplog.set_level(logging.INFO)
    assert read(write(path, "text\n红\n"), LINES)[0] == [("2", "红")]
    read(write(path, "提示词\n红\n"), LINES)
    assert "is the first line ['提示词'] a header?" in caplog.text


def test_row_numbers_of_a_parquet_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"caption": [f"词{i}" for i in range(40)]}), tmp_path / "t.parquet", 7)
    columns = Columns.of_flags("idx,text", idx_column="row", first_sequence="caption")
    rows, _, _ = read(tmp_path / "t.parquet", columns)
    assert rows == [(str(i + 1), f"词{i}") for i in range(40)]


QUOTED = [("1", '经典"小白鞋"女款'), ("2", "红色"), ("3", '"'), ("4", 'a\tb "c"'), ("5", '"两端"')]


def test_quotes_of_a_spreadsheet_are_counted_or_read(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t", lineterminator="\r\n").writerows(QUOTED)
    rows, rejects, warnings = read(path)
    assert rows[0] == ("1", '"经典""小白鞋""女款"')
    assert warnings["text_quoted"] == 3
    assert [r["reason"] for r in rejects] == ["bad_columns"]
    rows, rejects, warnings = read(path, CSV)
    assert (rows, rejects) == (QUOTED, [])
    assert not warnings["text_quoted"]


def test_quotes_that_do_not_close_are_rejected(tmp_path: Path) -> None:
    path = write(tmp_path / "t.tsv", '1\t红\n2\t"one\nline"\n3\t"a"b\n4\t蓝\n')
    rows, rejects, _ = read(path, CSV)
    assert rows == [("1", "红"), ("4", "蓝")]
    assert [(r["row"], r["reason"]) for r in rejects] == [
        (2, "bad_columns"), (3, "bad_columns"), (4, "bad_columns")
    ]  # fmt: skip
    assert "quotes that do not close on their line" in rejects[0]["detail"]


def test_a_quoted_header(tmp_path: Path) -> None:
    assert read(write(tmp_path / "t.tsv", '"idx"\t"text"\n"1"\t"红"\n'), CSV)[0] == [("1", "红")]


@pytest.mark.parametrize("text", ['"a ""b"" c"', '"a"" b"', '"""both"""'])
def test_doubled_quotes(text: str) -> None:
    assert is_quoted(text)
    assert cells_of(f"x\t{text}", "csv") == ["x", text[1:-1].replace('""', '"')]


@pytest.mark.parametrize("text", ["", '"', '""', '"both"', '"a" "b"', 'a ""b""', '"open', '5" and 7"'])
def test_other_quotes(text: str) -> None:
    assert not is_quoted(text)


def test_numbers_as_captions_are_counted(tmp_path: Path) -> None:
    pq.write_table(pa.table({"idx": ["a", "b", "c"], "text": [0, 1, None]}), tmp_path / "t.parquet")
    rows, _, warnings = read(tmp_path / "t.parquet")
    assert rows == [("a", "0"), ("b", "1")]
    assert warnings == {"text_number": 2}
    assert not read(write(tmp_path / "t.tsv", "1\t2 个杯子\n2\t杯子 2\n"))[2]


def test_byte_order_marks(tmp_path: Path) -> None:
    """One at the start is none of the text's; others came from `cat a.tsv b.tsv`."""
    path = write(tmp_path / "t.tsv", "\ufeff1\t红\n2\t蓝\n\ufeff3\t白\n")
    rows, _, warnings = read(path)
    assert [idx for idx, _ in rows] == ["1", "2", "\ufeff3"]
    assert warnings == {"idx_invisible": 1}


def test_an_empty_parquet_table(tmp_path: Path) -> None:
    empty = pa.table({"idx": pa.array([], pa.string()), "text": pa.array([], pa.string())})
    pq.write_table(empty, tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet") == ([], [], {})
    pq.write_table(pa.table({"idx": ["1"], "text": ["红"]}), tmp_path / "u.parquet")
    assert read(tmp_path)[0] == [("1", "红")]
    write(tmp_path / "v.tsv", "idx\ttext\n")
    assert read(tmp_path)[0] == [("1", "红")]
