"""hf:// through huggingface_hub's own client, which asks a hub on the loopback; modelscope:// without its
client.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from painter_core.model_files.open import open_model
from tests.model_files.test_checkpoint_files import prefixed, shards
from tests.model_files.test_families import CASES, reference, save
from tests.support.fake_hub import FakeHub
from tests.support.https_server import running
from tests.support.jobs import ROOT

pytestmark = pytest.mark.long

# what open_model finds behind the name in each line, as JSON lines
SCRIPT = """
import io, json, logging, os, sys, time
from painter_core.model_files.open import open_model
for line in sys.stdin:
    order = json.loads(line)
    os.environ.update(order["environment"])
    log = io.StringIO()
    logging.basicConfig(stream=log, force=True)
    began = time.monotonic()
    try:
        model = open_model(order["name"])
        found = {"sha256": model.vqgan_sha256(), "image_size": model.vqgan_config.image_size}
    except ValueError as error:
        found = {"error": str(error)}
    print(json.dumps(found | {"seconds": time.monotonic() - began, "log": log.getvalue()}), flush=True)
"""

Opened = Callable[..., list[dict]]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    """Four repositories: diffusers', Janus', one with two checkpoints, and one with one."""
    root = tmp_path_factory.mktemp("hub")
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


@contextmanager
def process(endpoint: str, home: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that opens names, as the client reads the hub's address once; it takes seconds to start."""
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    environment |= {
        "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, env=environment, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        yield running
        assert running.stdin is not None
        running.stdin.close()
        assert running.wait() == 0


def answer(client: subprocess.Popen[str], name: str, cache: Path, *, offline: bool = False) -> dict:
    """What the process finds behind a name."""
    environment = {"PAINTER_CACHE": str(cache), "PAINTER_OFFLINE": "1" if offline else ""}
    assert client.stdin is not None
    assert client.stdout is not None
    print(json.dumps({"name": name, "environment": environment}), file=client.stdin, flush=True)
    return json.loads(client.stdout.readline())


@pytest.fixture(scope="module")
def client(hub: FakeHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    with process(hub.url, tmp_path_factory.mktemp("hf")) as started:
        yield started


@pytest.fixture
def opened(hub: FakeHub, client: subprocess.Popen[str], tmp_path: Path) -> Opened:
    """Opens names with a cache of the test's own, after `offline` without a network."""
    hub.requests.clear()

    def run(*names: str) -> list[dict]:
        asked = [name for name in names if name != "offline"]
        from_here = names.index("offline") if "offline" in names else len(names)
        return [
            answer(client, name, tmp_path / "cache", offline=number >= from_here)
            for number, name in enumerate(asked)
        ]

    return run


def test_a_repository_by_its_name(hub: FakeHub, opened: Opened, tmp_path: Path) -> None:
    local = open_model(str(hub.root / "amused/vq"))
    first, again, offline = opened("hf://amused/vq", "hf://amused/vq", "offline", "hf://amused/vq")
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


def test_what_cannot_be_had(opened: Opened, tmp_path: Path) -> None:
    none, wrong, offline = opened("hf://nobody/nothing", "hf://no-owner", "offline", "hf://amused/vq")
    assert "RepositoryNotFoundError" in none["error"]
    assert "give the directory that holds them instead" in none["error"]
    assert "expected hf://OWNER/NAME or modelscope://OWNER/NAME" in wrong["error"]
    assert "PAINTER_OFFLINE is set" in offline["error"]
    with process("http://127.0.0.1:9", tmp_path) as lost:
        dead = answer(lost, "hf://amused/vq", tmp_path / "cache")
    assert "Where there is a network" in dead["error"]
    assert dead["seconds"] < 10


def test_a_repository_that_changed(hub: FakeHub, opened: Opened, tmp_path: Path) -> None:
    shutil.copytree(hub.root / "lab/one", hub.root / "lab/changes")
    (first,) = opened("hf://lab/changes")
    weights, pin = hub.root / "lab/changes/vq.pt", tmp_path / "cache/zoo/hf--lab--changes.json"
    state = reference(CASES["llamagen"]).state
    save(weights, {"model": {name: 0.5 * tensor for name, tensor in state.items()}})
    os.utime(pin, (1, 1))
    (second,) = opened("hf://lab/changes")
    assert second["sha256"] == first["sha256"]
    assert "was replaced since it was fetched" in second["log"]
    for path in (tmp_path / "cache/zoo").iterdir():
        if path.is_dir():
            path.rename(tmp_path / path.name)
    (third,) = opened("hf://lab/changes")
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
