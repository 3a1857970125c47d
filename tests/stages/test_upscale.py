"""jobs/upscale.py without Ray: Pillow's bytes, columns that are carried on, what is set aside or refused."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from painter_core.easynlp.output import read_cell
from painter_core.errors import Reject
from painter_core.images.decode import encode_image
from painter_core.runs.flags import TableFlags
from painter_core.stages.make_gallery.entries import GalleryConfig, write_page
from painter_core.stages.upscale.config import UpscaleConfig
from painter_core.stages.upscale.pictures import check_cell_size, packed, unpacked
from painter_core.tables.manifest import iter_parts
from painter_core.upscaling.flags import UpscaleFlags
from tests.support.local_run import code_of
from tests.support.painting import SMALL_VQGAN, config_of, paint_table, write_painter, write_prompts
from tests.support.upscaling import enlarge_table

pytestmark = pytest.mark.usefixtures("one_thread")

NEW = "gen_imgbase64"


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 5 prompts, 2 pictures each, with every column that generate.py writes."""
    folder = tmp_path_factory.mktemp("painted")
    model, prompts = write_painter(folder / "model"), write_prompts(folder / "prompts.tsv")
    options = {"max_generated_num": 3, "keep_best": 2, "score_columns": True, "codes_column": True}
    paint_table(config_of(model, prompts, folder / "out", **options))
    return folder / "out"


def config(tables: object, outputs: Path, scale: int = 2, **flags: object) -> UpscaleConfig:
    run = {k: flags.pop(k) for k in ("overwrite", "dry_run", "keep_rejected", "limit") if k in flags}
    table = TableFlags(tables=str(tables), outputs=str(outputs), max_reject_fraction=1.0, **run)
    return UpscaleConfig(table=table, upscaling=UpscaleFlags(upscale=scale), **flags)


def encoded(picture: Image.Image, image_format: str = "PNG") -> str:
    out = io.BytesIO()
    picture.save(out, image_format)
    return base64.b64encode(out.getvalue()).decode()


def opened(cell: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(cell)))


def by_pillow(cell: str, scale: int) -> str:
    picture = opened(cell).convert("RGB")
    larger = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.LANCZOS)
    return base64.b64encode(encode_image(np.asarray(larger))).decode()


@pytest.mark.parametrize("scale", [2, 4])
def test_pictures_are_pillows_and_columns_are_carried(scale: int, painted: Path, tmp_path: Path) -> None:
    before = pa.concat_tables(iter_parts(str(painted)))
    after = enlarge_table(config(painted, tmp_path / "out", scale))
    assert {"sample", "rank", "score_logp", "score_gain", "codes"} < {*before.column_names}
    assert after.schema == before.schema
    assert after.drop([NEW]).equals(before.drop([NEW]))
    assert after[NEW].to_pylist() == [by_pillow(cell, scale) for cell in before[NEW].to_pylist()]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["rows_in"], manifest["rows_out"], manifest["table"]) == (10, 10, "outputs")
    assert manifest["identity"] | {"stage": "upscale", "scale": scale} == manifest["identity"]
    page = tmp_path / "page.html"
    assert write_page(GalleryConfig(tables=str(tmp_path / "out"), outputs=str(page))) == 10
    assert "rank" in page.read_text(encoding="utf-8")


def test_an_enlarged_table_is_enlarged_again(painted: Path, tmp_path: Path) -> None:
    enlarge_table(config(painted, tmp_path / "once"))
    twice = enlarge_table(config(tmp_path / "once", tmp_path / "twice"))
    assert opened(twice[NEW][0].as_py()).size == (4 * SMALL_VQGAN.image_size,) * 2
    first, second = (json.loads((tmp_path / n / "manifest.json").read_text()) for n in ("once", "twice"))
    assert first["painted"] == second["painted"]
    assert first["painted"]["seed"] == 42


