"""Scores of the expression task: rows scored together equal single ones, draws and strata treat all models alike."""

from __future__ import annotations

import json

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_bench.controls.expression import NoChange, ShiftModel
from hyped_bench.metrics import expression as measure
from hyped_bench.metrics.de_sets import NOTHING
from hyped_bench.runner import prepare, run_model
from hyped_bench.splits import LeakError
from hyped_bench.tasks.expression.changed import de_of_predictions, matched
from hyped_bench.tasks.expression.judged import JUDGED
from hyped_bench.tasks.expression.means import MEAN_KEYS, mean_scores
from hyped_bench.tasks.expression.predicted import DRAWS, Predicted, equal_phases, redraw
from hyped_bench.tasks.expression.scoring import KEYS
from hyped_core.errors import InvalidDataError


def one_by_one(p, t, c, r, w):
    return {
        "cosine": measure.cosine(p, t),
        "pearson": measure.pearson(p, t),
        "mse": measure.mse(p, t),
        "mae": measure.mae(p, t),
        "pearson_delta": measure.pearson_delta(p, t, c),
        "cosine_delta": measure.cosine_delta(p, t, c),
        "pearson_delta_train": measure.pearson_delta(p, t, r),
        "cosine_delta_train": measure.cosine_delta(p, t, r),
        "mse_delta": measure.mse_delta(p, t, c),
        "mse_relative": measure.mse_relative(p, t, c),
        "mse_delta_train": measure.mse_delta(p, t, r),
        "mae_delta": measure.mae_delta(p, t, c),
        "r2_delta": measure.r2_delta(p, t, c),
        "weighted_r2_delta": measure.weighted_r2_delta(p, t, r, w),
        "wmse": measure.wmse(p, t, w),
    }


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), genes=st.integers(2, 30), odd=st.sampled_from(["", "same", "zero", "flat", "mute"]))
def test_rows_scored_together_equal_the_metrics_one_by_one(seed, genes, odd):
    rng = np.random.default_rng(seed)
    found, true = rng.uniform(0, 4, (2, 3, genes))
    control, trained = rng.uniform(0, 4, (2, genes))
    if odd == "same":
        found[1] = control
    elif odd == "zero":
        found[1] = 0
    elif odd == "flat":
        found[1] = control + 0.5
    elif odd == "mute":
        true[1] = control
    weights = np.array([measure.de_weights(rng.normal(size=genes)) for _ in range(3)])
    together = mean_scores(found, true, control, trained, weights)
    assert tuple(together) == MEAN_KEYS
    for row in range(3):
        single = one_by_one(found[row], true[row], control, trained, weights[row])
        for key, value in single.items():
            ours = together[key][row]
            assert (np.isnan(ours) and value is None) or ours == pytest.approx(value, rel=1e-9, abs=1e-12), key


def test_every_key_is_a_column_and_a_metric(tiny_screen, bench_host):
    job = prepare("expression", tiny_screen.section, host=bench_host)
    result = run_model(job, "additive", host=bench_host)
    units = result.scores.tables["units"]
    assert set(KEYS) <= set(units.columns) and set(KEYS) <= set(result.metrics)
    assert {one.metric for one in JUDGED} <= set(KEYS)
    assert all(set(one.unit) <= set(units.columns) for one in JUDGED)
    assert sorted(result.metrics) == sorted(job.task.metric_keys())


def test_doing_nothing_scores_nothing_in_every_kind_of_metric(tiny_screen, bench_host):
    job = prepare("expression", tiny_screen.section, host=bench_host)
    units = run_model(job, "no_change", host=bench_host).scores.tables["units"]
    for key, value in NOTHING.items():
        if key not in ("de_auprc", "de_auroc"):  # of as many control cells as there are true ones: about nothing
            assert np.allclose(units[key], value), key
    assert (units["de_n_found"] == 0).all() and (units["de_n_true"] > 5).all()
    assert (units["mse_relative"] == 1).all() and (units["pearson_delta"] == 0).all() and (units["r2_delta"] <= 0).all()


