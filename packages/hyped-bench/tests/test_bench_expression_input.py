"""Bad and odd input of the expression task: a typed error, or a stated value with a warning; never a better score."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import get_args

import anndata
import numpy as np
import pandas as pd
import pytest

from hyped_bench.controls.expression import NoChange, ShiftModel
from hyped_bench.runner import prepare, run_model, score_file
from hyped_bench.splits import LeakError, SplitParams
from hyped_bench.splits.folds import Kind
from hyped_bench.tasks.expression import plain_section, score_plain
from hyped_bench.tasks.expression.files import checked_values
from hyped_bench.tasks.expression.names import canonical_names
from hyped_bench.tasks.expression.plain import WITH, split_of
from hyped_bench.tasks.expression.scale import Scale, check_scale, looks_like_counts, normalised, scale_of
from hyped_core.errors import InvalidDataError, MissingFileError, PluginError, UsageError


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


def log10(x):
    return x / np.log(10)


def log2(x):
    return x / np.log(2)


def z_scores(x):
    return (x - x.mean(axis=0)) / x.std()


def smaller_panel(x):
    """Counts per 10,000 of many more genes than the benchmark's."""
    return np.log1p(np.expm1(x) / 50)


@pytest.mark.parametrize("scale", [log10, log2, z_scores, smaller_panel, np.zeros_like, lambda x: x - 2.5])
def test_predictions_on_another_scale_are_refused(tiny_screen, tmp_path, scale):
    """They would get orders and overlaps right: a verdict could call them better than doing nothing."""
    job = prepare("expression", tiny_screen.section)
    path = written(tiny_screen, tmp_path / "p.h5ad", change=lambda a: anndata.AnnData(scale(a.X), obs=a.obs, var=a.var))
    with pytest.raises(InvalidDataError, match=r"times the control's counts .* another scale .* likely") as caught:
        score_file(job, path)
    assert "p.h5ad" in str(caught.value) and "ln(1 + counts per 10,000)" in caught.value.mend

    class Scaled(NoChange):
        def predict(self, control, perturbation, *, context):
            cells = super().predict(control, perturbation, context=context)
            return anndata.AnnData(scale(cells.X), var=cells.var)

    with pytest.raises(PluginError, match="another scale"):
        job.task.run(Scaled)


@pytest.mark.parametrize("scale", [lambda x: x + 0.1, lambda x: x * 0.9, lambda x: x - 0.2])
def test_honest_predictions_are_not_refused(tiny_screen, tmp_path, scale):
    path = written(tiny_screen, tmp_path / "p.h5ad", change=lambda a: anndata.AnnData(scale(a.X), obs=a.obs, var=a.var))
    result = score_file(prepare("expression", tiny_screen.section), path)
    assert not any("is X ln" in line for line in result.warnings)


def test_one_perturbation_may_change_most_counts():
    alone, usual = Scale(4.0, 1.3), Scale(1.2, 1.0)
    assert check_scale([alone, usual, usual], "s") == [] and check_scale([], "s") == []
    (warning,) = check_scale([Scale(2.3, 1.0)] * 40, "s")
    assert "s: predicted cells stand for 2.3 times" in warning and "median of 40 perturbations" in warning
    (warning,) = check_scale([Scale(1.0, 1.44)], "s")
    assert "slope against control 1.4" in warning


def test_the_scale_of_log2_is_its_factor(tiny_screen):
    data = prepare("expression", tiny_screen.section).task.data["screen"]
    control = data.control().X
    assert scale_of(control, control) == pytest.approx((1.0, 1.0))
    assert scale_of(log2(control), control).slope == pytest.approx(1 / np.log(2), rel=1e-6)


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


@pytest.mark.parametrize("name", ["B+A", "A+B", "B_A", "B+ctrl+A"])
def test_genes_in_another_order_are_the_same_perturbation(name):
    assert canonical_names(["A", "B", name], known=["B+A"])[name] == "B+A"
    assert canonical_names(["A", "B", "A+B", name])[name] == "A+B"


def mirrored(labels, every=1):
    """Names of pairs turned round, of every second cell of theirs or of all."""
    turned = labels.str.split("+").str[::-1].str.join("+")
    return turned.where(np.arange(len(labels)) % every == 0, labels)


@pytest.mark.parametrize("every", [1, 2])
def test_pairs_named_both_ways_round_neither_leak_nor_get_lost(tiny_screen, tmp_path, every):
    """In the truth, in the file of predictions, in both."""
    truth = tiny_screen.folder / "screen.h5ad"
    cells = anndata.read_h5ad(truth)
    cells.obs["perturbation"] = mirrored(cells.obs["perturbation"].astype(str), every)
    cells.write_h5ad(tmp_path / "turned.h5ad")
    straight = written(tiny_screen, tmp_path / "straight.h5ad")
    expected = score_plain(straight, truth)[1]
    job, found = score_plain(straight, tmp_path / "turned.h5ad")
    fold = job.task.data["turned"].folds[0]
    assert len(fold.test) == 6 and {tuple(sorted(n.split("+"))) for n in fold.test}.isdisjoint(
        {tuple(sorted(n.split("+"))) for n in fold.train}
    )
    for key in ("mse", "pearson_delta", "pearson_delta_train", "pds_l1"):
        assert found.metrics[key] == pytest.approx(expected.metrics[key], abs=1e-9), key
    names = [n for n in tiny_screen.means if "+" in n]
    other = written(tiny_screen, tmp_path / "other.h5ad", names, lambda a: _turned(a, every))
    again = score_plain(other, truth)[1]
    assert again.metrics["mse"] == pytest.approx(expected.metrics["mse"]) and not any(
        "not held out" in line or "does not hold" in line for line in again.warnings
    )


