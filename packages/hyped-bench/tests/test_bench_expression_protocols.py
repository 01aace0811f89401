"""What models of the expression task see by protocol and split, and what their numbers are taken on."""

from __future__ import annotations

import copy
import json

import anndata
import numpy as np
import pandas as pd
import pytest

from hyped_bench.controls.expression import ShiftModel
from hyped_bench.records import record_of
from hyped_bench.references import REFERENCES
from hyped_bench.runner import prepare, run_model
from hyped_bench.tasks.expression.data import obs_column
from hyped_core.errors import InvalidDataError, ParamsError

CONTROLS = ("additive", "bilinear", "matching_mean", "nearest", "no_change", "pool_effect", "train_mean")
CONDITIONS = ["MYOD1", "PRRX1", "PRRX1+MYOD1"]


class Memory(ShiftModel):
    """Predicts the mean of the training cells with the label asked for, if it saw any."""

    facts = {"remembers": "everything"}

    def shift(self, perturbation):
        return self.shifts.get(perturbation.name, np.zeros_like(self.control)), ""


def sources(*listed):
    return {"sources": [{**listed[0], "primary": True}, *listed[1:]]}


@pytest.fixture
def job(planted_conditions, bench_host):
    return prepare("expression", sources(planted_conditions.held, planted_conditions.recipe), host=bench_host)


@pytest.mark.parametrize("name", CONTROLS)
def test_by_the_recipe_every_control_predicts_no_change(job, bench_host, name):
    result = run_model(job, name, host=bench_host)
    assert result.status == "ok"
    found = result.metrics
    assert found["mse_relative_recipe"] == pytest.approx(1.0, abs=1e-6)
    assert found["pearson_delta_recipe"] == 0.0 and found["n_undefined_recipe"] == 6
    nothing = run_model(job, "no_change", host=bench_host).metrics
    for key in ("pearson_delta_train", "cosine_delta_train", "weighted_r2_delta"):  # from the other conditions' means
        assert found[f"{key}_recipe"] == pytest.approx(nothing[f"{key}_held"], abs=1e-6), key
    assert found["pearson_delta_train_recipe"] != 0.0
    assert result.scores.tables["units"]["source"].value_counts().to_dict() == {"held": 3, "recipe": 3}


@pytest.mark.parametrize("name", sorted(set(REFERENCES) - {"oracle"}))
def test_references_run_by_both_protocols(job, bench_host, name):
    result = run_model(job, name, host=bench_host)
    assert result.status == "ok" and result.metrics["n_perturbations_recipe"] == 3
    assert result.metrics["mse_recipe"] == pytest.approx(result.metrics["mse_held"], rel=0.5), "they see the truth"
    assert result.metrics["mse_relative_recipe"] != pytest.approx(1.0, abs=0.02)


def test_remembering_labels_earns_nothing_by_the_recipe(job):
    scores = job.task.score(job.task.run(Memory))
    assert scores.metrics["mse_relative_recipe"] == pytest.approx(1.0, abs=1e-6)
    assert "recipe" in [line.split(":")[0] for line in scores.warnings if "never sees a perturbed cell" in line]
    facts = job.task.facts()
    assert facts["protocol"]["held"]["name"] == "held_out"
    assert "never sees a perturbed cell of the experiment" in facts["protocol"]["recipe"]["says"]
    assert facts["split"]["recipe"]["kind"] == "relabelled_control"
    assert facts["split"]["recipe"]["folds"] == [{"name": "relabelled_control", "train": [], "test": CONDITIONS}]
    assert facts["model"]["recipe"] == {"relabelled_control": {"remembers": "everything"}}
    assert list(facts["model"]["held"]) == CONDITIONS


def test_the_recipe_beside_the_honest_source_changes_none_of_its_numbers(planted_conditions, job, bench_host):
    alone = prepare("expression", sources(planted_conditions.held), host=bench_host)
    before = run_model(alone, "additive", host=bench_host).metrics
    both = run_model(job, "additive", host=bench_host).metrics
    assert {key: both[key] for key in before} == before
    assert set(both) - set(before) == {key for key in both if key.endswith("_recipe")}
    assert sorted(both) == sorted(job.task.metric_keys())


