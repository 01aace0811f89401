"""docs/notebooks/open_container.ipynb runs where HYPED is not installed, and shows what it says it shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "notebooks" / "open_container.ipynb"
RUN = ROOT / "docs" / "_ext" / "run_notebook.py"
LIBRARIES = ("anndata", "scanpy", "zarr", "dask", "matplotlib", "napari")
AGAIN = "run docs/_ext/run_notebook.py on it in such an environment, and commit the notebook"


def texts(path: Path) -> list[str]:
    """What each code cell prints or shows as text; pictures are left out."""
    found = []
    for cell in json.loads(path.read_text())["cells"]:
        for output in cell.get("outputs", []):
            if output["output_type"] == "stream" and output["name"] == "stdout":
                found.append("".join(output["text"]))
            elif output["output_type"] == "execute_result":
                found.append("".join(output["data"]["text/plain"]))
    return found


@pytest.mark.slow
@pytest.mark.exhaustive
def test_notebook_opens_a_container_without_hyped(tmp_path: Path) -> None:
    python = tmp_path / "plain" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True, timeout=300)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    wanted = ["-c", str(ROOT / "constraints.txt"), *LIBRARIES, "nbclient", "ipykernel"]
    installed = subprocess.run([*pip, *wanted], capture_output=True, text=True, timeout=1500)
    if installed.returncode:
        pytest.skip(f"pip install {' '.join(LIBRARIES)}: {installed.stderr.strip().splitlines()[-1]}")
    assert subprocess.run([str(python), "-c", "import hyped_core"], capture_output=True).returncode != 0

    demo = [sys.executable, "-m", "hyped_core.cli.main", "demo", "demo"]
    subprocess.run(demo, cwd=tmp_path, check=True, capture_output=True, timeout=600)
    manifest = json.loads((tmp_path / "demo" / "demo.hyped" / "manifest.json").read_text())

    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HYPED_CONTAINER")}
    result = tmp_path / "again.ipynb"
    done = subprocess.run(
        [str(python), str(RUN), str(NOTEBOOK), str(result), str(tmp_path)],
        capture_output=True, text=True, timeout=900, env={**clean, "MPLBACKEND": "module://matplotlib_inline.backend_inline"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
    shown = texts(result)
    rna, nuclei = manifest["tables"]["rna"], manifest["tables"]["nuclei"]
    assert any(f"{rna['n_obs']} x {rna['n_vars']}" in text and f"{nuclei['n_obs']} x" in text for text in shown)
    assert "True" in shown, "the labels of a frame and the nuclei table do not agree"
    assert any("Image  Cy5" in text and "Tracks tracks" in text for text in shown)
    assert shown == texts(NOTEBOOK), f"the stored outputs are not those of today's demo: {AGAIN}"
