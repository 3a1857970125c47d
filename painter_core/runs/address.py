"""Whether a Ray cluster answers where RAY_ADDRESS says, before Ray is asked: Ray itself tries for 15 minutes.

Ray's services are gRPC servers, that is HTTP/2: each side begins with a SETTINGS frame (RFC 9113, 3.4), so
one is told from a silent or another server without a word of Ray's own protocol.
"""

import os
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

TIMEOUT_S = 8.0  # to connect to each address of the host, and for an answer
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = 4  # type of a frame, its fourth byte
EMPTY_SETTINGS = bytes([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0])
UNSET = "unset RAY_ADDRESS to run on this machine alone"


def check_address(address: str) -> None:
    """Whether a cluster answers at the value of RAY_ADDRESS; `local` and no value ask for none.

    Args:
        address: HOST:PORT, ray://HOST:PORT, auto (the one that was started last on this machine) or local.

    Raises:
        ValueError: no cluster answers, or it is no such address.
    """
    if address in ("", "local"):
        return
    said = f"RAY_ADDRESS is set to {address}"
    if re.match(r"https?://", address):
        raise ValueError(
            f"{said}, a dashboard's address: that belongs into RAY_API_SERVER_ADDRESS, for `ray job submit`; "
            f"name HOST:PORT of the cluster, or {UNSET}"
        )
    where = _started_last() if address == "auto" else address.removeprefix("ray://")
    if where is None:
        return  # Ray looks for processes of a cluster, and says at once if there are none
    try:
        host, port = _host_and_port(where)
    except ValueError:
        raise ValueError(f"{said}, expected HOST:PORT, ray://HOST:PORT, auto or local; or {UNSET}") from None
    if why := problem(host, port):
        raise ValueError(
            f"{said}, and no Ray cluster answers there: {where}: {why}. Start that cluster, name another "
            f"one, or {UNSET}"
        )


def _started_last() -> str | None:
    """The address that `ray start` left on this machine."""
    file = Path(os.environ.get("RAY_TMPDIR", os.environ.get("TMPDIR", "/tmp")), "ray", "ray_current_cluster")
    try:
        return file.read_text().strip()
    except OSError:
        return None


def _host_and_port(where: str) -> tuple[str, int]:
    parts = urlsplit(f"//{where}")
    if not parts.hostname or not parts.port:
        raise ValueError(where)
    return parts.hostname, parts.port


def problem(host: str, port: int, timeout_s: float | None = None) -> str:
    """Why no service of Ray's answers; empty if one does."""
    timeout_s = timeout_s or TIMEOUT_S
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
                return ""  # its answer would need a handshake with the cluster's certificates
            connection.sendall(PREFACE + EMPTY_SETTINGS)
            answer = connection.recv(len(EMPTY_SETTINGS))
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
    except OSError as error:
        return error.strerror or str(error)
    if not answer:
        return "the connection was closed"
    return "" if answer[3:4] == bytes([SETTINGS]) else f"another server, its answer begins with {answer!r}"
