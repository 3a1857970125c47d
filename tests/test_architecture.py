"""What may import what: docs/ARCHITECTURE.md's floors, held against every import, those in functions too."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from tests.support.jobs import ROOT

# a folder of painter_core (or a module beside them) -> what it may import of ours, itself apart
MAY_IMPORT: dict[str, set[str]] = {
    "files": set(),
    "text": set(),
    "models": set(),
    "sample": set(),
    "schemas": set(),
    "errors": {"schemas"},
    "flag_checks": set(),
    "compute": {"models"},
    "model_files": {"models", "text", "files", "flag_checks"},
    "easynlp": {"errors", "text"},
    "images": {"errors", "schemas"},
    "tables": {"errors", "files", "text", "schemas"},
    "training": {"model_files", "models", "compute", "images", "files", "flag_checks"},
    "painting": {"model_files", "models", "compute", "images", "text", "flag_checks"},
    "evaluation": {"model_files", "models", "compute", "images", "text", "files", "errors"},
    "upscaling": {"model_files", "compute", "images", "errors", "files", "flag_checks"},
    "runs": {"tables", "training", "compute", "easynlp", "errors", "files", "flag_checks"},
}
FLOORS = {name for name in MAY_IMPORT if name != "schemas"}
MAY_IMPORT["stages"] = FLOORS | {"schemas"}
MAY_IMPORT["jobs"] = {"stages", "runs", "training"}  # training: flags stand beside their owner
MAY_IMPORT["painter_core"] = {"painting"}  # pipeline(), on demand
# a stage -> other stages that it may import
STAGES = {"train": {"precompute_codes", "codes_table"}, "report": {"inspect_table"}}
# modules of stages/ that belong to several
SHARED = {"codes_table", "parts", "decode_pictures", "pins", "sweeps", "views"}
RAY = {"runs"}
TORCH_FREE = {"files", "text", "tables", "easynlp", "errors", "flag_checks", "schemas", "sample"}
TORCH_IN_IMAGES = {"pixels"}


def sources() -> list[Path]:
    return [p for d in ("painter_core", "jobs", "schemas") for p in sorted((ROOT / d).rglob("*.py"))]


def name_of(path: Path) -> str:
    """painter_core/tables/units.py -> painter_core.tables.units."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path) for path in sources()}


def room(module: str) -> str:
    """The folder that a module stands in."""
    parts = module.split(".")
    return parts[0] if parts[0] != "painter_core" or len(parts) == 1 else parts[1]


def imports(path: Path) -> Iterator[str]:
    """All modules that a file imports, ours by their full names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else str(node.module)


@cache
def arrows() -> dict[str, list[str]]:
    """The modules that each module imports."""
    return {name_of(path): sorted(set(imports(path))) for path in sources()}


def test_directions() -> None:
    wrong = [
        f"{module} imports {other}"
        for module, found in arrows().items()
        for other in found
        if other in MODULES and room(other) not in MAY_IMPORT[room(module)] | {room(module)}
    ]
    assert wrong == []


def test_every_folder_has_a_floor() -> None:
    assert {room(module) for module in MODULES} == set(MAY_IMPORT)


def test_no_circle() -> None:
    ours = {module: {other for other in found if other in MODULES} for module, found in arrows().items()}
    list(TopologicalSorter(ours).static_order())  # CycleError names the circle


def stage(module: str) -> str:
    return module.split(".")[2]


def test_a_stage_knows_no_other_stage() -> None:
    wrong = [
        f"{module} imports {other}"
        for module, found in arrows().items()
        for other in found
        if room(module) == room(other) == "stages"
        and stage(module) != stage(other)
        and stage(other) not in SHARED | STAGES.get(stage(module), set())
    ]
    assert wrong == []


def test_ray_is_met_in_one_place() -> None:
    found = {room(m) for m, names in arrows().items() if any(n.split(".")[0] == "ray" for n in names)}
    assert found == RAY


def test_torch_stays_where_models_are() -> None:
    users = {m for m, names in arrows().items() if any(n.split(".")[0] == "torch" for n in names)}
    assert {m for m in users if room(m) in TORCH_FREE} == set()
    assert {m.rpartition(".")[2] for m in users if room(m) == "images"} == TORCH_IN_IMAGES
