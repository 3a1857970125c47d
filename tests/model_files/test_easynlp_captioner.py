"""EasyNLP's captioning checkpoints: rows are moved, each word is the reference's, other forms are refused."""

import base64
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from painter_core import pipeline
from painter_core.images.decode import encode_image
from painter_core.images.pixels import to_pixels
from painter_core.model_files.open import open_model
from painter_core.models.gpt import CAPTIONS
from painter_core.stages.convert_checkpoint import ConvertConfig, convert
from painter_core.training.both_ways import BothWaysFlags
from tests.golden.formula import image, vocab
from tests.support.captioning import caption_table, config_of
from tests.support.codes_table import make_codes
from tests.support.easynlp_captioner import forward, greedy, write_i2t
from tests.support.foreign import GPT_TINY, VQGAN_TINY, converted
from tests.support.local_run import code_of
from tests.support.painting import config_of as painting_config
from tests.support.painting import paint_table
from tests.support.training import curve_of, gpt_config, train_here

pytestmark = pytest.mark.usefixtures("one_thread", "cache")

PICTURES = 12


def write_pictures(path: Path, size: int, number: int) -> Path:
    cells = (base64.b64encode(encode_image(image(i, size))).decode() for i in range(number))
    path.write_text("".join(f"p{i}\t{cell}\n" for i, cell in enumerate(cells)))
    return path


def test_captions_are_those_of_the_reference(tmp_path: Path) -> None:
    """An independent forward pass over the checkpoint's own tensors, word for word, through convert."""
    state = write_i2t(tmp_path / "easynlp")
    report = "\n".join(converted(tmp_path / "easynlp", tmp_path / "ours"))
    assert "text_len 8: 72 positions less 64 codes" in report
    assert "its last row left out" in report
    assert "captions, and does not paint" in report
    model = open_model(str(tmp_path / "ours"))
    assert model.gpt_config is not None
    assert model.gpt_config.directions == (CAPTIONS,)
    pixels = to_pixels(torch.from_numpy(np.stack([image(i, 32) for i in range(PICTURES)])))
    with torch.inference_mode():
        codes = model.load_vqgan().encode(pixels).numpy()
    expected, lines = greedy(state, codes, GPT_TINY), vocab(300)
    assert all(ids and not {100, 101, 102, 103} & set(ids) for ids in expected), "nothing that is masked here"
    assert len({tuple(ids) for ids in expected}) > PICTURES / 2
    pictures = write_pictures(tmp_path / "pictures.tsv", 32, PICTURES)
    flags = {"input_schema": "idx,imgbase64"}
    found = caption_table(config_of(tmp_path / "ours", pictures, tmp_path / "out", **flags))
    assert found["gen_text"].to_pylist() == ["".join(lines[i] for i in ids) for ids in expected]
    text = torch.tensor([[64 + i for i in (ids + [0] * 8)[:8]] for ids in expected])
    ours = model.load_gpt()(torch.cat((torch.from_numpy(codes), text[:, :-1]), 1), 0)[1]
    theirs = forward(state, torch.cat((torch.from_numpy(codes) + 300, text[:, :-1] - 64), 1), GPT_TINY)[
        :, 63:
    ]
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_tensors_are_moved_to_the_bit(tmp_path: Path) -> None:
    for extra_row in (True, False):
        source, target = tmp_path / f"easynlp{extra_row}", tmp_path / f"ours{extra_row}"
        state = write_i2t(source, extra_row=extra_row, model_type="artist_i2t", prefix_encoder_type=None)
        report = converted(source, target)
        found = load_file(target / "gpt.safetensors")
        assert torch.equal(found["tok_emb.weight"][:64], state["tok_emb.weight"][300:364])
        assert torch.equal(found["tok_emb.weight"][64:], state["tok_emb.weight"][:300])
        assert torch.equal(found["pos_emb"][:, :8], state["pos_emb"][:, 64:])
        assert torch.equal(found["pos_emb"][:, 8:], state["pos_emb"][:, :64])
        assert "head.weight" not in found
        assert torch.equal(
            load_file(target / "text_head.safetensors")["text_head.weight"], state["head.weight"]
        )
        assert ("its last row left out" in "\n".join(report)) == extra_row


def test_it_is_opened_by_its_path_alone(tmp_path: Path) -> None:
    """The side of the pictures, which no tensor tells, is EasyNLP's 256, and that does not fit 64 codes."""
    write_i2t(tmp_path / "easynlp")
    with pytest.raises(ValueError, match="give --image-size"):
        open_model(str(tmp_path / "easynlp"))


