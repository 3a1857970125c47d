"""Foreign checkpoints: what is mapped, what is refused with which words; nothing changes on the way."""

import pickle
import sys
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
import torch
from safetensors.torch import load_file

from jobs import convert_checkpoint
from painter_core.errors import Refused
from painter_core.files.cache import build_once
from painter_core.files.storage import file_sha256
from painter_core.model_files.from_foreign import ConvertOptions, to_painter
from painter_core.model_files.open import open_model
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.models.vqgan import VQGAN, VQGANConfig
from painter_core.stages.convert_checkpoint import ConvertConfig, convert
from tests.support.foreign import (
    GPT_TINY,
    VQGAN_TINY,
    easynlp_config,
    easynlp_state,
    formula_state,
    taming_yaml,
    write_easynlp,
)

TINY = ConvertOptions(image_size=32)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PAINTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PAINTER_ZOO", raising=False)
    return tmp_path / "cache"


def converted(
    source: Path, target: Path, options: ConvertOptions = TINY, vqgan: str | None = None
) -> list[str]:
    return convert(ConvertConfig(source=str(source), outputs=str(target), vqgan=vqgan, options=options))


def same(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(actual) == list(expected) or sorted(actual) == sorted(expected)
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype, name
        assert torch.equal(actual[name], tensor), name


def test_easynlp_there_and_back(tmp_path: Path) -> None:
    source = write_easynlp(tmp_path / "easynlp")
    report = converted(source, tmp_path / "ours")
    model = open_model(str(tmp_path / "ours"))
    assert (model.vqgan, model.gpt) == (VQGAN_TINY, GPT_TINY)
    same(load_file(tmp_path / "ours" / "vqgan.safetensors"), formula_state(VQGAN, VQGAN_TINY))
    same(load_file(tmp_path / "ours" / "gpt.safetensors"), formula_state(GPT, GPT_TINY))
    text = "\n".join(report)
    assert "2 attention masks" in text
    assert "1 of loss.*" in text
    assert "text_len 8: 72 positions less 64 codes" in text
    convert(ConvertConfig(source=str(tmp_path / "ours"), outputs=str(tmp_path / "back"), to="easynlp"))
    before = torch.load(source / "pytorch_model.bin", weights_only=True)
    after = torch.load(tmp_path / "back" / "pytorch_model.bin", weights_only=True)
    del before["first_stage_model.loss.discriminator.main.0.weight"]
    same(after, before)
    assert (tmp_path / "back" / "vocab.txt").read_bytes() == (source / "vocab.txt").read_bytes()
    again = converted(tmp_path / "back", tmp_path / "ours2")
    assert again[0].startswith("pytorch_model.bin: ")
    for name in ("config.json", "vqgan.safetensors", "gpt.safetensors", "vocab.txt"):
        assert file_sha256(tmp_path / "ours" / name) == file_sha256(tmp_path / "ours2" / name)


def test_easynlp_writes_the_state_dict_in_its_own_order(tmp_path: Path) -> None:
    source = write_easynlp(tmp_path / "easynlp")
    converted(source, tmp_path / "ours")
    convert(ConvertConfig(source=str(tmp_path / "ours"), outputs=str(tmp_path / "back"), to="easynlp"))
    names = list(torch.load(tmp_path / "back" / "pytorch_model.bin", weights_only=True))
    assert names[0] == "first_stage_model.encoder.conv_in.weight"
    at = names.index("transformer.blocks.0.attn.mask")
    assert names[at + 1] == "transformer.blocks.0.attn.key.weight"
    assert names[-1] == "transformer.head.weight"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_floats_are_cast_and_reported(tmp_path: Path, dtype: torch.dtype) -> None:
    state = easynlp_state()
    state = {k: t.to(dtype) for k, t in state.items()}
    report = converted(write_easynlp(tmp_path / "easynlp", state=state), tmp_path / "ours")
    kind = str(dtype).removeprefix("torch.")
    assert any(f"cast from {kind} to float32" in line for line in report)
    name = "head.weight"
    actual = load_file(tmp_path / "ours" / "gpt.safetensors")[name]
    assert actual.dtype == torch.float32
    assert torch.equal(actual, state[f"transformer.{name}"].float())


def test_module_prefix_and_missing_masks_are_fine(tmp_path: Path) -> None:
    state = {f"module.{k}": t for k, t in easynlp_state().items() if not k.endswith("mask")}
    converted(write_easynlp(tmp_path / "a", state=state), tmp_path / "ours")
    converted(write_easynlp(tmp_path / "b"), tmp_path / "ours2")
    for name in ("vqgan.safetensors", "gpt.safetensors"):
        assert file_sha256(tmp_path / "ours" / name) == file_sha256(tmp_path / "ours2" / name)


def without(name: str) -> Callable[[dict], None]:
    return lambda state: state.pop(name)


def unmasked(state: dict) -> None:
    state["transformer.blocks.1.attn.mask"][..., :8, :8] = 1


def put(name: str, value: object) -> Callable[[dict], None]:
    return lambda state: state.update({name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("transformer.blocks.1.ln2.bias"), "1 missing: blocks.1.ln2.bias"),
        (without("transformer.pos_emb"), "pos_emb is missing"),
        (without("first_stage_model.quantize.embedding.weight"), "quantize.embedding.weight is missing"),
        (without("first_stage_model.decoder.up.2.attn.0.q.weight"), "missing: decoder.up.2.attn.0.q.weight"),
        (put("transformer.blocks.7.ln2.bias", torch.ones(32)), "1 unexpected: blocks.7.ln2.bias"),
        (put("cond_stage_model.x", torch.ones(1)), "1 unexpected tensors: cond_stage_model.x"),
        (put("transformer.ln_f.bias", torch.ones(31)), r"1 misshapen: ln_f.bias \[31\] for \[32\]"),
        (put("transformer.ent_emb.weight", torch.ones(32, 100)), "knowledge-enhanced"),
        (put("transformer.ln_f.bias", torch.full((32,), torch.nan)), "not finite"),
        (put("transformer.ln_f.bias", torch.ones(32, dtype=torch.int64)), "expected dense floats"),
        (put("epoch", 3), "1 entries are no tensors: epoch"),
        (put("module.transformer.ln_f.bias", torch.ones(32)), "ln_f.bias stands there twice"),
        (put("transformer.ln_f.bias", torch.ones(1).expand(10**9)), "claims"),
        (unmasked, "no causal mask"),
    ],
)
def test_bad_tensors_are_named(tmp_path: Path, change: Callable[[dict], None], message: str) -> None:
    state = easynlp_state()
    change(state)
    with pytest.raises(ValueError, match=message):
        converted(write_easynlp(tmp_path / "easynlp", state=state), tmp_path / "ours")
    assert [p.name for p in tmp_path.iterdir()] == ["easynlp"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"n_layer": 12, "n_embd": 768},
            "n_layer is 12, the tensors say 2; n_embd is 768, the tensors say 32",
        ),
        ({"vocab_size": 37512}, "vocab_size is 37512, the tensors say 364"),
        ({"img_vocab_size": 16384}, "img_vocab_size is 16384, the tensors say 64"),
        ({"n_unmasked": 32}, "n_unmasked is 32"),
        ({"model_type": "bert"}, "expected 'artist'"),
        ({"n_head": 3}, "multiple of n_head 3"),
        ({"n_head": "2"}, "expected a number"),
    ],
)
def test_config_is_compared_with_the_tensors(tmp_path: Path, change: dict, message: str) -> None:
    source = write_easynlp(tmp_path / "easynlp", config=easynlp_config() | change)
    with pytest.raises(ValueError, match=message):
        converted(source, tmp_path / "ours")


