"""Which columns: `--input-schema`, appended ones, types of Parquet columns, their cells."""

import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from painter_core.tables.columns import Columns, parse_input_schema
from painter_core.tables.inputs import InputFile, find_files
from painter_core.tables.parquet import column_cells, parquet_columns, plain_kind
from painter_core.tables.unit_row import pack_schema, unpack_schema
from painter_core.tables.units import plan_units

PAIRS = Columns(schema=("idx", "text", "imgbase64"), image="imgbase64")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("idx:str:1,text:str:1,imgbase64:str:1", ("idx", "text", "imgbase64")),
        ("idx:int:1, text:str:1 ,score:float:1", ("idx", "text", "score")),
        ("idx,text", ("idx", "text")),
        ("序号:str:1,标题:str:1", ("序号", "标题")),
    ],
)
def test_input_schema(text: str, expected: tuple[str, ...]) -> None:
    assert parse_input_schema(text) == expected


@pytest.mark.parametrize(
    "text", ["", "idx:str", "idx:bytes:1", ":str:1", "idx,", "a:str:1,a:str:1", "a:str:1:2"]
)
def test_input_schema_errors(text: str) -> None:
    with pytest.raises(ValueError, match="--input-schema"):
        parse_input_schema(text)


@pytest.mark.parametrize("extra", [("row",), ("file",), ("image",), ("text",)])
def test_appended_columns_do_not_hide_ours(extra: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="--append-cols"):
        Columns(schema=("idx", "caption"), text="caption", image="imgbase64", extra=extra)


def test_appended_columns_may_be_read_ones() -> None:
    columns = Columns(schema=("idx", "caption", "price"), text="caption", extra=("price", "caption"))
    assert columns.read == ("idx", "caption", "price")
    assert columns.named == {"idx": "idx", "text": "caption", "price": "price", "caption": "caption"}


FILE = InputFile(path="/d/t.parquet", kind="parquet", size_bytes=1, version="")

HF_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def schema(idx: pa.DataType, text: pa.DataType, image: pa.DataType, name: str = "imgbase64") -> pa.Schema:
    return pa.schema([("idx", idx), ("text", text), (name, image), ("score", pa.float64())])


@pytest.mark.parametrize("idx", [pa.string(), pa.large_string(), pa.int64(), pa.uint8(), pa.string_view()])
@pytest.mark.parametrize("text", [pa.string(), pa.dictionary(pa.int32(), pa.string())])
@pytest.mark.parametrize("image", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), HF_IMAGE])
def test_accepted_types(idx: pa.DataType, text: pa.DataType, image: pa.DataType) -> None:
    for name in ("imgbase64", "image"):
        found = parquet_columns(FILE, schema(idx, text, image, name), PAIRS)
        assert found == {"idx": "idx", "text": "text", "image": name}


@pytest.mark.parametrize(
    ("wrong", "column"),
    [
        (schema(pa.float64(), pa.string(), pa.binary()), "idx"),
        (schema(pa.string(), pa.list_(pa.string()), pa.binary()), "text"),
        (schema(pa.string(), pa.binary(), pa.binary()), "text"),
        (schema(pa.string(), pa.string(), pa.int64()), "imgbase64"),
        (schema(pa.string(), pa.string(), pa.struct([("path", pa.string())])), "imgbase64"),
        (schema(pa.string(), pa.string(), pa.binary(), "picture"), "imgbase64"),
        (pa.schema([("idx", pa.string()), ("imgbase64", pa.binary())]), "text"),
        (pa.schema([("idx", pa.string())] * 2 + [("text", pa.string()), ("imgbase64", pa.binary())]), "idx"),
    ],
)
def test_other_types_and_names_are_errors(wrong: pa.Schema, column: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^/d/t\.parquet: column '{column}': (expected once|type .* is not)"
    ):
        parquet_columns(FILE, wrong, PAIRS)


CODES = pa.field("element", pa.uint16(), nullable=False)


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(CODES, 4),
        pa.list_(CODES),
        pa.large_string(),
        pa.float32(),
        pa.dictionary(pa.int32(), pa.int64()),
    ],
)
def test_columns_that_are_carried_on_are_known_to_workers(kind: pa.DataType) -> None:
    """There the columns come pickled, and so without what a type of lists says of its items."""
    kinds = {"other": plain_kind(kind)}
    columns = Columns(schema=(), idx="idx", text=None, extra=("other",), kinds=kinds)
    schema = pa.schema([pa.field("idx", pa.string()), pa.field("other", kind)])
    sent = pickle.loads(pickle.dumps(columns))
    assert parquet_columns(FILE, schema, sent) == {"idx": "idx", "other": "other"}
    assert unpack_schema(pickle.loads(pickle.dumps(pack_schema(schema)))) == schema
    other = pa.schema([schema.field("idx"), pa.field("other", pa.list_(pa.uint16(), 5))])
    with pytest.raises(ValueError, match="in the first file of the tables"):
        parquet_columns(FILE, other, sent)


def test_cells_are_strings_bytes_or_none(tmp_path: Path) -> None:
    images = [{"bytes": b"\xff\xd8", "path": None}, None, {"bytes": None, "path": "a.jpg"}]
    text = pa.array(["一", None, "一"]).dictionary_encode()
    broken = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"\xff", None]).buffers())
    table = pa.table(
        {
            "i": pa.array([7, None, -1]),
            "t": text,
            "h": pa.array(images, HF_IMAGE),
            "b": broken,
            "v": ["a", "b", "c"],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    read = pq.read_table(tmp_path / "t.parquet")
    assert column_cells(read["i"]) == ["7", None, "-1"]
    assert column_cells(read["t"]) == ["一", None, "一"]
    assert column_cells(read["h"]) == [b"\xff\xd8", None, None]
    assert column_cells(read["b"]) == ["a", b"\xff", None]
    assert column_cells(read["v"].cast(pa.string_view())) == ["a", "b", "c"]


def test_columns_to_be_read_must_be_in_the_schema_of_a_tsv(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"1\ta\n")
    columns = Columns(schema=("idx", "text"), text="caption")
    with pytest.raises(ValueError, match=r"a\.tsv: columns \['caption'\] are to be read, but --input-schema"):
        plan_units(find_files(str(tmp_path)), columns, micro_batch_size=1, limit=None)
