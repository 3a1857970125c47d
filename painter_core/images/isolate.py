"""Decoding that survives its pictures: one that crashes or hangs its decoder costs its row, not the job.

The first attempt at a unit decodes in Ray's own worker, under an alarm: the kernel ends whatever hangs there,
even while it holds Python's lock. Ray then starts the task again, and this attempt decodes in a child
process. When the child dies, it is known at which row, and the child is replaced. So any number of such rows
costs one of Ray's retries, on whatever node it runs, and nothing about them is kept on disk.
"""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from painter_core.errors import Reject
from painter_core.images.cells import image_of_cell
from painter_core.images.decode import Alpha, Resize, decode_image

TIMEOUT_S = 15.0  # 50 million pixels take 1 to 4 s on an idle core
CRASHES = 2  # of the process at one row, after which the row is rejected
Cell = str | bytes | None
Decode = Callable[[Cell, Counter[str]], np.ndarray]


@contextmanager
def decoder(
    decode: Decode, *, timeout_s: float = TIMEOUT_S, in_child: bool | None = None
) -> Iterator[Callable[..., np.ndarray]]:
    """`decode` with the number of the row as a further argument, and two more reasons to reject it.

    Args:
        decode: what may crash or hang.
        timeout_s: longest time for a cell.
        in_child: whether to decode in another process; by default where Ray would not start this one again:
            from the second attempt of a task on, and in a driver.
    """
    if may_die() if in_child is None else not in_child:
        worker = _Worker(decode, timeout_s)
        try:
            yield worker.decode
        finally:
            set_alarm(0)
        return
    child = _Child(decode, timeout_s)
    try:
        yield child.decode
    finally:
        child.end()


def may_die() -> bool:
    """Whether this process is one that Ray starts again: a task's first attempt. True without Ray too."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return True
    # Ray has no public name for it; its versions are pinned, and a test holds it to this
    worker = ray._private.worker.global_worker
    return worker.mode == ray.WORKER_MODE and worker.core_worker.get_current_task_attempt_number() == 0


def set_alarm(seconds: float) -> None:
    """Lets the kernel end this process after so many seconds, unless it is set again; 0: never."""
    signal.setitimer(signal.ITIMER_REAL, seconds)  # SIGALRM ends a process that does not handle it


class _Worker:
    """Decodes in this process. Setting the alarm costs 10 us, so it is not set for every row, and goes off
    after 95 to 100 % of timeout_s."""

    def __init__(self, decode: Decode, timeout_s: float) -> None:
        self._decode, self._timeout_s = decode, timeout_s
        self._set_s = -timeout_s

    def decode(self, cell: Cell, notes: Counter[str], row: int) -> np.ndarray:
        now = time.monotonic()
        if now - self._set_s > self._timeout_s / 20:
            set_alarm(self._timeout_s)
            self._set_s = now
        poison(row)
        return self._decode(cell, notes)


class _Child:
    """A process that decodes, started when it is first needed and again after it died."""

    def __init__(self, decode: Decode, timeout_s: float) -> None:
        self._decode, self._timeout_s = decode, timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    def decode(self, cell: Cell, notes: Counter[str], row: int) -> np.ndarray:
        how = ""
        for _ in range(CRASHES):
            answer, data = self._ask(cell, row)
            if answer is not None:
                notes.update(answer["notes"])
                if "reject" in answer:
                    raise Reject(*answer["reject"])
                if "bug" in answer:
                    raise RuntimeError(f"decoding row {row}: {answer['bug']}")
                return np.frombuffer(data, np.uint8).reshape(answer["shape"])
            code = self.end()
            if code == -signal.SIGALRM:  # the second time: the first one ended Ray's worker
                raise Reject("decode_timeout", f"not decoded within {self._timeout_s:g} s")
            how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        raise Reject("worker_crash", f"the decoder ended with {how}, {CRASHES} times")

    def _ask(self, cell: Cell, row: int) -> tuple[dict[str, Any] | None, bytes]:
        """The answer for a row; None if the process died of it."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            pickle.dump((cell, row), process.stdin)
            process.stdin.flush()
        except BrokenPipeError:
            return None, b""
        line = process.stdout.readline()
        if not line.endswith(b"\n"):
            return None, b""
        # JSON and plain bytes: what comes from a process that hostile pictures went through is not unpickled
        answer = json.loads(line)
        data = process.stdout.read(answer["bytes"])
        return (answer, data) if len(data) == answer["bytes"] else (None, b"")

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-c", f"from {__name__} import main; main()"]
        path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path}
        )
        assert process.stdin is not None
        assert process.stdout is not None
        pickle.dump((self._decode, self._timeout_s), process.stdin)
        process.stdin.flush()
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"{sys.executable} did not start to decode, exit code {process.wait()}")
        return process

    def end(self) -> int:
        """Ends the process, if one runs, and returns its exit code."""
        if self._process is None:
            return 0
        process, self._process = self._process, None
        with suppress(BrokenPipeError):
            process.communicate()  # closes its input, at which it ends
        return process.wait()


def main() -> None:
    """The process that decodes: (cell, row) on stdin -> a line of JSON and the pixels on stdout, until stdin
    ends."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not pass for an answer
    decode, timeout_s = pickle.load(requests)
    answers.write(b"ready\n")
    answers.flush()
    while True:
        try:
            cell, row = pickle.load(requests)
        except EOFError:
            return
        set_alarm(timeout_s)
        _answer(answers, decode, cell, row)
        set_alarm(0)


def _answer(answers: BinaryIO, decode: Decode, cell: Cell, row: int) -> None:
    notes: Counter[str] = Counter()
    answer: dict[str, Any] = {"notes": notes}
    data = b""
    try:
        poison(row)
        pixels = decode(cell, notes)
        answer["shape"], data = pixels.shape, pixels.tobytes()
    except Reject as error:
        answer["reject"] = [error.reason, error.detail, error.column]
    except Exception:  # whatever it is, the parent raises it again
        answer["bug"] = traceback.format_exc()
    answers.write(json.dumps(answer | {"bytes": len(data)}).encode() + b"\n" + data)
    answers.flush()


@dataclass(frozen=True, kw_only=True)
class CellDecoder:
    """A cell -> uint8 (S, S, 3)."""

    image_size: int
    resize: Resize
    alpha: Alpha

    def __call__(self, cell: str | bytes | None, notes: Counter[str]) -> np.ndarray:
        return decode_image(image_of_cell(cell, notes), self.image_size, self.resize, self.alpha, notes)


def poison(row: int) -> None:
    """Marks the decoding of a row, which hostile pictures may end. Does nothing in normal runs.

    PAINTER_POISON="7:exit,9:hang,*:bug", under PAINTER_ENABLE_FAULTS=1, makes it end the process, never
    return, call what a library lacks, or `reject` the picture, every time that it comes to that row (`*`:
    any).
    """
    if os.environ.get("PAINTER_ENABLE_FAULTS") != "1" or not (wanted := os.environ.get("PAINTER_POISON")):
        return
    actions = dict(entry.split(":") for entry in wanted.split(","))
    action = actions.get(str(row), actions.get("*"))
    if action == "exit":
        os._exit(9)
    if action == "hang":
        signal.pause()
    if action == "reject":
        raise Reject("img_truncated", "a library that takes every picture for a broken one")
    if action == "bug":
        raise AttributeError("module 'PIL' has no attribute 'no_such_function'")
