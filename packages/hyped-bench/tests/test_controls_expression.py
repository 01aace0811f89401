"""Expression controls on a screen whose effects are known."""

from __future__ import annotations

import numpy as np
import pytest

from hyped_bench.runner import prepare, run_model
from hyped_core.context import RunContext
from hyped_core.design.model import Perturbation
from hyped_core.plugins.registry import models

NAMES = ("additive", "bilinear", "matching_mean", "nearest", "no_change", "pool_effect", "train_mean")


@pytest.fixture
def job(tiny_screen, bench_host):
    return prepare("expression", tiny_screen.section, host=bench_host)


def fitted(job, host, name):
    data = job.task.data["screen"]
    model = models(host).get(f"expression/{name}").create()
    model.fit(data.visible(data.folds[0]), None, context=RunContext())
    return model, data


def predicted_mean(model, data, name):
    return model.predict(data.control(), Perturbation.from_name(name), context=RunContext())


@pytest.mark.parametrize("name", NAMES)
def test_contract(job, bench_host, name):
    model, data = fitted(job, bench_host, name)
    control = data.control()
    before = control.X.copy()
    result = model.predict(control, Perturbation.from_name("G00+G06"), context=RunContext())
    assert list(result.var_names) == list(control.var_names)
    assert result.X.dtype == np.float32 and np.isfinite(result.X).all()
    assert np.array_equal(control.X, before)
    again = fitted(job, bench_host, name)[0].predict(
        control, Perturbation.from_name("G00+G06"), context=RunContext()
    )
    assert np.array_equal(result.X, again.X)


def test_no_change_and_train_mean_by_hand(job, bench_host):
    model, data = fitted(job, bench_host, "no_change")
    assert np.array_equal(predicted_mean(model, data, "G00+G06").X, data.control().X)
    model, data = fitted(job, bench_host, "train_mean")
    expected = np.mean([data.mean(n) for n in data.folds[0].train], axis=0)
    assert predicted_mean(model, data, "G00+G06").X.mean(axis=0) == pytest.approx(expected, abs=1e-4)


def test_additive_is_right_where_effects_add_up(job, bench_host, tiny_screen):
    model, data = fitted(job, bench_host, "additive")
    found = predicted_mean(model, data, "G00+G06")
    assert np.abs(found.X.mean(axis=0) - tiny_screen.means["G00+G06"]).max() < 0.3
    assert "fallback" not in found.uns
    partly = predicted_mean(model, data, "G00+G50")
    assert "never saw G50 alone" in partly.uns["fallback"]
    assert partly.X.mean(axis=0) == pytest.approx(data.mean("G00"), abs=1e-4)
    lost = predicted_mean(model, data, "G50")
    assert "training mean" in lost.uns["fallback"]


def test_matching_mean_and_nearest_take_perturbations_that_share_genes(job, bench_host):
    model, data = fitted(job, bench_host, "matching_mean")
    expected = (data.mean("G00") + data.mean("G06")) / 2
    assert predicted_mean(model, data, "G00+G06").X.mean(axis=0) == pytest.approx(expected, abs=1e-4)
    model, data = fitted(job, bench_host, "nearest")
    found = predicted_mean(model, data, "G00+G06").X.mean(axis=0)
    distance = {n: np.abs(found - data.mean(n)).max() for n in data.folds[0].train}
    assert min(distance, key=distance.get) in ("G00", "G06") and min(distance.values()) < 1e-4


def test_bilinear_reproduces_training_perturbations_and_falls_back_outside_the_panel(job, bench_host):
    model, data = fitted(job, bench_host, "bilinear")
    found = predicted_mean(model, data, "G03").X.mean(axis=0) - data.mean("control")
    true = data.mean("G03") - data.mean("control")
    assert np.corrcoef(found, true)[0, 1] > 0.5
    assert "panel" in predicted_mean(model, data, "UNKNOWN").uns["fallback"]


def test_pool_effect_finds_the_shared_shift_only_where_pool_is_confounded(job, bench_host):
    model, data = fitted(job, bench_host, "pool_effect")
    assert "not confounded" in predicted_mean(model, data, "G00+G06").uns["fallback"]
    shared = np.zeros(len(data.genes))
    shared[:10] = 0.7
    train = data.visible(data.folds[0])
    perturbed = (train.obs["perturbation"] != "control").to_numpy()
    train.obs["pool"] = np.where(perturbed, "b", "a")
    train.X[perturbed] += shared.astype(np.float32)
    model.fit(train, None, context=RunContext())
    found, reason = model.shift(Perturbation.from_name("G00+G06"))
    assert reason == ""
    assert found[:10] == pytest.approx(0.7, abs=0.25) and np.abs(found[10:]).max() < 0.25
    model.shifts = {"A": np.array([1.0, -1.0, 2.0]), "B": np.array([3.0, 1.0, 0.5])}
    assert model.shift(Perturbation.from_name("A+B"))[0].tolist() == [1.0, 0.0, 0.5]


def test_planted_truth_ranks_as_it_must(job, bench_host):
    found = {
        n: run_model(job, n, host=bench_host).metrics
        for n in ("oracle", "duplicate", "additive", "no_change")
    }
    for key in ("pearson_delta", "pearson", "cosine"):
        assert found["oracle"][key] > found["duplicate"][key] or found["oracle"][key] > 0.97, key
        assert found["additive"][key] > found["no_change"][key], key
    assert found["oracle"]["mse"] < found["duplicate"]["mse"] < found["no_change"]["mse"]
    assert found["additive"]["mse"] < found["no_change"]["mse"]
    assert found["no_change"]["pearson_delta"] == 0.0 and found["no_change"]["cosine_delta"] == 0.0
    assert found["no_change"]["n_undefined"] == 2 * found["no_change"]["n_perturbations"]
    assert found["no_change"]["mse_relative"] == 1.0
    assert found["duplicate"]["pds_l2"] == 1.0
    assert abs(found["duplicate"]["energy_distance"]) < 0.1 * found["no_change"]["energy_distance"]


def test_bilinear_is_the_published_closed_form(job, bench_host):
    """Beside scikit-learn's PCA of the genes and the normal equations written out (Ahlmann-Eltze et al. 2025)."""
    from sklearn.decomposition import PCA

    model, data = fitted(job, bench_host, "bilinear")
    names = data.folds[0].train
    control = data.mean("control")
    changes = np.column_stack([np.zeros_like(control), *(data.mean(n) - control for n in names)])
    genes = PCA(10, svd_solver="full").fit_transform(changes + control[:, None])
    at = [[list(data.genes).index(g) for g in n.split("+")] for n in names]
    told = np.array([np.zeros(10), *(genes[rows].sum(axis=0) for rows in at)]).T
    centre = changes.mean(axis=1, keepdims=True)
    ridge = 0.1 * np.eye(10)
    left, right = genes.T @ genes + ridge, told @ told.T + ridge
    weights = np.linalg.inv(left) @ genes.T @ (changes - centre) @ told.T @ np.linalg.inv(right)
    asked = genes[[list(data.genes).index(g) for g in ("G00", "G06")]].sum(axis=0)
    expected = genes @ weights @ asked + centre[:, 0]
    assert model.shift(Perturbation.from_name("G00+G06"))[0] == pytest.approx(expected, abs=1e-5)
