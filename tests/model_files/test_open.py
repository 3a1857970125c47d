"""open_model: foreign checkpoints and URLs go through the machine's cache and are converted once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
import torch

from painter_core.model_files.open import open_model
from painter_core.models.gpt import GPTConfig
from painter_core.models.vqgan import VQGAN, VQGANConfig
from tests.support.foreign import (
    GPT_TINY,
    VQGAN_TINY,
    easynlp_state,
    formula_state,
    same,
    taming_yaml,
    write_easynlp,
)


def test_open_model_takes_foreign_checkpoints(tmp_path: Path, cache: Path) -> None:
    vqgan = VQGANConfig(**{**vars(VQGAN_TINY), "image_size": 256, "attn_resolutions": (64,)})
    gpt = GPTConfig(**{**vars(GPT_TINY), "image_len": 64 * 64})
    state = easynlp_state(vqgan, gpt)
    state = {k: t for k, t in state.items() if not k.endswith("mask")}  # 67 MB each
    source = write_easynlp(tmp_path / "easynlp", vqgan, gpt, state=state)
    model = open_model(str(source))
    assert (model.vqgan_config, model.gpt_config) == (vqgan, gpt)
    assert model.path.parent == cache
    assert model.load_tokenizer().vocab_size == gpt.text_vocab_size
    first = {p.name: p.stat().st_mtime_ns for p in model.path.iterdir()}
    assert {p.name: p.stat().st_mtime_ns for p in open_model(str(source)).path.iterdir()} == first
    torch.save({"state_dict": formula_state(VQGAN, vqgan)}, tmp_path / "last.ckpt")
    alone = open_model(str(tmp_path / "last.ckpt"))
    assert (alone.vqgan_config, alone.gpt_config) == (vqgan, None)
    assert alone.vqgan_sha256() == model.vqgan_sha256()
    same(alone.load_vqgan().state_dict(), formula_state(VQGAN, vqgan))
    with pytest.raises(ValueError, match="holds a GPT; give the directory"):
        open_model(str(source / "pytorch_model.bin"))


def test_models_behind_urls_are_copied_once(tmp_path: Path, cache: Path) -> None:
    store = fsspec.filesystem("memory")
    torch.save(formula_state(VQGAN, VQGAN_TINY), tmp_path / "v.ckpt")
    (tmp_path / "v.yaml").write_text(taming_yaml())
    local = open_model(str(tmp_path / "v.ckpt"))
    for name in ("v.ckpt", "v.yaml"):
        store.put_file(str(tmp_path / name), f"/models/{name}")
    for name in ("config.json", "vqgan.safetensors"):
        store.put_file(str(local.path / name), f"/run/best/{name}")
    for url in ("memory://models/v.ckpt", "memory://run", "memory://run/best/"):
        model = open_model(url)
        assert model.vqgan_config == VQGAN_TINY
        assert model.vqgan_sha256() == local.vqgan_sha256()
        assert open_model(url) == model
    before = open_model("memory://run")
    store.pipe_file("/run/best/vocab.txt", b"changed")
    assert open_model("memory://run") != before
    store.rm("/models", recursive=True)
    store.rm("/run", recursive=True)


def test_two_at_once(tmp_path: Path, cache: Path) -> None:
    torch.save(formula_state(VQGAN, VQGAN_TINY), tmp_path / "v.ckpt")
    (tmp_path / "v.yaml").write_text(taming_yaml())
    with ThreadPoolExecutor(4) as pool:
        found = {model.path for model in pool.map(open_model, [str(tmp_path / "v.ckpt")] * 4)}
    assert list(cache.iterdir()) == list(found)


def test_conversion_is_the_same_to_the_last_byte(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(formula_state(VQGAN, VQGAN_TINY), tmp_path / "v.ckpt")
    (tmp_path / "v.yaml").write_text(taming_yaml())
    first = open_model(str(tmp_path / "v.ckpt")).path
    monkeypatch.setenv("PAINTER_CACHE", str(tmp_path / "cache2"))
    second = open_model(str(tmp_path / "v.ckpt")).path
    assert first.name == second.name
    assert first != second
    files = sorted(p.name for p in first.iterdir())
    assert files == ["README.md", "checkpoint.json", "config.json", "vqgan.safetensors"]
    for name in files:
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_a_device_is_no_model() -> None:
    with pytest.raises(ValueError, match="/dev/null: no regular file and no directory"):
        open_model("/dev/null")
