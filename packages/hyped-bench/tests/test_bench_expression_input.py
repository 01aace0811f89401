"""Bad and odd input of the expression task: a typed error, or a stated value with a warning; never a better score."""

from __future__ import annotations

import os
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from hyped_bench.controls.expression import NoChange, ShiftModel
from hyped_bench.runner import prepare, run_model, score_file
from hyped_bench.tasks.expression import plain_section, score_plain
from hyped_bench.tasks.expression.data import canonical_names, looks_like_counts, normalised
from hyped_bench.tasks.expression.files import checked_values, other_scale
from hyped_core.errors import InvalidDataError, PluginError


def written(screen, path, names=None, change=lambda a: a, column="perturbation"):
    """Predictions of the true means, three cells each, with control cells; changed before they are written."""
    wanted = [*(names or [n for n in screen.means if "+" in n]), "control"]
    x = np.array([screen.means[n] for n in wanted for _ in range(3)], dtype=np.float32)
    obs = pd.DataFrame({column: np.repeat(wanted, 3)}, index=[f"p{i}" for i in range(len(x))])
    change(anndata.AnnData(x, obs=obs, var=pd.DataFrame(index=screen.genes))).write_h5ad(path)
    return path


def test_control_cells_of_a_submission_change_nothing(tiny_screen, tmp_path):
    """Where the submitted control counts (cell-eval), twisting it moves every score of a change."""
    job = prepare("expression", tiny_screen.section)
    plain = score_file(job, written(tiny_screen, tmp_path / "plain.h5ad"))

    def twist(cells):
        cells.X[(cells.obs["perturbation"] == "control").to_numpy()] = 0.0
        return cells

    twisted = score_file(job, written(tiny_screen, tmp_path / "twisted.h5ad", change=twist))
    assert twisted.metrics == plain.metrics
    without = score_file(
        job, written(tiny_screen, tmp_path / "without.h5ad", change=lambda a: a[a.obs.perturbation != "control"].copy())
    )
    assert without.metrics == plain.metrics
    assert any("control cells in the file were not used" in line for line in twisted.warnings)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[1.0, np.nan]]), "NaN"),
        (np.array([[1.0, np.inf]]), "NaN or infinite"),
        (np.array([[1.0, 30.0]]), "counts"),
        (np.array([[0.0, 3.0], [1.0, 0.0]]), "counts"),
        (np.array([0.5, 0.25]), "1 axes"),
    ],
)
def test_values_that_are_refused(values, message):
    with pytest.raises(PluginError, match=message):
        checked_values(values, "screen/A")


def test_what_looks_like_counts():
    assert looks_like_counts(np.array([[0.0, 2.0]])) and looks_like_counts(np.array([[5.0]]))
    assert not looks_like_counts(np.zeros((2, 2))), "silent cells are a prediction, if a bad one"
    assert not looks_like_counts(np.array([[0.0, 1.5]])) and not looks_like_counts(np.array([[-1.0, 2.0]]))


@pytest.mark.parametrize(
    ("scale", "told"),
    [
        (lambda x: x, False),
        (lambda x: x / np.log(10), True),
        (lambda x: x / np.log(2), True),
        (lambda x: (x - x.mean(axis=0)) / x.std(), True),
        (lambda x: x + 0.1, False),
    ],
)
def test_other_logarithms_and_scaled_values_are_told(tiny_screen, tmp_path, scale, told):
    job = prepare("expression", tiny_screen.section)
    data = job.task.data["screen"]
    assert bool(other_scale(scale(data.x[:200]), data.control().X)) == told
    path = written(tiny_screen, tmp_path / "p.h5ad", change=lambda a: anndata.AnnData(scale(a.X), obs=a.obs, var=a.var))
    result = score_file(job, path)
    assert any("is X ln(1 + counts per 10,000)" in line for line in result.warnings) == told
    honest = score_file(job, written(tiny_screen, tmp_path / "h.h5ad"))
    if told:
        assert result.metrics["mse"] > 5 * honest.metrics["mse"]


def test_constant_predictions_have_stated_values(tiny_screen):
    """All genes alike, all of the control moved by one number, and nothing at all."""
    task = prepare("expression", tiny_screen.section).task

    class Flat(ShiftModel):
        def predict(self, control, perturbation, *, context):
            return anndata.AnnData(np.full(control.shape, 2.5, np.float32), var=control.var[[]].copy())

    class Moved(NoChange):
        def shift(self, perturbation):
            return np.full(len(self.control), 0.3), ""

    flat = task.score(task.run(Flat))
    assert flat.tables["units"]["pearson"].isna().all() and flat.metrics["pearson"] is None
    assert flat.metrics["mse_relative"] > 2 and flat.metrics["pds_l1"] == pytest.approx(7 / 12)
    moved = task.score(task.run(Moved))
    assert moved.metrics["pearson_delta"] == 0.0 and moved.metrics["n_undefined"] >= 6
    assert any("are undefined" in line and "0 was stated" in line for line in moved.warnings)