@pytest.mark.parametrize("easynlp_format", [False, True])
def test_a_tsv_of_generate_stays_a_tsv(easynlp_format: bool, tmp_path: Path) -> None:
    model, prompts = write_painter(tmp_path / "model"), write_prompts(tmp_path / "prompts.tsv")
    flags = {"max_generated_num": 2, "easynlp_format": easynlp_format}
    paint_table(config_of(model, prompts, tmp_path / "small.tsv", **flags))
    # of ours its run directory is read; of others the lines
    (tmp_path / "copy.tsv").write_bytes((tmp_path / "small.tsv").read_bytes())
    schema = "idx,text,gen_imgbase64" + ("" if easynlp_format else ",sample")
    enlarge_table(config(tmp_path / "small.tsv", tmp_path / "ours.tsv"))
    enlarge_table(config(tmp_path / "copy.tsv", tmp_path / "lines.tsv", input_schema=schema))
    found = (tmp_path / "ours.tsv").read_text(encoding="utf-8")
    assert found == (tmp_path / "lines.tsv").read_text(encoding="utf-8")
    lines = [line.split("\t") for line in found.splitlines()]
    small = [line.split("\t") for line in (tmp_path / "small.tsv").read_text("utf-8").splitlines()]
    assert [line[:2] + line[3:] for line in lines] == [line[:2] + line[3:] for line in small]
    for new, old in zip(lines, small, strict=True):
        assert read_cell(new[2]) == [by_pillow(cell, 2) for cell in read_cell(old[2])]
        assert new[2].startswith("['") == easynlp_format


