"""The security list, by number: untrusted tables, prompts and paths (S1, S6-S9, S12, S13, S16, T24).

Elsewhere: S1 for --tables in test_damage.py (T13) and case 49; pictures in test_security_pictures.py (S2);
weights and our own code in test_security_models.py (S3-S5, S10, S13).
"""

import base64
import io
import json
import re
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from painter_core.errors import Refused, Reject
from painter_core.files.storage import filesystem, sha256, write_bytes
from painter_core.model_files.open import open_model
from painter_core.stages.inspect_table.config import InspectConfig
from painter_core.stages.inspect_table.report import inspect
from painter_core.stages.inspect_table.text import to_text
from painter_core.stages.make_gallery.page import GalleryEntry, render_gallery
from painter_core.tables.columns import Columns
from painter_core.tables.inputs import find_files
from painter_core.tables.manifest import iter_parts
from painter_core.tables.parquet import read_table
from painter_core.tables.records import seal
from painter_core.tables.rejects import RejectLog, describe
from painter_core.tables.run_directory import RunDirectory
from painter_core.tables.units import plan_units
from tests.support.codes_table import make_codes
from tests.support.jobs import sample_cell
from tests.support.local_run import table_place

PROMPTS = Columns(schema=("idx", "text"))

NASTY = [
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "\x1b[31mred\x1b]0;x\x07",
    "=HYPERLINK(1)",
    "\u202eevil",
]


def pickled_part(marker: Path) -> bytes:
    """A part whose caption column runs code in a process that knows Ray's extension type."""
    payload = b"cos\nsystem\n(S'touch " + str(marker).encode() + b"'\ntR."
    metadata = {b"ARROW:extension:name": b"ray.data.arrow_pickled_object", b"ARROW:extension:metadata": b""}
    fields = [pa.field("idx", pa.string()), pa.field("text", pa.binary(), metadata=metadata)]
    out = io.BytesIO()
    table = pa.Table.from_arrays([pa.array(["1"]), pa.array([payload])], schema=pa.schema(fields))
    pq.write_table(table, out)
    return out.getvalue()


def test_s1_a_part_of_ours_may_be_anothers(tmp_path: Path) -> None:
    """A whole directory made by an attacker, sums and seals included: galleries and evaluation read it."""
    data = pickled_part(tmp_path / "ran")
    (tmp_path / "t/_run/commits").mkdir(parents=True)
    (tmp_path / "t/part-000000.parquet").write_bytes(data)
    (tmp_path / "t/_run/commits/000000.json").write_text("{}")
    part = {"name": "part-000000.parquet", "rows": 1, "bytes": len(data), "sha256": sha256(data)}
    (tmp_path / "t/manifest.json").write_text(json.dumps(seal({"parts": [part], "table": "outputs"})))
    for read in (
        lambda: list(iter_parts(str(tmp_path / "t"))),
        lambda: read_table(data, "x.parquet"),
        lambda: plan_units(find_files(str(tmp_path / "t")), PROMPTS, micro_batch_size=1, limit=None),
        lambda: inspect(InspectConfig(tables=str(tmp_path / "t"))),
    ):
        with pytest.raises(ValueError, match="extension type"):
            read()
    assert not (tmp_path / "ran").exists()


def test_s6_t24_no_name_comes_from_a_row(tmp_path: Path, write_pairs, tiny_vqgan: Path) -> None:
    rows = [f"{name.replace('=', '-')}\t{name}\t{sample_cell(i)}\n" for i, name in enumerate(NASTY)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in/t.tsv").write_text("".join(rows))
    make_codes(tmp_path / "in/t.tsv", tiny_vqgan, tmp_path / "in/codes")
    inspect(InspectConfig(tables=str(tmp_path / "in/codes"), outputs=str(tmp_path / "in/samples")))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]
    names = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert all(re.fullmatch(r"in/[\w./-]+", name) and ".." not in name for name in names), names
    assert not any("passwd" in name or "script" in name for name in names)


