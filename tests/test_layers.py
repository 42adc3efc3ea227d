"""The house: imports go downwards, and nothing imports in a circle."""

import ast
import graphlib
import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "tlkeras"
TABLE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
LEVEL = {
    room: int(level)
    for level, room in re.findall(r"^\| (\d+) \| `(\w+)` \|", TABLE, re.M)
}


def imports(path: pathlib.Path) -> set[str]:
    """Returns the modules of ours that `path` imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.startswith("tlkeras.")}


def modules() -> dict[str, pathlib.Path]:
    """Returns the files of the package by their dotted names, but its doors."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name not in ("__init__.py", "__main__.py")
    }


def room(name: str) -> str:
    return name.split(".")[1]


def test_modules_import_downwards_only():
    wrong = [
        f"{name} imports {other}"
        for name, path in modules().items()
        for other in imports(path)
        if room(other) != room(name) and LEVEL[room(other)] >= LEVEL[room(name)]
    ]
    assert wrong == []


def test_no_circle_among_modules():
    known = modules()
    needs = {
        name: {
            # A name may stand for a module or for something in one.
            other if other in known else other.rpartition(".")[0]
            for other in imports(path)
        }
        for name, path in known.items()
    }
    graphlib.TopologicalSorter(needs).prepare()


def test_every_room_has_a_level_and_every_level_a_room():
    assert {room(name) for name in modules()} == set(LEVEL)


def test_the_top_has_few_files_beside_the_rooms():
    assert len([path for path in PACKAGE.iterdir() if path.is_file()]) <= 16
