"""A model that learns some pairs by heart, both ways at once, gives their captions back."""

from pathlib import Path

import pytest

from painter_core.model_files.open import open_model
from painter_core.training.both_ways import BothWaysFlags
from tests.support.captioning import caption_table, config_of
from tests.support.codes_table import make_codes
from tests.support.training import curve_of, gpt_config, train_here

pytestmark = [pytest.mark.usefixtures("one_thread", "cache"), pytest.mark.long]

PAIRS, STEPS = 32, 100


def test_32_pairs_give_their_captions_back(write_pairs, tiny_vqgan: Path, tmp_path: Path) -> None:
    codes = make_codes(write_pairs(tmp_path / "pairs.tsv", PAIRS), tiny_vqgan, tmp_path / "codes")
    geometry = {"n_layer": 2, "n_head": 4, "n_embd": 64, "text_len": 24}
    config = gpt_config(
        f"{codes},{codes}", tmp_path / "model", batch=PAIRS, epoch_num=float(STEPS), learning_rate=6e-3,
        optimizer="muon", both_ways=BothWaysFlags(image_to_text=0.5), warmup_proportion=0.05,
        run={"save_checkpoint_steps": STEPS, "logging_steps": 50}, **geometry,
    )  # fmt: skip
    train_here(config)
    flags = {"append_cols": "text"}
    found = caption_table(
        config_of(tmp_path / "model", codes, tmp_path / "out", micro_batch_size=16, **flags)
    )
    tokenizer = open_model(str(tmp_path / "model")).load_tokenizer()
    given = [tokenizer.caption(ids) for ids in tokenizer.encode(found["text"].to_pylist())]
    right = sum(a == b for a, b in zip(found["gen_text"].to_pylist(), given, strict=True))
    assert right >= 0.95 * PAIRS
    (valid,) = (line for line in curve_of(str(tmp_path / "model")) if "valid_text_loss" in line)
    assert valid["valid_loss"] < 0.5, "and it paints them"
