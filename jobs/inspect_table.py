"""What a table holds, whole or unfinished: rows, rejects, captions, pictures, codes; --verify finds damage.

python jobs/inspect_table.py --tables pairs.tsv
python jobs/inspect_table.py --tables codes/train --verify --json report.json --outputs samples/
"""

import logging
from typing import Any

from painter_core.errors import Stop
from painter_core.files.storage import filesystem, redact, write_json
from painter_core.runs.command_line import check_path, parse
from painter_core.runs.outcome import Outcome
from painter_core.stages.inspect_table.config import InspectConfig
from painter_core.stages.inspect_table.report import inspect
from painter_core.stages.inspect_table.text import to_text
from painter_core.stages.inspect_table.verify import find_problems, is_model
from painter_core.text.escape import visible

log = logging.getLogger(__name__)


def main() -> None:
    """Runs the job; it needs no cluster. Exit code 3 if --verify finds something."""
    config = parse(InspectConfig, __doc__)
    with Outcome():
        for flag, path in (
            ("--tables", config.tables),
            ("--json", config.json),
            ("--outputs", config.outputs),
        ):
            check_path(flag, path or "/")
        report: dict[str, Any] = {"table": redact(config.tables)}
        problems = find_problems(config.tables) if config.verify else None
        if not problems and not (config.verify and is_model(config.tables)):
            found = inspect(config)
            report = found.to_json()
            print(to_text(found))
        if config.json:
            write_json(*filesystem(config.json), report | {"problems": problems})
        if problems:
            print("\n".join(map(visible, problems)))
            raise Stop(3, f"{redact(config.tables)}: {len(problems)} files are damaged, missing or surplus")
        if config.verify:
            log.info("%s: verified, every file is as recorded", redact(config.tables))


if __name__ == "__main__":
    main()
