"""Evaluation of GEARS: one row a condition, equal to evaluating cell by cell."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from hyped_core.context import RunContext
from hyped_seq.gears.params import GearsParams

torch = pytest.importorskip("torch")

from hyped_seq.gears.data import training_cells  # noqa: E402
from hyped_seq.gears.evaluate import STATE_CELLS, evaluation_set, predicted_means, scores, summary  # noqa: E402
from hyped_seq.gears.network import Batch  # noqa: E402
from hyped_seq.gears.train import fit  # noqa: E402

screen = runpy.run_path(str(Path(__file__).with_name("gears_cells.py")))["screen"]
SMALL = GearsParams(epochs=1, hidden=8, batch_cells=16, state_dims=2, coexpression_threshold=0.2)


def test_reference_means_are_those_of_batches_in_order_of_conditions_cell_by_cell() -> None:
    params = SMALL.model_copy(update={"mode": "reference", "learning_rate": 0.02})
    cells = screen()
    model = fit(cells, params, context=RunContext())
    data = training_cells(cells, params, seed=5)
    sets = data.sets(model.positions)
    part = evaluation_set(data, data.train, reference=True, batch_cells=7)
    found = predicted_means(model.network, part, sets, None)
    rows = data.train[np.argsort(data.condition[data.train], kind="stable")]
    predicted = []
    with torch.no_grad():
        for start in range(0, len(rows), 7):
            these = rows[start : start + 7]
            present, of_cell = np.unique(data.condition[these], return_inverse=True)
            batch = Batch(tuple(sets[i] for i in present), None, torch.from_numpy(of_cell))
            predicted.append(model.network(batch)[0].numpy() + data.x[data.pairs[these]].toarray())
    predicted = np.concatenate(predicted)
    for i, number in enumerate(part.conditions):
        np.testing.assert_allclose(found[i], predicted[data.condition[rows] == number].mean(0), atol=2e-6)
    assert part.firsts.max() > part.firsts.min()


@pytest.mark.parametrize("direction", ["ignored", "signed"])
def test_fixed_means_are_those_of_all_control_cells(direction: str) -> None:
    params = SMALL.model_copy(update={"direction": direction, "epochs": 2, "learning_rate": 0.02})
    cells = screen()
    model = fit(cells, params, context=RunContext())
    data = training_cells(cells, params, states=model.states)
    assert len(data.control) <= STATE_CELLS
    assert float(model.network.cell_state.weight.abs().max()) > 0
    signs = data.signs() if direction == "signed" else None
    part = evaluation_set(data, data.train, reference=False, batch_cells=16)
    found = predicted_means(model.network, part, data.sets(model.positions), signs)
    x = data.x[data.control].toarray()
    state = torch.from_numpy(model.states.of(x))
    for i, number in enumerate(part.conditions):
        one = data.sets(model.positions)[number]
        change = model.network.changes_of_cells(one, None if signs is None else signs[number], state)
        np.testing.assert_allclose(found[i], (x + change.numpy()).mean(0), atol=1e-5)


def test_truth_and_base_are_means_of_cells_and_of_their_pairs() -> None:
    data = training_cells(screen(), SMALL.model_copy(update={"mode": "reference"}), seed=2)
    part = evaluation_set(data, data.validation, reference=True, batch_cells=16)
    for i, number in enumerate(part.conditions):
        rows = data.validation[data.condition[data.validation] == number]
        assert part.counts[i] == len(rows)
        np.testing.assert_allclose(part.truth[i], data.x[rows].toarray().mean(0), rtol=1e-5)
        np.testing.assert_allclose(part.base[i], data.x[data.pairs[rows]].toarray().mean(0), rtol=1e-5)


def test_scores_are_numpys_and_scipys() -> None:
    from scipy.stats import pearsonr

    data = training_cells(screen(), SMALL)
    part = evaluation_set(data, data.train, reference=False, batch_cells=16)
    guess = part.truth + np.random.default_rng(0).normal(0, 0.1, part.truth.shape)
    table = scores(guess, part, data.de_genes, data.control_mean, data.names)
    assert table.perturbation.tolist() == [data.names[i] for i in part.conditions]
    for i, row in enumerate(table.itertuples()):
        assert row.mse == pytest.approx(((guess[i] - part.truth[i]) ** 2).mean())
        assert row.pearson == pytest.approx(pearsonr(guess[i], part.truth[i]).statistic)
        if row.perturbation == "control":
            assert np.isnan(row.mse_de) and np.isnan(row.pearson_de)
            continue
        top = data.de_genes[part.conditions[i]]
        assert row.mse_de == pytest.approx(((guess[i] - part.truth[i])[top] ** 2).mean())
        assert row.pearson_de == pytest.approx(pearsonr(guess[i][top], part.truth[i][top]).statistic)
        change = pearsonr(guess[i] - data.control_mean, part.truth[i] - data.control_mean).statistic
        assert row.pearson_change == pytest.approx(change)
    means = summary(table)
    assert means["mse_de"] == pytest.approx(table[table.perturbation != "control"].mse_de.mean())
    assert means["mse"] == pytest.approx(table.mse.mean())


def test_the_truth_scores_perfectly_and_something_constant_has_no_correlation() -> None:
    data = training_cells(screen(), SMALL)
    part = evaluation_set(data, data.validation, reference=False, batch_cells=16)
    perfect = scores(part.truth, part, data.de_genes, data.control_mean, data.names)
    np.testing.assert_allclose(perfect[["mse", "mse_de"]], 0, atol=1e-12)
    np.testing.assert_allclose(perfect[["pearson", "pearson_de", "pearson_change"]], 1)
    flat = scores(np.ones_like(part.truth), part, data.de_genes, data.control_mean, data.names)
    assert (flat[["pearson", "pearson_de"]] == 0).all(axis=None)
