"""hf:// through huggingface_hub's own client, which asks a hub on the loopback; modelscope:// without its
client.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from painter_core.model_files.open import open_model
from tests.model_files.test_checkpoint_files import prefixed, shards
from tests.model_files.test_families import CASES, reference, save
from tests.support.fake_hub import FakeHub
from tests.support.https_server import running
from tests.support.jobs import ROOT

# what open_model finds behind each name, one after the other, as JSON lines
SCRIPT = """
import json, logging, os, sys, time
from painter_core.model_files.open import open_model
logging.basicConfig(stream=sys.stderr)
for name in sys.argv[1:]:
    if name.startswith("PAINTER_OFFLINE="):
        os.environ["PAINTER_OFFLINE"] = name.partition("=")[2]
        continue
    began = time.monotonic()
    try:
        model = open_model(name)
        found = {"sha256": model.vqgan_sha256(), "image_size": model.vqgan_config.image_size}
    except ValueError as error:
        found = {"error": str(error)}
    print(json.dumps(found | {"seconds": time.monotonic() - began}))
"""

Opened = Callable[..., list[dict]]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    """Three repositories: diffusers', Janus', and one with two checkpoints."""
    root = tmp_path / "hub"
    for name in ("amused/vq", "deepseek/janus", "lab/two", "lab/one"):
        (root / name).mkdir(parents=True)
    CASES["diffusers"].write(root / "amused/vq", reference(CASES["diffusers"]).state)
    (root / "amused/vq/README.md").write_text("# A model\n")
    state = prefixed("gen_vision_model.")(reference(CASES["janus"]).state)
    shards(root / "deepseek/janus", state, kind="safetensors")
    (root / "deepseek/janus/part-3.safetensors").write_bytes(b"seven billion numbers of a language model")
    (root / "deepseek/janus/config.json").write_text('{"model_type": "multi_modality"}')
    llamagen = reference(CASES["llamagen"]).state
    for file in ("two/vq_a.pt", "two/vq_b.pt", "one/vq.pt"):
        save(root / "lab" / file, {"model": llamagen})
    server = FakeHub(root)
    with running(server):
        yield server


@pytest.fixture
def opened(hub: FakeHub, tmp_path: Path) -> Opened:
    """Opens names in a process of its own, since the client reads its settings once."""

    def run(*names: str, endpoint: str = hub.url) -> list[dict]:
        environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        environment |= {
            "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1", "PAINTER_CACHE": str(tmp_path / "cache"),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *names], cwd=ROOT, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
        opened_lines = [json.loads(line) for line in done.stdout.splitlines()]
        for found in opened_lines:
            found["log"] = done.stderr
        return opened_lines

    return run


def test_a_repository_by_its_name(hub: FakeHub, opened: Opened, tmp_path: Path) -> None:
    local = open_model(str(tmp_path / "hub/amused/vq"))
    first, again, offline = opened("hf://amused/vq", "hf://amused/vq", "PAINTER_OFFLINE=1", "hf://amused/vq")
    assert first["sha256"] == again["sha256"] == offline["sha256"] == local.vqgan_sha256()
    assert sum("README" in request for request in hub.requests) == 0
    assert sum(request.startswith("GET /amused") for request in hub.requests) == 2  # config and weights, once
    pin = json.loads((tmp_path / "cache/zoo/hf--amused--vq.json").read_text())
    assert pin["archive"] == "hf://amused/vq"
    assert (tmp_path / f"cache/zoo/hf--amused--vq-{pin['sha256'][:16]}/config.json").is_file()


def test_of_shards_only_what_is_needed(hub: FakeHub, opened: Opened) -> None:
    (found,) = opened("hf://deepseek/janus")
    assert found["image_size"] == 384
    asked = {request.rpartition("/")[2] for request in hub.requests if request.startswith("GET /deepseek")}
    assert asked == {
        "config.json", "model.safetensors.index.json", "part-1.safetensors", "part-2.safetensors"
    }  # fmt: skip


def test_a_file_of_a_repository(opened: Opened) -> None:
    which, file, none, alone = opened(
        "hf://lab/two", "hf://lab/two/vq_b.pt@main", "hf://lab/two/vq_c.pt", "hf://lab/one"
    )
    assert "which file? Give hf://lab/two/FILE with one of its weights: vq_a.pt, vq_b.pt" in which["error"]
    assert "no such file; there are vq_a.pt, vq_b.pt" in none["error"]
    assert file["sha256"] == alone["sha256"]


def test_what_cannot_be_had(hub: FakeHub, opened: Opened) -> None:
    none, wrong, offline = opened(
        "hf://nobody/nothing", "hf://no-owner", "PAINTER_OFFLINE=1", "hf://amused/vq"
    )
    assert "RepositoryNotFoundError" in none["error"]
    assert "give the directory that holds them instead" in none["error"]
    assert "expected hf://OWNER/NAME or modelscope://OWNER/NAME" in wrong["error"]
    assert "PAINTER_OFFLINE is set" in offline["error"]
    (dead,) = opened("hf://amused/vq", endpoint="http://127.0.0.1:9")
    assert "Where there is a network" in dead["error"]
    assert dead["seconds"] < 10


def test_a_repository_that_changed(hub: FakeHub, opened: Opened, tmp_path: Path) -> None:
    (first,) = opened("hf://lab/one")
    weights, pin = tmp_path / "hub/lab/one/vq.pt", tmp_path / "cache/zoo/hf--lab--one.json"
    state = reference(CASES["llamagen"]).state
    save(weights, {"model": {name: 0.5 * tensor for name, tensor in state.items()}})
    os.utime(pin, (1, 1))
    (second,) = opened("hf://lab/one")
    assert second["sha256"] == first["sha256"]
    assert "was replaced since it was fetched" in second["log"]
    for path in (tmp_path / "cache/zoo").iterdir():
        if path.is_dir():
            path.rename(tmp_path / path.name)
    (third,) = opened("hf://lab/one")
    assert f"to take the new ones, remove {pin}" in third["error"]


def test_without_a_hub_s_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PAINTER_CACHE", str(tmp_path))
    for name, scheme, extra in (
        ("modelscope.hub.api", "modelscope", "modelscope"),
        ("huggingface_hub", "hf", "huggingface"),
    ):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
        with pytest.raises(ValueError, match=rf'not installed .*: pip install "painter\[{extra}\]"'):
            open_model(f"{scheme}://owner/name")
