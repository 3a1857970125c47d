"""Pages of runs: what is there stands on them, nothing runs, and no other directory is taken for a run."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from painter_core.images.decode import encode_image
from painter_core.runs.run import Run
from painter_core.stages.report.run import ReportConfig, report, write_page
from tests.support.codes_table import make_codes
from tests.support.gallery import make_pictures
from tests.support.jobs import sample_cell
from tests.support.local_run import code_of, run_here, write_input

HOSTILE = "</dd><script>document.title='hacked'</script>{{ 7 * 7 }}\u202e"
IDENTITY = {
    "stage": "train",
    "gpt": {"n_layer": 4},
    "tables_sha256": ["ab" * 32],
    "tokenizer_sha256": "cd" * 32,
}


def page_of(run_dir: object, page: Path) -> str:
    write_page(ReportConfig(run_dir=str(run_dir), outputs=str(page)))
    return page.read_text()


def facts(page: str) -> dict[str, str]:
    """Names and values, without links."""
    found = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page)
    return {name: re.sub(r"<[^>]+>", "", value) for name, value in found}


def training(directory: Path, *, tables: str = "/data/train", whole: bool = True, steps: int = 40) -> Path:
    """What a training leaves, as far as the page reads it."""
    (directory / "_run").mkdir(parents=True)
    config = {"tables": tables, "learning_rate": 0.002, "vocab": None, "run": {"logging_steps": 10}}
    plan = {"stage": "train", "fingerprint": "f" * 64, "identity": IDENTITY, "config": config}
    (directory / "_run" / "plan.json").write_text(json.dumps(plan))
    lines = [
        {
            "step": s,
            "time_s": s,
            "train_loss": 9 - s / 10,
            "lr": 0.1 / s,
            "samples_per_s": 100.0 + s,
            "num_workers": 2,
        }
        for s in range(10, steps + 1, 10)
    ]
    lines.append({"step": steps, "time_s": steps, "valid_loss": 5.25})
    cut = "" if whole else '{"step": 50, "tra'
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + cut)
    summary = {"exit_code": 0 if whole else 1, "message": "" if whole else HOSTILE, "seconds": 75.2}
    (directory / "summary.json").write_text(json.dumps(summary))
    if whole:
        (directory / "_SUCCESS").touch()
    return directory


def test_a_table_with_rejects(tmp_path: Path) -> None:
    run_here(write_input(tmp_path / "in.tsv"), tmp_path / "out")
    page = page_of(tmp_path / "out", tmp_path / "pages.html")
    found = facts(page)
    assert (found["rows in"], found["rows out"], found["rejected"]) == ("100", "90", "10 (10.0%)")
    assert found["units done"] == "7 of 7"
    assert '<span class="state">complete</span>' in page
    assert re.search(r'<th scope="row">text_empty</th><td>10</td>.*the caption is null, blank', page)
    assert f"text_empty: {tmp_path}/in.tsv line 8" in page
    assert page.count("text_empty: ") == 3, "some examples, not all"
    assert f'<a href="in.tsv">{tmp_path}/in.tsv</a>' in page
    assert '<a href="out/rejects">' in page
    assert "90" in found["captions read"]


def test_codes_are_painted_and_an_unfinished_table_says_so(
    tiny_vqgan: Path, tmp_path: Path, one_thread: None
) -> None:
    pairs = tmp_path / "pairs.tsv"
    rows = [f"r{i}\t{HOSTILE if i == 3 else f'文 {i}'}\t{sample_cell(i)}" for i in range(40)]
    pairs.write_text("\n".join(rows) + "\n", encoding="utf-8")
    page = page_of(make_codes(pairs, tiny_vqgan, tmp_path / "codes", units=2), tmp_path / "page.html")
    assert '<span class="state bad">not finished</span>' in page
    assert "submit the same command again" in page
    found = facts(page)
    assert found["units done"] == "2 of 3"
    assert found["codes of a picture"] == "16"
    assert re.match(r"[\d.,]+ rows/s: [\d.]+ s .* for 2 of 2 units", found["in the model"])
    assert found["preprocessing image size"] == "16"
    assert page.count("data:image/png;base64,") == 24


def test_pictures(tmp_path: Path) -> None:
    page = page_of(make_pictures(tmp_path, "out.tsv", rows=30), tmp_path / "page.html")
    assert page.count("data:image/png;base64,") == 24
    found = facts(page)
    assert found["formats"] == "PNG 30"
    assert found["sizes"] == "16x16 30"
    assert "红 1" in page


def test_a_score_is_a_table_with_a_link_to_its_report(tmp_path: Path) -> None:
    run_here(write_input(tmp_path / "in.tsv"), tmp_path / "score")
    text = "| pictures | all right |\n| --- | --- |\n| 64 | 25.0% |\n\n- few pictures\n"
    (tmp_path / "score" / "score.md").write_text(text)
    (tmp_path / "score" / "report.html").write_text("page")
    page = page_of(tmp_path / "score", tmp_path / "page.html")
    assert '<th scope="col">pictures</th><th scope="col">all right</th>' in page
    assert "<td>64</td><td>25.0%</td>" in page
    assert "---" not in page
    assert "<li>few pictures</li>" in page
    assert '<a href="score/report.html">' in page


def test_a_training(tmp_path: Path) -> None:
    root = training(tmp_path / "model", tables=f"{tmp_path}/a b,s3://user:key@bucket/valid")
    (tmp_path / "a b").mkdir()
    (root / "previews").mkdir()
    for step in range(1, 10):
        sheet = encode_image(np.full((8, 8, 3), step, np.uint8))
        (root / "previews" / f"step-{step:08d}.png").write_bytes(sheet)
    page = page_of(root, tmp_path / "page.html")
    found = facts(page)
    assert (found["steps done"], found["best valid loss"], found["last run took"]) == (
        "40",
        "5.25",
        "0:01:15",
    )
    assert found["workers"] == "2: steps 10 to 40"
    assert found["samples/s, median"] == "125.0"
    titles = re.findall(r"<h3>(.*?)</h3>", page)
    assert titles == ["loss", "learning rate", "samples a second"]
    assert page.count('<path class="c0"') == 3
    assert page.count('<path class="c1"') == 1, "valid loss beside train loss"
    assert re.findall(r'<p class="caption" lang="zh-Hans">(step \d+)</p>', page) == [
        "step 1", "step 3", "step 4", "step 6", "step 7", "step 9"
    ]  # fmt: skip
    assert (found["learning rate"], found["logging steps"], found["gpt n layer"]) == ("0.002", "10", "4")
    assert "vocab" not in found, "what was not given is not said"
    assert f'<a href="a%20b">{tmp_path}/a b</a>' in page
    assert "s3://bucket/valid" in page
    assert "key@" not in page
    assert found["tokenizer sha256"] == "cd" * 32


def test_a_training_that_ended_says_why_and_is_harmless(tmp_path: Path) -> None:
    page = page_of(training(tmp_path / HOSTILE.replace("/", "|"), whole=False), tmp_path / "page.html")
    assert '<span class="state bad">not finished</span>' in page
    assert "{{ 7 * 7 }}⟨U+202E⟩" in page
    assert "<script" not in page


def test_a_vqgan_training_names_its_files(tmp_path: Path) -> None:
    root = training(tmp_path / "vqgan")
    files = [["/data/a.parquet", 10, "1"]], [["/data/b.parquet", 10, "1"]]
    identity = {"stage": "train_vqgan", "tables": files, "geometry": {"ch": 32}, "start_sha256": None}
    plan = {"stage": "train_vqgan", "fingerprint": "f" * 64, "identity": identity}
    (root / "_run" / "plan.json").write_text(json.dumps(plan))
    page = page_of(root, tmp_path / "page.html")
    assert "/data/a.parquet" in page
    assert "/data/b.parquet" in page
    assert facts(page)["geometry ch"] == "32"


def test_a_training_before_its_first_line(tmp_path: Path) -> None:
    root = training(tmp_path / "model", whole=False)
    for name in ("metrics.jsonl", "summary.json"):
        (root / name).unlink()
    page = page_of(root, tmp_path / "page.html")
    assert facts(page)["steps done"] == "0"
    assert "It is at work, or was ended by force" in page


def test_pages_are_self_contained(tmp_path: Path) -> None:
    run_here(write_input(tmp_path / "in.tsv"), tmp_path / "out")
    for root in (tmp_path / "out", training(tmp_path / "model")):
        page = page_of(root, tmp_path / f"{root.name}.html")
        assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
        assert not re.search(r"https?:|url\(|@import|<script|<link", page)
        assert "prefers-color-scheme: dark" in page


def test_the_same_bytes_for_the_same_run(tmp_path: Path) -> None:
    root = training(tmp_path / "model")
    assert page_of(root, tmp_path / "a.html") == page_of(root, tmp_path / "b.html")


def test_what_is_no_run_ends_with_2_and_a_page_that_exists_with_4(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def job(**flags: object) -> int:
        def call() -> None:
            config = ReportConfig(**flags)
            with Run(config.paths()) as run:
                report(config, run)

        return code_of(call)

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_text("mine")
    for name in ("mine", "absent", "mine/photo.jpg"):
        assert job(run_dir=str(tmp_path / name)) == 2
        assert "expected the --outputs of precompute_codes" in caplog.text.replace("Expected", "expected")
        caplog.clear()
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    root = training(tmp_path / "model")
    assert job(run_dir=f"{root}/") == 0
    page = tmp_path / "model.report.html"
    before = page.read_text()
    assert job(run_dir=str(root)) == 4
    shutil.rmtree(root / "_run")
    assert job(run_dir=str(root), overwrite=True) == 2
    assert page.read_text() == before


def test_the_page_of_a_url(store: None) -> None:
    import fsspec

    fs = fsspec.filesystem("s3")
    plan = {"stage": "train", "fingerprint": "f" * 64, "identity": IDENTITY, "config": {"tables": "s3://b/t"}}
    fs.pipe_file("s3://b/model/_run/plan.json", json.dumps(plan).encode())
    write_page(ReportConfig(run_dir="s3://b/model"))
    assert b"not finished" in fs.cat_file("s3://b/model.report.html")
