"""Reading pickles: code in them never runs (S3), and damaged files are named."""

import pickle
import sys
import types
from pathlib import Path

import pytest
import torch

from painter_core.model_files.open import open_model
from painter_core.models.vqgan import VQGAN
from tests.support.foreign import VQGAN_TINY, converted, formula_state


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
    with monkeypatch.context() as patch:
        for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        kinds = {}
        for kind, base in (("ModelCheckpoint", object), ("AttributeDict", dict)):
            kinds[kind] = type(kind, (base,), {"__module__": "pytorch_lightning.callbacks"})
            patch.setattr(sys.modules["pytorch_lightning.callbacks"], kind, kinds[kind], raising=False)
        callback = kinds["ModelCheckpoint"]()
        callback.best = 3.5
        content = {
            "state_dict": formula_state(VQGAN, VQGAN_TINY),
            "callbacks": {kinds["ModelCheckpoint"]: {"monitor": 1}},
        }
        torch.save(content | {"callback": callback}, tmp_path / "v.ckpt")
    converted(tmp_path / "v.ckpt", tmp_path / "ours")
    assert open_model(str(tmp_path / "ours")).vqgan_config == VQGAN_TINY


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
