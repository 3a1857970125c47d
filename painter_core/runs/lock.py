"""The lock of an output: one driver at a time writes there.

OUTPUTS.lock stands beside the output as long as a run writes to it. It names the driver and holds its
heartbeat. A driver that died leaves it behind; the next one sees that nobody is there, says so, and takes its
place.
"""

import fcntl
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from painter_core.errors import Refused
from painter_core.files.object_store import few_tries
from painter_core.files.storage import filesystem, is_local, redact, write_json
from painter_core.files.store_errors import StoreError

log = logging.getLogger(__name__)

HEARTBEAT_S = 10.0
PROOF_S = 65.0  # without a heartbeat that was written, then a driver stops: another could soon take over
STALE_S = 90.0  # without a heartbeat that was seen to move, then another one does
GUARD_S = 1.0
RELEASE_S = 10.0  # for a heartbeat that is under way at the end
SETTLE_S = 1.0  # an object store cannot create exclusively: the last of two that write within this time wins
BEGINNING = b'{"run_id"'  # of what _create() writes, which a kill may cut
FOREIGN = {"foreign": True}
UNFINISHED_S = 1.0  # a lock file without content is being written, or its writer died at once


class RunLock:
    """The right to write to an output.

    Args:
        url: of the output, as given to the job; the lock stands beside it.
        on_lost: called from another thread with Refused if another driver took the lock, since this one was
            stopped for so long that it was taken for dead; with StoreError if the lock cannot be reached for
            so long that another one could do that.
    """

    def __init__(self, url: str, on_lost: Callable[[Exception], None]) -> None:
        # a link to an output is the same output
        place = os.path.realpath(filesystem(url)[1]) if is_local(url) else url.rstrip("/")
        self.url = place + ".lock"
        self._on_lost = on_lost
        self._output = redact(url)
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._unproven_s = 0.0
        """How long no heartbeat was written, in this process' own time: a driver that is stopped and goes on
        has the time of a heartbeat to find out whose the lock is."""
        self._record: dict[str, Any] = {
            "run_id": uuid.uuid4().hex,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "machine": _machine(),
            "process_started": _process_started(os.getpid()),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "heartbeat_s": time.time(),
        }

    def check(self) -> dict[str, Any] | None:
        """Raises Refused if another driver holds the lock; writes nothing.

        Returns:
            What a dead driver left, if there is something.
        """
        held = self._read()
        if held == FOREIGN:
            raise Refused(
                f"{redact(self.url)}: stands where the lock of {self._output} would, and is no lock of ours; "
                "move it away, or name another output"
            )
        if held is not None and self._is_alive(held):
            raise Refused(
                f"{self._output}: another run writes there: {_describe(held)} ({redact(self.url)}). "
                "Wait for it, end it, or name another output"
            )
        return held

    def acquire(self) -> None:
        """Takes the lock; from here on it has a heartbeat.

        Raises:
            Refused: another driver holds it.
        """
        while not self._create():
            held = self.check()  # what was judged, not what may stand there a moment later
            if held is not None and self._remove(held):
                log.warning("%s: took over the lock of a run that died: %s", self._output, _describe(held))
        # the guard does not wait for the store, as a heartbeat may for minutes
        self._threads = [
            threading.Thread(target=target, name="lock", daemon=True) for target in (self._beat, self._guard)
        ]
        for thread in self._threads:
            thread.start()

    def release(self) -> None:
        """Gives the lock back, if it is still ours; the log says if that cannot be done."""
        self._ended.set()
        if not self._threads:
            return
        try:
            for thread in self._threads:
                thread.join(RELEASE_S)
                if thread.is_alive():  # what it writes would come after we removed the file
                    raise StoreError("a heartbeat is still under way")
            with few_tries():
                if self._is_ours(self._read()):
                    fs, path = filesystem(self.url)
                    fs.rm(path)
        except OSError as error:
            what = f"{error}; the next run takes it over after {STALE_S:.0f} s"
            log.warning("%s: the lock could not be removed: %s", redact(self.url), what)

    def _is_ours(self, held: dict[str, Any] | None) -> bool:
        return held is not None and held.get("run_id") == self._record["run_id"]

    def _read(self) -> dict[str, Any] | None:
        """The record of whoever holds the lock; empty if its writer was killed, FOREIGN if it is no lock."""
        fs, path = filesystem(self.url)
        deadline = time.monotonic() + UNFINISHED_S
        while True:
            try:
                data = fs.cat_file(path)
                found = json.loads(data)
                return found if isinstance(found, dict) and "run_id" in found else FOREIGN
            except FileNotFoundError:
                return None
            except ValueError:
                if time.monotonic() > deadline:
                    return {} if data[: len(BEGINNING)] == BEGINNING[: len(data)] else FOREIGN
            time.sleep(0.05)

    def _create(self) -> bool:
        """Writes the record where no lock is; whether it worked."""
        fs, path = filesystem(self.url)
        if not is_local(self.url):
            if fs.exists(path):
                return False
            write_json(fs, path, self._record)
            time.sleep(SETTLE_S)
            return self._is_ours(self._read())
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            with open(path, "x") as file:
                json.dump(self._record, file)
        except FileExistsError:
            return False
        return True

    def _is_alive(self, held: dict[str, Any]) -> bool:
        if not held.get("run_id"):
            return False
        if held["machine"] == self._record["machine"]:
            # a process number is used again after a while
            return held["process_started"] == _process_started(held["pid"])
        # of another machine, which may have another clock: a lock that is alive moves. A job that is tried
        # again at once after its node died should not be refused, and its driver may be out of the store's
        # reach and still at work, so it is watched for as long as that may be
        log.info("%s: up to %.0f s to see whether it lives: %s", self._output, STALE_S, _describe(held))
        deadline = time.monotonic() + STALE_S
        while time.monotonic() < deadline:
            if (found := self._read()) != held:
                return found is not None
            time.sleep(HEARTBEAT_S / 10)
        return False

    def _remove(self, held: dict[str, Any]) -> bool:
        """Removes a dead driver's lock, unless somebody else did so meanwhile."""
        fs, path = filesystem(self.url)
        if not is_local(self.url):
            fs.rm(path)
            return True
        try:
            with open(path) as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # of several drivers that see a dead one, one removes it
                if not os.path.exists(path) or os.fstat(file.fileno()).st_ino != os.stat(path).st_ino:
                    return False
                if self._read() != held:
                    return False
                os.unlink(path)
                return True
        except FileNotFoundError:
            return False

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            try:
                with few_tries():
                    if not self._beat_once():
                        return
            except Exception as error:
                # whatever it is, the next heartbeat may succeed; the guard ends the run if none does
                log.warning("%s: no heartbeat: %s: %s", redact(self.url), type(error).__name__, error)

    def _beat_once(self) -> bool:
        """Whether the lock is still ours."""
        fs, path = filesystem(self.url)
        held = self._read()
        if held is not None and not self._is_ours(held):
            what = f"{self._output}: another run took over: {_describe(held)}; this one stops"
            self._tell(Refused(what))
            return False
        write_json(fs, path, self._record | {"heartbeat_s": time.time()})
        self._unproven_s = 0.0
        return True

    def _guard(self) -> None:
        before = time.monotonic()
        while not self._ended.wait(GUARD_S):
            now = time.monotonic()
            self._unproven_s += min(now - before, 2 * GUARD_S)
            before = now
            if self._unproven_s > PROOF_S:
                what = f"no heartbeat reached the lock for {self._unproven_s:.0f} s, and another run may take"
                what += " it over; this one stops, and writes no summary.json. Submit it again"
                self._tell(StoreError(f"{self._output}: {what}"))
                return

    def _tell(self, error: Exception) -> None:
        # a store may answer after the lock was given back, when another run may rightly hold it
        if not self._ended.is_set():
            self._on_lost(error)


def _describe(held: dict[str, Any]) -> str:
    if not held.get("run_id"):
        return "a lock file that cannot be read"
    return f"host {held['host']}, process {held['pid']}, since {held['since']}"


def _machine() -> str:
    """Names what process numbers belong to: this boot of this machine, and the container's own numbers."""
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if not (boot.exists() and space.exists()):
        return socket.gethostname()
    return f"{boot.read_text().strip()}:{space.stat().st_ino}"


def _process_started(pid: int) -> str | None:
    """When a process of this machine began, in ticks; None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if stat[0] == "Z" else stat[19]
