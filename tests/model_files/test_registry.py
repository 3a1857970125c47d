"""EasyNLP's own registry, by default and over https: its host is answered by a server on the loopback.

Nothing of ours is changed for that: a proxy named in the environment leads to the server, and SSL_CERT_FILE
names its certificate.
"""

import json
import logging
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from painter_core import pipeline
from painter_core.files import https
from painter_core.model_files import zoo
from painter_core.model_files.open import open_model
from painter_core.model_files.zoo_places import EASYNLP_REGISTRY
from painter_core.models.gpt import GPTConfig
from painter_core.models.vqgan import VQGANConfig
from painter_core.stages.convert_checkpoint import list_models
from tests.model_files.test_zoo import files, names_in, pack
from tests.support.foreign import write_easynlp
from tests.support.https_server import CERTIFICATE, FileServer, Proxy, half, page, redirect, running, silence
from tests.support.jobs import ROOT

HOST = "atp-modelzoo-sh.oss-cn-shanghai.aliyuncs.com"
NAME = "pai-painter-commercial-base-zh"
PATH = f"/release/easynlp_modelzoo/alibaba-pai/{NAME}.tgz"
REGISTRY = "/release/easynlp_modelzoo/modelzoo_alibaba.json"
SOON_S = 8  # after which nobody waits for an answer


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAINTER_CACHE", str(tmp_path / "cache"))
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("PAINTER_ZOO", "PAINTER_OFFLINE"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    """Serves a registry of EasyNLP's form, and one archive."""
    root = tmp_path / "www"
    archive = root / PATH[1:]
    archive.parent.mkdir(parents=True)
    pack(archive, {f"{NAME}/{Path(k).name}": v for k, v in files().items()})
    models = {"bert-base-uncased": "public/bert-base-uncased.tgz"}
    models[f"alibaba-pai/{NAME}"] = f"alibaba-pai/{NAME}.tgz"
    (root / REGISTRY[1:]).write_text(json.dumps(models))
    server = FileServer(root)
    with running(server):
        yield server


@pytest.fixture
def proxy(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Leads to the server, whose certificate is trusted."""
    proxy = Proxy(server)
    monkeypatch.setenv("https_proxy", proxy.url)
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    with running(proxy):
        yield proxy


def test_the_registry_is_easynlp_s_own() -> None:
    assert https.OPEN_S < SOON_S
    assert f"https://{HOST}{REGISTRY}" == EASYNLP_REGISTRY


def test_a_name_needs_nothing_but_a_network(server: FileServer, proxy: Proxy, tmp_path: Path) -> None:
    path = zoo.fetch(NAME)
    assert names_in(path) == ["config.json", "pytorch_model.bin", "vocab.txt"]
    assert server.requests == [f"GET {REGISTRY}", f"GET {PATH}"]
    assert set(proxy.requests) == {f"{HOST}:443"}
    pin = json.loads((tmp_path / "cache" / "zoo" / f"{NAME}.json").read_text())
    assert pin["archive"] == f"https://{HOST}{PATH}"
    assert pin["sha256"][:16] == path.name.removeprefix(f"{NAME}-")
    # with its owner, and without asking anybody
    assert zoo.fetch(f"alibaba-pai/{NAME}") == path
    assert len(server.requests) == 2


def test_the_article_s_first_line_of_code(server: FileServer, proxy: Proxy, tmp_path: Path) -> None:
    """A tiny model of EasyNLP's form, 256 x 256 pixels as its code assumes, behind the article's name."""
    vqgan = VQGANConfig(
        ch=32, ch_mult=(1, 1, 1, 1, 1), num_res_blocks=1, attn_resolutions=(16,), z_channels=16, embed_dim=8,
        codebook_size=64,
    )  # fmt: skip
    gpt = GPTConfig(
        text_vocab_size=21128, codebook_size=64, text_len=8, image_len=256, n_layer=1, n_head=2, n_embd=32
    )
    write_easynlp(tmp_path / NAME, vqgan, gpt)
    with tarfile.open(tmp_path / "www" / PATH[1:], "w:gz") as tar:
        tar.add(tmp_path / NAME, NAME)
    results = pipeline(NAME)(["宽松T恤"])
    assert len(results) == 1
    assert results[0]["gen_imgbase64"].startswith("iVBOR")


def test_a_name_that_it_lacks(server: FileServer, proxy: Proxy) -> None:
    with pytest.raises(
        ValueError,
        match=rf"pai-painter-large-zh: EasyNLP's registry https://{HOST}.* does not name it; it names "
        rf"alibaba-pai/{NAME}, bert-base-uncased. Put the model's archive .* at .*/pai-painter-large-zh.tgz",
    ):
        open_model("pai-painter-large-zh")
    with pytest.raises(ValueError, match=r"artist-base-zh: EasyNLP's registry .* does not name it"):
        open_model("alibaba-pai/artist-base-zh")  # others of its owner are looked up there too
    before = len(server.requests)
    with pytest.raises(ValueError, match=r"some/where: no such file or directory; names of the zoo are"):
        open_model("some/where")  # a path that is not there is no reason to ask anybody
    assert len(server.requests) == before


@pytest.mark.parametrize("at", [REGISTRY, PATH])
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (redirect(f"http://{HOST}/x.tgz"), rf"redirects to http://{HOST}/x.tgz, which is not https"),
        (half, "the connection ended|the connection broke off"),
        (page, "something else than a registry|a web page, not what its name says"),
        pytest.param(silence, "TimeoutError: no answer within 2 seconds", marks=pytest.mark.long),
    ],
)
def test_faults_of_the_way(
    server: FileServer, proxy: Proxy, tmp_path: Path, fault: object, said: str, at: str, monkeypatch
) -> None:
    server.faults[at] = fault  # type: ignore[assignment]
    if fault is silence:
        monkeypatch.setattr(https, "OPEN_S", 2.0)  # the wait is what this test takes
    began = time.monotonic()
    with pytest.raises(ValueError, match=said) as caught:
        zoo.fetch(NAME)
    assert time.monotonic() - began < SOON_S
    assert HOST in str(caught.value)
    left = [p.name for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert left == []
    if fault is not page or at == REGISTRY:
        assert (
            f"Put the model's archive (.tgz of config.json, pytorch_model.bin, vocab.txt) at {tmp_path}"
            in str(caught.value)
        )
    server.faults.clear()
    assert zoo.fetch(NAME).is_dir()  # nothing of the failure stands in the way


def test_a_redirect_to_https_is_followed(server: FileServer, proxy: Proxy, tmp_path: Path) -> None:
    (tmp_path / "www" / PATH[1:]).rename(tmp_path / "www" / "moved.tgz")
    server.faults[PATH] = redirect(f"https://{HOST}/moved.tgz")
    assert names_in(zoo.fetch(NAME)) == ["config.json", "pytorch_model.bin", "vocab.txt"]


def test_a_certificate_of_somebody_else(
    server: FileServer, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(
        ValueError, match=r"CERTIFICATE_VERIFY_FAILED.*SSL_CERT_FILE.*Put the model's archive"
    ):
        zoo.fetch(NAME)
    assert server.requests == []


def test_a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://user:secret@127.0.0.1:9")
    with pytest.raises(
        ValueError, match=r"through the proxy http://127.0.0.1:9, which the env.*Put"
    ) as caught:
        zoo.fetch(NAME)
    assert "secret" not in str(caught.value)


def test_without_any_network(tmp_path: Path) -> None:
    """The article's line where no packet comes through: an error soon, with advice."""
    code = f"""
import time
from painter_core import pipeline
import painter_core.painting.pipeline
began = time.monotonic()
try:
    pipeline({NAME!r})
finally:
    print(time.monotonic() - began)
"""
    unreachable = os.environ | {"https_proxy": "http://192.0.2.1:3128"}  # an address that nobody has
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=unreachable, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Put the model's archive" in done.stderr
    assert f"{NAME}.tgz; or set PAINTER_ZOO" in done.stderr
    assert float(done.stdout) < 10


def test_an_archive_that_was_replaced_is_noticed(
    server: FileServer, proxy: Proxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = zoo.fetch(NAME)
    archive, pin = tmp_path / "www" / PATH[1:], tmp_path / "cache" / "zoo" / f"{NAME}.json"
    pack(archive, {f"{NAME}/config.json": b"{}", f"{NAME}/vocab.txt": b"another"})
    os.utime(archive, (1, 1))
    with caplog.at_level(logging.WARNING):
        assert zoo.fetch(NAME) == path  # looked at less than an hour ago
        assert caplog.text == ""
        os.utime(pin, (1, 1))
        assert zoo.fetch(NAME) == path
    assert "was replaced since it was fetched; the copy in the cache" in caplog.text
    assert f"remove {pin}" in caplog.text
    assert server.requests[-1] == f"HEAD {PATH}"
    pin.unlink()
    assert zoo.fetch(NAME) != path


def test_a_local_archive_that_was_replaced_is_noticed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PAINTER_ZOO", str(tmp_path / "models"))
    archive = tmp_path / "models" / f"{NAME}.tgz"
    archive.parent.mkdir()
    pack(archive, files())
    path = zoo.fetch(NAME)
    with caplog.at_level(logging.WARNING):
        archive.touch()  # another date and the same content
        assert zoo.fetch(NAME) == path
        assert caplog.text == ""
        pack(archive, files("another"))
        assert zoo.fetch(NAME) == path
    assert f"{archive} was replaced since it was fetched" in caplog.text


def test_another_place_is_said(
    tmp_path: Path, server: FileServer, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    path = zoo.fetch(NAME)
    (tmp_path / "models").mkdir()
    pack(tmp_path / "models" / f"{NAME}.tgz", files("another"))
    monkeypatch.setenv("PAINTER_ZOO", str(tmp_path / "models"))
    with caplog.at_level(logging.WARNING):
        assert zoo.fetch(NAME) == path
    assert f"is another place than https://{HOST}{PATH}, from where it was fetched" in caplog.text


def test_what_is_in_the_cache_is_used_when_the_registry_cannot_be_read(
    tmp_path: Path, server: FileServer, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    path = zoo.fetch(NAME)
    monkeypatch.setenv("PAINTER_ZOO", "https://127.0.0.1:9/registry.json")
    with caplog.at_level(logging.WARNING):
        assert zoo.fetch(NAME) == path
    assert "The copy in the cache is used" in caplog.text


def test_list(server: FileServer, proxy: Proxy, tmp_path: Path) -> None:
    path = zoo.fetch(NAME)
    before = len(server.requests)
    lines = list_models()
    assert len(server.requests) == before  # nobody is asked
    assert [line.split()[0] for line in lines[:5]] == list(zoo.NAMES)
    cached = next(line for line in lines if line.startswith(NAME))
    assert "fine-tuned on e-commerce products" in cached
    assert f"in the cache, from https://{HOST}{PATH}" in cached
    assert path.name.rpartition("-")[2] in cached
    assert "not in the cache" in lines[0]
    assert EASYNLP_REGISTRY in lines[-1]
