"""generate.py's options on Ray: the same bytes as in one process."""

from dataclasses import replace
from pathlib import Path

import pytest

from painter_core.runs.flags import PAIRS_SCHEMA, PromptFlags
from tests.support.captioning import write_captioner
from tests.support.evaluation import judge
from tests.support.jobs import Jobs, table_bytes
from tests.support.painting import config_of, paint_table, write_painter, write_prompts

pytestmark = pytest.mark.usefixtures("one_thread")


def test_all_options_at_once(jobs: Jobs, write_pairs, tmp_path: Path) -> None:
    """Decoding, encoding, drawing, choosing, settings and codes in one table of two units, with a reject."""
    model, pairs = write_painter(tmp_path / "model"), write_pairs(tmp_path / "pairs.tsv", 20)
    lines = pairs.read_text(encoding="utf-8").splitlines(keepends=True)
    lines[17] = "r17\t红\tAAAA\n"
    pairs.write_text("".join(lines), encoding="utf-8")
    options = {"init_image": "imgbase64", "init_share": 0.25, "sweep": "temperature=0.7,1"}
    options |= {"max_generated_num": 2, "keep_best": 1, "score_columns": True, "codes_column": True}
    options |= {"upscale": 2, "prompt_prefix": "大号", "prompt_suffix": ",白底"}
    config = config_of(model, pairs, tmp_path / "here", micro_batch_size=4, **options)
    paint_table(replace(config, input=PromptFlags(input_schema=PAIRS_SCHEMA)))
    flags = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is True]
    for name, value in options.items():
        if value is not True:
            flags += [f"--{name.replace('_', '-')}", str(value)]
    jobs.run(
        "generate", "--tables", pairs, "--input-schema", PAIRS_SCHEMA, "--checkpoint-dir", model,
        "--outputs", tmp_path / "there", "--precision", "fp32", "--micro-batch-size", 4,
        "--max-reject-fraction", 0.5, *flags,
    )  # fmt: skip
    assert len(table_bytes(tmp_path / "there")) == 2
    assert table_bytes(tmp_path / "there") == table_bytes(tmp_path / "here")
    found, expected = (table_bytes(tmp_path / name / "rejects") for name in ("there", "here"))
    assert list(found) == list(expected) != []


@pytest.mark.slow
def test_codes_are_drawn_chosen_and_decoded(jobs: Jobs, tmp_path: Path) -> None:
    """Three jobs: codes alone, the best of each caption by another score, the pictures of these."""
    model, prompts = write_captioner(tmp_path / "model"), write_prompts(tmp_path / "prompts.tsv", 20)
    flags = ("--checkpoint-dir", model, "--precision", "fp32", "--micro-batch-size", 4)
    codes, scores, pictures = (tmp_path / name for name in ("codes", "scores", "pictures"))
    jobs.run(
        "generate", "--tables", prompts, "--outputs", codes, "--output-schema", "idx,text",
        "--codes-column", "--max-generated-num", 3, *flags,
    )  # fmt: skip
    jobs.run(
        "evaluate", "--tables", codes, "--outputs", scores, "--metrics", "caption", "--keep-best", 1,
        "--checkpoint-dir", model,
    )  # fmt: skip
    judge(codes, tmp_path / "here", metrics="caption", keep_best=1, checkpoint_dir=str(model))
    assert table_bytes(scores / "best") == table_bytes(tmp_path / "here" / "best")
    jobs.run("generate", "--tables", scores / "best", "--outputs", pictures, "--init-codes", "codes", *flags)
    here = config_of(model, scores / "best", tmp_path / "decoded", init_codes="codes")
    assert len(paint_table(here)) == 20
    assert table_bytes(pictures) == table_bytes(tmp_path / "decoded")
