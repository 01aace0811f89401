"""The cards in ``data/`` are what ``hyped data card NAME --out data/NAME`` makes, byte for byte."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hyped_core.data.card import make_card
from hyped_core.data.manifest import find_manifest

ROOT = Path(__file__).parent.parent
NAMES = sorted(path.parent.name for path in ROOT.glob("data/*/manifest.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_card_is_the_one_that_is_made(name, tmp_path):
    made = make_card(find_manifest(name, ROOT)[0]).write(tmp_path)
    assert [path.name for path in made] == ["card.md", "croissant.json"]
    for path in made:
        there = ROOT / "data" / name / path.name
        assert there.read_bytes() == path.read_bytes(), f"make it again: hyped data card {name} --out data/{name}"


@pytest.mark.parametrize("name", NAMES)
def test_links_of_a_card_lead_somewhere(name):
    folder = ROOT / "data" / name
    links = re.findall(r"\]\(([^)#]+)\)", (folder / "card.md").read_text())
    assert "croissant.json" in links
    for link in links:
        assert link.startswith("http") or (folder / link).exists(), link


def test_the_paper_s_data_carry_the_paper_s_statement():
    text = (ROOT / "data/hyped/card.md").read_text()
    statement = text.splitlines()[2]
    assert statement.startswith("> **For research use only") and "clinical" in statement and "diagnostic" in statement
