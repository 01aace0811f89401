"""Runs a notebook and stores it with its outputs and nothing of the machine: `python run_notebook.py IN OUT FOLDER`.

Needs nbclient and ipykernel only, so that it works in the environment that the notebook is about. FOLDER is where the
notebook's relative paths start (for docs/notebooks/open_container.ipynb: where `hyped demo demo` was called).
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

PYTHON = {"display_name": "Python 3", "language": "python", "name": "python3"}


def run(source: Path, target: Path, folder: Path) -> None:
    """Execute every cell of ``source`` in ``folder`` and write the notebook with its outputs to ``target``."""
    notebook = nbformat.read(source, as_version=4)
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute()
    notebook.metadata = {"kernelspec": PYTHON, "language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata = {}
        for output in cell.get("outputs", []):
            if "execution_count" in output:
                output["execution_count"] = None
        if cell.cell_type == "code":
            cell.execution_count = None
    nbformat.write(notebook, target)


if __name__ == "__main__":
    run(*map(Path, sys.argv[1:4]))
