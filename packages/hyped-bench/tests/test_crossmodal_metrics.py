"""Scores and controls of the cross-modal tasks, on arrays whose answer is known."""

from __future__ import annotations

import doctest
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_bench.controls import crossmodal as controls
from hyped_bench.metrics import crossmodal as measure
from hyped_bench.tasks.crossmodal.contracts import Course
from hyped_core.context import RunContext
from hyped_core.errors import InvalidDataError

CONTEXT = RunContext()
QUANTITIES = ("dividing", "growth", "speed_um_h", "area_um2")


def course(scene: str, values: np.ndarray, *, condition: str = "control", start: float = 0.5) -> Course:
    return Course(scene, condition, 1, start + np.arange(len(values)), values, QUANTITIES[: values.shape[1]])


def test_the_formulas_in_the_docstrings():
    assert doctest.testmod(measure).failed == 0


@given(st.integers(0, 2**31), st.floats(0.1, 100))
@settings(max_examples=25, deadline=None)
def test_mase_has_no_units_and_counts_one_step_of_a_random_walk_as_one(seed, unit):
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.choice([-1.0, 1.0], size=(60, 2)), axis=0)
    scale = measure.one_step(walk[:40])
    ahead = walk[40:] + rng.normal(size=(20, 2))
    plain = measure.mase(ahead, walk[40:], scale)
    assert measure.mase(unit * ahead, unit * walk[40:], measure.one_step(unit * walk[:40])) == pytest.approx(plain)
    assert measure.mase(walk[39:59], walk[40:], scale) == pytest.approx(1.0)  # each step is 1, the naive error is 1


def test_a_quantity_that_never_moved_has_no_mase_and_nan_truth_is_not_scored():
    assert np.isnan(measure.mase(np.ones((3, 1)), np.zeros((3, 1)), measure.one_step(np.ones((5, 1)))))
    assert np.isnan(measure.rmse([1.0, 2.0], [np.nan, np.nan]))
    found = measure.rmse([[1.0, 2.0], [3.0, 9.0]], [[1.0, np.nan], [0.0, 9.0]])
    assert found.tolist() == [0.0, pytest.approx(4.5**0.5)]


def test_who_knows_the_expected_change_scores_one_in_standard_errors():
    rng = np.random.default_rng(0)
    expected, error = rng.normal(size=4000), rng.uniform(0.1, 3, 4000)
    measured = expected + error * rng.normal(size=4000)
    assert measure.z_rmse(expected, measured, error) == pytest.approx(1.0, abs=0.05)
    assert measure.z_rmse(measured, measured, error) == 0


def test_order_agreement_of_a_constant_is_a_half_and_of_a_monotone_map_one():
    truth = [0.1, 0.4, 0.2, 0.2]
    assert measure.order_agreement(np.exp(truth), truth) == 1.0
    assert measure.order_agreement(np.ones(4), truth) == 0.5
    assert measure.order_agreement([1.0], [2.0]) is None


def test_persistence_is_exact_where_nothing_changes_and_trends_follow_lines():
    flat = course("S0", np.tile([0.4, 0.0, 5.0, 200.0], (12, 1)))
    line = course("S1", np.stack([np.linspace(0.2, 0.3, 12), np.linspace(0, 1.1, 12)], axis=1))
    hours = flat.time_h[-1] + np.arange(1, 4)
    every = [0, 1, 2, 3]
    models = (controls.Persistence(), every), (controls.DampedTrend(), every), (controls.TwoState(), [2, 3])
    for model, kept in models:
        model.fit([flat], context=CONTEXT)
        found = model.forecast(flat, hours, context=CONTEXT)
        assert np.allclose(found[:, kept], np.array([0.4, 0.0, 5.0, 200.0])[kept], atol=1e-6)
    trend = controls.DampedTrend(controls.DampedTrendConfig(damping=0.999999))
    trend.fit([line], context=CONTEXT)
    assert trend.forecast(line, hours, context=CONTEXT)[:, 1] == pytest.approx([1.2, 1.3, 1.4], abs=1e-4)


def test_two_state_recovers_the_rates_of_a_two_state_population():
    """Against the exact solution by the matrix exponential, another way than the model's own."""
    from scipy.linalg import expm

    enter, divide = 0.09, 0.15
    step = np.array([[-enter, 2 * divide], [enter, -divide]])
    hours = np.arange(40) * 0.25
    states = np.stack([expm(step * t) @ [0.8, 0.2] for t in hours])
    values = np.stack([states[:, 1] / states.sum(axis=1), np.log2(states.sum(axis=1))], axis=1)
    seen = Course("S0", "control", 1, hours[:30], values[:30], QUANTITIES[:2])
    model = controls.TwoState()
    model.fit([seen], context=CONTEXT)
    found = model.forecast(seen, hours[30:], context=CONTEXT)
    keep = controls.Persistence()
    keep.fit([seen], context=CONTEXT)
    stay = keep.forecast(seen, hours[30:], context=CONTEXT)
    # the last two hours' mean starts it off, so it is behind by an hour of growth and no more
    assert np.abs(found[:, 0] - values[30:, 0]).max() < 0.01
    assert measure.rmse(found[:, 1], values[30:, 1]) < 0.5 * measure.rmse(stay[:, 1], values[30:, 1])


