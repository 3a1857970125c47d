"""Networks that enlarge: read by us, built by spandrel, the same as computed by hand; what is refused."""

import logging
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from painter_core.upscaling.flags import UpscaleFlags
from painter_core.upscaling.network import Network
from painter_core.upscaling.upscaler import plan_upscaler
from tests.support.precision import products_after
from tests.support.upscaling import (
    REACH_PX,
    compact_forward,
    compact_state,
    import_spandrel,
    write_network,
)

CPU = torch.device("cpu")
TILE = 64


@pytest.fixture(scope="module", autouse=True)
def _spandrel() -> None:
    import_spandrel()


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


def by_hand(state: dict, pixels: np.ndarray) -> np.ndarray:
    found = compact_forward(state, torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
    return found[0].clamp(0, 1).permute(1, 2, 0).mul(255).round().to(torch.uint8).numpy()


@pytest.mark.parametrize("scale", [2, 4])
def test_a_network_equals_its_forward_pass(scale: int, tmp_path: Path) -> None:
    pixels = picture(24, 40)
    expected = by_hand(compact_state(scale), pixels)
    assert len(np.unique(expected)) > 200, "no picture of one colour"
    network = Network(str(write_network(tmp_path / "n.pth", scale)), device=CPU, tile=TILE)
    assert network.scale == scale
    np.testing.assert_array_equal(network(pixels), expected)
    save_file({f"module.{k}": v for k, v in compact_state(scale).items()}, tmp_path / "n.safetensors")
    again = Network(str(tmp_path / "n.safetensors"), device=CPU, tile=TILE)
    np.testing.assert_array_equal(again(pixels), expected)


def test_a_network_computes_in_float32_beside_a_painter_in_tf32(tmp_path: Path) -> None:
    network = Network(str(write_network(tmp_path / "n.pth", 2)), device=CPU, tile=TILE)
    with products_after("tf32") as found:
        network(picture(24, 40))
    assert found == {"highest"}


@pytest.mark.parametrize("shape", [(150, 130), (16, 320), (320, 16)])
def test_tiles_make_no_difference_to_what_sees_less_than_their_overlap(
    shape: tuple[int, int], tmp_path: Path
) -> None:
    assert REACH_PX < 8
    file = str(write_network(tmp_path / "n.pth", 2))
    whole = Network(file, device=CPU, tile=512)(picture(*shape)).astype(int)
    tiled = Network(file, device=CPU, tile=TILE)(picture(*shape)).astype(int)
    assert np.abs(whole - tiled).max() <= 1, "another shape may round otherwise"
    assert (whole != tiled).mean() < 1e-3


def test_a_plan_names_the_file_and_what_it_needs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write_network(tmp_path / "n.pth", 4)
    found = plan_upscaler(UpscaleFlags(upscaler=str(file), upscale_tile=TILE))
    assert (found.scale, found.tile) == (4, TILE)
    write_network(file, 4, seed=1)
    other = plan_upscaler(UpscaleFlags(upscaler=str(file), upscale_tile=TILE, upscale=4))
    assert other.identity()["upscaler_sha256"] != found.identity()["upscaler_sha256"]
    assert found.memory_bytes() == 16 * found.memory_bytes(TILE // 4, TILE // 4), "by pixels"
    caplog.set_level(logging.INFO)
    found.log_memory()
    plan_upscaler(UpscaleFlags(upscale=4)).log_memory()
    assert re.findall(r"n\.pth: enlarges 4 times; about (\S+) GB", caplog.text) == ["0.08"]
    assert found.memory_bytes() == 6 * 4 * 48 * TILE**2 * 4**2, "48 channels of float32, six times"
    with pytest.raises(ValueError, match=r"--upscale 2: .*n\.pth enlarges 4 times; leave the flag out"):
        plan_upscaler(UpscaleFlags(upscaler=str(file), upscale=2))


def saved(path: Path, content: object) -> str:
    torch.save(content, path)
    return str(path)


class Harmful:
    """Creates a file when a plain unpickler restores it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_file_is_refused(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for content in ({"params": compact_state(2), "hook": Harmful(trace)}, Harmful(trace)):
        with pytest.raises(ValueError, match=r"n\.pth: .*would run code") as error:
            Network(saved(tmp_path / "n.pth", content), device=CPU, tile=TILE)
        assert "\n" not in str(error.value)
    assert not trace.exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    state = compact_state(2)
    grey = state | {"body.0.weight": state["body.0.weight"][:, :1]}
    nan = state | {"body.0.bias": torch.full((8,), float("nan"))}
    unfit = state | {"body.2.weight": torch.zeros(8, 9, 3, 3)}
    plain = compact_state(1)
    for content, message in (
        ({"linear.weight": torch.zeros(2, 2)}, "its 1 tensors are of no network that spandrel knows"),
        (nan, r"body\.0\.bias holds values that are not finite"),
        (unfit, "does not fit it"),
        (grey, "1 channels to|does not fit it"),
        (plain, "scale 1; expected a network of RGB pictures with a scale of 2 to 8"),
    ):
        with pytest.raises(ValueError, match=message):
            Network(saved(tmp_path / "n.pth", content), device=CPU, tile=TILE)
    with pytest.raises(ValueError, match="no such file"):
        plan_upscaler(UpscaleFlags(upscaler=str(tmp_path / "missing.pth")))
    with pytest.raises(ValueError, match="a URL; copy the file"):
        plan_upscaler(UpscaleFlags(upscaler="s3://bucket/n.pth"))


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(ValueError, match=r"needs the package spandrel, .* pip install 'painter\[upscale\]'"):
        plan_upscaler(UpscaleFlags(upscaler=str(write_network(tmp_path / "n.pth", 2))))
