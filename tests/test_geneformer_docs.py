"""docs/geneformer.md: its blocks run one after the other and do what the page says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.docs_page import typed

PAGE = Path(__file__).resolve().parents[1] / "docs" / "geneformer.md"
BLOCK = re.compile(r"```(sh|python)\n(.*?)```", re.S)


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The page followed to its end in an empty folder: the folder, and all that was printed."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("reader")
    printed = []
    for language, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        printed.append(typed(language, text, folder))
    return folder, "\n".join(printed)


def test_the_small_model_says_what_it_is_and_what_it_learnt(followed: tuple[Path, str]):
    card = json.loads((followed[0] / "tiny/geneformer.json").read_text())
    assert card["published_weights"] is False and "not the published weights" in card["what"]
    assert card["held_out"]["loss"] < card["held_out"]["untrained_loss"]
    assert "not the published weights" in followed[1]


def test_embeddings_of_perturbed_cells_say_mode_and_rank(followed: tuple[Path, str]):
    import numpy as np

    from hyped_core.io.tables import read_h5ad

    cells = read_h5ad(followed[0] / "myod1.h5ad")
    assert set(cells.obs["condition"]) == {"control"} and np.isfinite(cells.X).all()
    facts = json.loads(cells.uns["geneformer_json"])
    assert facts["mode"] == "expression"
    (gene,) = facts["perturbed"]["genes"]
    assert gene["direction"] == "activation" and gene["rank_min"] >= 1


def test_tokens_are_those_of_the_same_dictionary(followed: tuple[Path, str]):
    from hyped_seq.geneformer.token_store import open_tokens

    folder, printed = followed
    tokens = open_tokens(folder / "tokens")
    assert tokens.n_dropped == 0 and len(tokens) == tokens.n_cells
    assert f"{len(tokens)} cells, 0 without a known gene" in printed
