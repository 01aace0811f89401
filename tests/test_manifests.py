"""Manifests in ``data/`` are those that hyped-core ships, byte for byte."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from hyped_core.data.manifest import find_manifest, read_manifest

ROOT = Path(__file__).parent.parent
SHIPPED = files("hyped_core.data").joinpath("manifests")
NAMES = sorted(file.name.removesuffix(".yaml") for file in SHIPPED.iterdir() if file.name.endswith(".yaml"))


def test_every_dataset_has_both():
    assert {"public", "hyped", "norman", "gene2go", "geneformer", "mini", "hard"} <= set(NAMES)
    assert sorted(path.parent.name for path in ROOT.glob("data/*/manifest.yaml")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_copies_are_equal(name):
    copy = ROOT / "data" / name / "manifest.yaml"
    assert copy.read_bytes() == SHIPPED.joinpath(f"{name}.yaml").read_bytes(), f"copy one over the other: {copy}"


@pytest.mark.parametrize("name", NAMES)
def test_the_checkout_s_manifest_is_found_and_names_its_card(name):
    found, used = find_manifest(name, ROOT)
    assert found == read_manifest(name)
    assert Path(used) == ROOT / "data" / name / "manifest.yaml"
    assert (ROOT / found.card).is_file()
