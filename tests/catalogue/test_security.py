"""The security list, by number: untrusted tables, prompts and weights (S1-S10, S12, S13, S16, T23, T24).

Elsewhere: S1 for --tables in test_damage.py (T13) and case 49; S3 in test_convert.py (pickles that run code).
"""

import ast
import base64
import dataclasses
import io
import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from painter_core.errors import Refused, Reject
from painter_core.files.storage import filesystem, sha256, write_bytes
from painter_core.model_files.open import open_model
from painter_core.model_files.safetensors_file import check_safetensors
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
from tests.support.jobs import ROOT, sample_cell

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


HOSTILE_PICTURES = """
import io, resource, struct, sys, zlib
resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30, 2 * 2**30))
from PIL import Image
from painter_core.images.cells import image_of_cell
from painter_core.images.decode import decode_image
from painter_core.errors import Reject

def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

def png(width, height, *chunks):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\\x89PNG\\r\\n\\x1a\\n" + header + b"".join(chunks) + chunk(b"IEND", b"")

def saved(picture, image_format, **options):
    out = io.BytesIO()
    picture.save(out, image_format, **options)
    return out.getvalue()

zeros = zlib.compress(bytes(200 * 2**20))
pixels = chunk(b"IDAT", zlib.compress(bytes(64 * 193)))
sides = (2**31 - 1, 2**31 - 1)
cells = {
    "60,000 x 60,000": png(60000, 60000, chunk(b"IDAT", zeros)),
    "more data than pixels": png(64, 64, chunk(b"IDAT", zeros)),
    "a bomb of text": png(64, 64, chunk(b"zTXt", b"k\\0\\0" + zeros), pixels),
    "a bomb of a profile": png(64, 64, chunk(b"iCCP", b"k\\0\\0" + zeros), pixels),
    "1 x 20,000": saved(Image.new("1", (1, 20000)), "PNG"),
    "GIF of 65,535 x 65,535": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",",
    "BMP of 2**31": b"BM" + bytes(12) + struct.pack("<IiiHHIIiiII", 40, *sides, 1, 24, *[0] * 6),
    "49 million pixels": saved(Image.new("L", (7000, 7000)), "PNG"),
    "a cell of 64 MB": bytes(64 * 2**20 + 1),
}
for name, cell in cells.items():
    try:
        print(name, "->", decode_image(image_of_cell(cell), 256).shape)
    except Reject as error:
        print(name, "->", error.reason)
# ru_maxrss would be at least that of the process that started this one
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) // 1024)
"""


