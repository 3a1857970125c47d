"""What a file is that is named as a table and is none, by its first bytes."""

import json
import re
from collections import Counter

_UNPACK = "unpack it"
_TABLE = (
    "; write it as Parquet: `import pyarrow.parquet as p, {module} as m; p.write_table({call}, 'x.parquet')`"
)

# the bytes that a text in UTF-8 cannot begin with, or that are long enough to be no accident
_MAGIC = {
    b"\x93NUMPY": "a NumPy array: codes and pictures are read from Parquet only",
    b"PAR1\x15": "a Parquet file: name it .parquet",
    b"\x1f\x8b": "compressed by gzip: name it .tsv.gz",
    b"PK\x03\x04": "a zip archive or an .xlsx file: save it as UTF-8 text with tabs",
    b"\xd0\xcf\x11\xe0": "an .xls file: save it as UTF-8 text with tabs",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: " + _UNPACK,
    b"BZh91AY&SY": "compressed by bzip2: " + _UNPACK,
    b"\xfd7zXZ\0": "compressed by xz: " + _UNPACK,
    b"7z\xbc\xaf": "a 7z archive: " + _UNPACK,
    b"Rar!\x1a\x07": "a RAR archive: " + _UNPACK,
    b"\xff\xfe": "UTF-16: convert it, iconv -f utf-16 -t utf-8",
    b"\xfe\xff": "UTF-16: convert it, iconv -f utf-16 -t utf-8",
    b"ARROW1\0\0": "an Arrow IPC or Feather file"
    + _TABLE.format(module="pyarrow.feather", call="m.read_table(FILE)"),
    b"FEA1\0": "a Feather file" + _TABLE.format(module="pyarrow.feather", call="m.read_table(FILE)"),
    b"\xff\xff\xff\xff": "an Arrow stream"
    + _TABLE.format(module="pyarrow", call="m.ipc.open_stream(FILE).read_all()"),
    b"Obj\x01": "an Avro file: write its rows as Parquet",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file: write its rows as Parquet",
    b"SQLite format 3\0": "an SQLite data base: write its rows as Parquet",
    b"\xff\xd8\xff": "a picture: jobs/make_table.py makes a table of pictures",
    b"\x89PNG\r\n": "a picture: jobs/make_table.py makes a table of pictures",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself: run `git lfs pull` where it lies",
    b"/annex/objects/": "a git-annex pointer, not the file itself: run `git annex get` where it lies",
}
_ORC = re.compile(rb"ORC.{0,12}[\x00-\x08\x0e-\x1a\x1c-\x1f]", re.DOTALL)
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_WEB_PAGE = re.compile(rb"\s*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_XML = re.compile(rb"\s*<(?:\?xml|error>)", re.IGNORECASE)
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\x1b"))


def foreign_content(head: bytes) -> str:
    """What a file is, and what to do, if it begins as no TSV in UTF-8 does; empty if it may be one.

    Args:
        head: its first bytes, of a .gz unpacked; 512 are enough but for JSON lines.
    """
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            return what
    if head[257:262] == b"ustar":
        return (
            "a tar archive: jobs/make_table.py --source makes a table of a WebDataset tar; unpack any other, "
            "and --pictures FOLDER makes one of pictures with captions beside them"
        )
    if _ORC.match(head):
        return "an ORC file" + _TABLE.format(module="pyarrow.orc", call="m.read_table(FILE)")
    if _PICKLE.match(head):
        return "a pickle: write its rows as Parquet"
    text = head.removeprefix(b"\xef\xbb\xbf")
    if _WEB_PAGE.match(text):
        return "a web page: the download needs a login, or its address is that of a page"
    if _XML.match(text):
        return "XML, perhaps an error message of an object store: download it again"
    return _json(text)


def _json(text: bytes) -> str:
    line, ended, _ = text.lstrip().partition(b"\n")
    if not line.startswith((b"{", b"[")):
        return ""
    lines = (
        "JSON lines: jobs/make_table.py --source makes a table of captions and pictures of it, or"
        + _TABLE.format(module="pyarrow.json", call="m.read_json(FILE)").lstrip(";")
    )
    if line.strip() in (b"{", b"[", b"[{"):
        return "a JSON document: write its rows as Parquet"
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        # a line that goes on after `head`; a caption may begin with a bracket, but hardly so
        return lines if not ended and re.match(rb'\{\s*"[^"\t]*"\s*:', line) else ""
    return lines


def is_binary(head: bytes) -> bool:
    """Whether bytes are no text in any encoding: one of fifty is a control character."""
    return len(head) - len(head.translate(None, _CONTROL)) > len(head) // 50


def separated_by(lines: list[bytes]) -> str:
    """The character that cuts lines without tabs into equally many cells, two at least; empty if none."""
    if any(b"\t" in line for line in lines):
        return ""
    for separator in (b",", b";", b"|"):
        count, times = Counter(line.count(separator) for line in lines).most_common(1)[0]
        if count and times > len(lines) // 2:
            return separator.decode()
    return ""