def test_one_scored_perturbation_has_nothing_to_be_told_from(tiny_screen, bench_host):
    source = {**tiny_screen.section["sources"][0], "split": {"kind": "listed", "held_out": ["G00+G06"]}}
    result = run_model(prepare("expression", {"sources": [source]}, host=bench_host), "additive", host=bench_host)
    ranks = {k: v for k, v in result.metrics.items() if k.startswith(("pds_", "rank_", "centroid"))}
    assert set(ranks.values()) == {None} and len(ranks) == 14
    assert result.metrics["pearson_delta"] > 0.5
    assert any("one perturbation is scored" in line for line in result.warnings)
    assert any("pds_l1" in line and "without a value" in line for line in result.warnings)


def test_an_empty_test_split_is_an_error(tiny_screen, tmp_path):
    cells = anndata.read_h5ad(tiny_screen.folder / "screen.h5ad")
    cells[cells.obs["perturbation"] == "control"].copy().write_h5ad(tmp_path / "control.h5ad")
    cells[~cells.obs["perturbation"].str.contains("+", regex=False)].copy().write_h5ad(tmp_path / "singles.h5ad")
    for name in ("control", "singles"):
        source = {**tiny_screen.section["sources"][0], "cells": str(tmp_path / f"{name}.h5ad")}
        with pytest.raises(InvalidDataError, match="nothing to score"):
            prepare("expression", {"sources": [source]})


def test_cells_without_a_perturbation_are_left_out_and_counted(tiny_screen, tmp_path):
    cells = anndata.read_h5ad(tiny_screen.folder / "screen.h5ad")
    labels = cells.obs["perturbation"].astype(object)
    labels.iloc[[0, 100, 200]] = np.nan
    cells.obs["perturbation"] = pd.Categorical(labels)
    cells.write_h5ad(tmp_path / "holes.h5ad")
    source = {**tiny_screen.section["sources"][0], "cells": str(tmp_path / "holes.h5ad")}
    task = prepare("expression", {"sources": [source]}).task
    assert "nan" not in set(task.data["screen"].labels) and len(task.data["screen"].x) == cells.n_obs - 3
    assert any("3 cells without a perturbation" in line for line in task.warnings)


def test_counts_are_refused_or_normalised_when_said_to_be_counts(tiny_screen, tmp_path):
    cells = anndata.read_h5ad(tiny_screen.folder / "screen.h5ad")
    counts = np.random.default_rng(0).poisson(np.expm1(cells.X) / 10).clip(0, 11).astype(np.float32)
    anndata.AnnData(counts, obs=cells.obs, var=cells.var).write_h5ad(tmp_path / "counts.h5ad")
    source = {**tiny_screen.section["sources"][0], "cells": str(tmp_path / "counts.h5ad"), "oracle": None}
    with pytest.raises(InvalidDataError, match="whole numbers only"):
        prepare("expression", {"sources": [source]})
    data = prepare("expression", {"sources": [{**source, "counts": True}]}).task.data["screen"]
    assert np.expm1(data.x).sum(axis=1) == pytest.approx(np.full(len(data.x), 1e4), rel=1e-4)
    with pytest.raises(InvalidDataError, match="no raw counts"):
        normalised(cells.X, "x.h5ad")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["ctrl", "A+ctrl", "ctrl+B", "A+B"], ["control", "A", "B", "A+B"]),
        (["non-targeting", "A", "B", "A_B"], ["control", "A", "B", "A+B"]),
        (["control", "A", "A_control", "HLA_C"], ["control", "A", "A", "HLA_C"]),
        (["NT", "Unperturbed", "NTRK1"], ["control", "control", "NTRK1"]),
    ],
)
def test_names_of_other_projects(given, found):
    names = canonical_names(given)
    assert [names[name] for name in given] == found


