"""Starting a job: its command line and its paths.

Exit codes: 0 done; 1 a bug or a fault of the machine; 2 wrong flags or preflight, nothing written; 3
committed but over the ceiling of rejects; 4 the output exists or differs; 130 interrupted, submit again to
resume.
"""

import dataclasses
import io
import logging
import os
import sys
import textwrap
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import tyro

from painter_core.easynlp.flags import EasynlpJob, translate
from painter_core.files.storage import is_local, redact_text
from painter_core.runs import terminal
from painter_core.runs.terminal import LogLevel

log = logging.getLogger(__name__)

Config = TypeVar("Config")

COMMANDS = ("python ", "ray ")


@dataclass(frozen=True, kw_only=True)
class LogFlags:
    """What every job takes."""

    log_level: LogLevel = "info"
    """debug: show what Ray says of its own affairs too, for who looks for a fault of the cluster."""


def parse(kind: type[Config], doc: str | None, *, easynlp: EasynlpJob | None = None) -> Config:
    """The config of a job from the command line; a wrong flag or value ends the process with code 2.

    Args:
        kind: the config's class.
        doc: the job's docstring, for --help; its paragraphs that begin with a command are shown last, as they
            are typed.
        easynlp: the job of EasyNLP's that it stands for, whose command lines are taken too.
    """
    terminal.set_up()
    paragraphs = textwrap.dedent(doc or "").strip().split("\n\n")
    examples = [p for p in paragraphs if p.startswith(COMMANDS)]
    description = "\n\n".join(p for p in paragraphs if p not in examples)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal in GBK has no emoji, a caption may
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        argv = translate(sys.argv[1:], easynlp) if easynlp else sys.argv[1:]
        fields: list[Any] = [("job", kind), ("log", LogFlags, dataclasses.field(default_factory=LogFlags))]
        both = dataclasses.make_dataclass("Both", fields, kw_only=True)
        given: Any = tyro.cli(both, args=argv, description=description, config=(tyro.conf.OmitArgPrefixes,))
        terminal.set_level(given.log.log_level)
        return given.job
    except ValueError as error:
        fail(2, str(error))
    except SystemExit as end:
        if end.code == 0 and examples:  # --help; tyro would break a command across lines
            print("\nexamples:\n\n" + "\n\n".join(textwrap.indent(p, "  ") for p in examples) + "\n")
        raise


def fail(code: int, message: str) -> NoReturn:
    """Ends the process; the code is in the message too, since `ray job submit` makes every failure a 1."""
    log.error("%s (exit code %d)", redact_text(message), code)
    raise SystemExit(code)


def check_path(flag: str, path: str) -> None:
    """Refuses a relative path under `ray job submit`, where the working directory is a copy that is thrown
    away."""
    submitted = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    for entry in (part.strip() for part in path.split(",")):
        if submitted and is_local(entry) and not os.path.isabs(entry):
            raise ValueError(
                f"{flag} {entry}: relative paths are refused under `ray job submit`, whose working directory "
                f'is thrown away; give the absolute path, for instance {flag} "$PWD/{entry}"'
            )
