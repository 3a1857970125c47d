"""generate.py --init-codes: codes of an earlier run are decoded, scored or painted on, not drawn again."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from painter_core.model_files.open import open_model
from painter_core.painting.sampling import SamplingConfig
from painter_core.runs.run import Run
from painter_core.runs.steps import Parts
from painter_core.runs.table_run import TableRun
from painter_core.stages.generate.run import for_workers, steps_of, table_job
from tests.support.codes_table import make_codes
from tests.support.gallery import facts, page_of
from tests.support.jobs import sample_cell
from tests.support.local_run import ALONE, code_of, contents, faults, killed, rows_of
from tests.support.painting import CAPTIONS, SMALL_VQGAN, config_of, paint_table, write_painter, write_prompts

pytestmark = pytest.mark.usefixtures("one_thread")

LENGTH, GRID, BOOK = SMALL_VQGAN.image_len, SMALL_VQGAN.grid_size, SMALL_VQGAN.codebook_size
SAMPLING = SamplingConfig(top_k=20)
N = 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_painter(tmp_path_factory.mktemp("given") / "model")


@pytest.fixture(scope="module")
def painted(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pa.Table]:
    """A table of codes alone, several pictures a caption, and what the same run paints with pictures."""
    folder = tmp_path_factory.mktemp("given")
    prompts = write_prompts(folder / "prompts.tsv")
    flags = {"codes_column": True, "max_generated_num": N, "score_columns": True, "sampling": SAMPLING}
    paint_table(config_of(model, prompts, folder / "codes", output_schema="idx,text", **flags))
    return folder / "codes", paint_table(config_of(model, prompts, folder / "pictures", **flags))


def decode(model: Path, tables: Path, outputs: Path, **flags: object) -> pa.Table:
    return paint_table(config_of(model, tables, outputs, **{"init_codes": "codes"} | flags))


def codes_of(table: pa.Table) -> np.ndarray:
    return np.array(table["codes"].to_pylist())


def write_codes(path: Path, cells: list[list[int | None] | None], kind: pa.DataType | None = None) -> Path:
    """A Parquet file of another tool, with lists of any length."""
    n = len(cells)
    columns = {"idx": [f"p{i}" for i in range(n)], "text": [CAPTIONS[i % len(CAPTIONS)] for i in range(n)]}
    pq.write_table(pa.table(columns | {"mine": pa.array(cells, kind or pa.list_(pa.uint16()))}), path)
    return path


def test_decoded_pictures_are_those_of_the_run(
    model: Path, painted: tuple[Path, pa.Table], tmp_path: Path
) -> None:
    codes, whole = painted
    table = decode(model, codes, tmp_path / "out", append_cols="sample")
    assert table.column_names == ["idx", "text", "gen_imgbase64", "sample"]
    for name in ("idx", "text", "gen_imgbase64"):
        assert table[name].equals(whole[name])
    assert table["sample"].to_pylist() == ["0", "1", "2"] * len(CAPTIONS), "the input's, as text"
    assert len(set(table["gen_imgbase64"].to_pylist())) == N * len(CAPTIONS)
    identity = json.loads((tmp_path / "out" / "manifest.json").read_text())["identity"]
    assert identity["start"] == {"rows": GRID, "given": "codes"}
    assert {"seed", "sampling", "max_generated_num"}.isdisjoint(identity), "nothing was drawn"
    assert len(facts(page_of(tmp_path, tables=str(tmp_path / "out")), "idx")) == len(table)


def test_codes_are_scored_without_decoding(
    model: Path, painted: tuple[Path, pa.Table], tmp_path: Path
) -> None:
    codes, whole = painted
    table = decode(
        model, codes, tmp_path / "out", score_columns=True, output_schema="idx,text", codes_column=True
    )
    assert table.column_names == ["idx", "text", "score_logp", "score_gain", "codes"]
    assert table["codes"].equals(whole["codes"])
    for name in ("score_logp", "score_gain"):
        found, drawn = (t[name].to_numpy() for t in (table, whole))
        np.testing.assert_allclose(found, drawn, rtol=1e-4, atol=1e-4)
        assert np.ptp(drawn) > 1


def test_the_rest_is_painted_behind_what_is_kept(
    model: Path, painted: tuple[Path, pa.Table], tmp_path: Path
) -> None:
    codes, whole = painted
    given, first = np.repeat(codes_of(whole), 2, axis=0), GRID * GRID // 2
    more = {"init_share": 0.5, "codes_column": True, "max_generated_num": 2, "sampling": SAMPLING}
    found = codes_of(decode(model, codes, tmp_path / "other", random_seed=7, **more))
    np.testing.assert_array_equal(found[:, :first], given[:, :first])
    assert (found[:, first:] != given[:, first:]).any(axis=1).all(), "painted"
    assert (found[::2, first:] != found[1::2, first:]).any(axis=1).all(), "samples differ"
    again = decode(model, codes, tmp_path / "same", output_schema="idx,text", **more)
    same = codes_of(again)[:: 2 * N]  # sample 0 of sample 0
    np.testing.assert_array_equal(same, codes_of(whole)[::N], "the same seed goes on as the first run did")
    identity = json.loads((tmp_path / "same" / "manifest.json").read_text())["identity"]
    assert identity["start"] == {"rows": GRID // 2, "given": "codes"}
    assert code_of(lambda: decode(model, codes, tmp_path / "same")) == 4


def test_codes_of_pictures_are_decoded(model: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.tsv"
    lines = (f"p{i}\t{text}\t{sample_cell(i)}\n" for i, text in enumerate(CAPTIONS))
    pairs.write_text("".join(lines), encoding="utf-8")
    table = decode(model, make_codes(pairs, model, tmp_path / "codes"), tmp_path / "out")
    assert len(set(table["gen_imgbase64"].to_pylist())) == len(CAPTIONS)
    other = write_painter(tmp_path / "other", scale=1.0)  # of the same VQGAN
    config = config_of(other, tmp_path / "codes", tmp_path / "there", init_codes="codes")
    assert paint_table(config)["gen_imgbase64"].equals(table["gen_imgbase64"])


def test_codes_of_another_vqgan_are_refused(
    painted: tuple[Path, pa.Table], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = write_painter(tmp_path / "other", seed=4)
    assert code_of(lambda: decode(other, painted[0], tmp_path / "out")) == 2
    assert re.search("codes: its codes were made by another VQGAN .* other pictures", caplog.text)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [pa.list_(pa.uint16()), pa.large_list(pa.uint16())])
def test_codes_that_do_not_fit_are_rejects(
    kind: pa.DataType, model: Path, painted: tuple[Path, pa.Table], tmp_path: Path
) -> None:
    good = codes_of(painted[1])[0].tolist()
    cells = [good, good[:-1], [*good, 1], [*good[:-1], BOOK], [None, *good[1:]], [], None, good]
    rows = write_codes(tmp_path / "rows.parquet", cells, kind)
    table = decode(model, rows, tmp_path / "out", init_codes="mine")
    assert table["idx"].to_pylist() == ["p0", "p7"]
    assert table["gen_imgbase64"].to_pylist() == [painted[1]["gen_imgbase64"][0].as_py()] * 2
    rejects = pq.read_table(tmp_path / "out" / "rejects").to_pylist()
    assert {(r["column"], r["reason"]) for r in rejects} == {("mine", "codes_invalid")}
    assert [(r["row"], r["detail"]) for r in rejects] == [
        (2, "15 codes, the model reads 16"),
        (3, "17 codes, the model reads 16"),
        (4, "code 64 is outside the codebook of 64"),
        *((row, "no codes, or a null among them") for row in (5, 6, 7)),
    ]
    few = decode(model, rows, tmp_path / "few", init_codes="mine", init_share=0.5, codes_column=True)
    assert few["idx"].to_pylist() == ["p0", "p1", "p7"], "the upper rows are enough"


@pytest.mark.parametrize(
    ("kind", "column", "message"),
    [
        (pa.list_(pa.int64()), "mine", r"column 'mine': type list<.*int64> is not accepted, only a list of"),
        (None, "codes", "column 'codes': expected once, found 0 times in .*: --init-codes NAME"),
        (None, "text", "column 'text': type string is not accepted, only a list of uint16"),
    ],
)
def test_columns_without_codes(
    kind: pa.DataType,
    column: str,
    message: str,
    model: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = write_codes(tmp_path / "rows.parquet", [[0] * LENGTH], kind)
    assert code_of(lambda: decode(model, rows, tmp_path / "out", init_codes=column)) == 2
    assert re.search(message, caplog.text)


def test_a_tsv_has_no_codes(model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    prompts = write_prompts(tmp_path / "prompts.tsv")
    assert code_of(lambda: decode(model, prompts, tmp_path / "out")) == 2
    assert "prompts.tsv: codes are lists in Parquet" in caplog.text


def test_a_killed_run_goes_on(model: Path, painted: tuple[Path, pa.Table], tmp_path: Path) -> None:
    rows = write_codes(tmp_path / "rows.parquet", codes_of(painted[1]).tolist() * 4)
    flags = {"init_codes": "mine", "score_columns": True}
    decode(model, rows, tmp_path / "whole", **flags)
    dies = faults(tmp_path / "faults", "part_written:kill:2")
    assert killed(lambda: decode(model, rows, tmp_path / "out", **flags), dies)
    assert not (tmp_path / "out" / "manifest.json").exists()
    decode(model, rows, tmp_path / "out", **flags)
    found, expected = rows_of(tmp_path / "out"), rows_of(tmp_path / "whole")
    assert found == expected
    assert len(expected) > 2


def test_a_dry_run_writes_nothing(
    model: Path, painted: tuple[Path, pa.Table], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    config = config_of(model, painted[0], tmp_path / "out", init_codes="codes")
    config = dataclasses.replace(config, table=dataclasses.replace(config.table, dry_run=True))
    opened = open_model(str(model))
    config = for_workers(config, opened)
    with Run({}) as run:
        table = TableRun(table_job(config, opened, ALONE), run, ALONE)
        table.execute(*steps_of(config, opened, table), parts=Parts(build=config.output_table()))
    assert "sample of 15 rows in this process: 15 out, 0 rejected" in caplog.text
    assert contents(tmp_path / "out") == {}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"init_image": "photo"}, "--init-codes codes: a row begins with codes or with a picture"),
        ({"max_generated_num": 2}, "--max-generated-num: does nothing beside --init-codes that are all kept"),
        ({"sweep": "top-k=1,2"}, "--sweep: does nothing beside --init-codes"),
        ({"random_seed": 1}, "--random-seed: does nothing"),
        ({"sampling": SAMPLING, "init_share": 1.0}, "--top-k: does nothing"),
        ({"keep_best": 1}, "--keep-best: does nothing"),
        ({"prompt_prefix": "大号"}, "--prompt-prefix: does nothing .* nothing scored"),
        ({"output_schema": "idx,text"}, "--output-schema idx,text: whole --init-codes are decoded or scored"),
        ({"init_share": 1.5}, "--init-share: got 1.5"),
    ],
)
def test_flags_that_make_no_sense(flags: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        config_of(tmp_path, tmp_path, tmp_path / "out", **{"init_codes": "codes"} | flags)
