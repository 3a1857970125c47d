"""RAY_ADDRESS of a cluster that is not there: known within seconds, by every form that Ray takes."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from painter_core.runs import address
from painter_core.runs.address import check_address

SETTINGS_FRAME = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


@contextmanager
def server(answer: bytes | None) -> Iterator[int]:
    """The port of a server that sends this to whoever connects; None: it takes connections and is silent."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        held = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                held.append(connection)
                if answer is not None:
                    connection.sendall(answer)
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "localhost:{}"])
def test_a_port_that_nobody_listens_on(form: str, closed_port: int) -> None:
    where = form.format(closed_port)
    began = time.monotonic()
    with pytest.raises(ValueError, match=rf"RAY_ADDRESS is set to {where}, and no .* answers .*unset"):
        check_address(where)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_a_server_that_never_answers(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As what is left of a frozen head, or the end of a tunnel."""
    monkeypatch.setattr(address, "TIMEOUT_S", 0.5)
    with server(None) as port, pytest.raises(ValueError, match=r"no answer within 0\.5 s"):
        check_address(form.format(port))


def test_a_tunnel_whose_other_end_is_gone() -> None:
    with server(b"") as port, pytest.raises(ValueError, match=r"connection was closed|reset by peer"):
        check_address(f"127.0.0.1:{port}")


def test_another_kind_of_server() -> None:
    with (
        server(b"HTTP/1.1 400 Bad\r\n\r\n") as port,
        pytest.raises(ValueError, match="another server"),
    ):
        check_address(f"127.0.0.1:{port}")


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_a_server_that_speaks_rays_protocol_is_taken(form: str) -> None:
    with server(SETTINGS_FRAME) as port:
        check_address(form.format(port))


def test_a_grpc_server_is_taken() -> None:
    """Ray's services are gRPC servers, and this is one."""
    running = grpc.server(ThreadPoolExecutor(1))
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    try:
        check_address(f"127.0.0.1:{port}")
    finally:
        running.stop(None)


def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(ValueError, match=r"is set to ray://no-such-host\.invalid:10001, and no Ray"):
        check_address("ray://no-such-host.invalid:10001")


@pytest.mark.parametrize("where", ["http://127.0.0.1:8265", "https://ray.example.com"])
def test_the_address_of_a_dashboard(where: str) -> None:
    with pytest.raises(ValueError, match=f"RAY_ADDRESS is set to {where}.*RAY_API_SERVER_ADDRESS"):
        check_address(where)


@pytest.mark.parametrize("where", ["127.0.0.1", "host:port", "host:99999", ":6379", "ray://", "host:"])
def test_what_is_no_address(where: str) -> None:
    with pytest.raises(ValueError, match=f"RAY_ADDRESS is set to {where}.*expected HOST:PORT"):
        check_address(where)


@pytest.mark.parametrize("where", ["", "local", "auto"])
def test_what_names_no_host(where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    check_address(where)


def test_the_last_cluster_of_this_machine_may_be_gone(
    closed_port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A head that was killed leaves its address behind."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{closed_port}")
    with pytest.raises(ValueError, match=rf"set to auto, .*127\.0\.0\.1:{closed_port}: Connection refused"):
        check_address("auto")


def test_a_cluster_behind_tls_is_only_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer would need a handshake with the cluster's certificates."""
    monkeypatch.setenv("RAY_USE_TLS", "1")
    with server(None) as port:
        check_address(f"127.0.0.1:{port}")