def test_more_predicted_cells_find_no_more_genes(tiny_screen):
    """A prediction repeated ten times is the same prediction: neither tests nor distances may reward it."""
    task = prepare("expression", tiny_screen.section).task

    class Repeats(NoChange):
        times = 1

        def shift(self, perturbation):
            return np.random.default_rng(0).normal(0, 0.1, len(self.control)), ""

        def predict(self, control, perturbation, *, context):
            cells = super().predict(control, perturbation, context=context)
            return anndata.AnnData(np.tile(cells.X, (self.times, 1)), var=cells.var)

    class Fivefold(Repeats):
        times = 5

    few, many = (task.score(task.run(model)).tables["units"] for model in (Repeats, Fivefold))
    assert (many["n_predicted"] == 5 * few["n_predicted"]).all() and few["de_n_found"].mean() > 3
    # 40 of 80 cells against 40 of 200 of their copies; all 200 would find about twice as many genes
    assert many["de_n_found"].mean() < 1.35 * few["de_n_found"].mean()
    assert many["mse"].to_numpy() == pytest.approx(few["mse"].to_numpy(), rel=1e-5)
    kept = Predicted(np.zeros(2), np.zeros((200, 2), np.float32), 300)
    assert len(matched(kept, 45, ("s", "f", "p"))) == 45 and len(matched(kept, 500, ("s", "f", "p"))) == 200


def test_a_bare_mean_has_fold_changes_but_no_tests(tiny_screen, bench_host):
    job = prepare("expression", tiny_screen.section, host=bench_host)
    oracle = run_model(job, "oracle", host=bench_host)
    units = oracle.scores.tables["units"]
    assert (units["de_direction"] > 0.9).all() and (units["de_spearman"] > 0.9).all()
    assert units[["de_overlap_50", "de_auprc", "de_n_found", "energy_distance", "mmd"]].isna().all().all()
    assert oracle.metrics["de_overlap_50"] is None and "de_overlap_50" in " ".join(oracle.warnings)
    data = job.task.data["screen"]
    key = data.keys()[0]
    found = {key: Predicted(data.mean("G00"), None, 1)}
    assert (de_of_predictions(data, data.folds[0], found, {key: 40}, 1)[key].fdr == 1).all()


def test_the_planted_truth_ranks_as_it_must(tiny_screen, bench_host):
    job = prepare("expression", tiny_screen.section, host=bench_host)
    found = {n: run_model(job, n, host=bench_host).metrics for n in ("oracle", "duplicate", "additive", "no_change")}
    for judged in JUDGED:
        sign = 1 if judged.better == "higher" else -1
        score = {name: metrics[judged.metric] for name, metrics in found.items()}
        assert sign * score["duplicate"] > sign * score["no_change"], judged.metric
        assert sign * score["additive"] > sign * score["no_change"], judged.metric
        if score["oracle"] is not None:
            assert sign * score["oracle"] >= sign * score["duplicate"] - 1e-9, judged.metric


def test_the_duplicate_has_its_square_root_as_second_ceiling(tiny_screen, bench_host):
    job = prepare("expression", tiny_screen.section, host=bench_host)
    result = run_model(job, "duplicate", host=bench_host)
    units = result.scores.tables["units"]
    assert units["pearson_delta_sqrt"].to_numpy() == pytest.approx(np.sqrt(units["pearson_delta"]))
    said = result.facts["ceilings"]["screen"]["pearson_delta"]
    assert said["halves"] < said["noise_free"] < said["noise_free_all_cells"] < 1
    oracle = run_model(job, "oracle", host=bench_host).metrics["pearson_delta"]
    assert oracle == pytest.approx(said["noise_free_all_cells"], abs=0.03)
    assert "ceilings" not in run_model(job, "no_change", host=bench_host).facts


@pytest.fixture
def few(planted_conditions, bench_host):
    return prepare("expression", {"sources": [{**planted_conditions.held, "primary": True}]}, host=bench_host)


