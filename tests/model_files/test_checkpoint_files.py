"""Forms in which checkpoints come: wrappers, prefixes, shards; and what is no checkpoint at all."""

import argparse
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
import torch
from safetensors.torch import save_file

from painter_core.model_files.directory import read_directory
from painter_core.model_files.from_foreign import ConvertOptions
from painter_core.model_files.open import open_model
from painter_core.models.vqgan import VQGAN
from tests.model_files.test_families import CASES, State, converted, differing_codes, reference, save
from tests.support.foreign import VQGAN_TINY, formula_state

SMALL = ConvertOptions(image_size=32)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 1234567\n"
PAGE = b"\n<!DOCTYPE html>\n<html><title>Sign in</title></html>"
ERROR = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAINTER_CACHE", str(tmp_path / "cache"))


def prefixed(prefix: str) -> Callable[[State], State]:
    return lambda state: {f"{prefix}{name}": tensor for name, tensor in state.items()}


def partly_compiled(state: State) -> State:
    return {name.replace("encoder.", "encoder._orig_mod."): tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        prefixed("module."),
        prefixed("_orig_mod."),
        prefixed("_orig_mod.module."),
        prefixed("module._orig_mod."),
        prefixed("gen_vision_model."),
        partly_compiled,
        lambda state: {"model": state, "steps": 1},
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": prefixed("_orig_mod.")(state), "args": argparse.Namespace(lr=1e-4)},
    ],
)
def test_wrappers_are_taken_off(tmp_path: Path, wrap: Callable[[State], object]) -> None:
    case = CASES["llamagen"]
    made = reference(case)
    model, _, _ = converted(save(tmp_path / "v.pt", wrap(made.state)), tmp_path / "out", SMALL)
    assert differing_codes(model, made, case) == 0


def shards(path: Path, state: State, *, kind: str) -> Path:
    """A directory of an index, two shards, and a third that is named and not there."""
    names = list(state)
    parts = [names[::2], names[1::2]]
    places = {"language_model.head.weight": f"part-3.{kind}"}
    for number, part in enumerate(parts, 1):
        places |= dict.fromkeys(part, f"part-{number}.{kind}")
        content = {name: state[name].clone() for name in part}
        if kind == "bin":
            torch.save(content, path / f"part-{number}.bin")
        else:
            save_file(content, path / f"part-{number}.{kind}")
    index = "pytorch_model.bin.index.json" if kind == "bin" else "model.safetensors.index.json"
    (path / index).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return path / index


@pytest.mark.parametrize("kind", ["bin", "safetensors"])
def test_of_shards_only_what_is_needed_is_read(tmp_path: Path, kind: str) -> None:
    """The third shard was never downloaded, and is not asked for."""
    case = CASES["janus"]
    made = reference(case)
    (tmp_path / "in").mkdir()
    index = shards(tmp_path / "in", prefixed("gen_vision_model.")(made.state), kind=kind)
    model, _, report = converted(index, tmp_path / "a", SMALL)
    assert differing_codes(model, made, case) == 0
    assert "1 of the language model around the VQGAN" in report
    converted(tmp_path / "in", tmp_path / "b", SMALL)
    assert open_model(str(index)).vqgan_config == open_model(str(tmp_path / "in")).vqgan_config
    assert open_model(str(index)).vqgan_config.image_size == 384  # type: ignore[union-attr]  # Janus' own
    (tmp_path / "in" / f"part-2.{kind}").unlink()
    with pytest.raises(ValueError, match=rf"part-2\.{kind}.*no such file"):
        converted(index, tmp_path / "c", SMALL)


def test_an_index_behind_a_url(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    state = prefixed("gen_vision_model.")(reference(CASES["janus"]).state)
    index = shards(tmp_path, state, kind="safetensors")
    for file in (index, tmp_path / "part-1.safetensors", tmp_path / "part-2.safetensors"):
        store.put_file(str(file), f"/janus/{file.name}")
    local = open_model(str(index))
    for url in ("memory://janus", f"memory://janus/{index.name}"):
        assert open_model(url).vqgan_sha256() == local.vqgan_sha256()
    store.rm("/janus", recursive=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "no index of shards; it has no weight_map"),
        ({"weight_map": {"a": "../other.safetensors"}}, "names the shard '../other.safetensors', .* refused"),
        ({"weight_map": {"a": "/etc/passwd"}}, "names the shard '/etc/passwd'"),
        ({"weight_map": {"a": 3}}, "names the shard 3"),
        ({"weight_map": {"encoder.conv_blocks.0.res.0.norm1.bias": "part-1.safetensors"}}, "is not in it"),
    ],
)
def test_an_index_that_is_none(tmp_path: Path, content: dict, message: str) -> None:
    index = shards(
        tmp_path, prefixed("gen_vision_model.")(formula_state(VQGAN, VQGAN_TINY)), kind="safetensors"
    )
    index.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        converted(index, tmp_path / "out", SMALL)


