"""TSVs in GB18030: read with --encoding, and known for what they are without it."""

import base64
import dataclasses
import gzip
import io
import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from painter_core.runs.flags import PairFlags, PromptFlags
from painter_core.stages.inspect_table.config import InspectConfig
from painter_core.stages.inspect_table.report import inspect
from painter_core.tables.columns import Columns, Encoding
from painter_core.tables.inputs import find_files
from painter_core.tables.reader import UnitReader
from painter_core.tables.units import plan_units
from tests.support.local_run import code_of, run_here
from tests.support.training import train_here, vqgan_config

ROWS = 200
# 丂 is 81 40 in GBK, 镕 is not in GB2312, 㐂 has four bytes; | \ ~ and ` are second bytes of others
WORDS = ("红色的连衣裙", "丂乗剎", "朱镕基", "㐂字", "嶾髚", "(全棉)T恤")


def caption(number: int) -> str:
    return f"{WORDS[number % len(WORDS)]} {number}"


def write(path: Path, encoding: str, broken: int = 0) -> Path:
    """Rows of which the first ones end inside a character."""
    cell = base64.b64encode(b"picture").decode()
    lines = [f"{n}\t{caption(n)}\t{cell}\n".encode(encoding) for n in range(ROWS)]
    for n in range(0, broken * 7, 7):
        lines[n] = lines[n].replace(f"{n}\t{cell}".encode(), b"\x81\t" + cell.encode())
    data = b"".join(lines)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read(path: Path, encoding: Encoding = "utf-8", **flags: object) -> tuple[list[str], list[dict]]:
    """Captions and rejects."""
    columns = Columns(schema=("idx", "text", "imgbase64"), image="imgbase64", encoding=encoding, **flags)
    files = find_files(str(path))
    units = plan_units(files, columns, micro_batch_size=16, limit=None)
    found = list(UnitReader(files=files, columns=columns, stage="x", keep_rejected=False).read(units))
    texts = [text for unit in found for text in unit.table["text"].to_pylist()]
    return texts, [line for unit in found for line in unit.rejects.to_pylist()]


@pytest.mark.parametrize("name", ["t.tsv", "t.tsv.gz"])
def test_rows_are_those_of_utf8(name: str, tmp_path: Path) -> None:
    texts, rejects = read(write(tmp_path / name, "gb18030"), "gb18030")
    assert texts == [caption(n) for n in range(ROWS)]
    assert rejects == []
    assert read(write(tmp_path / ("u" + name), "utf-8"))[0] == texts


def test_broken_rows_are_set_aside(tmp_path: Path) -> None:
    texts, rejects = read(write(tmp_path / "t.tsv", "gb18030", broken=10), "gb18030")
    assert len(texts) == ROWS - 10
    assert Counter(line["reason"] for line in rejects) == {"text_encoding": 10}
    assert [line["row"] for line in rejects] == list(range(1, 71, 7))
    assert {line["column"] for line in rejects} == {"text"}


def test_gbk_and_gb2312_are_read_too(tmp_path: Path) -> None:
    for encoding in ("gbk", "gb2312"):
        (tmp_path / "t.tsv").write_bytes("1\t红色\tYQ==\n2\t蓝色\tYQ==\n".encode(encoding))
        assert read(tmp_path / "t.tsv", "gb18030")[0] == ["红色", "蓝色"]


def test_header_mark_and_quotes(tmp_path: Path) -> None:
    text = '\ufeffidx\ttext\timgbase64\r\n1\t"大""红"""\tYQ==\r\n'
    (tmp_path / "t.tsv").write_bytes(text.encode("gb18030"))
    assert read(tmp_path / "t.tsv", "gb18030", quoting="csv")[0] == ['大"红"']
    (tmp_path / "h.tsv").write_bytes("编号\t文本\t图\n1\t红\tYQ==\n".encode("gb18030"))
    with pytest.raises(ValueError, match=r"looks like a header, found \['编号', '文本'"):
        read(tmp_path / "h.tsv", "gb18030")


def test_without_the_flag_it_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "t.tsv", "gb18030")
    with pytest.raises(ValueError, match=r"t\.tsv: not UTF-8 .*--encoding gb18030: .*'0 红色的连衣裙 0 "):
        read(path)
    for other in ("euc-jp", "cp1251"):
        line = {"euc-jp": "1\tひらがなカタカナ\tYQ==\n", "cp1251": "1\tкрасное платье\tYQ==\n"}[other]
        path.write_bytes(line.encode(other) * 20)
        with pytest.raises(ValueError, match="convert it with iconv"):
            read(path)


def test_utf8_is_not_read_as_something_else(tmp_path: Path) -> None:
    """Its bytes often are GB18030 too, of other characters."""
    assert "红色的杯子".encode().decode("gb18030", "replace") == "绾㈣壊鐨勬澂瀛�"
    with pytest.raises(ValueError, match=r"this is UTF-8: leave out --encoding gb18030"):
        read(write(tmp_path / "t.tsv", "utf-8"), "gb18030")
    (tmp_path / "ascii.tsv").write_bytes(b"1\ta red cup\tYQ==\n")
    assert read(tmp_path / "ascii.tsv", "gb18030")[0] == ["a red cup"]


def test_it_is_part_of_a_run(tmp_path: Path) -> None:
    """A run that was begun in one encoding is refused in another; without the flag plans are as before."""
    lines = [f"{n}\t{caption(n)}\n" for n in range(20)]
    (tmp_path / "t.tsv").write_bytes("".join(lines).encode("gb18030"))
    out = tmp_path / "out"
    assert run_here(tmp_path / "t.tsv", out, encoding="gb18030") == 16
    assert '"encoding": "gb18030"' in (out / "_run" / "plan.json").read_text()
    assert code_of(lambda: run_here(tmp_path / "t.tsv", out)) == 2
    (tmp_path / "u.tsv").write_text("".join(lines), encoding="utf-8")
    run_here(tmp_path / "u.tsv", tmp_path / "plain")
    assert "encoding" not in (tmp_path / "plain" / "_run" / "plan.json").read_text()


def test_inspect_table_reads_it(tmp_path: Path) -> None:
    path = write(tmp_path / "t.tsv", "gb18030")
    report = inspect(InspectConfig(tables=str(path), encoding="gb18030", max_pictures=0))
    assert (report.num_rows, report.rows_read, report.rejects) == (ROWS, ROWS, {})
    assert report.samples[0].text == caption(12)


def test_the_jobs_have_the_flag(tmp_path: Path) -> None:
    for flags in (PromptFlags(encoding="gb18030"), PairFlags(encoding="gb18030")):
        assert flags.columns().encoding == "gb18030"
    out = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(out, "PNG")
    line = f"1\t红色的杯子\t{base64.b64encode(out.getvalue()).decode()}\n"
    (tmp_path / "t.tsv").write_bytes(line.encode("gb18030") * 20)
    config = vqgan_config(tmp_path / "t.tsv", tmp_path / "vqgan")
    with pytest.raises(SystemExit, match="2"):
        train_here(config)
    train_here(dataclasses.replace(config, encoding="gb18030"))
    plan = json.loads((tmp_path / "vqgan" / "_run" / "plan.json").read_text())
    assert plan["identity"]["encoding"] == "gb18030"