@pytest.mark.parametrize(
    ("config", "changed", "message"),
    [
        (
            {"prefix_encoder_type": "vit"},
            {},
            r"prefix_encoder_type is 'vit': .*a CLIP encoder .* not supported",
        ),
        ({"n_unmasked": 4}, {}, "n_unmasked is 4"),
        ({"vocab_size": 364}, {}, "vocab_size is 364, the tensors say 365"),
        (
            {"decode_vocab_size": 299, "n_layer": 3},
            {},
            "decode_vocab_size is 299.*n_layer is 3, the tensors say 2",
        ),
        ({"n_head": "two"}, {}, "n_head is 'two'"),
        ({}, {"head.weight": None}, "tensors are missing among .*: head.weight"),
        (
            {},
            {"tok_emb.weight": torch.zeros(300, 32)},
            "tok_emb.weight has 300 rows, expected 364 or one more",
        ),
        ({}, {"blocks.0.extra": torch.zeros(3)}, "1 unexpected: blocks.0.extra"),
        ({}, {"blocks.1.ln2.bias": None}, "1 missing: blocks.1.ln2.bias"),
        ({}, {"blocks.0.attn.mask": torch.ones(1, 1, 72, 72)}, "no causal mask"),
    ],
)
def test_what_does_not_fit_is_refused(config: dict, changed: dict, message: str, tmp_path: Path) -> None:
    write_i2t(tmp_path / "easynlp", changed=changed, **config)
    with pytest.raises(ValueError, match=message):
        converted(tmp_path / "easynlp", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_the_form_with_clip_is_refused_by_name(tmp_path: Path) -> None:
    for name in ("clip-gpt-i2t-base-zh", "alibaba-pai/clip-gpt-i2t-base-zh"):
        with pytest.raises(ValueError, match=f"{name}: .*a CLIP encoder before the GPT is not supported"):
            open_model(name)
    write_i2t(tmp_path / "easynlp", model_type="artist_i2t", prefix_encoder_type=None)
    file = tmp_path / "easynlp" / "pytorch_model.bin"
    state = torch.load(file, weights_only=True)
    gpt = {name: tensor for name, tensor in state.items() if name.startswith("transformer.")}
    torch.save(gpt | {"first_stage_model.class_embedding": torch.zeros(8)}, file)
    with pytest.raises(ValueError, match=r"first_stage_model\.class_embedding is of a CLIP"):
        converted(tmp_path / "easynlp", tmp_path / "ours")


def test_it_is_not_written_back(tmp_path: Path) -> None:
    write_i2t(tmp_path / "easynlp")
    converted(tmp_path / "easynlp", tmp_path / "ours")
    with pytest.raises(
        ValueError, match="only captions; EasyNLP's form of such models is read, but not written"
    ):
        convert(ConvertConfig(source=str(tmp_path / "ours"), outputs=str(tmp_path / "back"), to="easynlp"))
    assert VQGAN_TINY.image_len == 64


def test_it_is_trained_on_and_cannot_paint(write_pairs, tmp_path: Path) -> None:
    write_i2t(tmp_path / "easynlp")
    model = tmp_path / "ours"
    converted(tmp_path / "easynlp", model)
    pairs = write_pairs(tmp_path / "pairs.tsv", 24)
    cells = [line.split("\t")[2] for line in pairs.read_text(encoding="utf-8").splitlines()]
    texts = ["".join(vocab(300)[10 + i : 15 + i]) for i in range(24)]
    texts[3] = "\u0301"  # leaves no token
    lines = (f"r{i}\t{text}\t{cell}\n" for i, (text, cell) in enumerate(zip(texts, cells, strict=True)))
    pairs.write_text("".join(lines), encoding="utf-8")
    codes = make_codes(pairs, model, tmp_path / "codes")
    start = dict.fromkeys(("n_layer", "n_head", "n_embd", "text_len")) | {
        "pretrained_model_name_or_path": str(model)
    }
    for share in (0.0, 0.5):
        config = gpt_config(codes, tmp_path / "no", both_ways=BothWaysFlags(image_to_text=share), **start)
        assert code_of(lambda config=config: train_here(config)) == 2
    config = gpt_config(
        f"{codes},{codes}", tmp_path / "more", batch=8, both_ways=BothWaysFlags(image_to_text=1), **start
    )
    train_here(config)
    names = {name for line in curve_of(str(tmp_path / "more")) for name in line}
    assert {"train_text_loss", "valid_text_loss"} <= names
    assert not {"train_loss", "valid_loss"} & names
    prompts = tmp_path / "prompts.tsv"
    prompts.write_text("0\t红\n")
    assert code_of(lambda: paint_table(painting_config(model, prompts, tmp_path / "painted"))) == 2
    with pytest.raises(ValueError, match=r"this model only captions: see jobs/caption\.py"):
        pipeline("text2image_generation", str(model))
