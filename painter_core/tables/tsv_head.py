"""The first lines of a TSV: where its rows begin, and whether they have the right columns and encoding.

What is not is refused here, before any work.
"""

import logging

from painter_core.files.storage import redact
from painter_core.tables.columns import ROW_NUMBER, Columns
from painter_core.tables.encoding import after_mark
from painter_core.tables.inputs import InputFile
from painter_core.tables.magic import foreign_content, separated_by
from painter_core.tables.tsv import cells_of
from painter_core.text.escape import visible

log = logging.getLogger(__name__)

_HEAD_BYTES = 2**20
_LINES = 100  # of a file that are compared with its columns
# what others call idx and text in the first line of a table
_KEY_NAMES = (
    "id idx index no no. nr num number key uid uuid sku item item_id sample_id image_id img_id goods_id id号 "
    "编号 序号 号码 索引 行号 主键 商品 商品id 图片id 商品编号 图片编号"
)
_CAPTION_NAMES = (
    "text texts caption captions prompt prompts title titles description sentence query desc "
    "文本 标题 描述 文字 文案 内容 提示词 说明 商品标题 商品描述 图片描述 句子 名称 商品名称"
)
_KEYS, _CAPTIONS = frozenset(_KEY_NAMES.split()), frozenset(_CAPTION_NAMES.split())


def tsv_start(file: InputFile, head: bytes, columns: Columns) -> tuple[int, int]:
    """Where the rows of a TSV begin: byte offset and physical line, after a byte order mark and a header.

    With --skip-first-line the first line is passed over, whatever it holds.

    Args:
        head: the first bytes of the (decompressed) file, at least 1 MiB of it or all.

    Raises:
        ValueError: it is no TSV in this encoding with these columns.
    """
    if missing := [name for name in columns.read if name not in columns.schema]:
        raise ValueError(
            f"{redact(file.path)}: columns {missing} are to be read, but --input-schema has "
            f"{list(columns.schema)}"
        )
    refuse_foreign(file, head[:_HEAD_BYTES])
    start = after_mark(file.path, head[:_HEAD_BYTES], columns.encoding)
    if columns.skip_first_line:
        start, first_row = _after_first_line(file, head, start), 2
    else:
        start, first_row = _after_header(file, head, start, columns)
    _check_columns(file, _lines(head[:_HEAD_BYTES], start), columns)
    return start, first_row


def refuse_foreign(file: InputFile, head: bytes) -> None:
    """Raises ValueError if a file is known to be something else than a TSV."""
    if what := foreign_content(head):
        raise ValueError(f"{redact(file.path)}: this is {what}")


def _after_header(file: InputFile, head: bytes, start: int, columns: Columns) -> tuple[int, int]:
    line, _, rest = head[start:_HEAD_BYTES].partition(b"\n")
    cells = _cells(line, columns)
    if tuple(cells) == columns.schema:
        log.info("%s: the first line is a header", redact(file.path))
        return min(start + len(line) + 1, len(head)), 2
    found = dict(zip(columns.schema, cells, strict=False))  # a header may have another number of columns
    same = set(cells) == set(columns.schema) or (columns.idx and found.get(columns.idx) == columns.idx)
    words = {cell.strip().lower() for cell in cells}
    if same or (len(cells) > 1 and words & _KEYS and words & _CAPTIONS):
        # jobs that read pictures alone have no flags for idx, caption and the first line
        advice = (
            ", and the ones to be read with --idx-column and --first-sequence, or pass over the line with "
            "--skip-first-line"
            if columns.text
            else ", and that of the pictures with --second-sequence"
        )
        raise ValueError(
            f"{redact(file.path)}: the first line looks like a header, found {_shown(cells)}, expected "
            f"{list(columns.schema)}; name the columns in this order with --input-schema{advice}"
        )
    key = found.get(columns.idx or "", "")
    keys = [dict(zip(columns.schema, _cells(other, columns), strict=False)) for other in _lines(rest, 0)]
    others = [row.get(columns.idx or "", "") for row in keys]
    only_one = key and not _has_digit(key) and len(others) > 2 and all(map(_has_digit, others))
    if only_one or (len(cells) == 1 and words & _CAPTIONS):
        log.warning(
            "%s: is the first line %s a header? It is read as a row; --skip-first-line passes over it",
            redact(file.path),
            _shown(cells),
        )
    return start, 1


def _shown(cells: list[str]) -> list[str]:
    return [visible(cell[:40]) for cell in cells[:20]]


def _has_digit(cell: str) -> bool:
    return any(character.isdigit() for character in cell)


def _cells(line: bytes, columns: Columns) -> list[str]:
    text = line.removesuffix(b"\r").decode(columns.encoding, "replace")
    try:
        return cells_of(text, columns.quoting)
    except ValueError:
        return []


def _lines(head: bytes, start: int) -> list[bytes]:
    """The first lines that are not blank; without the last one, which may be cut."""
    lines = head[start:].split(b"\n", 2 * _LINES)
    return [line for line in lines[:-1] if line.strip(b"\r")][:_LINES]


def _check_columns(file: InputFile, lines: list[bytes], columns: Columns) -> None:
    """Refuses a file none of whose first lines has the columns; a few such rows become rejects later."""
    expected = len(columns.schema)
    cells = [_cells(line, columns) for line in lines]
    if len(lines) < 2 or any(len(found) == expected for found in cells):
        return
    found = len(cells[0])
    if separator := separated_by(lines):
        advice = (
            f"its columns seem to be separated by {separator!r}: separate them with tabs; of a CSV with a "
            "header jobs/make_table.py --source makes a table"
        )
    elif found == 1:
        advice = f"one caption a line is read with --input-schema text, then idx is the {ROW_NUMBER} number"
    else:
        advice = "name the columns, in order, with --input-schema"
    raise ValueError(
        f"{redact(file.path)}: {found} columns in the first row, expected {expected} "
        f"({', '.join(columns.schema)}), and in none of the first {len(lines)} rows as many; {advice}. If it "
        "is no table, name the tables without it"
    )


def _after_first_line(file: InputFile, head: bytes, start: int) -> int:
    end = head.find(b"\n", start)
    if end < 0:
        raise ValueError(
            f"{redact(file.path)}: no line end in the first {len(head):,} bytes, so --skip-first-line leaves "
            "nothing"
        )
    return end + 1
