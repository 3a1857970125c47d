"""Names of the zoo: from a web server on the loopback, a directory, a registry, the cache; and what is
refused.
"""

import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from painter_core.model_files import zoo
from painter_core.model_files.open import open_model
from tests.support.foreign import GPT_TINY, VQGAN_TINY, write_easynlp

NAME = "pai-painter-base-zh"


@pytest.fixture(autouse=True)
def alone(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own, and nothing in the environment that leads elsewhere."""
    for name in ("PAINTER_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


class Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.requests.append(self.path)  # type: ignore[attr-defined]
        super().do_GET()

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(root)))
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "www").mkdir()
    with Server(tmp_path / "www") as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


def files(marker: str = "") -> dict[str, bytes]:
    """Content of a model's archive, as far as the zoo looks at it."""
    return {
        f"{NAME}/config.json": b'{"model_type": "artist"}',
        f"{NAME}/pytorch_model.bin": b"weights" + marker.encode(),
        f"{NAME}/pytorch_model.meta.bin": b"optimizer",
        f"{NAME}/vocab.txt": b"[PAD]\n",
        f"{NAME}/log/events": b"tensorboard",
    }


def pack(path: Path, content: dict[str, bytes], *extra: tarfile.TarInfo) -> str:
    """Writes a .tgz and returns its sha256."""
    with tarfile.open(path, "w:gz") as tar:
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        for entry in extra:
            tar.addfile(entry)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def names_in(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.iterdir())


def test_over_http_once(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    sha = pack(tmp_path / "www" / f"{NAME}.tgz", files())
    monkeypatch.setenv("PAINTER_ZOO", server.url)
    path = zoo.fetch(f"alibaba-pai/{NAME}")
    assert names_in(path) == ["config.json", "pytorch_model.bin", "vocab.txt"]
    assert (path / "pytorch_model.bin").read_bytes() == b"weights"
    assert server.requests == [f"/{NAME}.tgz"]
    pin = json.loads((path.parent / f"{NAME}.json").read_text())
    assert (pin["archive"], pin["sha256"]) == (f"{server.url}/{NAME}.tgz", sha)
    # from now on without the network, and without knowing where it came from
    monkeypatch.setenv("PAINTER_OFFLINE", "1")
    assert zoo.fetch(NAME) == path
    monkeypatch.delenv("PAINTER_ZOO")
    assert zoo.fetch(NAME) == path
    assert len(server.requests) == 1
    assert names_in(path.parent) == [path.name, f"{NAME}.json"]


def test_pin_is_compared_when_fetched_again(
    tmp_path: Path, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "www" / f"{NAME}.tgz"
    sha = pack(archive, files())
    monkeypatch.setenv("PAINTER_ZOO", server.url)
    path = zoo.fetch(NAME)
    path.rename(path.with_name("moved"))
    pack(archive, files("changed"))
    with pytest.raises(ValueError, match=rf"expected {sha}; it was changed. Nothing was unpacked"):
        zoo.fetch(NAME)
    assert names_in(cache / "zoo") == ["moved", f"{NAME}.json"]
    (cache / "zoo" / f"{NAME}.json").unlink()
    assert (zoo.fetch(NAME) / "pytorch_model.bin").read_bytes() == b"weightschanged"


def test_registry(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    www = tmp_path / "www"
    (www / "sub").mkdir()
    sha = pack(www / "sub" / "a.tgz", files())
    size = (www / "sub" / "a.tgz").stat().st_size
    entry = {"archive": "sub/a.tgz", "sha256": sha, "size_bytes": size}
    (www / "registry.json").write_text(
        json.dumps({f"alibaba-pai/{NAME}": "sub/a.tgz", "my-own/model": entry})
    )
    monkeypatch.setenv("PAINTER_ZOO", f"{server.url}/registry.json")
    assert zoo.is_name("my-own/model")
    assert not zoo.is_name("my-own/other")
    own, published = zoo.fetch("my-own/model"), zoo.fetch(NAME)
    assert own.name == f"my-own--model-{sha[:16]}"
    assert published.name == f"{NAME}-{sha[:16]}"
    with pytest.raises(
        ValueError, match=r"does not name it; it names alibaba-pai/pai-painter-base-zh, my-own"
    ):
        zoo.fetch("pai-painter-large-zh")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"archive": "a.tgz", "sha256": "0" * 64}, "expected 0000"),
        ({"archive": "a.tgz", "size_bytes": 7}, "bytes, expected 7"),
        ({"archive": "a.tgz", "md5": "x"}, "expected a string, or archive, size_bytes and sha256"),
        ({"archive": "/etc/a.tgz"}, "names a path on this machine"),
        ({"archive": "http://example.org/a.tgz"}, "plain http"),
        ({"archive": "ftp://example.org/a.tgz"}, "scheme 'ftp' is not accepted"),
        (3, "expected a string"),
    ],
)
def test_bad_registry_entries(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, entry: object, message: str
) -> None:
    pack(tmp_path / "www" / "a.tgz", files())
    (tmp_path / "www" / "registry.json").write_text(json.dumps({NAME: entry}))
    monkeypatch.setenv("PAINTER_ZOO", f"{server.url}/registry.json")
    with pytest.raises(ValueError, match=message):
        zoo.fetch(NAME)