def test_a_plain_screen_is_scored_without_a_parameter_file(tiny_screen, tmp_path):
    """Names and columns as GEARS has them; what is predicted is what was held out."""
    truth = anndata.read_h5ad(tiny_screen.folder / "screen.h5ad")
    names = {n: n if "+" in n else f"{n}+ctrl" for n in tiny_screen.means} | {"control": "ctrl"}
    truth.obs = pd.DataFrame({"condition": truth.obs["perturbation"].astype(str).map(names)}, index=truth.obs_names)
    truth.write_h5ad(tmp_path / "gears style.h5ad")
    predictions = written(tiny_screen, tmp_path / "mine.h5ad", column="condition")
    job, result = score_plain(predictions, tmp_path / "gears style.h5ad")
    assert result.model == "mine" and result.metrics["n_perturbations"] == 6 and result.metrics["pearson_delta"] > 0.9
    usual = score_file(prepare("expression", tiny_screen.section), written(tiny_screen, tmp_path / "u.h5ad"))
    for key in ("mse", "pearson_delta", "pearson_delta_train", "pds_l1", "wmse"):
        assert result.metrics[key] == pytest.approx(usual.metrics[key], abs=1e-5), key
    assert job.task.facts()["split"]["gears_style"]["kind"] == "listed"
    assert run_model(job, "additive").status == "ok"


def test_plain_files_that_cannot_be_scored(tiny_screen, tmp_path):
    truth = tiny_screen.folder / "screen.h5ad"
    everything = written(tiny_screen, tmp_path / "all.h5ad", [n for n in tiny_screen.means if n != "control"])
    with pytest.raises(InvalidDataError, match="predicts all 18 perturbations"):
        score_plain(everything, truth)
    split = {"kind": "leave_one_out"}
    assert score_plain(everything, truth, split=split)[1].metrics["n_perturbations"] == 18
    strangers = written(tiny_screen, tmp_path / "s.h5ad", change=lambda a: _renamed(a))
    with pytest.raises(InvalidDataError, match="nothing that was measured"):
        score_plain(strangers, truth)
    cells = anndata.read_h5ad(truth)
    cells[cells.obs["perturbation"] != "control"].copy().write_h5ad(tmp_path / "no control.h5ad")
    with pytest.raises(InvalidDataError, match="no cell is called control"):
        score_plain(everything, tmp_path / "no control.h5ad", split=split)
    with pytest.raises(InvalidDataError, match="no obs column 'guide'"):
        score_plain(everything, truth, perturbation="guide", split=split)
    with pytest.raises(InvalidDataError, match="what is held out"):
        plain_section(None, truth)


def _renamed(cells):
    cells.obs["perturbation"] = [f"Z{i}" for i in range(cells.n_obs)]
    return cells


def test_a_file_cannot_be_scored_where_cells_of_perturbations_are_held_out(tiny_screen, tmp_path):
    cells = anndata.read_h5ad(tiny_screen.folder / "screen.h5ad")
    cells.obs["phase"] = np.where(np.arange(cells.n_obs) % 2, "G1", "S")
    cells.write_h5ad(tmp_path / "phases.h5ad")
    source = {"name": "screen", "cells": str(tmp_path / "phases.h5ad"), "split": {"kind": "unseen_phase"}}
    job = prepare("expression", {"sources": [source]})
    with pytest.raises(InvalidDataError, match="holds out cells by phase"):
        score_file(job, written(tiny_screen, tmp_path / "p.h5ad"))


PUBLIC = Path(os.environ.get("HYPED_PUBLIC_DATA", ""))


@pytest.mark.public
@pytest.mark.skipif(not (PUBLIC / "manifest.csv").is_file(), reason="HYPED_PUBLIC_DATA names no folder")
def test_real_norman_cells_without_container_and_parameter_file(tmp_path, bench_host):
    """A model's cells written to a file score as the model does in the benchmark."""
    where = {"dataset": "norman19"}
    source = {"name": "norman", "cells": str(PUBLIC / "perturb/perturbench_devel.h5ad"), "where": where}
    job = prepare("expression", {"sources": [source]}, host=bench_host)
    data = job.task.data["norman"]
    fold = data.folds[0]
    means = {name: job.task.data["norman"].mean(name) for name in fold.train}
    parts = []
    for name in fold.test:
        known = [means[gene] - data.mean("control") for gene in name.split("+") if gene in means]
        shift = np.sum(known, axis=0) if known else np.mean([m - data.mean("control") for m in means.values()], axis=0)
        parts.append(data.control().X + shift.astype(np.float32))
    obs = pd.DataFrame({"condition": np.repeat(fold.test, [len(p) for p in parts])})
    obs.index = [f"p{i}" for i in range(len(obs))]
    cells = anndata.AnnData(np.concatenate(parts), obs=obs, var=pd.DataFrame(index=data.genes))
    cells.write_h5ad(tmp_path / "additive.h5ad")
    found = score_plain(tmp_path / "additive.h5ad", source["cells"], where=where)[1].metrics
    expected = run_model(job, "additive", host=bench_host).metrics
    assert found["n_perturbations"] == 8
    for key in ("pearson_delta", "mse_relative", "wmse", "pds_l1", "pearson_delta_train", "de_direction"):
        assert found[key] == pytest.approx(expected[key], abs=2e-4), key
