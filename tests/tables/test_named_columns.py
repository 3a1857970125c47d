"""Which column is which: idx by any name or none, captions not needed, extension types column by column."""

import base64
import contextlib
import io
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from painter_core.stages.inspect_table.verify import find_problems
from painter_core.tables.columns import Columns
from painter_core.tables.inputs import find_files
from painter_core.tables.parquet import read_table
from painter_core.tables.reader import UnitReader
from painter_core.tables.units import plan_units

PAIRS_SCHEMA = "idx:str:1,text:str:1,imgbase64:str:1"
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def read(path: Path, columns: Columns) -> list[dict]:
    files = find_files(str(path))
    units = plan_units(files, columns, micro_batch_size=16, limit=None)
    reader = UnitReader(files=files, columns=columns, stage="x", keep_rejected=False)
    return [row for unit in reader.read(units) for row in unit.table.to_pylist()]


def test_hugging_face_and_img2dataset(tmp_path: Path) -> None:
    images = pa.array([{"bytes": b"\xff\xd8", "path": None}] * 2, IMAGE)
    pq.write_table(pa.table({"image": images, "text": ["红", "蓝"]}), tmp_path / "hf.parquet")
    columns = Columns.of_flags(PAIRS_SCHEMA, idx_column="row", second_sequence="image")
    assert [(r["idx"], r["text"], r["image"]) for r in read(tmp_path / "hf.parquet", columns)] == [
        ("1", "红", b"\xff\xd8"), ("2", "蓝", b"\xff\xd8")
    ]  # fmt: skip
    table = pa.table({"key": ["a", "b"], "caption": ["红", "蓝"], "jpg": [b"\xff\xd8"] * 2})
    pq.write_table(table, tmp_path / "i2d.parquet")
    columns = Columns.of_flags(
        PAIRS_SCHEMA, idx_column="key", first_sequence="caption", second_sequence="jpg"
    )
    assert [(r["idx"], r["text"]) for r in read(tmp_path / "i2d.parquet", columns)] == [
        ("a", "红"), ("b", "蓝")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "column", "advice"),
    [
        (
            Columns.of_flags(PAIRS_SCHEMA, second_sequence="jpg"),
            "idx",
            "--idx-column NAME, or --idx-column row for row numbers",
        ),
        (Columns.of_flags(PAIRS_SCHEMA, idx_column="key"), "text", "--first-sequence NAME"),
        (
            Columns.of_flags(PAIRS_SCHEMA, idx_column="key", first_sequence=None, second_sequence="png"),
            "png",
            "--second-sequence NAME",
        ),
        (
            Columns.of_flags(PAIRS_SCHEMA, idx_column="key", first_sequence=None, extra=("price",)),
            "price",
            "--append-cols NAMES",
        ),
    ],
)
def test_a_missing_column_is_named_with_the_flag_that_helps(
    columns: Columns, column: str, advice: str, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"key": ["a"], "caption": ["红"], "jpg": [b"x"]}), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=rf"t\.parquet: column '{column}': expected once, found 0") as caught:
        read(tmp_path / "t.parquet", columns)
    assert str(caught.value).endswith(f"name the column that is meant: {advice}")


def test_pictures_need_no_caption_and_no_idx(tmp_path: Path) -> None:
    columns = Columns(schema=("idx", "text", "imgbase64"), idx=None, text=None, image="imgbase64")
    pq.write_table(pa.table({"imgbase64": [b"\xff\xd8"] * 3}), tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet", columns)
    assert [(r["idx"], r["image"], "text" in r) for r in found] == [(n, b"\xff\xd8", False) for n in "123"]
    cell = base64.b64encode(b"\xff\xd8").decode()
    (tmp_path / "t.tsv").write_text(f"a\t\t{cell}\n\t红\t{cell}\n")  # no caption; no idx
    assert [(r["idx"], r["image"]) for r in read(tmp_path / "t.tsv", columns)] == [("1", cell), ("2", cell)]


@pytest.mark.parametrize(
    ("schema", "idx_column", "idx"),
    [("idx,text", "idx", "idx"), ("idx,text", "row", None), ("text", "idx", None), ("id,text", "id", "id"),
     ("id,text", "idx", None)],
)  # fmt: skip
def test_what_idx_is(schema: str, idx_column: str, idx: str | None) -> None:
    assert Columns.of_flags(schema, idx_column=idx_column).idx == idx


class Marker(pa.ExtensionType):
    """An extension type that tells when it is made from a file, which is when others run code."""

    made = 0

    def __init__(self) -> None:
        super().__init__(pa.binary(), "tests.marker")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialized: bytes) -> "Marker":
        cls.made += 1
        return cls()