def test_what_tensors_cannot_tell(tmp_path: Path) -> None:
    config = easynlp_config()
    del config["n_head"]
    source = write_easynlp(tmp_path / "easynlp", config=config)
    with pytest.raises(ValueError, match=r"72 positions: the 4096 codes .* 256 pixels .*--image-size"):
        converted(source, tmp_path / "a", ConvertOptions())
    report = converted(source, tmp_path / "b", ConvertOptions(text_len=8, n_head=2))
    assert open_model(str(tmp_path / "b")).gpt == GPT_TINY
    assert not any("default" in line for line in report)
    with pytest.raises(ValueError, match="n_head 12"):
        converted(source, tmp_path / "c")  # the default, which does not divide this model's width
    source = write_easynlp(tmp_path / "easynlp2")
    with pytest.raises(ValueError, match=r"--n-head 4: config.json says n_head 2"):
        converted(source, tmp_path / "c", ConvertOptions(image_size=32, n_head=4))


def test_vocab_and_vqgan_from_elsewhere(tmp_path: Path) -> None:
    state = {k: t for k, t in easynlp_state().items() if k.startswith("transformer.")}
    source = write_easynlp(tmp_path / "easynlp", state=state, vocab=None)
    with pytest.raises(ValueError, match="holds no VQGAN"):
        converted(source, tmp_path / "ours", ConvertOptions())
    torch.save(formula_state(VQGAN, VQGAN_TINY), tmp_path / "vqgan.bin")
    converted(tmp_path / "vqgan.bin", tmp_path / "vqgan")
    vqgan = str(tmp_path / "vqgan")
    with pytest.raises(ValueError, match=r"has no vocab\.txt"):
        converted(source, tmp_path / "ours", ConvertOptions(), vqgan)
    other = write_easynlp(tmp_path / "other", gpt=GPTConfig(**{**vars(GPT_TINY), "text_vocab_size": 301}))
    with pytest.raises(ValueError, match="301 tokens, but the tensors say 300"):
        converted(source, tmp_path / "ours", ConvertOptions(vocab=str(other / "vocab.txt")), vqgan)
    full = write_easynlp(tmp_path / "full")
    converted(source, tmp_path / "ours", ConvertOptions(vocab=str(full / "vocab.txt")), vqgan)
    converted(full, tmp_path / "ours2")
    for name in ("config.json", "vqgan.safetensors", "gpt.safetensors"):
        assert file_sha256(tmp_path / "ours" / name) == file_sha256(tmp_path / "ours2" / name)


