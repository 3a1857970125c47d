"""A user's Inception file: strict, and nothing in it is run."""

import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from painter_core.model_files.inception_file import load_inception
from painter_core.models.inception import Inception
from tests.support.judges import inception_state


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return inception_state()


def saved(state: dict[str, Tensor], path: Path) -> Path:
    torch.save(state, path)
    return path


def test_the_module_has_the_files_tensors() -> None:
    """Counted on torch-fidelity's own module."""
    with torch.device("meta"):
        found = Inception()
    assert len(found.state_dict()) == 566
    assert sum(name.endswith("num_batches_tracked") for name in found.state_dict()) == 94
    assert sum(p.numel() for p in found.parameters()) == 23_850_960


def test_a_loaded_network_holds_the_files_weights(state: dict[str, Tensor], tmp_path: Path) -> None:
    model = load_inception(saved(state, tmp_path / "i.pth"))
    assert torch.equal(model.Mixed_7c.branch_pool.conv.weight, state["Mixed_7c.branch_pool.conv.weight"])
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("Mixed_5b.branch1x1.conv.weight"), r"1 missing: Mixed_5b\.branch1x1\.conv\.weight"),
        (lambda s: s.update({"AuxLogits.fc.bias": torch.zeros(3)}), r"1 unexpected: AuxLogits\.fc\.bias"),
        (lambda s: s.update({"fc.weight": torch.zeros(1000, 2048)}), r"fc\.weight \[1000, 2048\]"),
        (lambda s: s.update({"fc.bias": torch.full((1008,), torch.nan)}), "fc.bias holds something else"),
        (
            lambda s: s.update({"fc.bias": torch.zeros(1008, dtype=torch.long)}),
            "fc.bias holds something else",
        ),
    ],
)
def test_another_network_is_refused_by_name(
    change, message: str, state: dict[str, Tensor], tmp_path: Path
) -> None:
    other = dict(state)
    change(other)
    with pytest.raises(ValueError, match=message):
        load_inception(saved(other, tmp_path / "i.pth"))


def test_torchvisions_inception_is_refused(tmp_path: Path) -> None:
    """Its names are nearly the same: 1000 classes, and an auxiliary head."""
    other = inception_state() | {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    other |= {"AuxLogits.conv0.conv.weight": torch.zeros(128, 768, 1, 1)}
    with pytest.raises(ValueError, match=r"do not fit Inception v3 of 2015-12-05 \(pt_inception"):
        load_inception(saved(other, tmp_path / "i.pth"))


def test_torchscript_is_refused_by_name(tmp_path: Path) -> None:
    """NVIDIA's inception-2015-12-05.pt, which clean-fid loads, is a program."""

    class Scaled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2

    torch.jit.script(Scaled()).save(str(tmp_path / "inception-2015-12-05.pt"))
    with pytest.raises(ValueError, match=r"2015-12-05\.pt: this is TorchScript, a program.*bare weights"):
        load_inception(tmp_path / "inception-2015-12-05.pt")


class Harmful:
    def __reduce__(self):
        return (Path.touch, (Path("harmed"),))


def test_nothing_in_a_pickle_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"fc.weight": Harmful()}, tmp_path / "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"fc.weight": Harmful()}))
    for name in ("zip.pth", "plain.pth"):
        with pytest.raises(ValueError, match=name):
            load_inception(tmp_path / name)
    assert not (tmp_path / "harmed").exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("<html>404</html>")
    (tmp_path / "text.safetensors").write_text("<html>404</html>")
    with zipfile.ZipFile(tmp_path / "empty.pth", "w"):
        pass
    for name in ("text.pth", "text.safetensors", "empty.pth"):
        with pytest.raises(ValueError, match=rf"{name}.*(web page|damaged|no checkpoint|no safetensors)"):
            load_inception(tmp_path / name)
    with pytest.raises(ValueError, match=r"gone\.pth: no such file"):
        load_inception(tmp_path / "gone.pth")
