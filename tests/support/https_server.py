"""An HTTPS server on the loopback with a self-made certificate, and a proxy that leads every host to it."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CERTIFICATE = Path(__file__).parents[1] / "golden" / "loopback.pem"


class _Files(SimpleHTTPRequestHandler):
    """Files of a directory; `faults` of the server says which paths are answered otherwise."""

    def do_GET(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")  # type: ignore[attr-defined]
        fault = self.server.faults.get(self.path)  # type: ignore[attr-defined]
        if fault is None:
            super().do_GET()
        else:
            fault(self)

    def do_HEAD(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")  # type: ignore[attr-defined]
        super().do_HEAD()

    def log_message(self, *args: object) -> None:
        pass


class FileServer(ThreadingHTTPServer):
    """Serves a directory, by https unless told otherwise."""

    def __init__(self, root: Path, *, encrypted: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Files, directory=str(root)))
        self.requests: list[str] = []
        self.faults: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        if encrypted:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"http{'s' if encrypted else ''}://127.0.0.1:{self.server_port}"


class _Tunnel(BaseHTTPRequestHandler):
    """CONNECT host:443 becomes a connection to the server's `target`."""

    def do_CONNECT(self) -> None:
        self.server.requests.append(self.path)  # type: ignore[attr-defined]
        with socket.create_connection(self.server.target) as far:  # type: ignore[attr-defined]
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_pump, args=(far, self.connection), daemon=True)
            back.start()
            _pump(self.connection, far)
            back.join()

    def log_message(self, *args: object) -> None:
        pass


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(2**16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the other end is gone


class Proxy(ThreadingHTTPServer):
    """An HTTP proxy: whatever host is asked for, `server` answers."""

    daemon_threads = True

    def __init__(self, server: FileServer) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.target = ("127.0.0.1", server.server_port)
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


@contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[None]:
    """Serves until the end of the block."""
    with server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield
        server.shutdown()


def half(handler: BaseHTTPRequestHandler) -> None:
    """Promises 1,000 bytes and gives 500."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(bytes(500))


def redirect(url: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", url)
        handler.end_headers()

    return answer


def silence(handler: BaseHTTPRequestHandler) -> None:
    """Never answers, as a firewall that drops what it does not like."""
    time.sleep(30)


def page(handler: BaseHTTPRequestHandler) -> None:
    """What a hotel's network answers."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(b"<!DOCTYPE html><html>Please sign in</html>")
