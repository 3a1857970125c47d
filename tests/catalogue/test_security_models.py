"""The security list: untrusted weights (S4, S5), and that nothing unpickles or evaluates (S3, S10, S13).

Pickles that run code: tests/model_files/test_pickles.py.
"""

import ast
import dataclasses
import json
from pathlib import Path

import pytest

from painter_core.model_files.open import open_model
from painter_core.model_files.safetensors_file import check_safetensors
from painter_core.models.gpt import GPTConfig
from painter_core.models.vqgan import VQGANConfig
from tests.support.jobs import ROOT


def sources() -> dict[str, str]:
    paths = [p for d in ("painter_core", "jobs", "schemas", "cluster") for p in (ROOT / d).rglob("*.py")]
    return {str(p.relative_to(ROOT)): p.read_text() for p in paths}


def calls(text: str) -> set[str]:
    """Names of all functions that a source calls, and `name=True` of keyword arguments."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            found.add(ast.unparse(node.func))
            found |= {f"{k.arg}={ast.unparse(k.value)}" for k in node.keywords if k.arg}
    return found


def test_s3_s10_s13_nothing_unpickles_or_evaluates() -> None:
    """The decoding child reads pickles from its parent; its parent reads JSON from it."""
    forbidden = {
        "pickle.loads",
        "yaml.load",
        "yaml.unsafe_load",
        "eval",
        "exec",
        "os.system",
        "marshal.loads",
    }
    forbidden |= {"weights_only=False", "allow_pickle=True", "shell=True", "trust_remote_code=True"}
    for path, text in sources().items():
        allowed = {"pickle.load"} if path.endswith("images/isolate.py") else set()
        assert not (calls(text) & (forbidden | {"pickle.load"})) - allowed, path
        for line in text.splitlines():
            if "torch.load(" in line:
                assert "weights_only=True" in text, path
    assert "RAY_DATA_AUTOLOAD" not in "".join(sources().values())


def header(content: bytes, size: int | None = None) -> bytes:
    return (len(content) if size is None else size).to_bytes(8, "little") + content


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
HOSTILE_HEADERS = {
    "a header of 100 MB": header(b" " * 1000, 100 * 2**20),
    "a header beyond the file": header(b"{}", 2**20),
    "a header of 2**63": header(b"{}", 2**63),
    "100,000 tensors": header(json.dumps({f"t{i}": TENSOR for i in range(100_000)}).encode()) + bytes(8),
    "deep JSON": header(b"[" * 10**6),
    "a huge shape": header(json.dumps({"w": TENSOR | {"shape": [2**40]}}).encode()) + bytes(8),
    "another shape": header(json.dumps({"w": TENSOR | {"shape": [2, 1]}}).encode()) + bytes(8),
    "offsets beyond the file": header(json.dumps({"w": TENSOR | {"data_offsets": [0, 2**40]}}).encode())
    + bytes(8),
    "bytes behind": header(json.dumps({"w": TENSOR}).encode()) + bytes(16),
    "no JSON": header(b"\xff" * 64),
    "empty": b"",
}


@pytest.mark.parametrize("name", HOSTILE_HEADERS)
def test_s4_hostile_safetensors(name: str, tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    file.write_bytes(HOSTILE_HEADERS[name])
    with pytest.raises(ValueError, match=r"w\.safetensors: ") as caught:
        check_safetensors(file, {"w": [2]})
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        *(("gpt", "n_layer", v) for v in (10**9, -1, 1.5, "12", True)),
        ("gpt", "n_embd", 10**9),
        ("vqgan", "ch", 2**40),
        ("vqgan", "ch_mult", [1] * 1000),
        ("vqgan", "num_res_blocks", 10**6),
        ("vqgan", "codebook_size", 10**9),
    ],
)
def test_s5_giant_geometry(section: str, key: str, value: object, tmp_path: Path) -> None:
    spec = {"format": 1, "vqgan": dataclasses.asdict(VQGANConfig()), "gpt": dataclasses.asdict(GPTConfig())}
    spec[section][key] = value  # type: ignore[index]
    (tmp_path / "config.json").write_text(json.dumps(spec))
    with pytest.raises(ValueError, match=rf"{section}\.{key}"):
        open_model(str(tmp_path))
    (tmp_path / "config.json").write_text(" " * (2**20 + 1))
    with pytest.raises(ValueError, match="this is no config"):
        open_model(str(tmp_path))
