"""Each package installs alone into an empty environment, from the checkout and from wheels, and pulls only its own."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.conftest import run

pytestmark = pytest.mark.slow

OWN = {
    "hyped-core": set(),
    "hyped-imaging": {"hyped-core"},
    "hyped-seq": {"hyped-core"},
    "hyped-bench": {"hyped-core"},
}
FOREIGN = {
    "hyped-core": {"scanpy", "torch", "opencv-python-headless", "scikit-image", "spatialdata", "plotly", "dvc"},
    "hyped-imaging": {"scanpy", "torch", "plotly", "dvc", "aicspylibczi", "btrack"},
    "hyped-seq": {"torch", "opencv-python-headless", "pylibczirw", "plotly", "dvc", "aicspylibczi"},
    "hyped-bench": {"scanpy", "torch", "opencv-python-headless", "pylibczirw", "dvc", "aicspylibczi"},
}


class Environment:
    """An empty virtual environment."""

    def __init__(self, folder: Path) -> None:
        run([sys.executable, "-m", "venv", str(folder)], folder.parent)
        self.python = str(folder / "bin" / "python")
        self.bin = folder / "bin"
        self.env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}

    def pip(self, *arguments: str) -> None:
        run([self.python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *arguments], self.bin,
            env=self.env, timeout=1500)

    def hyped(self, *arguments: str, cwd: Path | None = None):
        return run([str(self.bin / "hyped"), *arguments], cwd or self.bin, env=self.env)

    def packages(self) -> dict[str, str]:
        listed = run([self.python, "-m", "pip", "list", "--format", "json"], self.bin, env=self.env).stdout
        return {item["name"].lower().replace("_", "-"): item["version"] for item in json.loads(listed)}


def check(environment: Environment, package: str) -> None:
    installed = environment.packages()
    assert {name for name in installed if name.startswith("hyped")} == OWN[package] | {package}
    brought = FOREIGN[package] & set(installed)
    assert not brought, f"{package} pulled {brought}"
    module = package.replace("-", "_")
    run([environment.python, "-c", f"import {module}"], environment.bin, env=environment.env)
    listed = json.loads(environment.hyped("plugins", "list", "--json").stdout)
    mine = [plugin for plugin in listed if plugin["distribution"] == package]
    assert mine and mine[0]["state"] == "active"
    environment.hyped("models", "list")


@pytest.fixture(scope="session")
def wheels(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    for package in OWN:
        run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder),
             str(root / "packages" / package)], root)
    assert len(list(folder.glob("*.whl"))) == 4
    return folder


@pytest.mark.parametrize("package", sorted(OWN))
def test_from_the_checkout(package: str, root: Path, tmp_path: Path):
    environment = Environment(tmp_path / "venv")
    needed = [*sorted(OWN[package]), package]
    environment.pip("-c", str(root / "constraints.txt"), *(str(root / "packages" / name) for name in needed))
    check(environment, package)


@pytest.mark.parametrize("package", sorted(OWN))
def test_from_wheels(package: str, root: Path, wheels: Path, tmp_path: Path):
    environment = Environment(tmp_path / "venv")
    environment.pip("-c", str(root / "constraints.txt"), "--find-links", str(wheels), package)
    check(environment, package)


def test_light_core_under_old_numpy_and_pandas(root: Path, tmp_path: Path):
    environment = Environment(tmp_path / "venv")
    environment.pip("numpy==1.26.4", "pandas==2.2.3", str(root / "packages" / "hyped-core"))
    installed = environment.packages()
    assert installed["numpy"] == "1.26.4"
    assert installed["pandas"] == "2.2.3"
    check(environment, "hyped-core")
    code = (
        "import numpy as np\n"
        "from anndata import AnnData\n"
        "from hyped_core import RunContext, Perturbation\n"
        "from hyped_core.contracts import PROTOCOLS\n"
        "from hyped_core.design import default_design\n"
        "from hyped_core.plugins.host import default_host\n"
        "assert default_design().perturbation('mmMYOD1').genes == ('MYOD1',)\n"
        "assert AnnData(np.ones((2, 2), dtype='float32')).n_obs == 2\n"
        "assert not default_host().broken\n"
    )
    run([environment.python, "-c", code], environment.bin, env=environment.env)


def test_the_demo_runs_from_wheels_alone(root: Path, wheels: Path, tmp_path: Path):
    environment = Environment(tmp_path / "venv")
    environment.pip("-c", str(root / "constraints.txt"), "--find-links", str(wheels),
                    "hyped-core[container]", "hyped-imaging", "hyped-seq", "hyped-bench")
    environment.hyped("demo", str(tmp_path / "demo"), cwd=tmp_path)
    assert list((tmp_path / "demo").rglob("manifest.json"))
