"""Fixtures of the core's tests."""

from __future__ import annotations

import importlib.util
import shutil
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def tiny_maker() -> ModuleType:
    """The script that made the golden container; its arrays are the truth of the container's tests."""
    spec = importlib.util.spec_from_file_location("make_v1", GOLDEN / "make_v1.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_built(tiny_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A container made by today's code; not to be changed."""
    return tiny_maker.build(tmp_path_factory.mktemp("built"))


@pytest.fixture
def tiny_container(tiny_built: Path, tmp_path: Path) -> Path:
    """A container of one's own to break."""
    return shutil.copytree(tiny_built, tmp_path / "tiny.hyped")


@pytest.fixture
def golden_v1(tmp_path: Path) -> Path:
    """The committed container of schema version 1, unpacked."""
    with zipfile.ZipFile(GOLDEN / "v1" / "tiny.hyped.zip") as archive:
        archive.extractall(tmp_path)
    return tmp_path / "tiny.hyped"
