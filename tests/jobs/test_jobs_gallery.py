"""A gallery of what generate.py painted, with the scores that evaluate.py gave."""

import json
import math
from pathlib import Path

import pytest

from painter_core.sample.pictures import sample_row
from tests.support.gallery import facts, page_of
from tests.support.jobs import Jobs

PROMPTS, SAMPLES = 5, 2


@pytest.fixture(scope="module")
def scored(jobs: Jobs, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pictures/ of the sample's captions, and their scores/."""
    folder = tmp_path_factory.mktemp("scored")
    lines = (f"p{i}\t{sample_row(5, i, split='held_out').text}\n" for i in range(PROMPTS))
    (folder / "prompts.tsv").write_text("".join(lines), encoding="utf-8")
    flags = ("--checkpoint-dir", model, "--max-generated-num", SAMPLES, "--random-seed", 9)
    jobs.run("generate", "--tables", folder / "prompts.tsv", "--outputs", folder / "pictures", *flags)
    flags = ("--outputs", folder / "scores", "--attributes", "--metrics", "likelihood")
    flags = (*flags, "--checkpoint-dir", model, "--wait-for-gpus", 1)
    printed = jobs.run("evaluate", "--tables", folder / "pictures", *flags)
    assert "waiting up to 1 s for 1 GPUs; the cluster has 0" in printed
    return folder


def test_output_table_with_its_scores(scored: Path, tmp_path: Path) -> None:
    page = page_of(tmp_path, tables=str(scored / "pictures"), scores=str(scored / "scores"))
    assert facts(page, "idx") == [f"p{i}" for i in range(PROMPTS) for _ in range(SAMPLES)]
    assert facts(page, "sample") == [str(k) for _ in range(PROMPTS) for k in range(SAMPLES)]
    assert facts(page, "seed") == ["9"] * PROMPTS * SAMPLES
    assert all(sample_row(5, i, split="held_out").text in page for i in range(PROMPTS))
    right = [int(score.removesuffix("/5")) for score in facts(page, "score")]
    found = json.loads((scored / "scores" / "score.json").read_text())
    assert found["num_pictures"] == len(right) == PROMPTS * SAMPLES
    assert sum(right) / 5 / len(right) == pytest.approx(found["single"])
    assert 0 < found["tables"][0]["likelihood"]["bits_per_code"] < 2 * math.log2(64), "a model worker's part"
    assert "Best by bits a code" in (scored / "scores" / "report.html").read_text()
    assert not facts(page_of(tmp_path, tables=str(scored / "pictures")), "score")