def test_cased_tokenizer_is_refused(tmp_path: Path) -> None:
    source = write_easynlp(tmp_path / "easynlp")
    (source / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    with pytest.raises(ValueError, match="do_lower_case is false"):
        converted(source, tmp_path / "ours")


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("place", ["model.yaml", "last.yaml", "../configs/model.yaml", None])
def test_taming_checkpoint(tmp_path: Path, nested: bool, place: str | None) -> None:
    state = formula_state(VQGAN, VQGAN_TINY) | {"loss.discriminator.main.0.weight": torch.ones(4, 3)}
    content = {"state_dict": state, "epoch": 3, "global_step": 77, "optimizer_states": [{"state": {}}]}
    file = tmp_path / "checkpoints" / "last.ckpt"
    file.parent.mkdir()
    (tmp_path / "configs").mkdir()
    torch.save(content if nested else state, file)
    if place:
        (file.parent / place).write_text(taming_yaml())
    options = ConvertOptions(image_size=None if place else 32)
    report = converted(file, tmp_path / "ours", options)
    model = open_model(str(tmp_path / "ours"))
    assert (model.vqgan, model.gpt) == (VQGAN_TINY, None)
    same(load_file(tmp_path / "ours" / "vqgan.safetensors"), formula_state(VQGAN, VQGAN_TINY))
    assert any("1 of loss.*" in line for line in report)
    assert any("agrees with the tensors" in line for line in report) == (place is not None)


def test_taming_config_is_compared_with_the_tensors(tmp_path: Path) -> None:
    torch.save(formula_state(VQGAN, VQGAN_TINY), tmp_path / "v.ckpt")
    (tmp_path / "v.yaml").write_text(
        taming_yaml().replace("n_embed: 64", "n_embed: 65").replace("ch: 32", "ch: 64")
    )
    with pytest.raises(ValueError, match="ch is 64, the tensors say 32; codebook_size is 65"):
        converted(tmp_path / "v.ckpt", tmp_path / "ours")
    (tmp_path / "v.yaml").write_text("model: 3")
    with pytest.raises(ValueError, match="no config of a taming VQGAN"):
        converted(tmp_path / "v.ckpt", tmp_path / "ours")
    (tmp_path / "v.yaml").write_text("!!python/object/apply:os.system ['touch pwned']")
    with pytest.raises(ValueError, match="no config of a taming VQGAN"):
        converted(tmp_path / "v.ckpt", tmp_path / "ours")


def test_another_image_size_than_the_yaml_says(tmp_path: Path) -> None:
    torch.save(formula_state(VQGAN, VQGAN_TINY), tmp_path / "v.ckpt")
    (tmp_path / "v.yaml").write_text(taming_yaml())
    converted(tmp_path / "v.ckpt", tmp_path / "ours", ConvertOptions(image_size=64))
    vqgan = open_model(str(tmp_path / "ours")).vqgan
    assert vqgan is not None
    assert (vqgan.image_size, vqgan.attn_resolutions, vqgan.grid_size) == (64, (16,), 16)


class Harmful:
    """Creates a file when a plain unpickler restores it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_checkpoint_is_refused(tmp_path: Path) -> None:
    file, trace = tmp_path / "v.ckpt", tmp_path / "trace"
    torch.save({"state_dict": formula_state(VQGAN, VQGAN_TINY), "hook": Harmful(trace)}, file)
    with pytest.raises(
        ValueError, match=r"refused, since restoring .*pathlib.* would run code. Nothing .* was run"
    ):
        converted(file, tmp_path / "ours")
    torch.save({"state_dict": {}, "hook": Harmful(trace)}, file, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match="save the bare weights"):
        converted(file, tmp_path / "ours")
    file.write_bytes(pickle.dumps(Harmful(trace)))
    with pytest.raises(ValueError, match="damaged, or no checkpoint"):
        converted(file, tmp_path / "ours")
    assert not trace.exists()


def test_lightning_objects_become_stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    kinds = {}
    for kind, base in (("ModelCheckpoint", object), ("AttributeDict", dict)):
        kinds[kind] = type(kind, (base,), {"__module__": "pytorch_lightning.callbacks"})
        monkeypatch.setattr(sys.modules["pytorch_lightning.callbacks"], kind, kinds[kind], raising=False)
    callback = kinds["ModelCheckpoint"]()
    callback.best = 3.5
    content = {
        "state_dict": formula_state(VQGAN, VQGAN_TINY),
        "callbacks": {kinds["ModelCheckpoint"]: {"monitor": 1}},
    }
    torch.save(content | {"callback": callback}, tmp_path / "v.ckpt")
    monkeypatch.undo()
    monkeypatch.setenv("PAINTER_CACHE", str(tmp_path / "cache"))
    converted(tmp_path / "v.ckpt", tmp_path / "ours")
    assert open_model(str(tmp_path / "ours")).vqgan == VQGAN_TINY


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"\x80\x02", b"hello world" * 1000])
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "v.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match=r"v\.ckpt: damaged"):
        converted(tmp_path / "v.ckpt", tmp_path / "ours")


def test_cut_file_is_named(tmp_path: Path) -> None:
    torch.save(formula_state(VQGAN, VQGAN_TINY), tmp_path / "v.ckpt")
    data = (tmp_path / "v.ckpt").read_bytes()
    (tmp_path / "v.ckpt").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"v\.ckpt: damaged"):
        converted(tmp_path / "v.ckpt", tmp_path / "ours")


def test_outputs_are_whole_or_absent(tmp_path: Path) -> None:
    source = write_easynlp(tmp_path / "easynlp")
    (tmp_path / "ours").mkdir()
    with pytest.raises(Refused, match="name another directory"):
        converted(source, tmp_path / "ours")
    with pytest.raises(ValueError, match="no such file"):
        converted(tmp_path / "nothing", tmp_path / "ours2")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["easynlp", "ours"]


def test_flags_that_mean_nothing_are_errors(tmp_path: Path) -> None:
    torch.save(formula_state(VQGAN, VQGAN_TINY), tmp_path / "v.bin")
    with pytest.raises(ValueError, match="--n-head: means nothing"):
        to_painter(tmp_path / "v.bin", tmp_path, ConvertOptions(n_head=2))
    source = write_easynlp(tmp_path / "easynlp")
    with pytest.raises(ValueError, match="--vqgan: given, but the checkpoint holds a VQGAN"):
        converted(source, tmp_path / "ours", ConvertOptions(), "bundled")


def test_open_model_takes_foreign_checkpoints(tmp_path: Path, cache: Path) -> None:
    vqgan = VQGANConfig(**{**vars(VQGAN_TINY), "image_size": 256, "attn_resolutions": (64,)})
    gpt = GPTConfig(**{**vars(GPT_TINY), "image_len": 64 * 64})
    state = easynlp_state(vqgan, gpt)
    state = {k: t for k, t in state.items() if not k.endswith("mask")}  # 67 MB each
    source = write_easynlp(tmp_path / "easynlp", vqgan, gpt, state=state)
    model = open_model(str(source))
    assert (model.vqgan, model.gpt) == (vqgan, gpt)
    assert model.path.parent == cache
    assert model.load_tokenizer().vocab_size == gpt.text_vocab_size
    first = {p.name: p.stat().st_mtime_ns for p in model.path.iterdir()}
    assert {p.name: p.stat().st_mtime_ns for p in open_model(str(source)).path.iterdir()} == first
    torch.save({"state_dict": formula_state(VQGAN, vqgan)}, tmp_path / "last.ckpt")
    alone = open_model(str(tmp_path / "last.ckpt"))
    assert (alone.vqgan, alone.gpt) == (vqgan, None)
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
        assert model.vqgan == VQGAN_TINY
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


def test_work_of_the_second_builder_is_thrown_away(cache: Path) -> None:
    def second(directory: Path) -> None:
        (directory / "file").write_text("second")
        build_once("name", lambda first: (first / "file").write_text("first"))

    assert (build_once("name", second) / "file").read_text() == "first"
    assert [p.name for p in cache.iterdir()] == ["name"]
    with pytest.raises(ValueError, match="broken"):
        build_once("other", broken)
    assert [p.name for p in cache.iterdir()] == ["name"]


def broken(directory: Path) -> None:
    raise ValueError("broken")


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


def test_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    source = write_easynlp(tmp_path / "easynlp")
    flags = ["--source", str(source), "--outputs", str(tmp_path / "ours"), "--image_size", "32"]
    monkeypatch.setattr(sys, "argv", ["convert_checkpoint.py", *flags])
    with caplog.at_level("INFO"):
        convert_checkpoint.main()
    assert "n_head=2" in caplog.text
    assert open_model(str(tmp_path / "ours")).gpt == GPT_TINY
    with pytest.raises(SystemExit) as stopped:
        convert_checkpoint.main()
    assert stopped.value.code == 4
    monkeypatch.setattr(
        sys, "argv", ["convert_checkpoint.py", *flags[:-2], "--outputs", str(tmp_path / "other")]
    )
    with pytest.raises(SystemExit) as stopped:
        convert_checkpoint.main()
    assert stopped.value.code == 2
    assert "give --image-size" in caplog.text