def test_the_record_says_what_was_seen(job, bench_host):
    record = record_of(job, run_model(job, "train_mean", host=bench_host))
    assert record["facts"]["protocol"]["recipe"]["top_genes"] == 40
    assert record["params"]["sources"][1]["protocol"] == "relabelled_control"
    assert record["tables"]["units.csv"] == 6 and "subgroups.csv" not in record["tables"]


def test_sources_of_the_same_file_are_scored_on_the_same_cells(planted_conditions, bench_host):
    listed = [{**source, "max_cells": 15} for source in (planted_conditions.held, planted_conditions.recipe)]
    job = prepare("expression", sources(*listed), host=bench_host)
    first, second = (job.task.data[name].obs_names for name in ("held", "recipe"))
    assert len(first) == 60 and first.tolist() == second.tolist()
    found = run_model(job, "no_change", host=bench_host).metrics
    for key in ("cosine", "mse", "pearson", "mae", "wmse", "pds_l1"):
        assert found[f"{key}_held"] == found[f"{key}_recipe"], key


def test_copies_are_as_many_as_the_control_cells_used_in_screens_too(tiny_screen):
    source = {**tiny_screen.section["sources"][0], "protocol": "relabelled_control", "max_cells": 20}
    source.pop("split")
    data = prepare("expression", {"sources": [source]}).task.data["screen"]
    counts = data.visible(data.folds[0]).obs["perturbation"].value_counts()
    assert set(counts) == {20} and set(counts.index) == set(tiny_screen.means)
    assert data.validation(data.folds[0]) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"primary": True}, "held_out and relabelled_control"),
        ({"split": {"kind": "unseen_condition"}}, "nothing to split"),
        ({"top_genes_by": "rank"}, "top_genes_by"),
        ({"protocol": "paper"}, "protocol"),
    ],
)
def test_contradictory_sources_are_refused(planted_conditions, change, message):
    with pytest.raises(ParamsError, match=message):
        prepare("expression", sources(planted_conditions.held, {**planted_conditions.recipe, **change}))


def test_cells_without_perturbed_ones_and_conditions_without_cells(planted_conditions, tmp_path, bench_host):
    cells = anndata.read_h5ad(planted_conditions.path)
    cells[cells.obs["condition"] == "control"].write_h5ad(tmp_path / "control.h5ad")
    cells[cells.obs["condition"] != "mmMYOD1"].write_h5ad(tmp_path / "less.h5ad")
    only = {**planted_conditions.recipe, "cells": str(tmp_path / "control.h5ad")}
    with pytest.raises(InvalidDataError, match="no perturbed cells"):
        prepare("expression", sources(only))
    job = prepare("expression", sources({**planted_conditions.recipe, "cells": str(tmp_path / "less.h5ad")}))
    result = run_model(job, "no_change", host=bench_host)
    assert result.metrics["n_perturbations"] == 2
    assert "recipe: no cells of MYOD1: neither learned from nor scored" in result.warnings


def test_a_source_lays_its_own_parameters_over_a_models(planted_conditions, bench_host):
    listed = [
        {**planted_conditions.held, "name": name, "configs": configs}
        for name, configs in (("plain", {}), ("other", {"additive": {}}), ("stiff", {"bilinear": {"ridge": 1e9}}))
    ]
    job = prepare("expression", {"models": {"bilinear": {}}, **sources(*listed)}, host=bench_host)
    units = run_model(job, "bilinear", host=bench_host).scores.tables["units"].set_index(["source", "perturbation"])
    assert units.loc["plain", "mse"].tolist() == units.loc["other", "mse"].tolist()
    assert (units.loc["plain", "mse"] != units.loc["stiff", "mse"]).all()
    unknown = [{**planted_conditions.held, "configs": {"bilinear": {"ridges": 1}}}]
    with pytest.raises(ParamsError, match="unknown key"):
        run_model(prepare("expression", sources(*unknown), host=bench_host), "bilinear", host=bench_host)


def genes_by_hand(planted, by, name):
    """The top genes from the file itself, by another route than the task's."""
    labels = planted.obs["condition"].to_numpy()
    control = planted.x[labels == "control"].astype(float)
    if by == "change":
        from scipy.stats import ttest_ind

        condition = {"MYOD1": "mmMYOD1", "PRRX1": "siPRRX1", "PRRX1+MYOD1": "siPRRX1_mmMYOD1"}[name]
        value = np.abs(ttest_ind(planted.x[labels == condition].astype(float), control, equal_var=False).statistic)
    else:
        value = control.var(axis=0, ddof=1) if by == "variance" else control.mean(axis=0)
    return {planted.genes[i] for i in np.argsort(-value)[:10]}


