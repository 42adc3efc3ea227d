"""Modules import downwards only, as in DESIGN.md, section 4."""

import ast
import pathlib

PACKAGE = pathlib.Path(__file__).parent.parent / "tlkeras"

# From the bottom to the top; a module imports from rows above its own only.
# A package stands for its modules, which may import each other.
LEVELS = (
    ("errors",),
    ("files", "records", "catalog", "metadata", "devices", "processes"),
    ("strategies", "progress", "solver", "rules"),
    ("config",),
    ("data", "backbones", "graph", "ways"),
    ("model", "saving", "plan", "cache", "options", "distribution"),
    (
        "activations",
        "predicting",
        "checkpoint",
        "evaluation",
        "remedy",
        "paired",
        "seen",
    ),
    ("training", "export", "doctor", "advisor", "selection"),
    ("schedule", "ranking"),
    ("report",),
    ("outcomes", "using"),
    ("experiment",),
    ("comparing",),
    ("door", "tables"),
    ("demo",),
    ("cli",),
)
LEVEL = {name: row for row, names in enumerate(LEVELS) for name in names}


def imports(path: pathlib.Path) -> set[str]:
    """Returns the modules of ours that `path` imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        parts = [name.split(".") for name in names]
        found |= {each[1] for each in parts if each[0] == "tlkeras"}
    return found


def test_modules_import_downwards_only():
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if module in ("__init__", "__main__"):
            continue
        for other in imports(path):
            inside = other == module and path.parent != PACKAGE
            if not inside and LEVEL[other] >= LEVEL[module]:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {other}")
    assert wrong == []


def test_every_level_is_of_a_module():
    assert [
        name
        for name in LEVEL
        if not (PACKAGE / f"{name}.py").exists()
        and not (PACKAGE / name).is_dir()
    ] == []