def _turned(cells, every):
    cells.obs["perturbation"] = mirrored(cells.obs["perturbation"].astype(str), every)
    return cells


def test_two_names_of_one_perturbation_on_both_sides_stop_the_run(tiny_screen, tmp_path):
    cells = anndata.read_h5ad(tiny_screen.folder / "screen.h5ad")
    labels = cells.obs["perturbation"].astype(str).to_numpy(dtype=object)
    rows = np.flatnonzero(labels == "G00")
    labels[rows[:20]], labels[rows[20:]] = "guide0", "guide1"
    cells.obs["perturbation"] = labels
    change = {"changes": [{"gene": "G00", "direction": "activation"}]}
    cells.uns["perturbations_json"] = json.dumps({n: {"name": n, **change} for n in ("guide0", "guide1")})
    cells.write_h5ad(tmp_path / "guides.h5ad")
    source = {"name": "s", "cells": str(tmp_path / "guides.h5ad"), "split": {"kind": "listed", "held_out": ["guide0"]}}
    with pytest.raises(LeakError, match=r"under another name \(guide0 as guide1\)"):
        prepare("expression", {"sources": [source]}).task.run(NoChange)


def test_what_is_held_out_and_what_is_unknown_is_said(tiny_screen, tmp_path):
    truth = tiny_screen.folder / "screen.h5ad"
    pairs = [n for n in tiny_screen.means if "+" in n]

    def strange(cells):
        cells.obs["perturbation"] = cells.obs["perturbation"].astype(str).replace(pairs[2], "Z1+Z2")
        return cells

    job, result = score_plain(written(tiny_screen, tmp_path / "few.h5ad", pairs[:3], strange), truth)
    assert any("2 of 18" in line and "held out: what the file predicts" in line for line in result.warnings)
    assert any("1 perturbations that the truth does not hold" in line and "Z1+Z2" in line for line in result.warnings)
    assert result.facts["held_out"] == {"screen": {"scored": 2, "measured": 18}}


def test_cells_that_are_not_used_are_counted_and_can_be_used(tiny_screen, tmp_path):
    truth, path = tiny_screen.folder / "screen.h5ad", written(tiny_screen, tmp_path / "p.h5ad")
    job, _ = score_plain(path, truth, max_cells=25)
    said = "screen: 475 of 800 cells are used, at most 25 of a perturbation and of control (max_cells)"
    assert said in job.task.warnings and len(job.task.data["screen"].x) == 475
    assert not any("max_cells" in line for line in score_plain(path, truth)[0].task.warnings)


def test_two_cells_of_one_name_are_refused(tiny_screen, tmp_path):
    cells = anndata.read_h5ad(tiny_screen.folder / "screen.h5ad")
    cells.obs_names = ["same", *cells.obs_names[1:-1], "same"]
    cells.write_h5ad(tmp_path / "twice.h5ad")
    with pytest.raises(InvalidDataError, match=r"1 cells have the name of another \(same\)"):
        prepare("expression", {"sources": [{"name": "s", "cells": str(tmp_path / "twice.h5ad")}]})


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
    split = {"kind": "unseen_condition"}
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
    with pytest.raises(MissingFileError) as caught:
        score_plain(everything, tmp_path / "nowhere.h5ad", split=split)
    assert "nowhere.h5ad" in str(caught.value) and "pipeline" not in str(caught.value)
    cells.obs = cells.obs.rename(columns={"perturbation": "guide_id"})
    cells.write_h5ad(tmp_path / "guides.h5ad")
    with pytest.raises(InvalidDataError, match="no obs column names perturbations") as caught:
        plain_section(None, tmp_path / "guides.h5ad", split=split)
    assert "--perturbation COLUMN, or rename it in the file to perturbation; there: guide_id" in str(caught.value)
    cells.obs = cells.obs.rename(columns={"guide_id": "perturbation"})
    nameless = written(tiny_screen, tmp_path / "nameless.h5ad", column="cell_type")
    with pytest.raises(InvalidDataError, match="no obs column perturbation") as caught:
        score_plain(nameless, truth)
    assert "nameless.h5ad" in str(caught.value)
    cells[cells.obs["perturbation"].isin(["control", "G00"])].copy().write_h5ad(tmp_path / "one.h5ad")
    with pytest.raises(InvalidDataError, match=r"holds one perturbation \(G00\)"):
        score_plain(written(tiny_screen, tmp_path / "g.h5ad", ["G00"]), tmp_path / "one.h5ad")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("unseen_comb", "did you mean unseen_combination?"),
        ("zzz", "one of unseen_combination, unseen_perturbation"),
        ("listed", "split: {kind: listed, held_out: [NAME, ...]}"),
        ("saved", "split: {kind: saved, file: FILE}"),
    ],
)
def test_a_split_of_the_command_line_that_is_none(kind, said):
    with pytest.raises(UsageError) as caught:
        split_of(kind)
    assert said in str(caught.value) and str(caught.value).startswith("--split: ")


def test_every_split_of_the_command_line_is_one_of_a_parameter_file():
    known = [kind for kind in get_args(Kind) if kind not in WITH]
    assert len(known) > 10 and [SplitParams(**split_of(kind)).kind for kind in known] == known


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
