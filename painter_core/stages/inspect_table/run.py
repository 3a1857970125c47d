"""Any table -> what it holds, and what is damaged: the job."""

import logging
from typing import Any

from painter_core.errors import Refused, Stop
from painter_core.files.storage import filesystem, read_json, redact, write_json
from painter_core.runs.next_step import next_step
from painter_core.runs.run import Run
from painter_core.stages.inspect_table.config import InspectConfig
from painter_core.stages.inspect_table.report import inspect
from painter_core.stages.inspect_table.text import to_text
from painter_core.stages.inspect_table.verify import find_problems, is_model
from painter_core.text.escape import visible

log = logging.getLogger(__name__)


def _check_report(name: str) -> None:
    """Raises Refused if something else than an earlier report would be written over."""
    fs, path = filesystem(name)
    if not fs.exists(path):
        return
    try:
        found = read_json(fs, path) if fs.isfile(path) else None
    except ValueError:
        found = None
    if not isinstance(found, dict) or "problems" not in found:
        raise Refused(f"--json {redact(name)} exists and is no report of this job; name another file")


def inspect_table(config: InspectConfig, run: Run) -> None:
    """Prints the report, or what --verify finds.

    Raises:
        Refused: --json names a file that is no report.
        Stop: --verify found something (exit code 3).
    """
    shown = redact(config.tables)
    if config.json:
        _check_report(config.json)
    report, kind = dict[str, Any](table=shown), "model"
    problems = find_problems(config.tables) if config.verify else None
    if not problems and not (config.verify and is_model(config.tables)):
        found = inspect(config)
        report, kind = found.to_json(), found.kind
        print(to_text(found), flush=True)  # what the job is for, on stdout; the log is on stderr
    if config.json:
        write_json(*filesystem(config.json), report | {"problems": problems})
    if problems:
        print("\n".join(map(visible, problems)))
        raise Stop(3, f"{shown}: {len(problems)} files are damaged, missing or surplus")
    if config.verify:
        log.info("%s: verified, every file is as recorded", shown)
    run.then(next_step("inspect_table", config.tables, made=kind))
