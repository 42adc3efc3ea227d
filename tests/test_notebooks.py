"""The notebooks run as they are, in a fresh kernel."""

import pathlib
import re

import nbclient
import nbformat
import pytest

NOTEBOOKS = pathlib.Path(__file__).parent.parent / "notebooks"


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
    # What it shows is what it says: transfer pays.
    gain = re.search(r"transfer is worth ([+-][0-9.]+) points", printed)
    assert gain and float(gain[1]) > 3


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")))
def test_defines_nothing_and_holds_no_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert "def " not in cell.source and "class " not in cell.source
            assert not cell.outputs
