"""--prompt-prefix and --prompt-suffix: as if they stood in the captions, which stay as they are."""

import json
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from painter_core.errors import Refused
from painter_core.model_files.open import open_model
from painter_core.runs.run import Run
from painter_core.stages.codes_table import open_samples
from painter_core.stages.train.plan import make_plan
from painter_core.stages.train.previews import PreviewPlan, Previews
from painter_core.tables.manifest import iter_parts
from painter_core.text.prompt_style import PLAIN, PromptStyle
from painter_core.text.tokenizer import builtin_tokenizer
from painter_core.training.worker import Worker
from tests.support.codes_table import make_codes
from tests.support.local_run import ALONE, code_of
from tests.support.painting import CAPTIONS, config_of, paint_table, write_painter, write_prompts
from tests.support.training import gpt_config

pytestmark = pytest.mark.usefixtures("one_thread", "cache")

WORDS = {"prompt_prefix": "大号", "prompt_suffix": "白底"}
STYLE = PromptStyle(**WORDS)
CODES = {"codes_column": True, "output_schema": "idx,text"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sees 8 tokens of a caption."""
    return write_painter(tmp_path_factory.mktemp("styles") / "model")


def styled(path: Path) -> Path:
    """The prompts of write_prompts, with the style in their text."""
    path.write_text("".join(f"p{i}\t{STYLE.of(text)}\n" for i, text in enumerate(CAPTIONS)), "utf-8")
    return path


def identity_of(table: Path) -> dict:
    return json.loads((table / "manifest.json").read_text())["identity"]


# --- painting ------------------------------------------------------------------------------------------


def test_painting_is_as_if_the_style_stood_in_the_text(model: Path, tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path / "prompts.tsv")
    with_flags = paint_table(config_of(model, prompts, tmp_path / "flags", **WORDS, **CODES))
    in_text = paint_table(config_of(model, styled(tmp_path / "styled.tsv"), tmp_path / "text", **CODES))
    plain = paint_table(config_of(model, prompts, tmp_path / "plain", **CODES))
    assert with_flags["codes"].equals(in_text["codes"])
    assert not with_flags["codes"].equals(plain["codes"])
    assert with_flags["text"].to_pylist() == list(CAPTIONS)
    assert identity_of(tmp_path / "flags")["prompt"] == {"prefix": "大号", "suffix": "白底"}
    assert "prompt" not in identity_of(tmp_path / "plain")
    other = config_of(model, prompts, tmp_path / "flags", prompt_prefix="x", **CODES)
    assert code_of(lambda: paint_table(other)) == 4


def test_what_is_cut_is_counted_and_rejects_are_those_of_the_captions(model: Path, tmp_path: Path) -> None:
    tokenizer = builtin_tokenizer()
    captions = ["红色的杯子", "红色的杯子红色的杯子", "红色", "\U0001f642\U0001f642", "\u200b"]
    lengths = [len(line) for line in tokenizer.encode(captions)]
    around = len(tokenizer.encode([STYLE.of("")])[0])
    assert (lengths[:3], around) == ([5, 10, 2], 4), "of 8 tokens that the model sees"
    (tmp_path / "in.tsv").write_text("".join(f"p{i}\t{t}\n" for i, t in enumerate(captions)), "utf-8")
    given = config_of(model, tmp_path / "in.tsv", tmp_path / "out", **WORDS, **CODES)
    assert paint_table(given)["idx"].to_pylist() == ["p0", "p1", "p2"]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["rejected"] == {"text_all_unk": 1, "text_empty": 1}, "not hidden by words of the style"
    assert {k: n for k, n in manifest["warnings"].items() if k.endswith("cut")} == {
        "text_cut": 1, "prompt_cut": 1,
    }  # fmt: skip


def test_a_style_leaves_room_for_captions(model: Path, tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path / "prompts.tsv")
    given = config_of(model, prompts, tmp_path / "out", prompt_suffix="红" * 8)
    assert code_of(lambda: paint_table(given)) == 2
    assert not (tmp_path / "out").exists()


# --- training ------------------------------------------------------------------------------------------


def plan_of(tables: object, out: Path, style: PromptStyle | None = None, text_len: int = 8) -> object:
    run = Run({})
    try:
        planned = make_plan(gpt_config(tables, out, text_len=text_len), run, ALONE, style)
    finally:
        run.ended()
    assert planned is not None
    return planned[0]


def test_training_is_as_if_the_style_stood_in_the_text(
    write_pairs, tiny_vqgan: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = write_pairs(tmp_path / "pairs.tsv", 20)
    codes = make_codes(pairs, tiny_vqgan, tmp_path / "codes")
    rows = [line.split("\t") for line in pairs.read_text(encoding="utf-8").splitlines()]
    lines = (f"{idx}\t{STYLE.of(text)}\t{cell}\n" for idx, text, cell in rows)
    (tmp_path / "styled.tsv").write_text("".join(lines), encoding="utf-8")
    in_text = make_codes(tmp_path / "styled.tsv", tiny_vqgan, tmp_path / "styled")
    sizes = {"text_len": 30, "codebook_size": 64}
    found = open_samples(str(codes), builtin_tokenizer(), **sizes, style=STYLE)
    expected = open_samples(str(in_text), builtin_tokenizer(), **sizes)
    np.testing.assert_array_equal(found.text_ids, expected.text_ids)
    plain = open_samples(str(codes), builtin_tokenizer(), **sizes)
    assert (plain.text_ids != found.text_ids).any(axis=1).all(), "of another cache"
    caplog.set_level(logging.WARNING)
    assert plan_of(codes, tmp_path / "model", STYLE, text_len=30).identity["prompt"] == {
        "prefix": "大号", "suffix": "白底",
    }  # fmt: skip
    assert "more than" not in caplog.text
    length = max(len(line) for line in builtin_tokenizer().encode([row[1] for row in rows]))
    plan_of(codes, tmp_path / "short", STYLE, text_len=length)
    assert f"of 20 captions have more than {length} tokens (0 without them)" in caplog.text
    with pytest.raises(Refused, match="other settings"):  # the run was begun with a style
        make_plan(gpt_config(codes, tmp_path / "model", text_len=30), Run({}), ALONE)


def test_a_table_that_was_made_in_a_style_is_trained_in_it(
    write_pairs, tiny_vqgan: Path, tmp_path: Path
) -> None:
    pairs = write_pairs(tmp_path / "pairs.tsv", 20)
    plain = make_codes(pairs, tiny_vqgan, tmp_path / "plain")
    own = make_codes(pairs, tiny_vqgan, tmp_path / "own", style=STYLE)
    tables = [pa.concat_tables(iter_parts(str(table))) for table in (plain, own)]
    assert tables[0].equals(tables[1]), "text and codes are the same"
    assert identity_of(own) == identity_of(plain) | STYLE.identity()
    for tables_given, flags in ((own, None), (own, STYLE), (plain, STYLE), (f"{own},{plain}", STYLE)):
        out = tmp_path / f"model-{len(list(tmp_path.iterdir()))}"
        assert plan_of(tables_given, out, flags, text_len=30).style == STYLE
    assert plan_of(plain, tmp_path / "none", text_len=30).style == PLAIN
    for tables_given, flags in (
        (own, PromptStyle(prompt_prefix="x")),
        (f"{own},{plain}", None),
        (f"{plain},{own}", None),
    ):
        with pytest.raises(ValueError, match="captions of a training have one, or it stands in their text"):
            make_plan(gpt_config(tables_given, tmp_path / "no", text_len=30), Run({}), ALONE, flags)


def test_previews_are_painted_in_the_style(model: Path, tmp_path: Path) -> None:
    opened = open_model(str(model))
    worker = Worker(rank=0, world_size=1, device=torch.device("cpu"), precision="fp32")
    sheets = []
    for style, texts in ((STYLE, CAPTIONS), (PLAIN, list(map(STYLE.of, CAPTIONS))), (PLAIN, CAPTIONS)):
        captions = tuple((f"p{i}", text) for i, text in enumerate(texts))
        plan = PreviewPlan(captions=captions, every=1, seed=7, style=style)
        root = tmp_path / str(len(sheets))
        Previews(plan, str(root), str(model), opened.load_tokenizer(), worker).paint(
            opened.load_gpt(), 1, None
        )
        sheets.append((root / "previews" / "step-00000001.png").read_bytes())
    assert sheets[0] == sheets[1] != sheets[2]


def test_parquet_rejects_hold_the_caption_as_given(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text("a\t\U0001f642\nb\t红色的杯子\n", "utf-8")
    paint_table(config_of(model, tmp_path / "in.tsv", tmp_path / "out", **WORDS, **CODES))
    assert pq.read_table(tmp_path / "out" / "rejects")["text"].to_pylist() == ["\U0001f642"]