def test_forms_of_pictures(tmp_path: Path) -> None:
    """Grey, transparent, 16 bits, palette, JPEG, and as long as pictures may be."""
    draw = np.random.default_rng(3)
    grey = Image.fromarray(draw.integers(0, 256, (20, 30), np.uint8))
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    wide = Image.fromarray(draw.integers(0, 256, (16, 320, 3), np.uint8))
    deep = Image.fromarray(np.full((16, 16), 0x8000, np.uint16))
    cells = [encoded(p) for p in (grey, clear, wide, deep, grey.convert("P"))] + [encoded(wide, "JPEG")]
    pq.write_table(pa.table({"idx": list("abcdef"), NEW: cells}), tmp_path / "in.parquet")
    found = [
        opened(c) for c in enlarge_table(config(tmp_path / "in.parquet", tmp_path / "out"))[NEW].to_pylist()
    ]
    sizes = [(60, 40), (40, 40), (640, 32), (32, 32), (60, 40), (640, 32)]
    assert [(p.mode, p.size) for p in found] == [("RGB", size) for size in sizes]
    expected = grey.convert("RGB").resize((60, 40), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(np.asarray(found[0]), np.asarray(expected))
    assert np.unique(np.asarray(found[1])).tolist() == [255], "white lies under transparent pixels"
    assert np.unique(np.asarray(found[3])).tolist() == [0x80]


def test_what_cannot_be_enlarged_is_set_aside(painted: Path, tmp_path: Path) -> None:
    good = pa.concat_tables(iter_parts(str(painted)))[NEW][0].as_py()
    plain = encoded(Image.new("RGB", (4000, 4000)))
    cells = [good, plain, "AAAA", None, encoded(Image.new("RGB", (1, 1))), encoded(Image.new("L", (16, 330)))]
    cells += ["['" + good + "', 'AAAA']", "['" + good + "', '" + good + "']"]
    table = pa.table({"idx": [*map(str, range(7)), None], NEW: cells, "n": pa.array(range(8), pa.float32())})
    pq.write_table(table, tmp_path / "in.parquet")
    after = enlarge_table(config(tmp_path / "in.parquet", tmp_path / "out"))
    assert after["n"].to_pylist() == [0.0]
    rejects = pq.read_table(tmp_path / "out" / "rejects").to_pylist()
    found = [(r["row"], r["column"], r["reason"]) for r in rejects]
    assert found == [
        (2, NEW, "img_too_large"), (3, NEW, "img_unidentified"), (4, NEW, "img_empty"),
        (5, NEW, "img_too_small"), (6, NEW, "img_aspect"), (7, NEW, "img_unidentified"),
        (8, "idx", "idx_invalid"),
    ]  # fmt: skip
    assert rejects[0]["detail"].startswith("4000x4000, and 2 times 8000x8000, at most 50,000,000 pixels")
    with pytest.raises(Reject, match=r"cell_too_large: 71,303,172 bytes once it is enlarged"):
        check_cell_size([bytes(51 * 2**20)])
    assert unpacked(packed([b"abc", b"", b"de"])) == [b"abc", b"", b"de"]


def test_columns_that_cannot_be_carried_are_refused(painted: Path, tmp_path: Path) -> None:
    plain = {"idx": ["a"], NEW: ["AAAA"]}
    for more, message in (
        ({"when": pa.array([0], pa.timestamp("s"))}, "'when': type timestamp"),
        ({"row": [1]}, r"columns \['row'\] are names of our own"),
        ({NEW: pa.array([1])}, "'gen_imgbase64': type int64, expected string or binary"),
    ):
        pq.write_table(pa.table(plain | more), tmp_path / "in.parquet")
        with pytest.raises(ValueError, match=message):
            _refused(config(tmp_path / "in.parquet", tmp_path / "out"))
    with pytest.raises(ValueError, match="the lists of the column 'codes' do not go into a TSV"):
        _refused(config(painted, tmp_path / "out.tsv"))
    pq.write_table(pa.table(plain), tmp_path / "a.parquet")
    for other, message in (
        (plain | {"n": [1]}, r"b\.parquet: has the columns \['n'\], which the first file"),
        ({"idx": ["a"]}, r"b\.parquet: column 'gen_imgbase64': expected once, found 0 times"),
    ):
        pq.write_table(pa.table(other), tmp_path / "b.parquet")
        both = f"{tmp_path}/a.parquet,{tmp_path}/b.parquet"
        with pytest.raises(ValueError, match=message):
            _refused(config(both, tmp_path / "out"))
    with pytest.raises(ValueError, match="name the column of the picture by --second-sequence"):
        _refused(config(tmp_path / "a.parquet", tmp_path / "out", second_sequence="jpg"))
    assert not (tmp_path / "out").exists()
    assert code_of(lambda: enlarge_table(config(tmp_path / "in.parquet", tmp_path / "out"))) == 2


def _refused(given: UpscaleConfig) -> None:
    """Raises what enlarge_table ends with, as an exception and not as an exit code."""
    from painter_core.runs.run import Run
    from painter_core.runs.table_run import TableRun
    from painter_core.stages.upscale.run import table_job
    from painter_core.stages.upscale.source import find_source
    from painter_core.upscaling.upscaler import plan_upscaler
    from tests.support.local_run import ALONE

    upscaler, source = plan_upscaler(given.upscaling), find_source(given)
    TableRun(table_job(given, source, upscaler), Run({}), ALONE)


def test_binary_pictures_and_other_names(tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(4).integers(0, 256, (16, 16, 3), np.uint8))
    data = base64.b64decode(encoded(picture))
    table = pa.table(
        {"key": [7, 8], "jpg": [data, data], "title": pa.array(["红", None]).dictionary_encode()}
    )
    pq.write_table(table, tmp_path / "in.parquet")
    names = {"second_sequence": "jpg", "idx_column": "key"}
    after = enlarge_table(config(tmp_path / "in.parquet", tmp_path / "out", **names))
    assert after.schema == pa.schema({"key": pa.int64(), "jpg": pa.binary(), "title": pa.string()})
    assert after.drop(["jpg"]).to_pylist() == [{"key": 7, "title": "红"}, {"key": 8, "title": None}]
    assert Image.open(io.BytesIO(after["jpg"][1].as_py())).size == (32, 32)
    numbered = names | {"idx_column": "row"}
    assert enlarge_table(config(tmp_path / "in.parquet", tmp_path / "two", **numbered)).equals(after)
