"""What a process must not import: torch where no model runs, Ray below the stages."""

import subprocess
import sys

import pytest

ROW_OPERATORS = (
    "tables.reader", "tables.part_writer", "tables.manifest", "stages.decode_pictures",
    "stages.evaluate.prepare", "stages.caption.part",
    "stages.parts", "runs.table_run", "stages.inspect_table.report", "stages.inspect_table.verify",
)  # fmt: skip


@pytest.mark.parametrize("module", [f"painter_core.{name}" for name in ROW_OPERATORS])
def test_operators_on_cpus_start_without_torch(module: str) -> None:
    """Ray's workers unpickle an operator by importing its module; torch costs each of them seconds."""
    code = f"import sys, {module}; print({{'torch', 'ray'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