def test_s2_t23_bombs_stay_small() -> None:
    """Under RLIMIT_AS of 2 GiB, of which the interpreter and its libraries take a part."""
    command = [sys.executable, "-c", HOSTILE_PICTURES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *lines, peak = done.stdout.splitlines()
    found = dict(line.split(" -> ") for line in lines)
    assert found["60,000 x 60,000"] == "img_too_large"
    assert found["1 x 20,000"] == "img_aspect"
    assert found["a cell of 64 MB"] == "cell_too_large"
    assert found["49 million pixels"] == "(256, 256, 3)"
    reasons = {"img_truncated", "img_too_large", "img_unidentified", "img_mode", "(256, 256, 3)"}
    assert set(found.values()) <= reasons | {"img_aspect", "cell_too_large"}
    assert int(peak) < 1000, f"{peak} MB"


def test_s2_formats_are_a_list() -> None:
    from painter_core.images.decode import FORMATS, decode_image

    assert FORMATS == ("JPEG", "PNG", "WEBP", "GIF", "BMP")
    for other in ("EPS", "TIFF", "PDF", "ICO", "PPM", "TGA"):
        out = io.BytesIO()
        Image.new("RGB", (64, 64)).save(out, other)
        with pytest.raises(Reject, match=r"img_format|img_unidentified"):
            decode_image(out.getvalue(), 32)


def sources() -> dict[str, str]:
    paths = [p for d in ("painter_core", "jobs", "schemas", "cluster") for p in (ROOT / d).rglob("*.py")]
    return {str(p.relative_to(ROOT)): p.read_text() for p in paths}


def calls(text: str) -> set[str]:
    """Names of all functions that a source calls, and `name=True` of keyword arguments."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            found.add(ast.unparse(node.func))
            found |= {f"{k.arg}={ast.unparse(k.value)}" for k in node.keywords if k.arg}
    return found


def test_s3_s10_s13_nothing_unpickles_or_evaluates() -> None:
    """The decoding child reads pickles from its parent; its parent reads JSON from it."""
    forbidden = {
        "pickle.loads",
        "yaml.load",
        "yaml.unsafe_load",
        "eval",
        "exec",
        "os.system",
        "marshal.loads",
    }
    forbidden |= {"weights_only=False", "allow_pickle=True", "shell=True", "trust_remote_code=True"}
    for path, text in sources().items():
        allowed = {"pickle.load"} if path.endswith("images/isolate.py") else set()
        assert not (calls(text) & (forbidden | {"pickle.load"})) - allowed, path
        for line in text.splitlines():
            if "torch.load(" in line:
                assert "weights_only=True" in text, path
    assert "RAY_DATA_AUTOLOAD" not in "".join(sources().values())


def header(content: bytes, size: int | None = None) -> bytes:
    return (len(content) if size is None else size).to_bytes(8, "little") + content


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
HOSTILE_HEADERS = {
    "a header of 100 MB": header(b" " * 1000, 100 * 2**20),
    "a header beyond the file": header(b"{}", 2**20),
    "a header of 2**63": header(b"{}", 2**63),
    "100,000 tensors": header(json.dumps({f"t{i}": TENSOR for i in range(100_000)}).encode()) + bytes(8),
    "deep JSON": header(b"[" * 10**6),
    "a huge shape": header(json.dumps({"w": TENSOR | {"shape": [2**40]}}).encode()) + bytes(8),
    "another shape": header(json.dumps({"w": TENSOR | {"shape": [2, 1]}}).encode()) + bytes(8),
    "offsets beyond the file": header(json.dumps({"w": TENSOR | {"data_offsets": [0, 2**40]}}).encode())
    + bytes(8),
    "bytes behind": header(json.dumps({"w": TENSOR}).encode()) + bytes(16),
    "no JSON": header(b"\xff" * 64),
    "empty": b"",
}


@pytest.mark.parametrize("name", HOSTILE_HEADERS)
def test_s4_hostile_safetensors(name: str, tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    file.write_bytes(HOSTILE_HEADERS[name])
    with pytest.raises(ValueError, match=r"w\.safetensors: ") as caught:
        check_safetensors(file, {"w": [2]})
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        *(("gpt", "n_layer", v) for v in (10**9, -1, 1.5, "12", True)),
        ("gpt", "n_embd", 10**9),
        ("vqgan", "ch", 2**40),
        ("vqgan", "ch_mult", [1] * 1000),
        ("vqgan", "num_res_blocks", 10**6),
        ("vqgan", "codebook_size", 10**9),
    ],
)
def test_s5_giant_geometry(section: str, key: str, value: object, tmp_path: Path) -> None:
    from painter_core.models.gpt import GPTConfig
    from painter_core.models.vqgan import VQGANConfig

    spec = {"format": 1, "vqgan": dataclasses.asdict(VQGANConfig()), "gpt": dataclasses.asdict(GPTConfig())}
    spec[section][key] = value  # type: ignore[index]
    (tmp_path / "config.json").write_text(json.dumps(spec))
    with pytest.raises(ValueError, match=rf"{section}\.{key}"):
        open_model(str(tmp_path))
    (tmp_path / "config.json").write_text(" " * (2**20 + 1))
    with pytest.raises(ValueError, match="this is no config"):
        open_model(str(tmp_path))


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
        RunDirectory(str(tmp_path / "out")).check_foreign()
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
    import numpy as np

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


def test_limits_are_those_of_this_process_only() -> None:
    """The bombs above run in a process of their own."""
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
