"""What is found out about the cluster's nodes before any work begins.

Whether they see what is local, have the driver's versions, and have room for what Ray spills.
"""

import functools
import logging
import os
import platform
import shutil
import sys
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata

from painter_core.compute.cpus import cpu_has_amx
from painter_core.files.storage import filesystem, is_local, join, redact, remove, write_bytes
from painter_core.runs.preflight import GIB, existing_above
from painter_core.runs.questions import alive_nodes, ask_all, node_name

log = logging.getLogger(__name__)

PACKAGES = ("ray", "torch", "numpy", "pyarrow", "pillow", "tokenizers", "safetensors")
SPILL_SHARE = 0.95  # of a disk: Ray spills nothing to one that is fuller (RAY_local_fs_capacity_threshold)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a process of a node finds there."""

    unseen: list[str]
    """Local paths that are not what the driver sees."""
    versions: dict[str, str]
    temp_dir: str
    """Ray's, where objects are spilled to."""
    used: float
    """Share of the disk of temp_dir that is used."""
    free_bytes: int


def check_nodes(flag: str, url: str, inputs: Iterable[str]) -> None:
    """Whether the nodes of the cluster can do the work; without a cluster nothing is looked at.

    Args:
        flag: of the output.
        url: of the output, which can be written.
        inputs: paths or URLs that workers read.

    Raises:
        ValueError: a node does not see an input or the output's place, has other versions of Python or of a
            package that makes bytes than the driver, has no room for what Ray spills, or gives no answer.
    """
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return
    alive = alive_nodes()
    own = look([], "")
    here = alive.pop(ray.get_runtime_context().get_node_id())
    check_room(f"this {node_name(here)}", own)
    if not alive:
        return
    # names of models that are no paths, such as `bundled`, are not there
    paths = [path for path in inputs if path and is_local(path) and os.path.exists(filesystem(path)[1])]
    token, probe = uuid.uuid4().hex, ""
    if is_local(url):
        fs, path = filesystem(url)
        place = path if os.path.isdir(path) else existing_above(os.path.dirname(path))
        probe = join(place, f".painter-{token}.probe")
        write_bytes(fs, probe, token.encode())
        paths.append(probe)
    try:
        found = ask_all(functools.partial(look, paths, token), alive)
    finally:
        if probe:
            remove(fs, probe)
    for node_id, there in found.items():
        node = node_name(alive[node_id])
        _check_versions(node, own, there)
        check_room(node, there)
        for unseen in there.unseen:
            what = f"{flag} {redact(url)}" if unseen == probe else redact(unseen)
            raise ValueError(
                f"{what}: {node} does not see it; on several nodes a local path must be on storage "
                "that all of them share, or be a URL"
            )


def all_have_amx(has_it: Callable[[], bool] = cpu_has_amx) -> bool:
    """Whether all CPUs of the cluster are fast in bfloat16; the log names those that are not, if others are.

    Args:
        has_it: asked on each node.
    """
    found = _have_amx(has_it)
    slow = [node for node, has in found.items() if not has]
    if 0 < len(slow) < len(found):
        log.info(
            "--precision auto: fp32, since %s %s no AMX, by which CPUs are fast in bf16, and others have it",
            ", ".join(slow),
            "has" if len(slow) == 1 else "have",
        )
    return not slow


def nodes_without_amx(has_it: Callable[[], bool] = cpu_has_amx) -> list[str]:
    """Nodes of the cluster whose CPUs are not fast in bfloat16, as messages name them.

    Args:
        has_it: asked on each of them.
    """
    return [node for node, has in _have_amx(has_it).items() if not has]


def _have_amx(has_it: Callable[[], bool]) -> dict[str, bool]:
    """By name, the answers of the nodes with CPUs: a head without any computes nothing."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return {"this machine": has_it()}
    alive = {node: found for node, found in alive_nodes().items() if found["Resources"].get("CPU", 0) > 0}
    here = ray.get_runtime_context().get_node_id()
    others = {node: found for node, found in alive.items() if node != here}
    found = {node_name(alive[node]): has for node, has in ask_all(has_it, others).items()}
    return found | ({f"this {node_name(alive[here])}": has_it()} if here in alive else {})


def _check_versions(node: str, own: Look, there: Look) -> None:
    for name, version in own.versions.items():
        if there.versions.get(name) != version:
            raise ValueError(
                f"{node} has {name} {there.versions.get(name)}, this driver has {version}: the same rows "
                "would not give the same bytes; install the same versions on all nodes (constraints.txt)"
            )


def check_room(node: str, there: Look) -> None:
    """Warns if Ray cannot spill on a node; ValueError if its disk is as good as full."""
    if there.used < SPILL_SHARE:
        return
    message = (
        f"{node}: the disk of Ray's temporary directory {there.temp_dir} is {there.used:.0%} full, "
        f"{there.free_bytes / GIB:,.1f} GiB are free; above {SPILL_SHARE:.0%} Ray cannot spill objects. Make "
        "room, or start Ray with another --temp-dir (RAY_TMPDIR for a run without a cluster)"
    )
    if there.free_bytes < GIB:
        raise ValueError(message)
    log.warning("%s", message)


def look(paths: list[str], token: str) -> Look:
    """What this process, of a node of the cluster, finds.

    Args:
        paths: local ones; those that end in .probe hold the token.
    """
    import ray

    temp_dir = ray.get_runtime_context().get_temp_dir()
    disk = shutil.disk_usage(temp_dir)
    return Look(
        unseen=[path for path in paths if not sees(path, token)],
        versions=versions(),
        temp_dir=temp_dir,
        used=1 - disk.free / disk.total,
        free_bytes=disk.free,
    )


def versions() -> dict[str, str]:
    """Versions of what makes a table's bytes, without the build's kind: a head may lack its workers' GPUs."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python, **{name: _version(name) for name in PACKAGES}}


def _version(package: str) -> str:
    try:
        return metadata.version(package).partition("+")[0]
    except metadata.PackageNotFoundError:
        return "none"


def sees(path: str, token: str) -> bool:
    """Whether this process sees a local path; a probe must hold the token."""
    inner = filesystem(path)[1]
    try:
        if os.path.isdir(inner):
            return True
        with open(inner, "rb") as file:
            content = file.read(len(token))
    except OSError:
        return False
    return not path.endswith(".probe") or content == token.encode()