@pytest.mark.parametrize("by", ["variance", "expression", "change"])
def test_the_papers_numbers_on_the_top_genes(planted_conditions, bench_host, by):
    source = {**planted_conditions.held, "top_genes": 10, "top_genes_by": by}
    scores = run_model(prepare("expression", sources(source)), "additive", host=bench_host).scores
    genes = scores.details["genes"]
    for unit in scores.tables["units"].to_dict("records"):
        name = unit["perturbation"]
        own = genes[(genes["perturbation"] == name) & genes["top"].to_numpy(dtype=bool)]
        assert set(own["gene"]) == genes_by_hand(planted_conditions, by, name)
        truth, found = own["truth"].to_numpy(float), own["predicted"].to_numpy(float)
        assert unit["mse_top"] == pytest.approx(np.mean((found - truth) ** 2), rel=1e-4)
        assert unit["mae_top"] == pytest.approx(np.mean(np.abs(found - truth)), rel=1e-4)
        assert unit["pearson_top"] == pytest.approx(np.corrcoef(found, truth)[0, 1], rel=1e-4)
        assert unit["cosine_top"] == pytest.approx(
            found @ truth / np.linalg.norm(found) / np.linalg.norm(truth), rel=1e-6
        )
    if by == "change":
        planted = {f"G{i:02d}" for i in range(10)}
        assert set(genes[(genes["perturbation"] == "MYOD1") & genes["top"].to_numpy(dtype=bool)]["gene"]) == planted


def test_screens_have_no_top_genes_beside_conditions(tiny_screen, planted_conditions, bench_host):
    job = prepare("expression", {"sources": [*tiny_screen.section["sources"], planted_conditions.held]})
    scores = run_model(job, "no_change", host=bench_host).scores
    units, genes = scores.tables["units"], scores.details["genes"]
    assert units[units["source"] == "screen"]["cosine_top"].isna().all()
    assert units[units["source"] == "held"]["cosine_top"].notna().all()
    assert genes[genes["source"] == "screen"]["top"].isna().all()
    assert "top_genes" not in job.task.facts()["protocol"]["screen"]


class Listener(Memory):
    """Keeps what it was given to stop by."""

    heard: list = []

    def fit(self, train, validation=None, *, context):
        super().fit(train, validation, context=context)
        Listener.heard.append((train, validation))


def test_validation_cells_are_neither_learned_from_nor_scored(tiny_screen):
    source = {**tiny_screen.section["sources"][0], "split": {"kind": "simulation", "seed": 1}}
    task = prepare("expression", {"sources": [source]}).task
    fold = task.data["screen"].folds[0]
    Listener.heard = []
    task.run(Listener)
    train, validation = Listener.heard[0]
    assert fold.validation and set(validation.obs["perturbation"]) == {"control", *fold.validation}
    assert set(train.obs["perturbation"]) == {"control", *fold.train}
    assert not set(fold.validation) & {*fold.train, *fold.test}
    assert set(validation.uns["perturbations"]) == set(validation.obs["perturbation"])
    plain = prepare("expression", tiny_screen.section).task
    plain.run(Listener)
    assert Listener.heard[1][1] is None


def test_genes_are_those_of_the_records_where_labels_are_names_of_guides(tiny_screen, tmp_path):
    """Off the panel too; a name that is no gene is asked for by nobody, and kept out of the chosen genes."""
    cells = anndata.read_h5ad(tiny_screen.folder / "screen.h5ad")
    labels = cells.obs["perturbation"].astype(str).replace({"G00": "guide0", "G01": "guide1"})
    cells.obs["perturbation"] = labels
    records = {
        name: {"name": name, "changes": [{"gene": gene, "direction": "activation"}]}
        for name, gene in (("guide0", "P00"), ("guide1", "G59"))
    }
    cells.uns["perturbations_json"] = json.dumps(records)
    cells.write_h5ad(tmp_path / "guides.h5ad")
    source = {**tiny_screen.section["sources"][0], "cells": str(tmp_path / "guides.h5ad"), "n_genes": 12}
    task = prepare("expression", {"sources": [source]}).task
    data = task.data["screen"]
    assert {"P00", "G59"} <= set(data.asked_genes()) and not {"guide0", "guide1"} & set(data.asked_genes())
    assert data.visible(data.folds[0]).uns["asked_genes"] == data.asked_genes()
    assert "G59" in data.genes, "a perturbed gene is always among those kept"
    assert task.score(task.run(Memory)).metrics["pds_l1"] is not None


