"""What is tried before any work begins: writing, free space, what other nodes see. Nothing is left behind."""

import logging
import os
import shutil
import sys
import uuid
from collections.abc import Iterable

from painter_core.storage import filesystem, is_local, join, redact, remove, write_bytes

log = logging.getLogger(__name__)

NODE_TIMEOUT_S = 60.0
GIB = 2**30


def check_writable(flag: str, url: str) -> None:
    """Writes, renames and removes a file where the output goes, and beside it, where lock and replacement go.

    Raises:
        ValueError: that does not work.
    """
    fs, path = filesystem(url)
    places = [path]
    if is_local(url):
        places = [_existing(os.path.dirname(path)), *([path] if os.path.isdir(path) else [])]
    for place in places:
        probe = join(place, f".painter-{uuid.uuid4().hex}.probe")
        try:
            write_bytes(fs, probe, b"probe")
            remove(fs, probe)
        except OSError as error:
            raise ValueError(
                f"{flag} {redact(url)}: cannot be written: {redact(place)}: {error}. Name another place, or "
                "mend its permissions (the directory above is needed too: the lock stands there)"
            ) from None


def _existing(path: str) -> str:
    """The path, or the nearest directory above it that exists (or that is no directory)."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def check_space(flag: str, url: str, needed_bytes: float) -> None:
    """Raises ValueError if a local output will not fit; `needed_bytes` is an estimate."""
    if not is_local(url):
        return
    free = shutil.disk_usage(_existing(filesystem(url)[1])).free
    if needed_bytes > free:
        raise ValueError(
            f"{flag} {redact(url)}: about {needed_bytes / GIB:,.1f} GiB will be written, "
            f"{free / GIB:,.1f} GiB are free; make room or name another place"
        )


def check_nodes(flag: str, url: str, inputs: Iterable[str]) -> None:
    """Whether the other nodes of the cluster see what is local: the output's place and the inputs.

    Args:
        flag: of the output.
        url: of the output, which can be written.
        inputs: paths or URLs that workers read.

    Raises:
        ValueError: a node does not see one.
    """
    # names of models that are no paths, such as `bundled`, are not there
    local = [path for path in inputs if path and is_local(path) and os.path.exists(filesystem(path)[1])]
    nodes = _other_nodes() if local or is_local(url) else {}
    if not nodes:
        return
    token, probe = uuid.uuid4().hex, ""
    if is_local(url):
        fs, path = filesystem(url)
        place = path if os.path.isdir(path) else _existing(os.path.dirname(path))
        probe = join(place, f".painter-{token}.probe")
        write_bytes(fs, probe, token.encode())
    try:
        unseen = _unseen_by(nodes, [*local, *([probe] if probe else [])], token)
    finally:
        if probe:
            remove(fs, probe)
    for node, path in unseen:
        what = f"{flag} {redact(url)}" if path == probe else redact(path)
        raise ValueError(
            f"{what}: node {node} does not see it; on several nodes a local path must be on storage that "
            "all of them share, or be a URL"
        )


def _other_nodes() -> dict[str, str]:
    """Node id -> address, of all nodes but this one."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return {}
    here = ray.get_runtime_context().get_node_id()
    nodes = {n["NodeID"]: n["NodeManagerAddress"] for n in ray.nodes() if n["Alive"]}
    return {number: address for number, address in nodes.items() if number != here}


def _unseen_by(nodes: dict[str, str], paths: list[str], token: str) -> list[tuple[str, str]]:
    """(address of the node, path) of what a node does not see."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0)(unseen)
    found = {
        address: look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            paths, token
        )
        for node, address in nodes.items()
    }
    answers = ((address, ray.get(answer, timeout=NODE_TIMEOUT_S)) for address, answer in found.items())
    return [(address, path) for address, missing in answers for path in missing]


def unseen(paths: list[str], token: str) -> list[str]:
    """Which of the local paths this process does not see; a probe must hold the token."""
    missing = []
    for path in paths:
        inner = filesystem(path)[1]
        try:
            if not os.path.isdir(inner):
                with open(inner, "rb") as file:
                    content = file.read(len(token))
                if path.endswith(".probe") and content != token.encode():
                    missing.append(path)
        except OSError:
            missing.append(path)
    return missing
