"""The notebooks run as they are, in a fresh kernel."""

import pathlib
import re

import nbclient
import nbformat
import pytest

NOTEBOOKS = pathlib.Path(__file__).parent.parent / "notebooks"


# What each shows is what it says.
CLAIMS = {
    "quickstart": (r"transfer is worth ([+-][0-9.]+) points", 3),
    "accuracy_is_bad": (r"sound labels are worth ([+-][0-9.]+) points", 3),
    "three_ways": (r"frozen features are worth ([+-][0-9.]+) points", 3),
    "size_and_similarity": (r"few: frozen .* worth ([+-][0-9.]+) points", 3),
    "serving": (r"(3) over HTTP as in Python: True", 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")))
def test_runs_from_top_to_bottom(path):
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=900,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    printed = "".join(
        output.get("text", "")
        for cell in notebook.cells
        for output in cell.get("outputs", ())
    )
    claim, least = CLAIMS[path.stem]
    found = re.search(claim, printed)
    assert found and float(found[1]) > least


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")))
def test_defines_nothing_and_holds_no_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert "def " not in cell.source and "class " not in cell.source
            assert not cell.outputs