def test_local_directory_packed_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAINTER_ZOO", "models")
    monkeypatch.setenv("PAINTER_OFFLINE", "1")
    with pytest.raises(ValueError, match=rf"models/{NAME}\.tgz: no such file"):
        zoo.fetch(NAME)
    (tmp_path / "models").mkdir()
    pack(tmp_path / "models" / f"{NAME}.tgz", files())
    assert names_in(zoo.fetch(NAME)) == ["config.json", "pytorch_model.bin", "vocab.txt"]
    large = tmp_path / "models" / "pai-painter-large-zh"
    large.mkdir()
    (large / "config.json").write_text("{}")
    assert zoo.fetch("pai-painter-large-zh") == large


def test_archive_put_into_the_cache_by_hand(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAINTER_OFFLINE", "1")
    with pytest.raises(ValueError, match="PAINTER_OFFLINE is set") as error:
        zoo.fetch(NAME)
    place = cache / "zoo" / f"{NAME}.tgz"
    assert str(place) in str(error.value)
    place.parent.mkdir(parents=True)
    pack(place, files())
    assert (zoo.fetch(NAME) / "vocab.txt").read_bytes() == b"[PAD]\n"


def test_without_network(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAINTER_ZOO", server.url)
    with pytest.raises(
        ValueError, match=r"the server answers 404.* Put the model's archive .* at .*zoo/pai-painter"
    ):
        zoo.fetch(NAME)
    server.shutdown()
    server.server_close()
    with pytest.raises(ValueError, match=r"Connect.* Put the model's archive"):
        zoo.fetch(NAME)
    monkeypatch.setenv("PAINTER_OFFLINE", "1")
    with pytest.raises(ValueError, match=r"PAINTER_OFFLINE is set, so .* is not asked\. Put"):
        zoo.fetch(NAME)


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size = kind, link, size
    return entry


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: [member("../../evil")], "OutsideDestinationError"),
        (lambda: [member("x", tarfile.SYMTYPE, "/etc/passwd")], "AbsoluteLinkError"),
        (lambda: [member("x", tarfile.SYMTYPE, "vocab.txt")], "a link or device"),
        (lambda: [member("x", tarfile.CHRTYPE)], "SpecialFileError"),
        (lambda: [member("other/config.json")], "2 directories with a config.json"),
        (lambda: [member("huge", size=2**40)], "too much of it"),
    ],
)
def test_hostile_archives(
    tmp_path: Path, cache: Path, change: Callable[[], list[tarfile.TarInfo]], message: str
) -> None:
    place = cache / "zoo" / f"{NAME}.tgz"
    place.parent.mkdir(parents=True)
    pack(place, files(), *change())
    with pytest.raises(ValueError, match=message):
        zoo.fetch(NAME)
    assert names_in(cache / "zoo") == [f"{NAME}.tgz"]
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("content", [b"", b"not an archive", b"\x1f\x8b\x08\x00cut"])
def test_damaged_archives(cache: Path, content: bytes) -> None:
    place = cache / "zoo" / f"{NAME}.tgz"
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    with pytest.raises(ValueError, match="no sound archive"):
        zoo.fetch(NAME)
    pack(place, {f"{NAME}/vocab.txt": b"x"})
    with pytest.raises(ValueError, match=r"0 directories with a config\.json"):
        zoo.fetch(NAME)


def test_plain_http_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAINTER_ZOO", "http://zoo.invalid/models")
    with pytest.raises(ValueError, match="plain http"):
        zoo.fetch(NAME)
    monkeypatch.setenv("PAINTER_ZOO", "http://127.0.0.1.evil.invalid/registry.json")
    with pytest.raises(ValueError, match="plain http"):
        zoo.fetch(NAME)


def test_open_model_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("painter_core.model_files.foreign_geometry.EASYNLP_IMAGE_SIZE", VQGAN_TINY.image_size)
    write_easynlp(tmp_path / "models" / NAME)
    with tarfile.open(tmp_path / "models" / f"{NAME}.tgz", "w:gz") as tar:
        tar.add(tmp_path / "models" / NAME, NAME)
    (tmp_path / "models" / NAME).rename(tmp_path / "elsewhere")
    monkeypatch.setenv("PAINTER_ZOO", str(tmp_path / "models"))
    model = open_model(f"alibaba-pai/{NAME}")
    assert (model.vqgan_config, model.gpt_config) == (VQGAN_TINY, GPT_TINY)
    with pytest.raises(
        ValueError, match=r"no such file or directory; names of the zoo are pai-painter-base-zh, "
    ):
        open_model("pai-painter-huge-zh")
    # what is there as a path is never taken for a name
    (tmp_path / NAME).mkdir()
    with pytest.raises(ValueError, match=r"no config\.json there"):
        open_model(NAME)
