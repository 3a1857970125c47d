"""A hub on the loopback that answers huggingface_hub's own client: repositories are directories."""

import hashlib
import json
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Repositories(BaseHTTPRequestHandler):
    """GET /api/models/OWNER/NAME, and HEAD or GET /OWNER/NAME/resolve/REVISION/FILE."""

    def __init__(self, *args: object, root: Path) -> None:
        self.root = root
        super().__init__(*args)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")  # type: ignore[attr-defined]
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._info(self.root / parts[2] / parts[3])
        else:
            self._file(self.root / parts[0] / parts[1], "/".join(parts[4:]))

    def _info(self, repository: Path) -> None:
        if not repository.is_dir():
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
            return
        files = [str(p.relative_to(repository)) for p in sorted(repository.rglob("*")) if p.is_file()]
        answer = {
            "id": f"{repository.parent.name}/{repository.name}",
            "sha": commit_of(repository),
            "siblings": [{"rfilename": name} for name in files],
            "tags": [],
        }
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _file(self, repository: Path, name: str) -> None:
        if not (repository / name).is_file():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        data = (repository / name).read_bytes()
        etag = hashlib.sha256(data).hexdigest()
        self._send(200, data, {"ETag": f'"{etag}"', "X-Repo-Commit": commit_of(repository)})

    def _send(self, code: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


def commit_of(repository: Path) -> str:
    """Of its content, as a commit's sha1."""
    digest = hashlib.sha1()
    for path in sorted(p for p in repository.rglob("*") if p.is_file()):
        digest.update(str(path.relative_to(repository)).encode() + path.read_bytes())
    return digest.hexdigest()


class FakeHub(ThreadingHTTPServer):
    """Serves OWNER/NAME below a directory."""

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Repositories, root=root))
        self.root = root
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"
