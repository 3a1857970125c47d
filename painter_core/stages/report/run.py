"""A run directory -> an HTML page: the job."""

import logging
from dataclasses import dataclass

import tyro

from painter_core.errors import Refused
from painter_core.files.storage import filesystem, redact, write_bytes
from painter_core.runs.next_step import next_step
from painter_core.runs.run import Run
from painter_core.stages.report.page import render
from painter_core.stages.report.table import table_page
from painter_core.stages.report.training import training_page
from painter_core.tables.run_directory import RunDirectory, check_plan

log = logging.getLogger(__name__)

SUFFIX = ".report.html"


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """What a job wrote -> one HTML page about it."""

    run_dir: tyro.conf.Positional[str]
    """What a job was given as --outputs or --checkpoint-dir: a table or a training, finished or not."""
    outputs: str | None = None
    """The page, X.html; by default RUN_DIR.report.html, beside it."""
    overwrite: bool = False
    """Replace the page."""

    def paths(self) -> dict[str, str | None]:
        """Flags that name paths."""
        return {"RUN_DIR": self.run_dir, "--outputs": self.outputs}

    @property
    def page(self) -> str:
        """Where the page goes, a path or URL."""
        return self.outputs or self.run_dir.rstrip("/") + SUFFIX


def report(config: ReportConfig, run: Run) -> None:
    """A run directory -> a page."""
    write_page(config)
    log.info("%s -> %s", redact(config.run_dir), redact(config.page))
    run.then(next_step("report", config.page))


def write_page(config: ReportConfig) -> None:
    """Writes the page.

    Raises:
        ValueError: not what one of our jobs wrote, or damaged.
        Refused: the page exists.
    """
    fs, path = filesystem(config.page)
    if fs.exists(path) and not config.overwrite:
        raise Refused(f"{redact(config.page)} exists; name another --outputs, or replace it with --overwrite")
    directory = RunDirectory(config.run_dir)
    plan = directory.read_json("_run", "plan.json")
    if plan is None:
        raise ValueError(
            f"RUN_DIR {redact(config.run_dir)}: nothing that a job of ours wrote: "
            f"{redact(directory.url)} has no _run/plan.json. Expected the --outputs of precompute_codes, "
            "generate, caption, evaluate or train_vqgan, or the --checkpoint-dir of train; "
            "jobs/inspect_table.py shows other tables"
        )
    plan = check_plan(directory.path("_run", "plan.json")[1], plan)
    make = table_page if "units" in plan else training_page
    write_bytes(fs, path, render(make(config.run_dir, plan, config.page)).encode())
