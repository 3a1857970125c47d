"""docs/ARCHITECTURE.md says what is so: its floors are those that imports are held to, its tree is whole."""

import re

from tests.support.jobs import ROOT
from tests.test_architecture import MAY_IMPORT

PAGE = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
TOP = "painter_core"  # the package itself: it may import pipeline(), and stands on no floor


def names(text: str) -> set[str]:
    return {name.strip() for name in text.split(",")}


def floors() -> dict[str, tuple[int, set[str]]]:
    """Folder -> its floor, and what it may import."""
    found: dict[str, tuple[int, set[str]]] = {}
    for floor, folders, allowed in re.findall(r"^\| (\d) \| (.+) \| (.+) \|$", PAGE, re.MULTILINE):
        for folder in names(folders):
            found[folder] = (int(floor), set() if allowed == "nothing of ours" else names(allowed))
    return found


def test_floors_are_those_of_the_imports() -> None:
    found = floors()
    below = {folder for folder, (floor, _) in found.items() if floor < found["stages"][0]}
    expected = {folder: allowed for folder, allowed in MAY_IMPORT.items() if folder != TOP}
    assert expected["stages"] == below
    allowed = {folder: may for folder, (_, may) in found.items()}
    assert allowed | {"stages": below} == expected
    upwards = {f: m for f, m in expected.items() if any(found[other][0] >= found[f][0] for other in m)}
    assert upwards == {}


def test_the_tree_is_whole() -> None:
    parts = [p for p in (ROOT / TOP).iterdir() if not p.name.startswith("__")]
    assert len(parts) > 10
    assert [p.name for p in parts if not re.search(rf"\b{re.escape(p.name)}\b", PAGE)] == []