def test_s7_t24_text_is_shown_harmless(tmp_path: Path) -> None:
    """Gallery, terminal and the messages of rejects; the table itself keeps captions as they are."""
    lines = "".join(f"{name}\t{name}\n" for name in NASTY)
    (tmp_path / "p.tsv").write_text(lines + "\x1b[2J\t\n")
    report = inspect(InspectConfig(tables=str(tmp_path / "p.tsv")))
    assert report.warnings["text_formula"] == 1
    shown = to_text(report)
    image = base64.b64decode(sample_cell(0))
    entries = [GalleryEntry(idx=name, caption=name, images=(image,)) for name in NASTY]
    page = render_gallery(entries, title=NASTY[1])
    for text in (shown, page):
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "\u202e" not in text
    assert "<script" not in page
    assert "Content-Security-Policy" in page
    assert "default-src 'none'" in page
    log = RejectLog(stage="x")
    place = {"file": "a\x1b[1mb.tsv", "row": 1, "byte_offset": 0, "idx": NASTY[2], "text": "\x1b[2J"}
    log.add(place, Reject("bad_columns", "\x1b]0;owned\x07"))
    assert "\x1b" not in describe(log.lines[0])


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/x.tsv",
        "https://u:secret@h/x",
        "ftp://h/x",
        "jdbc://x",
        "simplecache::http://h/x",
    ],
)
def test_s8_schemes_are_a_list(url: str) -> None:
    for use in (find_files, open_model, lambda u: RunDirectory(u).path(), lambda u: list(iter_parts(u))):
        with pytest.raises(ValueError, match=r"is not accepted|no such") as caught:
            use(url)
        assert "secret" not in str(caught.value)


def test_s9_links_do_not_lead_out(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.doc").write_text("mine")
    (tmp_path / "out").symlink_to(tmp_path / "home")
    with pytest.raises(Refused, match="files of another kind"):
        table_place(tmp_path / "out").check_foreign()
    with pytest.raises(Refused, match="not empty"):
        inspect(InspectConfig(tables="x", outputs=str(tmp_path / "out")))
    # a link under a name of ours is replaced, not followed
    (tmp_path / "run").mkdir()
    (tmp_path / "run/part-000000.parquet").symlink_to(tmp_path / "home/thesis.doc")
    write_bytes(*filesystem(str(tmp_path / "run/part-000000.parquet")), b"rows")
    assert (tmp_path / "home/thesis.doc").read_text() == "mine"
    assert not (tmp_path / "run/part-000000.parquet").is_symlink()


class _Bucket(MemoryFileSystem):
    """An object store that takes its key from the URL."""

    protocol = "s3"
    store: dict = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(re.sub(r"^s3://([^/@]*@)?", "memory://", path))


def test_s12_credentials_are_not_kept(tmp_path: Path, write_pairs, tiny_vqgan: Path, caplog) -> None:
    fsspec.register_implementation("s3", _Bucket, clobber=True)
    pairs = write_pairs(tmp_path / "pairs.tsv", 20).read_text().replace("r3\t", "\t")
    bucket = _Bucket()
    bucket.pipe_file("/bucket/pairs.tsv", pairs.encode())
    url = "s3://key:SECRET@bucket/pairs.tsv"
    out = make_codes(url, tiny_vqgan, tmp_path / "codes")  # type: ignore[arg-type]
    report = inspect(InspectConfig(tables=url))
    written = b"".join(p.read_bytes() for p in out.rglob("*") if p.is_file())
    rejects = pq.read_table(out / "rejects").to_pylist()
    assert [line["file"] for line in rejects] == ["s3:///bucket/pairs.tsv"]
    assert b"SECRET" not in written
    assert "SECRET" not in to_text(report) + json.dumps(report.to_json()) + caplog.text
    for wrong in ("s3://key:SECRET@bucket/none.tsv", f"{url},{url}"):
        with pytest.raises(ValueError, match="bucket") as caught:
            find_files(wrong)
        assert "SECRET" not in str(caught.value)


def test_s13_numpy_files_are_no_tables(tmp_path: Path) -> None:
    np.save(tmp_path / "codes.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "codes.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="no table files"):
        find_files(str(tmp_path))
    for name, said in (("codes.npy", "NumPy"), ("codes.npz", "zip archive")):
        with pytest.raises(ValueError, match=rf"{name}: this is a .*{said}|{name}: this is a {said}"):
            plan_units(find_files(str(tmp_path / name)), PROMPTS, micro_batch_size=1, limit=None)


def test_s16_rejects_are_small(tmp_path: Path) -> None:
    """No cell, cut texts, and a few of each reason in reports, however many there are."""
    log = RejectLog(stage="x")
    place = {"file": "t", "row": 1, "byte_offset": 0, "idx": "i" * 10**6, "text": "字" * 10**6}
    log.add(place, Reject("bad_columns", "d" * 10**6), cell="A" * 10**6)
    assert log.table().nbytes < 4000
    (tmp_path / "p.tsv").write_text("1\t红\n" + "".join(f"{i}\n" for i in range(3000)))
    report = inspect(InspectConfig(tables=str(tmp_path / "p.tsv"), input_schema="idx,text"))
    assert report.rejects == {"bad_columns": 3000}
    assert len(report.rejected) == 3
    assert len(to_text(report)) < 4000