def test_a_directory_of_one_file_and_one_of_several(tmp_path: Path) -> None:
    made = reference(CASES["taming"])
    (tmp_path / "in").mkdir()
    save_file({k: t.clone() for k, t in made.state.items()}, tmp_path / "in" / "vq.safetensors")
    assert open_model(str(tmp_path / "in")).vqgan_config is not None
    save(tmp_path / "in" / "other.ckpt", made.state)
    with pytest.raises(ValueError, match=r"which weights\? .* found other.ckpt, vq.safetensors: give one"):
        open_model(str(tmp_path / "in"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            POINTER,
            "a Git LFS pointer; the file itself, of 1,234,567 bytes, was not downloaded. Run git lfs pull",
        ),
        (PAGE, "a web page, not what its name says"),
        (ERROR, "a web page, not what its name says"),
    ],
)
@pytest.mark.parametrize("name", ["v.ckpt", "v.safetensors", "v.bin.index.json", "config.json"])
def test_what_a_failed_download_leaves(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}: {message}"):
        open_model(str(tmp_path / name if name != "config.json" else tmp_path))


def test_pointers_in_a_directory_of_ours(tmp_path: Path) -> None:
    converted(save(tmp_path / "v.pt", formula_state(VQGAN, VQGAN_TINY)), tmp_path / "out", SMALL)
    (tmp_path / "out" / "vqgan.safetensors").write_bytes(POINTER)
    for use in (read_directory(tmp_path / "out").check_weights, read_directory(tmp_path / "out").load_vqgan):
        with pytest.raises(ValueError, match=r"vqgan.safetensors: a Git LFS pointer"):
            use()


def hostile(path: Path) -> Path:
    return save(path / "v.ckpt", {"state_dict": {}, "hook": Path("x")})


def hostile_legacy(path: Path) -> Path:
    torch.save({"hook": Path("x")}, path / "v.ckpt", _use_new_zipfile_serialization=False)
    return path / "v.ckpt"


def plain_pickle(path: Path) -> Path:
    (path / "v.ckpt").write_bytes(pickle.dumps({"a": 1}))
    return path / "v.ckpt"


def text(path: Path) -> Path:
    (path / "v.ckpt").write_bytes(b'{"error": "not found"}')
    return path / "v.ckpt"


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", [hostile, hostile_legacy, plain_pickle, text])
def test_no_advice_to_read_a_file_unsafely(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    with pytest.raises(ValueError, match=r"v\.ckpt: ") as caught:
        open_model(str(write(tmp_path)))
    said = str(caught.value)
    assert "weights_only" not in said
    assert "re-running" not in said.lower()
    assert "trusted source" not in said
    if write in (hostile, hostile_legacy):
        assert "pathlib" in said  # what it asked for is named


FLOAT8 = [torch.float8_e4m3fn, torch.float8_e5m2]


@pytest.mark.parametrize("dtype", FLOAT8)
def test_float8_is_widened(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {name: tensor.to(dtype) for name, tensor in formula_state(VQGAN, VQGAN_TINY).items()}
    model, _, report = converted(save(tmp_path / "v.pt", state), tmp_path / "out", SMALL)
    assert f"tensors cast from {str(dtype).removeprefix('torch.')} to float32" in report
    assert torch.equal(model.encoder.conv_in.weight, state["encoder.conv_in.weight"].float())
    # and in a directory of ours
    save_file(state, tmp_path / "out" / "vqgan.safetensors")
    (tmp_path / "out" / "checkpoint.json").unlink()
    opened = open_model(str(tmp_path / "out"))
    opened.check_weights()
    assert torch.equal(opened.load_vqgan().encoder.conv_in.weight, model.encoder.conv_in.weight)


@pytest.mark.parametrize("dtype", FLOAT8)
def test_float8_without_a_number_is_damaged(tmp_path: Path, dtype: torch.dtype) -> None:
    state = dict(formula_state(VQGAN, VQGAN_TINY))
    state["encoder.conv_in.bias"] = torch.full((32,), torch.nan).to(dtype)
    with pytest.raises(ValueError, match=r"encoder.conv_in.bias holds values that are not finite"):
        converted(save(tmp_path / "v.pt", state), tmp_path / "out", SMALL)


def test_whole_numbers_in_a_directory_of_ours(tmp_path: Path) -> None:
    converted(save(tmp_path / "v.pt", formula_state(VQGAN, VQGAN_TINY)), tmp_path / "out", SMALL)
    state = {k: t.to(torch.int8) for k, t in formula_state(VQGAN, VQGAN_TINY).items()}
    save_file(state, tmp_path / "out" / "vqgan.safetensors")
    (tmp_path / "out" / "checkpoint.json").unlink()
    with pytest.raises(ValueError, match=r"I8.*no floats of at least 8 bits"):
        open_model(str(tmp_path / "out")).load_vqgan()
