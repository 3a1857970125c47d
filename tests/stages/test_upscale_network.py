"""Networks that enlarge, in jobs/upscale.py and jobs/generate.py: the same pictures from both."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from painter_core.easynlp.output import read_cell
from painter_core.errors import Changed
from painter_core.images.decode import encode_image
from painter_core.model_files.open import open_model
from painter_core.runs.flags import TableFlags
from painter_core.stages.generate.run import table_job
from painter_core.stages.upscale.config import UpscaleConfig
from painter_core.stages.upscale.network import EnlargeByNetwork
from painter_core.upscaling.flags import UpscaleFlags
from painter_core.upscaling.network import Network
from painter_core.upscaling.upscaler import plan_upscaler
from tests.support.local_run import ALONE, code_of, rows_of
from tests.support.painting import CAPTIONS, SMALL_VQGAN, config_of, paint_table, write_painter, write_prompts
from tests.support.upscaling import enlarge_table, import_spandrel, write_network

pytestmark = pytest.mark.usefixtures("one_thread")

NEW = "gen_imgbase64"


@pytest.fixture(scope="module", autouse=True)
def _spandrel() -> None:
    import_spandrel()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, prompts, and networks that enlarge 2 and 4 times."""
    folder = tmp_path_factory.mktemp("files")
    write_painter(folder / "model")
    write_prompts(folder / "prompts.tsv")
    for scale in (2, 4):
        write_network(folder / f"x{scale}.pth", scale)
    return folder


def generate(files: Path, outputs: Path, **flags: object) -> pa.Table:
    return paint_table(config_of(files / "model", files / "prompts.tsv", outputs, **flags))


def enlarge(tables: Path, outputs: Path, **flags: object) -> pa.Table:
    table = TableFlags(tables=str(tables), outputs=str(outputs), max_reject_fraction=1.0)
    return enlarge_table(UpscaleConfig(table=table, upscaling=UpscaleFlags(**flags)))


def by_network(cell: str, file: Path, tile: int = 256) -> str:
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(cell))).convert("RGB"))
    larger = Network(str(file), device=torch.device("cpu"), tile=tile)(picture)
    return base64.b64encode(encode_image(larger)).decode()


@pytest.mark.parametrize("upscaler", ["lanczos", "x2.pth", "x4.pth"])
def test_generate_enlarges_as_the_job_does(upscaler: str, files: Path, tmp_path: Path) -> None:
    flags = {"upscale": 2} if upscaler == "lanczos" else {"upscaler": str(files / upscaler)}
    options = {"max_generated_num": 2, "codes_column": True}
    small = generate(files, tmp_path / "small", **options)
    at_once = generate(files, tmp_path / "at_once", **options, **flags)
    later = enlarge(tmp_path / "small", tmp_path / "later", **flags)
    assert at_once.schema == later.schema
    assert at_once.equals(later)
    assert at_once.drop([NEW]).equals(small.drop([NEW]))
    decoded = config_of(files / "model", tmp_path / "small", tmp_path / "d", init_codes="codes", **flags)
    assert paint_table(decoded)[NEW].equals(at_once[NEW])
    if upscaler != "lanczos":
        expected = [by_network(cell, files / upscaler) for cell in small[NEW].to_pylist()]
        assert at_once[NEW].to_pylist() == expected
    identity, without = (
        json.loads((tmp_path / n / "manifest.json").read_text())["identity"] for n in ("at_once", "small")
    )
    assert identity.pop("upscale")["scale"] == (4 if upscaler == "x4.pth" else 2)
    assert identity == without, "nothing is said where nothing is enlarged"


def test_easynlp_lines_hold_larger_pictures(files: Path, tmp_path: Path) -> None:
    given = {"easynlp_format": True, "max_generated_num": 2}
    table = generate(files, tmp_path / "out.tsv", upscaler=str(files / "x2.pth"), **given)
    cells = [read_cell(cell) for cell in table[NEW].to_pylist()]
    assert [len(c) for c in cells] == [2] * len(CAPTIONS)
    assert Image.open(io.BytesIO(base64.b64decode(cells[0][1]))).size == (2 * SMALL_VQGAN.image_size,) * 2


def test_tables_of_networks(files: Path, tmp_path: Path) -> None:
    """Pictures of any size in tiles, a list in a cell, a broken one; another tile or file is another run."""
    draw = np.random.default_rng(1)
    out = []
    for shape in ((90, 70, 3), (16, 200, 3), (20, 20)):
        picture = Image.fromarray(draw.integers(0, 256, shape, np.uint8))
        out.append(base64.b64encode(encode_image(np.asarray(picture.convert("RGB")))).decode())
    cells = [out[0], f"['{out[1]}', '{out[2]}']", "AAAA"]
    pq.write_table(
        pa.table({"idx": list("abc"), NEW: cells, "score": [0.5, 1.5, 2.5]}), tmp_path / "in.parquet"
    )
    given = {"upscaler": str(files / "x2.pth"), "upscale_tile": 64}
    after = enlarge(tmp_path / "in.parquet", tmp_path / "out", **given)
    expected = [by_network(cell, files / "x2.pth", 64) for cell in out]
    assert after[NEW].to_pylist() == [expected[0], f"['{expected[1]}', '{expected[2]}']"]
    assert after["score"].to_pylist() == [0.5, 1.5]
    before = rows_of(tmp_path / "out")
    assert "rejects/part-000000.parquet" in before
    for other in ({"upscale_tile": 96}, {"upscaler": str(files / "x4.pth")}):
        assert code_of(lambda o=other: enlarge(tmp_path / "in.parquet", tmp_path / "out", **given | o)) == 4
    assert rows_of(tmp_path / "out") == before


def test_a_network_that_changes_meanwhile_stops_the_run(files: Path, tmp_path: Path) -> None:
    file = write_network(tmp_path / "n.pth", 2)
    planned = plan_upscaler(UpscaleFlags(upscaler=str(file)))
    write_network(file, 2, seed=1)
    with pytest.raises(Changed, match=r"n\.pth: upscaler_sha256 is .* it changed while the job ran"):
        EnlargeByNetwork(upscaler=planned, image_format="png", column=NEW)


def test_estimates_grow_with_the_square(files: Path, tmp_path: Path) -> None:
    model = open_model(str(files / "model"))
    jobs = {}
    for scale, flags in ((1, {}), (2, {"upscale": 2}), (4, {"upscaler": str(files / "x4.pth")})):
        given = config_of(files / "model", files / "prompts.tsv", tmp_path / "out", **flags)
        jobs[scale] = table_job(given, model, ALONE)
    assert [jobs[s].row_bytes // jobs[1].row_bytes for s in jobs] == [1, 4, 16]
    assert [jobs[s].picture_bytes // jobs[1].picture_bytes for s in jobs] == [1, 4, 16]
    assert jobs[2].weights_bytes == jobs[1].weights_bytes
    assert jobs[4].weights_bytes > jobs[1].weights_bytes + 6 * 4 * 8 * (4 * 32) ** 2


def test_what_generate_refuses(files: Path, tmp_path: Path) -> None:
    assert code_of(lambda: generate(files, tmp_path / "out", upscale=2, upscaler=str(files / "x4.pth"))) == 2
    with pytest.raises(ValueError, match="there are no pictures to enlarge with --output-schema idx,text"):
        generate(files, tmp_path / "out", upscale=2, output_schema="idx,text", codes_column=True)
    assert not (tmp_path / "out").exists()