def test_few_perturbations_have_draws_of_cells_and_many_have_none(few, tiny_screen, bench_host):
    scores = run_model(few, "additive", host=bench_host).scores
    draws, units = scores.details["draws"], scores.tables["units"]
    assert len(draws) == 3 * DRAWS and list(draws.columns[:4]) == ["source", "fold", "perturbation", "draw"]
    spread = draws.groupby("perturbation")[["mse", "mae", "wmse"]].agg(["mean", "std"])
    for unit in units.to_dict("records"):
        for key in ("mse", "mae"):
            mean, std = spread.loc[unit["perturbation"], key]
            assert std > 0 and abs(mean - unit[key]) < 4 * std, key
    assert (draws["de_direction"].between(0, 1)).all() and draws["de_spearman"].mean() > 0.3
    merged = draws.groupby("perturbation")["de_direction"].mean()
    for unit in units.to_dict("records"):
        assert merged[unit["perturbation"]] == pytest.approx(unit["de_direction"], abs=0.15)
    whole = {"sources": [{**tiny_screen.section["sources"][0], "split": {"kind": "unseen_condition"}}]}
    assert "draws" not in run_model(prepare("expression", whole), "no_change").scores.details


def test_draws_of_truth_and_control_are_one_for_all_models_and_seeds(few, planted_conditions, bench_host):
    """A model that adds a constant differs from doing nothing by the same in every draw's mean of changes."""

    class Shifted(NoChange):
        def shift(self, perturbation):
            return np.full(len(self.control), 0.25), ""

    draws = {}
    for name, model in (("nothing", NoChange), ("shifted", Shifted)):
        draws[name] = few.task.score(few.task.run(model)).details["draws"]
    assert (draws["nothing"]["mse_relative"] == 1).all() and (draws["nothing"]["pearson_delta"] == 0).all()
    # (c + s - t)^2 - (c - t)^2 = s^2 + 2 s (c - t): differs by draw, but pearson_delta of a constant is 0 in all
    assert (draws["shifted"]["pearson_delta"] == 0).all()
    assert (draws["nothing"]["de_direction"] == 0).all() and (draws["nothing"]["de_spearman"] == 0).all()
    assert draws["shifted"]["mse"].std() > 0
    section = {"sources": [{**planted_conditions.held, "primary": True}]}
    again = prepare("expression", section, seed=5, host=bench_host).task
    other = again.score(again.run(NoChange)).details["draws"]
    pd.testing.assert_frame_equal(
        other.drop(columns=["energy_distance", "mmd"]), draws["nothing"].drop(columns=["energy_distance", "mmd"])
    )


def test_redrawn_means_have_the_spread_of_a_mean():
    x = np.random.default_rng(3).normal(2, 1, (400, 5))
    means = redraw(x, "a", "b")
    assert means.shape == (DRAWS, 5) and means.mean() == pytest.approx(x.mean(), abs=0.02)
    assert means.std(axis=0) == pytest.approx(x.std(axis=0) / 20, rel=0.25)
    assert np.array_equal(means, redraw(x, "a", "b")) and not np.array_equal(means, redraw(x, "a", "c"))


def test_phases_get_equal_numbers_of_cells():
    phase = np.array(["G1"] * 50 + ["S"] * 12 + ["G2M"] * 9 + [""] * 30, dtype=object)
    chosen = equal_phases(phase, "s")
    assert {name: len(rows) for name, rows in chosen.items()} == {"G1": 12, "S": 12}, "9 cells are no stratum"
    assert all((phase[rows] == name).all() and len(set(rows)) == 12 for name, rows in chosen.items())
    assert equal_phases(phase[:50], "s") == {}


@pytest.fixture
def phased(planted_conditions, tmp_path):
    """The planted conditions in two phases; phase S moves the last twenty genes in all cells."""
    cells = anndata.read_h5ad(planted_conditions.path)
    late = np.arange(cells.n_obs) % 2 == 0
    cells.X[late, 20:] += 0.5
    cells.obs["phase"] = np.where(late, "S", "G1")
    cells.write_h5ad(tmp_path / "phased.h5ad")
    return {**planted_conditions.held, "cells": str(tmp_path / "phased.h5ad"), "primary": True}


