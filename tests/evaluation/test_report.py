"""score.json, score.md and the report page: complete, equal for equal scores, harmless whatever is shown."""

import io
import json
import math
import re

import numpy as np
import pytest
from PIL import Image

from painter_core.evaluation.clip_score import ClipScore
from painter_core.evaluation.columns import columns, facts, to_markdown
from painter_core.evaluation.inception_score import InceptionScore
from painter_core.evaluation.kernel_distance import KernelDistance
from painter_core.evaluation.report.page import Example, Examples, render_report
from painter_core.evaluation.report.plots import BINS, HEIGHT, WIDTH, Series, distribution
from painter_core.evaluation.score import (
    Attributes,
    Frechet,
    Likelihood,
    Reconstruction,
    Reference,
    Rows,
    Score,
    TableScore,
)

HOSTILE = "</td><script>document.title='hacked'</script>{{ 7 * 7 }}\u202e"


def rows(path: str = "a.tsv", rejected: int = 0) -> Rows:
    reasons = {"img_truncated": rejected} if rejected else {}
    return Rows(
        path=path, rows_in=10, rows_rejected=rejected, rejected=reasons, pictures=10 - rejected,
        formats={"PNG": 9 - rejected, "JPEG": 1}, sizes={"64x64": 10 - rejected},
    )  # fmt: skip


def full(name: str = "a", fid: float | None = 12.5, rejected: int = 0) -> TableScore:
    return TableScore(
        name=name,
        rows=rows(f"runs/{name}.tsv", rejected),
        fid=(Frechet(value=fid, blur=0, form="features"), Frechet(value=3.25, blur=4, form="features")),
        kid=KernelDistance(mean=0.0015, deviation=0.0002, subsets=100, subset_size=10),
        inception_score=InceptionScore(mean=8.125, deviation=0.5, splits=10),
        clip=ClipScore(score=0.5, shuffled=0.25, recall_at_1=0.5, recall_at_10=1.0, among=10, pictures=10),
        likelihood=Likelihood(bits_per_code=6.5, nats_per_code=4.5),
        attributes=Attributes(shares={"kind": 1.0, "colour": 0.5}, single=0.75, all_right=0.5),
        why={"FID": "because"} if fid is None else {},
    )


def score(*tables: TableScore, reference: bool = True) -> Score:
    held = Reference(path="ref.tsv", n=12, rows=rows("ref.tsv", 2)) if reference else None
    return Score(
        tables=tables, reference=held, made_with={"resize to 299": "clean", "Inception sha256": "ab" * 32},
        notes=("few pictures",),
    )  # fmt: skip


def test_json_says_everything_and_is_equal_for_equal_scores() -> None:
    found = json.loads(score(full(rejected=1)).to_json())
    table = found["tables"][0]
    assert found["format"] == 1
    assert (table["fid"][0]["value"], table["fid"][1]["blur"]) == (12.5, 4)
    assert table["rows"] == {
        "path": "runs/a.tsv", "rows_in": 10, "rows_rejected": 1, "rejected": {"img_truncated": 1},
        "pictures": 9, "formats": {"PNG": 8, "JPEG": 1}, "sizes": {"64x64": 9},
    }  # fmt: skip
    assert found["reference"]["rows"]["rows_rejected"] == 2
    assert found["made_with"]["Inception sha256"] == "ab" * 32
    assert score(full()).to_json() == score(full()).to_json()


def test_json_never_holds_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        score(full(fid=math.nan)).to_json()


def test_columns_stand_side_by_side_and_the_best_is_marked() -> None:
    found = {c.title: c for c in columns(score(full("a", 12.5), full("b", 11.0, rejected=1)))}
    assert found["pictures"].cells == ("10", "9")
    assert found["rejected rows"].cells == ("0", "1")
    assert (found["FID-0"].cells, found["FID-0"].best) == (("12.500", "11.000"), 1)  # lower is better
    assert found["FID-4"].best is None  # equal
    assert found["KID x 1000"].cells[0] == "1.500 ± 0.200"
    assert found["CLIP cosine"].cells[0] == "0.5000"
    assert found["shuffled captions"].cells[0] == "0.2500"
    assert found["R@1 of 10"].cells[0] == "50.0%"
    assert found["bits a code"].cells[0] == "6.5000"
    assert found["all right"].cells[0] == "50.0%"


def test_a_value_that_is_missing_says_why() -> None:
    table = full(fid=None)
    assert next(c for c in columns(score(table)) if c.title == "FID-0").cells == ("-",)
    assert "a: no FID: because" in to_markdown(score(table))
    one = {c.title: c.cells for c in columns(score(full("a"), TableScore(name="b", rows=rows())))}
    assert one["CLIP cosine"] == ("0.5000", "-")