def test_missing_phases_and_pools_are_empty_and_make_nothing_shared(planted_conditions, tmp_path):
    cells = anndata.read_h5ad(planted_conditions.path)
    control = (cells.obs["condition"] == "control").to_numpy()
    pool = pd.Series(np.where(control, "a", "b"), index=cells.obs_names, dtype=object)
    for holes in (np.flatnonzero(control)[:3], np.flatnonzero(~control)[:3]):
        pool.iloc[holes] = np.nan
    cells.obs["pool"] = pool.astype("category")
    cells.obs["phase"] = pd.array(["S", pd.NA] * (len(pool) // 2) + ["S"] * (len(pool) % 2), dtype="string")
    cells.write_h5ad(tmp_path / "holes.h5ad")
    source = {**planted_conditions.held, "cells": str(tmp_path / "holes.h5ad")}
    data = prepare("expression", sources(source)).task.data["held"]
    assert set(data.pool) == {"", "a", "b"} and set(data.phase) == {"", "S"}
    assert data.confounded, "cells of unknown pools do not join the pools"
    data.pool[data.labels == "control"] = ""
    assert not data.confounded, "nothing is known of control's pool"
    assert obs_column(pd.DataFrame({"pool": ["a", None]}), "pool").tolist() == ["a", ""]


@pytest.mark.parametrize("error", [ValueError("no such gene"), InvalidDataError("no such gene")])
def test_failing_on_a_source_beside_leaves_the_others_scored(job, error):
    class Picky(Memory):
        """Fails on the second condition where it saw copies."""

        def fit(self, train, validation=None, *, context):
            super().fit(train, validation, context=context)
            self.recipe = train.obs_names.str.contains("/").any()

        def predict(self, control, perturbation, *, context):
            if self.recipe and perturbation.name == "PRRX1":
                raise error
            return super().predict(control, perturbation, context=context)

    task = copy.copy(job.task)
    task.warnings = list(task.warnings)
    found = task.score(task.run(Picky))
    whole = task.score(task.run(Memory))
    assert found.metrics["mse_recipe"] is None and found.metrics["n_perturbations_recipe"] == 0
    assert sorted(found.metrics) == sorted(whole.metrics) == sorted(task.metric_keys())
    for key in ("mse", "mse_held", "pds_l1", "n_perturbations"):
        assert found.metrics[key] == whole.metrics[key], key
    assert set(found.tables["units"]["source"]) == {"held"} and whole.metrics["mse_recipe"] is not None
    assert any(line.startswith("recipe: not scored, the model failed on it: ") for line in found.warnings)


def test_failing_on_a_primary_source_fails_the_model(job):
    class Broken(Memory):
        def predict(self, control, perturbation, *, context):
            raise ValueError("never")

    with pytest.raises(ValueError, match="never"):
        job.task.run(Broken)


def test_subgroups_of_a_split_are_summed_up(tiny_screen, bench_host):
    source = {**tiny_screen.section["sources"][0], "split": {"kind": "simulation", "seed": 1}}
    job = prepare("expression", {"sources": [source]})
    scores = run_model(job, "additive", host=bench_host).scores
    units, groups = scores.tables["units"], scores.tables["subgroups"]
    fold = job.task.data["screen"].folds[0]
    assert dict(zip(units["perturbation"], units["subgroup"], strict=True)) == {
        name: group for group, names in fold.subgroups.items() for name in names
    }
    assert groups["n_perturbations"].sum() == len(units) and list(groups["subgroup"]) == sorted(fold.subgroups)
    by_hand = pd.Series({group: units[units["subgroup"] == group]["mse"].mean() for group in fold.subgroups})
    assert dict(zip(groups["subgroup"], groups["mse"], strict=True)) == pytest.approx(by_hand.to_dict())
