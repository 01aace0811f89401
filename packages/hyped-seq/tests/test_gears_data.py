"""Cells as GEARS trains on them: moments and most different genes, pairs and states, what is held out."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_core.design import Perturbation
from hyped_core.errors import InvalidDataError
from hyped_seq.gears.data import hold_out, training_cells
from hyped_seq.gears.de_genes import group_moments, top_genes, welch_scores
from hyped_seq.gears.pairs import learn_states, matched_pairs, random_pairs
from hyped_seq.gears.params import GearsParams

screen = runpy.run_path(str(Path(__file__).with_name("gears_cells.py")))["screen"]
FIXED = GearsParams(state_dims=3)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_moments_are_numpys(seed: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    x = sp.random(40, 7, 0.5, format="csr", random_state=rng, dtype=np.float32)
    group = rng.integers(-1, groups, 40)
    found = group_moments(x, group, groups)
    dense = x.toarray().astype(np.float64)
    for g in range(groups):
        part = dense[group == g]
        assert found.counts[g] == len(part)
        if len(part):
            np.testing.assert_allclose(found.mean[g], part.mean(0), atol=1e-12)
        if len(part) > 1:
            np.testing.assert_allclose(found.variance[g], part.var(0, ddof=1), atol=1e-7)


def test_scores_are_scipys_welch_t() -> None:
    from scipy.stats import ttest_ind

    cells = screen(("G0", "G1"))
    dense = cells.X.toarray().astype(np.float64)
    group = np.unique(cells.obs["perturbation"], return_inverse=True)[1]
    order = np.array([1, 2, 0])[group]  # control is the last by name
    scores = welch_scores(group_moments(cells.X, order - 0, 3), control=int(order[0]))
    for label, number in (("G0", order[60]), ("G1", order[100])):
        rows = (cells.obs["perturbation"] == label).to_numpy()
        expected = ttest_ind(dense[rows], dense[:60], equal_var=False).statistic
        np.testing.assert_allclose(scores[number], expected, rtol=1e-6)


def test_a_condition_of_one_cell_ranks_genes_by_difference() -> None:
    x = sp.csr_matrix(np.array([[1, 0, 2], [1, 0.5, 2], [1, 3, 2.5]], dtype=np.float32))
    scores = welch_scores(group_moments(x, np.array([0, 0, 1]), 2))
    np.testing.assert_allclose(scores[1], [0, 2.75, 0.5])
    assert top_genes(scores)[1].tolist() == [1, 2, 0]


def test_equal_scores_keep_the_order_of_genes() -> None:
    assert top_genes(np.array([[1.0, -2.0, 2.0, 1.0]]), 3).tolist() == [[1, 2, 0]]


def test_planted_genes_differ_most() -> None:
    data = training_cells(screen(), FIXED)
    for number, name in enumerate(data.names):
        if name != "control" and "+" not in name:
            planted = {int(name[1:]) + 10 + i for i in range(3)}
            assert set(data.de_genes[number, :3]) == planted


def test_kept_genes_are_those_of_non_zero_mean_and_all_for_control() -> None:
    cells = screen()
    x = cells.X.toarray()
    x[:, 5] = 0
    x[(cells.obs["perturbation"] == "G1").to_numpy(), 7] = 0
    cells.X = sp.csr_matrix(x)
    data = training_cells(cells, FIXED)
    kept = dict(zip(data.names, data.kept, strict=True))
    assert kept["control"].all()
    assert not kept["G0"][5] and kept["G0"][7]
    assert np.flatnonzero(~kept["G1"]).tolist() == [5, 7]


def test_dense_and_sparse_cells_give_the_same() -> None:
    cells, dense = screen(), screen()
    dense.X = dense.X.toarray().astype(np.float64)
    one, other = training_cells(cells, FIXED, seed=3), training_cells(dense, FIXED, seed=3)
    assert (one.x != other.x).nnz == 0
    np.testing.assert_array_equal(one.pairs, other.pairs)
    np.testing.assert_array_equal(one.de_genes, other.de_genes)


def test_cells_belong_to_the_caller() -> None:
    cells = screen()
    before, obs = cells.X.copy(), cells.obs.copy()
    training_cells(cells, FIXED, validation=screen(("G7",)))
    assert (cells.X != before).nnz == 0
    assert cells.obs.equals(obs)


def test_control_cells_are_their_own_pairs_and_others_get_control_cells() -> None:
    for params in (FIXED, GearsParams(pairs="random"), GearsParams(mode="reference")):
        data = training_cells(screen(), params, seed=1)
        own = data.control
        np.testing.assert_array_equal(data.pairs[own], own)
        assert (data.condition[data.pairs] == 0).all()


def test_states_are_uncorrelated_scores_of_variance_one() -> None:
    x = screen(control=200).X[:200]
    states = learn_states(x, 3, seed=0)
    scores = states.of(x).astype(np.float64)
    np.testing.assert_allclose(np.cov(scores.T), np.eye(3), atol=1e-3)
    np.testing.assert_allclose(scores.mean(0), 0, atol=1e-4)
    centred = x.toarray() - x.toarray().mean(0)
    values = np.linalg.svd(centred, compute_uv=False)[:3]
    axes = states.loadings * np.sqrt(199)  # loadings are axes over the deviations of their scores
    np.testing.assert_allclose(1 / np.linalg.norm(axes, axis=0), values / 199, rtol=1e-3)


@pytest.mark.parametrize(("cells", "genes", "dims"), [(2, 10, 1), (6, 3, 3), (1, 5, 0)])
def test_states_are_fewer_than_cells_and_genes(cells: int, genes: int, dims: int) -> None:
    x = sp.csr_matrix(np.random.default_rng(0).random((cells, genes)).astype(np.float32))
    assert learn_states(x, 8, seed=0).dims == dims


def test_matched_pairs_are_of_like_state_and_phase_and_free_of_the_perturbation() -> None:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(600, 2)).astype(np.float32)
    condition = np.repeat([0, 1], [300, 300])
    phase = rng.integers(0, 2, 600)
    states[phase == 1, 1] += 4
    origin = states.copy()
    states[300:, 0] += 10  # what the perturbation does to the state
    control = np.arange(300)
    pairs = matched_pairs(condition, control, states, phase, seed=0)
    assert (phase[pairs] == phase).all()
    matched = np.corrcoef(origin[300:, 0], origin[pairs[300:], 0])[0, 1]
    assert matched > 0.9
    drawn = random_pairs(condition, control, seed=0)
    assert abs(np.corrcoef(origin[300:, 0], origin[drawn[300:], 0])[0, 1]) < 0.2
    assert len(set(pairs[300:])) > 100  # not a few control cells for all


def test_a_phase_without_control_cells_counts_as_not_known() -> None:
    states = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    condition = np.repeat([0, 1], 20)
    phase = np.repeat([0, 1], 20)
    pairs = matched_pairs(condition, np.arange(20), states, phase, seed=0)
    assert (condition[pairs] == 0).all()


def test_pairs_follow_the_seed() -> None:
    one, same, other = (training_cells(screen(), FIXED, seed=s).pairs for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_whole_perturbations_are_held_out_where_there_are_enough() -> None:
    condition = np.repeat(np.arange(24), 10)
    train, out, rule = hold_out(condition, seed=0)
    assert np.intersect1d(condition[train], condition[out]).size == 0
    assert len(np.unique(condition[out])) == 2 and 0 not in condition[out]
    assert len(train) + len(out) == len(condition)
    assert rule.startswith("2 of 23 perturbations")


@pytest.mark.parametrize("perturbations", [1, 4])
def test_a_tenth_of_each_conditions_cells_is_held_out_where_there_are_few(perturbations: int) -> None:
    condition = np.repeat(np.arange(perturbations + 1), 20)
    train, out, _ = hold_out(condition, seed=0)
    assert np.bincount(condition[out], minlength=perturbations + 1).tolist() == [0] + [2] * perturbations
    assert np.intersect1d(train, out).size == 0


def test_nothing_is_held_out_of_conditions_of_few_cells() -> None:
    train, out, rule = hold_out(np.repeat([0, 1, 2], 4), seed=0)
    assert len(train) == 12 and not len(out) and "nothing" in rule


def test_given_validation_cells_are_all_that_is_held_out() -> None:
    data = training_cells(screen(), FIXED, validation=screen(("G7", "G8"), seed=1))
    assert len(data.train) == screen().n_obs
    assert {data.names[i] for i in data.condition[data.validation]} == {"G7", "G8"}
    assert data.trained_genes() == ("G0", "G1", "G2", "G3", "G4")


def test_labels_are_read_through_their_records() -> None:
    cells = screen(("G0", "G1"))
    cells.obs["perturbation"] = cells.obs["perturbation"].replace({"G0": "siRNA 7"})
    change = {"gene": "G0", "direction": "suppression"}
    cells.uns["perturbations"] = {"siRNA 7": {"name": "siRNA 7", "changes": [change]}} | cells.uns["perturbations"]
    data = training_cells(cells, FIXED)
    number = data.names.index("siRNA 7")
    assert data.perturbations[number].genes == ("G0",)
    assert data.signs()[number] == (-1.0,)
    assert data.sets({"G0": 4, "G1": 9})[number] == (4,)


def test_cells_held_out_for_validation_change_no_training_pair() -> None:
    cells = screen(("G0", "G1"))
    before = training_cells(cells, FIXED)
    held = before.validation
    assert len(held) and len(set(before.condition[held])) == 2
    x = cells.X.toarray()
    x[held] = np.random.default_rng(1).permutation(x[held].ravel()).reshape(x[held].shape)
    cells.X = sp.csr_matrix(x)
    after = training_cells(cells, FIXED)
    np.testing.assert_array_equal(after.pairs[before.train], before.pairs[before.train])
    assert (after.cell_states[held] != before.cell_states[held]).any()


@pytest.mark.parametrize("with_records", [False, True])
def test_spellings_of_one_perturbation_are_one_condition(with_records: bool) -> None:
    cells = screen(("G0", "G1", "G2", "G3", "G0+G1"))
    labels = cells.obs["perturbation"].astype(object)
    spelled = {"G0": ["G0", "G0+ctrl", "ctrl+G0"], "G0+G1": ["G1+G0", "G0+G1"]}
    for name, ways in spelled.items():
        rows = np.flatnonzero(labels == name)
        labels.iloc[rows] = [ways[i % len(ways)] for i in range(len(rows))]
    cells.obs["perturbation"] = labels
    cells.uns["perturbations"] = {}
    if with_records:
        known = [Perturbation.from_name(n) for n in set(labels)]
        records = {n: p.model_dump(mode="json") for n, p in zip(set(labels), known, strict=True)}
        cells.uns["perturbations"] = records
    plain = training_cells(screen(("G0", "G1", "G2", "G3", "G0+G1")), FIXED)
    data = training_cells(cells, FIXED)
    assert data.names == plain.names == ("control", "G0", "G0+G1", "G1", "G2", "G3")
    np.testing.assert_array_equal(data.condition, plain.condition)
    for seed in range(8):  # whichever is drawn, its gene set is not trained on
        found = training_cells(cells, FIXED, seed=seed)
        kinds = [frozenset(p.genes) for p in found.perturbations]
        held, trained = ({kinds[i] for i in found.condition[rows]} for rows in (found.validation, found.train))
        assert held and not held & trained


def test_opposite_directions_are_two_conditions_and_a_gene_named_twice_is_refused() -> None:
    cells = screen(("G0", "G1"))
    cells.uns["perturbations"]["G1"]["changes"] = ({"gene": "G0", "direction": "suppression"},)
    assert len(training_cells(cells, FIXED).names) == 3
    cells.obs["perturbation"] = cells.obs["perturbation"].replace({"G1": "G0+G0"})
    cells.uns["perturbations"] = {}
    with pytest.raises(InvalidDataError, match="'G0.G0' names a gene twice"):
        training_cells(cells, FIXED)


def test_a_phase_that_is_missing_as_text_is_not_known() -> None:
    cells = screen(("G0",))
    some = np.arange(cells.n_obs) % 4 == 0
    pairs = []
    for missing in (np.nan, None, "nan", "None", "", "NA"):
        cells.obs["phase"] = cells.obs["phase"].astype(object).where(~some, missing)
        pairs.append(training_cells(cells, FIXED).pairs)
    for found in pairs[1:]:
        np.testing.assert_array_equal(found, pairs[0])


def test_records_without_any_cell_are_told() -> None:
    cells = screen(("G0", "G1"))
    cells.uns["perturbations"]["G5"] = Perturbation.from_name("G5").model_dump(mode="json")
    assert training_cells(cells, FIXED).silent == ("G5",)


@pytest.mark.public
@pytest.mark.filterwarnings("ignore:DataFrame is highly fragmented")
@pytest.mark.skipif("HYPED_PUBLIC_DATA" not in os.environ, reason="HYPED_PUBLIC_DATA names no folder of public files")
def test_real_cells_rank_as_scanpy_ranks_them() -> None:
    import anndata as ad
    import scanpy as sc

    path = Path(os.environ["HYPED_PUBLIC_DATA"]) / "perturb" / "perturbench_devel.h5ad"
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    cells = ad.read_h5ad(path)
    cells = cells[cells.obs["dataset"] == "norman19"].copy()
    cells.obs["perturbation"] = cells.obs["condition"].astype(str).astype("category")
    cells.uns = {}
    data = training_cells(cells, GearsParams(mode="reference"))
    sc.tl.rank_genes_groups(cells, "perturbation", reference="control", rankby_abs=True, n_genes=20, use_raw=False)
    found = cells.uns["rank_genes_groups"]
    position = {gene: i for i, gene in enumerate(cells.var_names)}
    groups = group_moments(data.x, data.condition, len(data.names))
    scores = np.abs(welch_scores(groups))
    for number, name in enumerate(data.names[1:], start=1):
        theirs = [position[gene] for gene in found["names"][name]]
        mine = data.de_genes[number]
        np.testing.assert_allclose(scores[number][mine], scores[number][theirs], rtol=1e-4)
        for gene in set(theirs) ^ set(mine):  # equal but for ties
            assert np.isclose(scores[number][gene], scores[number][mine[-1]], rtol=1e-4)
