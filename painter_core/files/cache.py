"""Directories that are made once a machine and kept: training data as arrays, converted checkpoints,
downloads, archives of the zoo.

They stand under PAINTER_CACHE (by default ~/.cache/painter) and are named by what they are made from, so that
an entry is never mistaken for another. An entry is whole or absent, whoever else makes it at the same time:

    NAME/             an entry
    .NAME.lock        held by the process that makes it, while it does
    .NAME.building/   what it has made so far; if nobody holds the lock, its build was killed, and the next
                      build of any name removes it
"""

import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from painter_core.files.storage import full_disk_named

log = logging.getLogger(__name__)

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
MAKE_ROOM = "remove entries that no job uses, or name a directory on another disk by PAINTER_CACHE"
BUILDING = ".building"
LOCK = ".lock"


def cache_root() -> Path:
    """The root of this machine's caches."""
    return Path(os.environ.get("PAINTER_CACHE") or Path.home() / ".cache" / "painter").absolute()


def build_once(name: str, build: Callable[[Path], object]) -> Path:
    """The cache's directory `name`; filled by `build` if it is not there.

    Args:
        name: relative to the cache's root; names the content.
        build: is given an empty directory, which is renamed when it returns. Other processes that want the
            same entry wait meanwhile.

    Raises:
        OSError: the disk has no room (ENOSPC, EDQUOT), or the file system has no locks.
    """
    final = cache_root() / name
    if final.is_dir():
        return final
    with workplace(name) as temporary:
        if not final.is_dir():
            build(temporary)
            sync_files(temporary)
            os.rename(temporary, final)
    return final


@contextmanager
def workplace(name: str) -> Iterator[Path]:
    """An empty directory of the cache while no other process has the one of this name; removed at the end.

    Args:
        name: names an entry or other work, relative to the cache's root.

    Raises:
        OSError: the disk has no room (ENOSPC, EDQUOT), or the file system has no locks.
    """
    final = cache_root() / name
    final.parent.mkdir(parents=True, exist_ok=True)
    lock = _take_lock(final, wait=True)
    assert lock is not None
    temporary = _building(final)
    try:
        _remove_leftovers(final)
        temporary.mkdir()
        with full_disk_named(temporary):
            yield temporary
    except OSError as error:
        if error.errno in NO_ROOM:
            what = f"{error.strerror}: no room in the cache {cache_root()}; {MAKE_ROOM}"
            raise OSError(error.errno, what, str(error.filename or final)) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        _give_back(final, lock)


def sync_files(directory: Path) -> None:
    """Makes sure that all files of a directory are on the disk before it gets its final name."""
    for path in directory.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())


def _remove_leftovers(final: Path) -> None:
    """Removes what killed builds left; we hold the entry's lock, and builds at work hold theirs."""
    shutil.rmtree(_building(final), ignore_errors=True)
    for suffix in (BUILDING, LOCK):  # one that is killed at its beginning or end leaves its lock alone
        for left in final.parent.glob(f".*{suffix}"):
            other = left.with_name(left.name[1 : -len(suffix)])
            if other != final and (lock := _take_lock(other, wait=False)) is not None:
                shutil.rmtree(_building(other), ignore_errors=True)
                _give_back(other, lock)


def _building(final: Path) -> Path:
    return final.with_name(f".{final.name}{BUILDING}")


def _lock_file(final: Path) -> Path:
    return final.with_name(f".{final.name}{LOCK}")


def _take_lock(final: Path, *, wait: bool) -> int | None:
    """The open lock file of an entry, locked; None if another process has it and we do not wait.

    The kernel frees it when its holder dies, however that happens.
    """
    path = _lock_file(final)
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)  # writable, since NFS locks no other file
        try:
            if not _flock(lock, final, wait=wait):
                os.close(lock)
                return None
            if _is_at(path, lock):
                return lock
        except BaseException:  # Ctrl-C while we wait
            os.close(lock)
            raise
        os.close(lock)  # its holder removed it meanwhile


def _flock(lock: int, final: Path, *, wait: bool) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            return False
        log.info("waiting: another process makes %s", final)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise OSError(
            error.errno,
            f"{cache_root()}: its file system has no locks; name a local directory by PAINTER_CACHE",
        ) from error
    return True


def _is_at(path: Path, lock: int) -> bool:
    """Whether an open file still has its name."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(lock))
    except FileNotFoundError:
        return False


def _give_back(final: Path, lock: int) -> None:
    _lock_file(final).unlink(missing_ok=True)  # while it is ours: who waits for it finds that it has no name
    os.close(lock)