def test_strata_compare_cells_of_a_phase_with_control_cells_of_it(phased, bench_host):
    job = prepare("expression", {"sources": [phased]}, host=bench_host)
    nothing = run_model(job, "no_change", host=bench_host).scores.tables["strata"]
    assert len(nothing) == 6 and set(nothing["phase"]) == {"G1", "S"} and (nothing["own_phase"] == 1).all()
    assert nothing.groupby("perturbation")["n_cells"].nunique().eq(1).all()
    assert np.allclose(nothing["mse_relative"], 1) and (nothing["pearson_delta"] == 0).all()
    additive = run_model(job, "additive", host=bench_host).scores.tables["strata"]
    both = additive[additive["perturbation"] == "PRRX1+MYOD1"]
    assert (both["mse_relative"] < 0.5).all() and (both["pearson_delta"] > 0.7).all()

    class Mean(ShiftModel):
        """Returns one cell: nothing says of which phase."""

        def predict(self, control, perturbation, *, context):
            return anndata.AnnData(self.control[None].astype(np.float32), var=control.var[[]].copy())

    blind = job.task.score(job.task.run(Mean)).tables["strata"]
    assert (blind["own_phase"] == 0).all() and (blind["mse_relative"] > 1.03).all(), "it misses what a phase changes"


def test_an_unseen_phase_is_scored_against_control_cells_of_that_phase(phased, bench_host):
    source = {**phased, "split": {"kind": "unseen_phase"}}
    job = prepare("expression", {"sources": [source]}, host=bench_host)
    data = job.task.data["held"]
    assert [fold.name for fold in data.folds] == ["phase G1", "phase S"]
    for fold in data.folds:
        held = fold.name.split()[1]
        seen = data.visible(fold).obs
        assert not ((seen["perturbation"] != "control") & (seen["phase"] == held)).any()
        assert set(data.control(fold).obs["phase"]) == {held}
    known = {}
    for name in ("no_change", "duplicate", "shuffled"):
        result = run_model(job, name, host=bench_host)
        assert result.status == "ok" and result.metrics["n_perturbations"] == 3
        known[name] = result.scores.tables["units"]
    assert (known["no_change"]["mse_relative"] == 1).all() and len(known["no_change"].merge(known["duplicate"])) == 0
    by_hand = data.x[(data.labels == "MYOD1") & (data.phase == "S")].mean(axis=0, dtype=float)
    units = known["no_change"].set_index(["fold", "perturbation"])
    control = data.x[(data.labels == "control") & (data.phase == "S")].mean(axis=0, dtype=float)
    assert units.loc[("phase S", "MYOD1"), "mse"] == pytest.approx(np.mean((control - by_hand) ** 2))
    assert units.loc[("phase S", "MYOD1"), "n_cells"] == 15

    class Remembers(ShiftModel):
        """Saw the perturbation in the other phase."""

        def shift(self, perturbation):
            return self.shifts[perturbation.name], ""

    seen = job.task.score(job.task.run(Remembers)).tables["units"]
    assert (seen["mse_relative"] < 0.5).all()


def test_repeats_of_a_perturbation_are_one_unit(phased, bench_host):
    """Three perturbations in two phases are three, and so few: intervals come from cells."""
    job = prepare("expression", {"sources": [{**phased, "split": {"kind": "unseen_phase"}}]}, host=bench_host)
    data = job.task.data["held"]
    assert len(data.keys()) == 6 and len(data.scored) == 3 and data.few
    result = run_model(job, "additive", host=bench_host)
    units = result.scores.tables["units"]
    assert result.metrics["mse"] == pytest.approx(units.groupby("perturbation")["mse"].mean().mean(), abs=1e-6)
    assert result.metrics["mse_relative_lo"] is None and len(result.scores.details["draws"]) == 6 * DRAWS
    assert {one.unit for one in JUDGED} == {("perturbation",)} and "held-out" not in JUDGED[0].unit_word