@pytest.fixture
def marker() -> object:
    pa.register_extension_type(Marker())
    Marker.made = 0
    yield Marker
    pa.unregister_extension_type("tests.marker")


def marked(values: list[bytes]) -> pa.Array:
    return pa.ExtensionArray.from_storage(Marker(), pa.array(values))


PROMPTS = Columns(schema=("idx", "text"))


def test_columns_that_are_not_read_may_have_any_type(marker: type[Marker], tmp_path: Path) -> None:
    plain = {"idx": ["1", "2"], "text": ["红", "蓝"]}
    others = {
        "marked": marked([b"x", b"y"]),
        "nested": pa.StructArray.from_arrays([marked([b"x", b"y"])], ["inner"]),
        "uuid": pa.array([uuid.uuid4().bytes] * 2, pa.uuid()),
        "json": pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{}", "[]"])),
        "label": pa.array(["a", "b"]).dictionary_encode(),
    }
    pq.write_table(pa.table(plain | others), tmp_path / "t.parquet")
    Marker.made = 0
    assert [(r["idx"], r["text"]) for r in read(tmp_path / "t.parquet", PROMPTS)] == [
        ("1", "红"),
        ("2", "蓝"),
    ]
    extra = Columns(schema=("idx", "text"), extra=("label",))  # a dictionary, in a footer that was changed
    assert [r["label"] for r in read(tmp_path / "t.parquet", extra)] == ["a", "b"]
    assert find_problems(str(tmp_path / "t.parquet")) == []
    assert Marker.made == 0


@pytest.mark.parametrize("column", ["marked", "nested", "uuid", "json"])
def test_columns_that_are_read_are_named_with_their_type(
    column: str, marker: type[Marker], tmp_path: Path
) -> None:
    values = {
        "marked": (marked([b"x"]), "tests.marker"),
        "nested": (pa.StructArray.from_arrays([marked([b"x"])], ["inner"]), "tests.marker"),
        "uuid": (pa.array([uuid.uuid4().bytes], pa.uuid()), "arrow.uuid"),
        "json": (pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{}"])), "arrow.json"),
    }
    array, name = values[column]
    for stored in (True, False):  # the type in Arrow's note, or in Parquet's own schema alone
        table = pa.table({"idx": ["1"], "text": ["红"], column: array})
        pq.write_table(table, tmp_path / "t.parquet", store_schema=stored)
        Marker.made = 0
        columns = Columns(schema=("idx", "text"), extra=(column,))
        if stored or column == "json":
            expected = rf"t\.parquet: column '{column}': the extension type {name} is not accepted"
        else:
            expected = rf"t\.parquet: column '{column}': type .* is not accepted"
        with pytest.raises(ValueError, match=expected):
            read(tmp_path / "t.parquet", columns)
        assert Marker.made == 0


def test_a_second_note_of_types_is_looked_at_too(marker: type[Marker], tmp_path: Path) -> None:
    """pyarrow shows one of them, and might make types of the other."""
    note = pa.schema([pa.field("idx", Marker())]).serialize().to_pybytes()
    table = pa.table({"idx": ["1"], "text": ["红"]})
    table = table.replace_schema_metadata({"ARROW:schema": base64.b64encode(note)})
    pq.write_table(table, tmp_path / "t.parquet")
    Marker.made = 0
    assert len(read(tmp_path / "t.parquet", PROMPTS)) == 1
    assert Marker.made == 0


@pytest.mark.parametrize("change", ["A", "=", "\n", ""])
def test_a_damaged_note_is_refused(change: str, marker: type[Marker], tmp_path: Path) -> None:
    pq.write_table(pa.table({"idx": ["1"], "text": ["红"], "more": marked([b"x"])}), tmp_path / "t.parquet")
    data = (tmp_path / "t.parquet").read_bytes()
    at = data.index(b"ARROW:schema") + 40
    (tmp_path / "t.parquet").write_bytes(data[:at] + change.encode() + data[at + 1 :])
    Marker.made = 0
    if change == "A":  # still base64: its rows may be read, or pyarrow finds the damage
        with contextlib.suppress(ValueError):
            read(tmp_path / "t.parquet", PROMPTS)
    else:
        with pytest.raises(ValueError, match=r"t\.parquet: (damaged ARROW:schema|not a whole Parquet file)"):
            read(tmp_path / "t.parquet", PROMPTS)
    assert Marker.made == 0


def test_parts_of_ours_have_no_such_column(marker: type[Marker]) -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"idx": ["1"], "more": marked([b"x"])}), out)
    Marker.made = 0
    with pytest.raises(ValueError, match=r"p: column 'more' has the extension type tests\.marker"):
        read_table(out.getvalue(), "p")
    assert Marker.made == 0
