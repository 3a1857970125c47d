"""generate.py --sweep: a caption at every setting, from the same random numbers; and the grid of them."""

import re
from pathlib import Path

import pyarrow as pa
import pytest

from painter_core.painting.sampling import SamplingConfig
from painter_core.painting.sweep import sweep_settings, swept_names
from painter_core.stages.make_gallery.grid import settings_of
from tests.support.gallery import facts, page_of
from tests.support.local_run import code_of
from tests.support.painting import CAPTIONS, config_of, paint_table, write_painter, write_prompts

pytestmark = pytest.mark.usefixtures("one_thread")

SWEEP = "guidance-scale=1,3;temperature=0.7,1"
SETTINGS = [(1.0, 0.7), (1.0, 1.0), (3.0, 0.7), (3.0, 1.0)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_painter(tmp_path_factory.mktemp("sweep") / "model")


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prompts(tmp_path_factory.mktemp("sweep") / "prompts.tsv")


@pytest.fixture(scope="module")
def swept(model: Path, prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pa.Table]:
    """An output table, two pictures a setting, and its rows."""
    outputs = tmp_path_factory.mktemp("sweep") / "swept"
    return outputs, paint(model, prompts, outputs, sweep=SWEEP, max_generated_num=2)


def paint(model: Path, prompts: Path, outputs: Path, **flags: object) -> pa.Table:
    flags = {"sampling": SamplingConfig(top_k=20)} | flags
    return paint_table(config_of(model, prompts, outputs, **flags))


def test_every_setting_is_what_a_run_of_its_own_paints(
    swept: tuple[Path, pa.Table], model: Path, prompts: Path, tmp_path: Path
) -> None:
    table = swept[1]
    assert table.column_names == ["idx", "text", "gen_imgbase64", "guidance_scale", "temperature", "sample"]
    rows = table.to_pylist()
    found = [(r["idx"], r["guidance_scale"], r["temperature"], r["sample"]) for r in rows]
    assert found == [(f"p{i}", *s, n) for i in range(len(CAPTIONS)) for s in SETTINGS for n in (0, 1)]
    for guidance_scale, temperature in (SETTINGS[0], SETTINGS[3]):
        sampling = SamplingConfig(top_k=20, guidance_scale=guidance_scale, temperature=temperature)
        name = f"g{guidance_scale}"
        alone = paint(model, prompts, tmp_path / name, sampling=sampling, max_generated_num=2)
        here = [
            r["gen_imgbase64"]
            for r in rows
            if (r["guidance_scale"], r["temperature"]) == (guidance_scale, temperature)
        ]
        assert here == alone["gen_imgbase64"].to_pylist()


def test_a_sweep_ranks_within_a_setting(
    swept: tuple[Path, pa.Table], model: Path, prompts: Path, tmp_path: Path
) -> None:
    best = paint(
        model, prompts, tmp_path / "best", sweep=SWEEP, max_generated_num=2, keep_best=1, codes_column=True
    )
    assert len(best) == len(CAPTIONS) * len(SETTINGS)
    pictures = {
        (r["idx"], r["guidance_scale"], r["temperature"], r["sample"]): r["gen_imgbase64"]
        for r in swept[1].to_pylist()
    }
    for row in best.to_pylist():
        key = (row["idx"], row["guidance_scale"], row["temperature"], row["sample"])
        assert row["gen_imgbase64"] == pictures[key]
        assert row["rank"] == 0
    assert code_of(lambda: paint(model, prompts, tmp_path / "best", sweep="temperature=0.7,1")) == 4


def test_the_gallery_is_a_grid(swept: tuple[Path, pa.Table], tmp_path: Path) -> None:
    page = page_of(tmp_path, tables=str(swept[0]))
    heads = re.findall(r'<th scope="col">(.*?)</th>', page)
    assert [re.findall("<div>(.*?)</div>", head) for head in heads] == [
        [f"guidance_scale {g:g}", f"temperature {t:g}"] for g, t in SETTINGS
    ]
    rows = re.findall(r'<th scope="row".*?>(.*?)</th>(.*?)</tr>', page, re.DOTALL)
    assert [caption for caption, _ in rows] == list(CAPTIONS)
    expected = [r["gen_imgbase64"] for r in swept[1].to_pylist()]
    shown = re.findall(r"base64,([^\"]*)\"", page)
    assert shown == expected
    assert [cells.count("<td>") for _, cells in rows] == [len(SETTINGS)] * len(CAPTIONS)
    few = page_of(tmp_path, tables=str(swept[0]), max_entries=2)
    assert few.count('<th scope="row"') == 2
    assert "2 of 5 rows shown" in few


def test_each_setting_has_its_score() -> None:
    identity = {"sweep": [{"temperature": t, "top_k": 5} for t in (0.5, 1.0)], "max_generated_num": 2}
    scores = {"a": ["5/5", "5/5", "1/5", "0/5"], "b": ["5/5", "4/5", "2/5", "2/5"], "c": ["5/5"]}
    found = settings_of(identity, scores)
    assert [setting.facts for setting in found] == [(("temperature", "0.5"),), (("temperature", "1"),)]
    assert [setting.score for setting in found] == ["95.0% of 4", "25.0% of 4"]
    assert settings_of(identity, {})[0].score is None


def test_kept_pictures_say_how_good_they_are(model: Path, prompts: Path, tmp_path: Path) -> None:
    table = paint(model, prompts, tmp_path / "best", max_generated_num=3, keep_best=2)
    page = page_of(tmp_path, tables=str(tmp_path / "best"))
    assert facts(page, "rank") == [str(rank) for rank in table["rank"].to_pylist()]
    assert facts(page, "score_logp") == [f"{logp:.4g}" for logp in table["score_logp"].to_pylist()]


def test_values_are_combined() -> None:
    base = SamplingConfig(top_k=7, top_p=0.5)
    found = sweep_settings("top-k=1,0; --temperature=0.5", base)
    assert found == [SamplingConfig(top_k=k, top_p=0.5, temperature=0.5) for k in (1, 0)]
    assert swept_names("top-k=1,0; --temperature=0.5") == ("top_k", "temperature")


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("", "--sweep: got '', expected NAME=VALUE"),
        ("seed=1,2", "--sweep: got 'seed=1,2', expected NAME=VALUE,... with NAME of top-k, top-p"),
        ("top-k", "--sweep: got 'top-k'"),
        ("top-k=1.5", "--sweep: top-k: got '1.5', expected a number"),
        ("temperature=hot", "got 'hot', expected a number"),
        ("temperature=1,1.0", "a value stands twice in 1,1.0"),
        ("top-k=1;top-k=2", "--sweep: top-k stands twice"),
        ("temperature=0", "--temperature: got 0.0, expected"),
        ("guidance-scale=0.5,1", "--guidance-scale: got 0.5, expected 1 to 100"),
    ],
)
def test_sweeps_that_mean_nothing(sweep: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sweep_settings(sweep, SamplingConfig())


def test_easynlps_lines_have_no_settings(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--sweep: the lines of --easynlp-format"):
        config_of(tmp_path, tmp_path, tmp_path / "o.tsv", sweep=SWEEP, easynlp_format=True)
    with pytest.raises(ValueError, match="--sweep: pictures a prompt: got 8000, expected 1 to 4096"):
        config_of(tmp_path, tmp_path, tmp_path / "o", sweep="top-k=1,2", max_generated_num=4000)