def test_few_cells_of_a_held_out_phase_are_not_scored(phased, bench_host):
    source = {**phased, "split": {"kind": "unseen_phase"}}
    with pytest.raises(InvalidDataError, match="no perturbation has 500 cells"):
        prepare("expression", {"sources": [{**source, "min_cells": 500}]}, host=bench_host)
    cells = anndata.read_h5ad(phased["cells"])
    rare = np.flatnonzero((cells.obs["condition"] == "mmMYOD1") & (cells.obs["phase"] == "S"))[4:]
    path = phased["cells"].replace(".h5ad", "_rare.h5ad")
    cells[np.setdiff1d(np.arange(cells.n_obs), rare)].copy().write_h5ad(path)
    data = prepare("expression", {"sources": [{**source, "cells": path}]}, host=bench_host).task.data["held"]
    assert {fold.name: fold.test for fold in data.folds} == {
        "phase G1": ("MYOD1", "PRRX1", "PRRX1+MYOD1"),
        "phase S": ("PRRX1", "PRRX1+MYOD1"),
    }
    assert "held: fewer than 10 cells (min_cells), not scored: MYOD1 in phase S" in data.remarks
    hidden = data.visible(data.folds[1]).obs
    assert not ((hidden["perturbation"] == "MYOD1") & (hidden["phase"] == "S")).any()


def test_a_file_sorted_by_batch_is_as_far_from_itself_as_a_shuffled_one(tmp_path):
    """Populations are compared on drawn cells: the first of a file may all be of one batch."""
    rng = np.random.default_rng(5)
    genes = [f"G{i}" for i in range(30)]
    labels = np.repeat(["control", "G0", "G1", "G2"], 600)
    batch = np.tile(np.repeat([0.0, 1.0, 2.0], 200), 4)
    x = np.clip(rng.normal(3, 0.3, (2400, 30)) + batch[:, None], 0, None).astype(np.float32)
    obs = pd.DataFrame({"perturbation": labels}, index=[f"c{i}" for i in range(2400)])
    cells = anndata.AnnData(x, obs=obs, var=pd.DataFrame(index=genes))
    cells.write_h5ad(tmp_path / "sorted.h5ad")
    cells[rng.permutation(2400)].copy().write_h5ad(tmp_path / "mixed.h5ad")
    found = {}
    for name in ("sorted", "mixed"):
        source = {"name": "s", "cells": str(tmp_path / f"{name}.h5ad"), "max_cells": 1000}
        job = prepare("expression", {"sources": [{**source, "split": {"kind": "listed", "held_out": ["G0", "G1"]}}]})
        data = job.task.data["s"]
        perfect = {k: job.task.predicted(data.x[data.rows(k[2])], data) for k in data.keys()}
        found[name] = job.task.score(perfect).tables["units"]
    for units in found.values():
        assert units["energy_distance"].abs().max() < 0.15 and units["mmd"].abs().max() < 0.02
    apart = found["sorted"]["energy_distance"].mean() - found["mixed"]["energy_distance"].mean()
    assert abs(apart) < 0.1


def test_a_cell_that_is_twice_in_the_data_stops_the_run(planted_conditions, tmp_path):
    cells = anndata.read_h5ad(planted_conditions.path)
    cells.X[60] = cells.X[90]
    assert cells.obs["condition"].iloc[60] != cells.obs["condition"].iloc[90]
    cells.write_h5ad(tmp_path / "twice.h5ad")
    source = {**planted_conditions.held, "cells": str(tmp_path / "twice.h5ad"), "primary": True}
    with pytest.raises(LeakError, match="expression of a test cell"):
        task = prepare("expression", {"sources": [source]}).task
        task.run(NoChange)


def test_equal_runs_give_equal_tables(few, planted_conditions, bench_host):
    first = run_model(few, "bilinear", host=bench_host)
    fresh = prepare("expression", {"sources": [{**planted_conditions.held, "primary": True}]}, host=bench_host)
    second = run_model(fresh, "bilinear", host=bench_host)
    assert json.dumps(first.metrics) == json.dumps(second.metrics)
    for name, table in {**first.scores.tables, **first.scores.details}.items():
        pd.testing.assert_frame_equal(table, {**second.scores.tables, **second.scores.details}[name], check_exact=True)
