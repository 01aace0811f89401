"""The tiny screen and the tiny capture: their truth is what their cells show, and equal seeds give equal cells."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from hyped_core.checking.compare import difference
from hyped_core.checking.tiny.hashtags import TAGS, tiny_hashtags
from hyped_core.checking.tiny.screen import HELD_OUT, UNSEEN, log_normalised, tiny_perturbseq
from hyped_core.design.model import CONTROL, Perturbation


@pytest.fixture(scope="module")
def screen():
    return tiny_perturbseq()


def test_equal_seeds_give_equal_cells_and_others_others(screen):
    assert difference(tiny_perturbseq().cells, screen.cells) is None
    other = tiny_perturbseq(1)
    assert list(other.cells.var_names) == list(screen.cells.var_names)
    assert difference(other.cells.X, screen.cells.X) is not None


def test_x_is_the_logarithm_of_its_counts(screen):
    cells = screen.cells
    assert cells.X.dtype == np.float32 and sp.isspmatrix_csr(cells.X) and 500 <= cells.n_obs <= 700
    counts = cells.layers["counts"].toarray()
    assert (counts == np.rint(counts)).all() and counts.min() >= 0
    np.testing.assert_array_equal(cells.X.toarray(), log_normalised(counts))
    np.testing.assert_allclose(np.expm1(cells.X.toarray().astype(float)).sum(axis=1), 1e4, rtol=1e-4)
    np.testing.assert_array_equal(cells.obs["n_counts"], counts.sum(axis=1))


def test_cells_move_as_the_truth_says(screen):
    """Changes of the log share of the mean counts, each gene's own total taken off, follow `effects`."""

    def share(name):
        counts = screen.cells[screen.cells.obs["perturbation"] == name].layers["counts"].toarray().sum(axis=0)
        return np.log(counts + 0.5) - np.log(counts.sum())

    enough = screen.cells.layers["counts"].toarray().mean(axis=0) > 5
    for name in (*screen.train, *screen.validation, *screen.held_out):
        seen = (share(name) - share(CONTROL))[enough]
        true = screen.effects.loc[name].to_numpy()[enough]
        assert np.corrcoef(seen, true)[0, 1] > 0.9, name


def test_a_combination_is_the_sum_of_its_genes_and_one_shared_response(screen):
    effects = screen.effects
    both, a, b = (effects.loc[name] for name in ("G005+G018", "G005", "G018"))
    shared = a + b - both
    for pair in ("G018+G044", "G083+G096", "G005+G109"):
        first, second = pair.split("+")
        np.testing.assert_allclose(effects.loc[first] + effects.loc[second] - effects.loc[pair], shared, atol=1e-12)
    assert (effects.loc[CONTROL] == 0).all() and np.count_nonzero(shared.abs() > 1e-9) == 8


def test_what_a_model_is_given_holds_nothing_of_the_held_out(screen):
    for cells in (screen.training_cells(), screen.validation_cells(), screen.control_cells(sparse=True)):
        assert not set(cells.obs["perturbation"]) & set(HELD_OUT)
        assert not set(cells.uns["perturbations"]) & set(HELD_OUT)
        assert set(cells.obs["perturbation"]) == set(cells.uns["perturbations"])
        assert list(cells.obs) == ["perturbation", "phase", "pool"] and not len(cells.var.columns)
        assert not cells.layers and cells.X.dtype == np.float32
        assert set(UNSEEN) <= set(cells.uns["asked_genes"])  # names only
    assert not set(screen.train) & set(screen.held_out) and len(screen.train) == 14
    known = {n: Perturbation.model_validate(v) for n, v in screen.training_cells().uns["perturbations"].items()}
    assert known["G005+G018"].genes == ("G005", "G018") and known[CONTROL].is_control


def test_pools_and_phases_hold_cells_of_control_and_of_perturbations(screen):
    table = screen.cells.obs.assign(control=screen.cells.obs["perturbation"] == CONTROL)
    assert (table.groupby(["pool", "control"]).size() > 30).all()
    assert (table.groupby(["phase", "control"]).size() > 10).all()


def test_copies_can_be_changed(screen):
    first = screen.training_cells()
    first.X[:] = 0
    first.uns["asked_genes"].clear()
    again = screen.training_cells()
    assert again.X.max() > 1 and again.uns["asked_genes"]


def test_embedders_are_given_counts_and_no_label_where_it_is_the_truth(screen):
    cells = screen.counts(("G005",), labelled=False)
    assert "perturbation" not in cells.obs and cells.var["gene_id"].str.match(r"ENSG\d{11}$").all()
    assert sp.issparse(cells.X) and (cells.X.data == np.rint(cells.X.data)).all()
    assert set(screen.counts().obs["perturbation"]) == {CONTROL}


def test_hashtags_are_those_of_the_truth():
    cells = tiny_hashtags()
    assert difference(tiny_hashtags().hto, cells.hto) is None
    counts, truth = cells.hto.X.toarray(), cells.truth
    assert list(truth.index) == list(cells.hto.obs_names) and list(cells.hto.var_names) == list(TAGS)
    assert truth["kind"].value_counts().to_dict() == {"singlet": 200, "doublet": 24, "negative": 16}
    single = (truth["kind"] == "singlet").to_numpy()
    top = np.array(TAGS)[counts.argmax(axis=1)]
    assert (top[single] == truth["call"].to_numpy()[single]).mean() > 0.97
    assert (truth["tags"][truth["kind"] == "doublet"].str.count(r"\+") == 1).all()
    assert counts[(truth["kind"] == "negative").to_numpy()].max() < np.median(counts[single].max(axis=1))
