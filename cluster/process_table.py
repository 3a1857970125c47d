"""Processes and their listening sockets, read from Linux' /proc: how a head finds, and ends, exactly its own.

Standard library only. A process that ends while it is being read is not there; a zombie counts as ended.
"""

import ipaddress
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TCP_LISTEN = "0A"  # state column of /proc/net/tcp, include/net/tcp_states.h
KILL_TIMEOUT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Process:
    """One living process; `start_ticks` tells it from a later one that got the same pid."""

    pid: int
    parent: int
    session: int
    start_ticks: int


@dataclass(frozen=True, kw_only=True)
class Listener:
    """One listening TCP socket."""

    pid: int
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int

    @property
    def is_loopback(self) -> bool:
        """True where only this machine can connect; gRPC writes 127.0.0.1 as ::ffff:127.0.0.1."""
        mapped = getattr(self.address, "ipv4_mapped", None)
        return (mapped or self.address).is_loopback


def read_process(pid: int) -> Process | None:
    """The process, or None where it is gone or a zombie."""
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # proc(5): the name in parentheses may hold anything, so the fields are counted from the last ")".
    fields = text.rpartition(")")[2].split()
    if fields[0] in "ZX":
        return None
    return Process(pid=pid, parent=int(fields[1]), session=int(fields[3]), start_ticks=int(fields[19]))


def read_processes() -> dict[int, Process]:
    """Every living process by pid."""
    if not PROC.joinpath("self", "stat").exists():
        raise RuntimeError("no /proc: the local head needs Linux; elsewhere run `python jobs/NAME.py`")
    pids = (int(entry) for entry in os.listdir(PROC) if entry.isdigit())
    return {process.pid: process for process in map(read_process, pids) if process is not None}


def descendants(root: int, processes: dict[int, Process]) -> set[int]:
    """`root`, its children, their children, and so on, as far as they live."""
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    todo = [root] if root in processes else []
    while todo:
        pid = todo.pop()
        found.add(pid)
        todo.extend(child for child in children.get(pid, []) if child not in found)
    return found


def has_environment(pid: int, entry: str) -> bool:
    """True if the process was started with `NAME=value` in its environment (readable for one's own only)."""
    try:
        return entry.encode() in (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def end_processes(find: Callable[[], set[int]], *, grace_s: float) -> None:
    """SIGTERM to everything `find` names, SIGKILL after `grace_s`; asked again until it names nothing.

    Raises:
        RuntimeError: something outlived SIGKILL (a process stuck in the kernel).
    """
    asked: set[int] = set()
    kill_at = time.monotonic() + grace_s
    while pids := find():
        is_late = time.monotonic() > kill_at
        if time.monotonic() > kill_at + KILL_TIMEOUT_S:
            raise RuntimeError(f"processes {sorted(pids)} outlived SIGKILL")
        for pid in pids if is_late else pids - asked:
            try:
                os.kill(pid, signal.SIGKILL if is_late else signal.SIGTERM)
            except ProcessLookupError:
                continue
        asked |= pids
        time.sleep(0.05)


def listeners(pids: Iterable[int]) -> list[Listener]:
    """The listening TCP sockets of these processes."""
    owners = {inode: pid for pid in pids for inode in _socket_inodes(pid)}
    found = []
    for table in ("tcp", "tcp6"):
        try:
            lines = (PROC / "self" / "net" / table).read_text().splitlines()[1:]
        except FileNotFoundError:  # a kernel without IPv6
            continue
        for fields in map(str.split, lines):
            if fields[3] == TCP_LISTEN and fields[9] in owners:
                address, _, port = fields[1].partition(":")
                found.append(Listener(pid=owners[fields[9]], address=_ip(address), port=int(port, 16)))
    return found


def _socket_inodes(pid: int) -> list[str]:
    try:
        descriptors = list((PROC / str(pid) / "fd").iterdir())
    except OSError:
        return []
    inodes = []
    for descriptor in descriptors:
        try:
            target = os.readlink(descriptor)
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.append(target[len("socket:[") : -1])
    return inodes


def _ip(hexadecimal: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The kernel prints an address as 32-bit words in the machine's byte order (little-endian here)."""
    words = [bytes.fromhex(hexadecimal[i : i + 8])[::-1] for i in range(0, len(hexadecimal), 8)]
    return ipaddress.ip_address(b"".join(words))
