"""Gallery pages for the tests, what they say, and tables of pictures without a model that painted them."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from painter_core.runs.flags import TableFlags
from painter_core.runs.run import Run
from painter_core.runs.steps import Parts, Tasks
from painter_core.runs.table_run import TableJob, TableRun
from painter_core.stages.make_gallery.entries import GalleryConfig, write_page
from painter_core.stages.parts import OutputTable
from painter_core.tables.columns import Columns
from painter_core.tables.rejects import RejectLog
from painter_core.tables.unit_row import UnitRow
from schemas.outputs import SAMPLE_COLUMN
from tests.support.local_run import ALONE


def page_of(directory: Path, **flags: object) -> str:
    """The page that a gallery with these flags writes."""
    path = directory / "page.html"
    write_page(GalleryConfig(**{"outputs": str(path), "overwrite": True} | flags))  # type: ignore[arg-type]
    return path.read_text(encoding="utf-8")


def facts(page: str, name: str) -> list[str]:
    """The values of a fact that cards give of their rows, in order."""
    return re.findall(rf"<dt>{name}</dt><dd>(.*?)</dd>", page)


@dataclass(frozen=True)
class Draw:
    """Noise instead of a model's pictures, of 16 x 16 pixels."""

    samples: int

    def __call__(self, row: UnitRow) -> UnitRow:
        shape = (len(row.table) * self.samples, 16, 16, 3)
        pixels = np.random.RandomState(row.unit).randint(0, 256, shape, np.uint8)
        kept = row.keep(list(range(len(row.table))), RejectLog(stage="generate"), ["idx", "text"])
        sample = np.tile(np.arange(self.samples, dtype=np.int32), len(row.table))
        return kept.carrying(pixels=pixels.tobytes(), image_size=16, image_len=1, sample=sample.tobytes())


def make_pictures(
    directory: Path, name: str, *, rows: int, samples: int = 1, easynlp: bool = False, columns: str = ""
) -> Path:
    """An output table of rows p0, p1, ... as jobs/generate.py writes it."""
    prompts = directory / f"{name}-prompts.tsv"
    prompts.write_text("".join(f"p{i}\t红 {i}\n" for i in range(rows)), encoding="utf-8")
    names = tuple((columns or "idx,text,gen_imgbase64").split(","))
    if samples > 1 and not easynlp:
        names += (SAMPLE_COLUMN,)
    job = TableJob(
        stage="generate",
        table="outputs",
        flags=TableFlags(tables=str(prompts), outputs=str(directory / name)),
        columns=Columns(schema=("idx", "text")),
        identity={"seed": 4, "max_generated_num": samples} | ({"easynlp_format": True} if easynlp else {}),
        row_bytes=1000,
    )
    build = OutputTable(columns=names, pictures_a_row=samples, image_format="png", easynlp_format=easynlp)
    with Run({}) as run:
        TableRun(job, run, ALONE).execute_here(Tasks(operator=Draw(samples)), parts=Parts(build=build))
    return directory / name