def test_mean_trajectory_is_the_other_scenes_of_the_condition_never_the_scene_itself():
    rng = np.random.default_rng(1)
    own, twin, other = (rng.random((10, 2)) for _ in "abc")
    model = controls.MeanTrajectory()
    scenes = [course("S0", own[:5]), course("S1", twin), course("S2", other, condition="mm")]
    model.fit(scenes, context=CONTEXT)
    hours = scenes[1].time_h[5:]
    assert np.allclose(model.forecast(scenes[0], hours, context=CONTEXT), twin[5:])
    model.fit([scenes[0], scenes[2]], context=CONTEXT)
    assert np.allclose(model.forecast(scenes[0], hours, context=CONTEXT), other[5:])


def cells(phases: list[str], *, condition: str = "mm", **columns: list) -> anndata.AnnData:
    names = [f"c{i}" for i in range(len(phases))]
    obs = pd.DataFrame({"phase": phases, "condition": condition, **columns}, index=names)
    return anndata.AnnData(np.zeros((len(phases), 1), np.float32), obs=obs)


def test_called_phases_count_and_cells_without_a_call_do_not():
    model = controls.CalledPhases()
    values = model.estimate(cells(["G1", "S", "G2M", "", "G1"]), "mm", context=CONTEXT)
    assert values.mean() == pytest.approx(0.5)
    wrong = controls.CalledPhases(controls.CalledPhasesConfig(column="phase_score"))
    with pytest.raises(InvalidDataError, match="phase_score"):
        wrong.estimate(cells(["G1"]), "mm", context=CONTEXT)


def test_adjusted_count_undoes_the_errors_of_a_classifier_that_errs_alike_everywhere():
    rng = np.random.default_rng(2)
    hit, miss, n = 0.8, 0.15, 40000

    def sample(share: float) -> tuple[np.ndarray, np.ndarray]:
        true = rng.random(n) < share
        called = np.where(true, rng.random(n) < hit, rng.random(n) < miss)
        return np.where(true, "S", "G1"), np.where(called, "S", "G1")

    sorted_true, sorted_called = sample(0.6)
    true, called = sample(0.25)
    known = cells(list(sorted_true), phase_classifier=list(sorted_called), assigned_phase=list(sorted_true))
    known.obs["sorted"] = True
    model = controls.AdjustedCount()
    model.fit([], known, harvest_h=48.0, context=CONTEXT)
    unknown = cells(list(called), phase_classifier=list(called))
    share = (true == "S").mean()
    assert model.estimate(unknown, "mm", context=CONTEXT).mean() == pytest.approx(share, abs=0.01)
    assert controls.CalledPhases().estimate(unknown, "mm", context=CONTEXT).mean() == pytest.approx(
        hit * share + miss * (1 - share), abs=0.01
    )
    sorter = controls.SortedDesign()
    sorter.fit([], known, harvest_h=48.0, context=CONTEXT)
    assert sorter.estimate(unknown, "mm", context=CONTEXT) == pytest.approx((sorted_true == "S").mean())


@pytest.fixture
def linear_world() -> SimpleNamespace:
    """Five conditions whose response is 3 times their one score, on top of what all share."""
    names = ["A", "B", "C", "A+B", "D"]
    score = np.array([1.0, 2.0, 4.0, 3.0, -2.0])
    features = pd.DataFrame({"score_S": score + 10, "noise": 0.0}, index=names)
    responses = pd.DataFrame({"dividing@4": 3 * score + 7, "area_um2@4": -score}, index=names)
    return SimpleNamespace(features=features, responses=responses, genes={n: tuple(n.split("+")) for n in names})


def test_responses_are_recovered_by_the_model_that_fits_them(linear_world):
    held = "A+B"
    others = [n for n in linear_world.features.index if n != held]

    def predict(model):
        model.fit(linear_world.features.loc[others], linear_world.responses.loc[others],
                  {n: linear_world.genes[n] for n in others}, context=CONTEXT)  # fmt: skip
        return model.predict(linear_world.features.loc[held], linear_world.genes[held], context=CONTEXT)

    truth = linear_world.responses.loc[held].to_numpy()
    weak = controls.LinearResponse(controls.LinearResponseConfig(ridge=1e-9))
    assert np.allclose(predict(weak), truth, atol=1e-4)
    assert np.array_equal(predict(controls.NoResponse()), [0, 0])
    assert np.allclose(predict(controls.MeanResponse()), linear_world.responses.loc[others].mean())
    assert np.allclose(predict(controls.AdditiveResponse()), linear_world.responses.loc[["A", "B"]].sum())
    strong = controls.LinearResponse(controls.LinearResponseConfig(ridge=1e9))
    assert np.allclose(predict(strong), predict(controls.MeanResponse()), atol=1e-4)


def test_a_linear_response_does_not_see_what_all_conditions_share(linear_world):
    """A pool's effect added to every condition's features moves no prediction beyond the shared shift."""
    others = [n for n in linear_world.features.index if n != "D"]
    found = []
    for shift in (0.0, 5.0):
        model = controls.LinearResponse(controls.LinearResponseConfig(ridge=1e-9))
        features = linear_world.features + shift
        model.fit(features.loc[others], linear_world.responses.loc[others], linear_world.genes, context=CONTEXT)
        found.append(model.predict(features.loc["D"], ("D",), context=CONTEXT))
    assert np.allclose(found[0], found[1], atol=1e-4)
