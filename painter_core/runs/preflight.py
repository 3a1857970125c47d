"""What is tried before any work begins: writing, free space. Nothing is left behind."""

import os
import shutil
import uuid

from painter_core.files.storage import filesystem, is_local, join, redact, remove, write_bytes

GIB = 2**30


def check_writable(flag: str, url: str) -> None:
    """Writes, renames and removes a file where the output goes, and beside it, where lock and replacement go.

    Raises:
        ValueError: that does not work.
    """
    fs, path = filesystem(url)
    places = [path]
    if is_local(url):
        places = [existing_above(os.path.dirname(path)), *([path] if os.path.isdir(path) else [])]
    for place in places:
        probe = join(place, f".painter-{uuid.uuid4().hex}.probe")
        try:
            write_bytes(fs, probe, b"probe")
            remove(fs, probe)
        except OSError as error:
            raise ValueError(
                f"{flag} {redact(url)}: cannot be written: {redact(place)}: {error}. Name another place, or "
                "mend its permissions (the directory above is needed too: the lock is written there)"
            ) from None


def existing_above(path: str) -> str:
    """The path, or the nearest directory above it that exists (or that is no directory)."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def check_space(flag: str, url: str, needed_bytes: float) -> None:
    """Raises ValueError if a local output will not fit; `needed_bytes` is an estimate."""
    if not is_local(url):
        return
    free = shutil.disk_usage(existing_above(filesystem(url)[1])).free
    if needed_bytes > free:
        raise ValueError(
            f"{flag} {redact(url)}: about {needed_bytes / GIB:,.1f} GiB will be written, "
            f"{free / GIB:,.1f} GiB are free; make room or name another place"
        )