def test_markdown_is_a_table_with_what_it_depends_on() -> None:
    text = to_markdown(score(full("a|b", rejected=1), full("c")))
    lines = text.splitlines()
    assert lines[0].startswith("| table | pictures | rejected rows | FID-0 | FID-4 | KID x 1000 | IS |")
    assert len({line.count("|") for line in lines[:4]}) == 1
    for line in (
        "- reference: ref.tsv, 12 pictures",
        "- formats and sizes in a|b: 8 PNG, 1 JPEG; 9 64x64",
        "- rejected of a|b: 1 of 10 rows: 1 img_truncated",
        "- rejected of the reference: 2 of 10 rows: 2 img_truncated",
        "- resize to 299: clean",
        f"- Inception sha256: {'ab' * 32}",
        "- few pictures",
    ):
        assert line in lines
    assert to_markdown(score(full(), reference=False)).startswith("| pictures |")


def test_statistics_of_unknown_number_say_so() -> None:
    found = Score(tables=(full(),), reference=Reference(path="x.npz", n=None), made_with={}, notes=())
    assert ("reference", "x.npz, unknown number of pictures") in facts(found)


def test_reconstruction_has_its_own_columns() -> None:
    rfid = Frechet(value=4.5, blur=0, form="features")
    table = TableScore(
        name="a", rows=rows(), reconstruction=Reconstruction(psnr=26.125, ssim=0.9, lpips=0.1, rfid=rfid)
    )
    found = {c.title: c.cells[0] for c in columns(score(table, reference=False))}
    assert found == {
        "pictures": "10", "rejected rows": "0", "PSNR dB": "26.12", "SSIM": "0.9000", "LPIPS": "0.1000",
        "rFID": "4.500",
    }  # fmt: skip


def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (20, 20), (200, 30, 40)).save(out, "PNG")
    return out.getvalue()


def page(text: str = "红色连衣裙", images: tuple[bytes, ...] = (png(),)) -> str:
    plot = distribution("CLIP", "cosine", [Series(name=text, values=np.array([0.1, 0.2, 0.9]))])
    assert plot is not None
    example = Example(idx=text, caption=text, images=images, values=(("CLIP", "0.5"),))
    found = score(full(text), full("b", 11.0))
    return render_report(text, found, [plot], [Examples(title=text, examples=(example,))])


def test_page_is_self_contained_and_shows_all() -> None:
    found = page()
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in found
    assert not re.search(r"https?:|url\(|@import|<script|<link|<a ", found)
    assert "prefers-color-scheme: dark" in found
    for shown in ("红色连衣裙", "FID-0 ↓", "12.500", "few pictures", "ab" * 32, "<svg", "9 PNG"):
        assert shown in found
    assert found.count("<td class=best>") == 1  # b's FID
    assert found == page()


def test_text_of_tables_stays_text() -> None:
    found = page(HOSTILE)
    assert "<script" not in found
    assert "\u202e" not in found
    assert "&lt;script&gt;" in found
    assert "{{ 7 * 7 }}" in found
    assert "\u202e" not in to_markdown(score(full(HOSTILE), full("b")))


def test_a_picture_that_no_browser_shows_is_said() -> None:
    assert "cannot be shown" in page(images=(b"no picture",))


def test_shares_of_a_distribution_are_drawn_over_one_axis() -> None:
    a, b = Series(name="a", values=np.array([0.0, 1.0])), Series(name="b", values=np.array([2.0] * 7))
    plot = distribution("t", "x", [a, b])
    assert plot is not None
    heights = [
        [HEIGHT - float(v) for v in re.findall(r"V([\d.]+)", outline.path)[:BINS]]
        for outline in plot.outlines
    ]
    assert heights[0][0] == heights[0][BINS // 2] == pytest.approx(HEIGHT / 2, abs=0.1)
    assert heights[1][-1] == HEIGHT  # all of b in the last bin
    assert [text for _, text in plot.ticks] == ["0", "0.5", "1", "1.5", "2"]
    assert [place for place, _ in plot.ticks] == [0, WIDTH / 4, WIDTH / 2, 3 * WIDTH / 4, WIDTH]
    assert plot.outlines[1].summary == "n 7, mean 2, 5 % 2, median 2, 95 % 2"


@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0], [1e-9, 2e-9], [-5e6, 7e6], [np.nan, 1.0, 2.0]])
def test_any_values_make_a_plot(values: list[float]) -> None:
    plot = distribution("t", "x", [Series(name="a", values=np.array(values))])
    assert plot is not None
    assert 1 <= len(plot.ticks) <= 8
    assert all(0 <= place <= WIDTH for place, _ in plot.ticks)
    assert "nan" not in plot.outlines[0].path


def test_no_values_make_none() -> None:
    assert distribution("t", "x", [Series(name="a", values=np.array([np.nan]))]) is None
    assert distribution("t", "x", []) is None
