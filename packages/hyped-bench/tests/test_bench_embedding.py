"""The embedding task: planted truth is found, doing nothing is seen through, and nothing of the truth leaks."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csc_matrix, csr_matrix

from hyped_bench import runner
from hyped_bench.metrics import expression as plain
from hyped_bench.records import write_record
from hyped_bench.tasks.embedding import EmbeddingParams, EmbeddingTask
from hyped_bench.tasks.embedding.calls import checked_embedding
from hyped_bench.tasks.embedding.genes import gene_columns, gene_names
from hyped_bench.tasks.embedding.nulls import draw_genes, in_place, matched_genes
from hyped_bench.tasks.embedding.scoring import NULLS, PAPER
from hyped_core.context import RunContext
from hyped_core.design.model import Perturbation
from hyped_core.errors import InvalidDataError, PluginError, UnknownNameError
from hyped_core.plugins.hookspecs import hookimpl
from hyped_core.spec import ModelSpec

GENES = ["A", "B", *(f"a{i}" for i in range(5)), *(f"b{i}" for i in range(5)), *(f"g{i:02d}" for i in range(70))]
TRUE = {"A": GENES[2:7], "B": GENES[7:12]}
SIZES = {("A", "S"): 24, ("B", "G2M"): 20}
WIDTH = 16


def planted() -> anndata.AnnData:
    """A raises five genes by 6 counts, B five others, A+B all ten; every perturbed cell has its pool's effect too."""
    rng = np.random.default_rng(11)
    blocks, rows = [], []
    for name in ("control", "A", "B", "A+B"):
        for phase in ("G1", "S", "G2M"):
            n = 60 if name == "control" else SIZES.get((name, phase), 40)
            mean = np.full(len(GENES), 4.0)
            for gene in name.split("+"):
                mean[[GENES.index(g) for g in TRUE.get(gene, [])]] += 6.0
            if name != "control":
                mean[-20:] += 2.0
            blocks.append(rng.poisson(mean, (n, len(GENES))))
            rows += [(name, phase, "c" if name == "control" else "p")] * n
    obs = pd.DataFrame(rows, columns=["perturbation", "phase", "pool"])
    obs.index = [f"cell{i:04d}" for i in rng.permutation(len(obs))]
    counts = csr_matrix(np.concatenate(blocks).astype(np.int32))
    obs["n_counts"] = np.asarray(counts.sum(axis=1)).ravel()
    var = pd.DataFrame({"symbol": GENES, "gene_id": [f"ENSG{i:05d}" for i in range(len(GENES))]}, index=GENES)
    return anndata.AnnData(csr_matrix(counts.shape, dtype=np.float32), obs=obs, var=var, layers={"counts": counts})


MAP = np.random.default_rng(0).normal(size=(len(GENES), WIDTH)).astype(np.float32)
OFFSET = np.float32(100.0)
"""Far from the origin all means look alike, as in the spaces of transformers."""


class Linear:
    """Embeds counts linearly; a perturbation adds counts to the genes `effects` names, random ones for others."""

    effects = TRUE

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {"calls": []}

    def shift(self, gene: str) -> np.ndarray:
        delta = np.zeros(len(GENES))
        if gene in self.effects:
            delta[[GENES.index(g) for g in self.effects[gene]]] = 6.0
        else:
            delta = np.random.default_rng(GENES.index(gene)).normal(size=len(GENES)) * 2
        return (delta @ MAP).astype(np.float32)

    def embed(self, cells, *, context):
        return np.asarray(cells.X @ MAP, dtype=np.float32) + OFFSET

    def embed_perturbed(self, cells, perturbation, *, context):
        self.facts["calls"].append(perturbation.name)
        return self.embed(cells, context=context) + sum(self.shift(g) for g in perturbation.genes)


class Swapped(Linear):
    """Takes A for B."""

    effects = {"A": TRUE["B"], "B": TRUE["A"]}


class Nothing(Linear):
    def embed_perturbed(self, cells, perturbation, *, context):
        return self.embed(cells, context=context)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("planted") / "cells.h5ad"
    planted().write_h5ad(path)
    return path


def task_of(path: Path, **changes: Any) -> EmbeddingTask:
    source = {"name": "toy", "cells": str(path), "kind": "screen", **changes.pop("source", {})}
    task = EmbeddingTask(EmbeddingParams(sources=[source], bootstrap=100, **changes), RunContext(seed=3))
    task.load()
    return task


def scored(path: Path, model: type, **changes: Any) -> tuple[Any, EmbeddingTask]:
    task = task_of(path, **changes)
    return task.score(task.run(lambda configs=None: model())), task


@pytest.fixture(scope="module")
def right(file: Path) -> tuple[Any, EmbeddingTask]:
    return scored(file, Linear)


def test_the_right_perturbation_stands_out_and_the_pool_does_not_matter_between_conditions(right):
    metrics = right[0].metrics
    assert 0.6 < metrics["cosine_shift"] < 0.95, "the pool's effect is part of the truth's change"
    assert metrics["cosine_shift_conditions"] > 0.9
    assert metrics["null_p"] == metrics["null_p_conditions"] == metrics["null_p_indirect"] == 0.05
    assert metrics["cosine_shift_other"] < metrics["cosine_shift"] < metrics["cosine_shift_half"]
    assert abs(metrics["cosine_shift_null"]) < 0.3 and abs(metrics["cosine_shift_conditions_null"]) < 0.3
    assert metrics["cosine_shift_lo"] < metrics["cosine_shift"] < metrics["cosine_shift_hi"]
    assert metrics["mse_relative"] < 0.6 and metrics["cosine_gain"] > 0
    assert right[0].tables["units"]["null_p"].eq(0.05).all()


def test_p_values_of_a_model_that_treats_all_genes_alike_are_even(file):
    task = task_of(file)
    task.params = task.params.model_copy(update={"bootstrap": 10, "half_draws": 1})
    found = []
    for seed in range(12):

        class Chance(Linear):
            def shift(self, gene, seed=seed):
                rng = np.random.default_rng([seed, GENES.index(gene)])
                return (rng.normal(size=len(GENES)) * 2 @ MAP).astype(np.float32)

        found.append(task.score(task.run(lambda configs=None, model=Chance: model())).tables["units"]["null_p"])
    p = np.concatenate(found)
    assert 0.4 < p.mean() < 0.6 and 0.1 < (p <= 0.25).mean() < 0.4 and (p <= 0.05).mean() < 0.15


def test_a_wrong_perturbation_does_not(file, right):
    wrong = scored(file, Swapped)[0]
    single = wrong.tables["units"].query("perturbation in ['A', 'B']")
    assert (single["cosine_shift_other_max"] > single["cosine_shift"] + 0.3).all()
    assert single["cosine_shift_conditions"].max() < -0.4
    assert single["null_p_conditions"].min() > 0.5
    assert wrong.metrics["cosine"] > 0.97, "what the paper's number says of it"
    assert wrong.metrics["cosine_shift_conditions"] < right[0].metrics["cosine_shift_conditions"] - 0.5


def test_doing_nothing_has_no_shift_and_is_never_significant(file):
    scores = scored(file, Nothing)[0]
    for key in PAPER:
        assert scores.metrics[key] == scores.metrics[f"{key}_no_change"]
    assert scores.metrics["cosine_gain"] == 0 and scores.metrics["mse_relative"] == 1
    assert scores.metrics["cosine"] > 0.95
    for key, of in NULLS.items():
        assert scores.metrics[of] == 0 and scores.metrics[key] == 1
    assert scores.metrics["n_undefined"] == 9 * 4
    assert any("36 values are undefined" in line for line in scores.warnings)


def test_every_model_gets_the_same_keys(file, right):
    assert set(right[0].metrics) == set(right[1].metric_keys()) == set(scored(file, Nothing)[0].metrics)


def test_numbers_follow_from_the_cells_by_plain_arithmetic(file, right):
    cells = planted()
    vectors = cells.layers["counts"].toarray() @ MAP.astype(float) + OFFSET
    phase, name = cells.obs["phase"].to_numpy(), cells.obs["perturbation"].to_numpy()
    control, true = (vectors[(phase == "S") & (name == n)].mean(axis=0) for n in ("control", "B"))
    silico = control + Linear().shift("B")
    units = right[0].tables["units"].set_index(["perturbation", "phase"])
    row = units.loc["B", "S"]
    for key in PAPER:
        assert row[key] == pytest.approx(getattr(plain, key)(silico, true), rel=1e-5)
        assert row[f"{key}_no_change"] == pytest.approx(getattr(plain, key)(control, true), rel=1e-5)
    assert row["n_control"] == 60 and row["n_perturbed"] == 40


def test_a_unit_can_be_traced_through_the_table_of_means(right):
    units, means = right[0].tables["units"], right[0].details["means"]

    def mean(phase, name, kind, of):
        mask = (means["phase"] == phase) & (means["perturbation"] == name)
        return means[mask & (means["kind"] == kind) & (means["of"] == of)]["mean"].to_numpy()

    for row in units.itertuples():
        control, true = (mean(row.phase, n, "cells", "matched") for n in ("control", row.perturbation))
        silico = mean(row.phase, row.perturbation, "in_silico", "matched")
        assert row.cosine_shift == pytest.approx(plain.cosine(silico - control, true - control), abs=1e-5)
        pinned = mean(row.phase, row.perturbation, "pinned", "matched") - silico
        assert row.cosine_shift_indirect == pytest.approx(plain.cosine(silico - control, pinned), abs=1e-5)
        others = [n for n in ("A", "B", "A+B") if n != row.perturbation]
        theirs = [plain.cosine(silico - control, mean(row.phase, n, "cells", "matched") - control) for n in others]
        assert row.cosine_shift_other == pytest.approx(np.mean(theirs), abs=1e-5)
        apart = [
            mean(row.phase, row.perturbation, kind, "matched")
            - np.mean([mean(row.phase, n, kind, "matched") for n in others], axis=0)
            for kind in ("in_silico", "cells")
        ]
        assert row.cosine_shift_conditions == pytest.approx(plain.cosine(*apart), abs=1e-4)


def test_p_values_are_shares_of_the_table_of_nulls(right):
    nulls, units = right[0].tables["nulls"], right[0].tables["units"]
    for row in units.itertuples():
        own = nulls[(nulls["perturbation"] == row.perturbation) & (nulls["phase"] == row.phase)]
        real, drawn = own[own["draw"] == -1], own[own["draw"] >= 0]
        assert len(drawn) == 19 and len(real) == 1
        assert not set("+".join(drawn["genes"]).split("+")) & {"A", "B"}
        for p, key in NULLS.items():
            assert getattr(row, p) == pytest.approx((1 + (drawn[key] >= real[key].item()).sum()) / 20)
    joint = nulls.groupby("draw")["cosine_shift"].mean()
    assert right[0].metrics["null_p"] == pytest.approx((1 + (joint[joint.index >= 0] >= joint[-1]).sum()) / 20)


def test_groups_of_a_phase_are_equal_and_the_paper_uses_all_cells(right):
    units = right[0].tables["units"].set_index(["perturbation", "phase"])
    assert units["n_matched"].xs("S", level="phase").tolist() == [24] * 3
    assert units["n_matched"].xs("G2M", level="phase").tolist() == [20] * 3
    assert units.loc["A", "S"]["n_perturbed"] == 24 and units.loc["B", "S"]["n_perturbed"] == 40
    found = right[1].found["toy"]
    for group, rows in found.matched.items():
        assert len(set(rows)) == len(rows) and set(rows) <= set(right[1].data["toy"].groups[group])


def test_the_order_of_cells_and_the_sparse_format_change_nothing(file, right, tmp_path):
    cells = planted()
    cells = cells[np.random.default_rng(1).permutation(cells.n_obs)].copy()
    cells.layers["counts"] = csc_matrix(cells.layers["counts"])
    cells.write_h5ad(tmp_path / "mixed.h5ad")
    mixed = scored(tmp_path / "mixed.h5ad", Linear)[0]
    assert mixed.metrics == right[0].metrics
    assert mixed.tables["units"].equals(right[0].tables["units"])


def test_cells_that_cannot_be_embedded_are_dropped_and_counted(file, tmp_path):
    lost = {f"cell{i:04d}" for i in range(0, 460, 9)}

    class Partial(Linear):
        def embed(self, cells, *, context):
            values = super().embed(cells, context=context)
            values[np.isin(cells.obs_names, list(lost))] = np.nan
            return values

    scores, task = scored(file, Partial)
    cells = planted()
    gone = np.isin(cells.obs_names, list(lost))
    assert scores.metrics["n_dropped"] == gone.sum() > 40
    facts = task.facts()["groups"]["toy"]
    assert facts["G1"]["control"]["dropped"] == (gone & (cells.obs["phase"] == "G1") & (cells.obs["pool"] == "c")).sum()
    cells[~gone].copy().write_h5ad(tmp_path / "fewer.h5ad")
    fewer = scored(tmp_path / "fewer.h5ad", Linear)[0]
    for key in (*PAPER, "cosine_gain", "mse_relative"):
        assert scores.metrics[key] == pytest.approx(fewer.metrics[key], rel=1e-6)
    assert any("could not be embedded" in line for line in scores.warnings)

    class Lost(Linear):
        def embed(self, cells, *, context):
            values = super().embed(cells, context=context)
            values[cells.obs["phase"] == "S"] = np.nan
            return values

    with pytest.raises(PluginError, match="could embed 0 of 60 cells.*") as caught:
        scored(file, Lost)
    assert caught.value.where == "toy/S/control"


def test_a_model_learns_from_control_cells_and_embeds_without_labels(file):
    seen: list[tuple[str, Any]] = []

    class Spy(Linear):
        def fit(self, train, *, context):
            seen.append(("fit", train))
            train.X.data[:] = 0  # a copy: this reaches nothing

        def embed(self, cells, *, context):
            seen.append(("embed", cells))
            return super().embed(cells, context=context)

        def embed_perturbed(self, cells, perturbation, *, context):
            found = super().embed_perturbed(cells, perturbation, context=context)
            seen[-1] = ("predict", perturbation.name)  # in place of the `embed` that it calls
            return found

    task = task_of(file, null_draws=2)
    before = task.data["toy"].counts.copy()
    task.run(lambda configs=None: Spy())
    assert (task.data["toy"].counts != before).nnz == 0
    assert [kind for kind, _ in seen[:6]] == ["fit", "embed", "predict", "predict", "predict", "embed"]
    (_, train), (_, controls), (_, perturbed) = seen[0], seen[1], seen[5]
    assert set(controls.obs_names) == set(train.obs_names), "no perturbed cell is shown before all are predicted"
    cells = planted()
    everything = anndata.concat([controls, perturbed], merge="same")
    assert set(train.obs_names) == set(cells.obs_names[cells.obs["perturbation"] == "control"])
    assert set(train.obs["perturbation"]) == {"control"}
    assert "perturbation" not in everything.obs and everything.n_obs == cells.n_obs
    assert {"gene_id", "symbol"} <= set(everything.var) and {"n_counts", "phase", "pool"} <= set(everything.obs)
    assert everything.X.sum() == cells.layers["counts"].sum()


def test_facts_hold_what_the_model_did_to_control_cells_only(right):
    facts = right[1].facts()
    assert facts["model"]["toy"]["calls"] == ["A", "A+B", "B"]
    assert facts["confounded"] == {"toy": True}
    assert any("cosine_shift_conditions is free of it" in line for line in right[0].warnings)
    assert set(facts["nulls"]["toy"]) == {"A", "B"} and len(facts["nulls"]["toy"]["A"]["drawn"]) == 19
    json.dumps(runner_plain(facts))


def runner_plain(value: Any) -> Any:
    from hyped_bench.records import _plain

    return _plain(value)


def test_genes_a_model_does_not_know_are_replaced_by_others(file):
    class Narrow(Linear):
        def embed_perturbed(self, cells, perturbation, *, context):
            if any(g.startswith("g") and int(g[1:]) % 2 for g in perturbation.genes):
                raise UnknownNameError("not in the dictionary")
            return super().embed_perturbed(cells, perturbation, context=context)

    drawn = scored(file, Narrow)[1].facts()["nulls"]["toy"]
    names = [name for gene in drawn.values() for name in gene["drawn"]]
    assert len(names) == 38 and not any(n.startswith("g") and int(n[1:]) % 2 for n in names)


def test_a_gene_without_matches_has_no_null_and_this_is_said(file, tmp_path):
    cells = planted()
    counts = cells.layers["counts"].tolil()
    counts[:, 0] = 400
    cells.layers["counts"] = csr_matrix(counts)
    cells.write_h5ad(tmp_path / "high.h5ad")
    scores = scored(tmp_path / "high.h5ad", Linear)[0]
    units = scores.tables["units"].set_index("perturbation")
    assert units.loc[["A", "A+B"], "null_p"].isna().all() and units.loc["B", "null_p"].notna().all()
    assert scores.metrics["null_p"] is None and scores.metrics["cosine_shift"] is not None
    assert units["null_p_conditions"].isna().all()
    assert any("A cannot be matched for expression" in line for line in scores.warnings)


def test_matches_are_near_and_draws_never_repeat_a_gene():
    rng = np.random.default_rng(2)
    means = np.geomspace(0.01, 100, 300)
    counts = csr_matrix(rng.poisson(means, (400, 300)))
    genes = {"x": np.array([20]), "y": np.array([250]), "z": np.array([254])}
    found = matched_genes(counts, genes, 30)
    per = counts.multiply(10_000 / counts.sum(axis=1)).mean(axis=0).A1
    for gene, match in found.items():
        own = genes[gene][0]
        assert not {20, 250, 254} & set(match.columns)
        assert np.abs(np.log1p(per[match.columns]) - np.log1p(per[own])).max() <= 0.5
    names = {gene: [f"n{i}" for i in match.columns] for gene, match in found.items()}
    partners = {"x": {"y"}, "y": {"x", "z"}, "z": {"y"}}
    draws, different = draw_genes(names, partners, 12, lambda gene, name: True, np.random.default_rng(0))
    assert all(len(set(draw.values())) == 3 for draw in draws)
    assert different == {gene: 12 for gene in names}
    again, _ = draw_genes(names, partners, 12, lambda gene, name: True, np.random.default_rng(0))
    assert again == draws
    pair = Perturbation.from_name("y+x", "suppression")
    replaced = in_place(pair, draws[0])
    assert replaced.genes == (draws[0]["y"], draws[0]["x"])
    assert {c.direction for c in replaced.changes} == {"suppression"}
    assert in_place(pair, {"x": "n1"}) is None


def test_names_of_genes_read_back_as_their_column():
    symbols = ["X", "X", "Y", "", "e0"]
    var = pd.DataFrame({"symbol": symbols, "gene_id": list("vwxyz")}, index=[f"e{i}" for i in range(5)])
    names = gene_names(var)
    assert [gene_columns(var, name).tolist() for name in names] == [[0], [1], [2], [3], [4]]
    assert names[2] == "Y" and gene_columns(var, "X").tolist() == [0, 1] and gene_columns(var, "x").tolist() == [2]
    assert len(gene_columns(var, "none")) == 0


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, r"shape \(\)"),
        (np.zeros((3, 4), np.float32), r"shape \(3, 4\), expected \(2, d\)"),
        (np.zeros((2, 4), np.int32), "int32"),
        (np.zeros((2, 3), np.float32), "3 dimensions, 4 before"),
        (np.array([[1, np.nan, 1, 1], [1, 1, 1, 1]], np.float32), "1 of 2 rows"),
        (np.array([[np.inf] * 4, [1, 1, 1, 1]], np.float32), "1 of 2 rows"),
    ],
)
def test_bad_embeddings_are_refused(result, message):
    with pytest.raises(PluginError, match=message):
        checked_embedding(result, 2, "toy", 4)


def test_bad_cells(file, tmp_path):
    def broken(change, **source):
        cells = planted()
        cells = change(cells) or cells
        cells.write_h5ad(tmp_path / "bad.h5ad")
        return lambda: task_of(tmp_path / "bad.h5ad", source=source)

    def normalised(cells):
        cells.layers["counts"] = cells.layers["counts"] * 0.37

    def negative(cells):
        cells.layers["counts"] = -cells.layers["counts"]

    for change, message in (
        (normalised, "no counts"),
        (negative, "no counts"),
        (lambda c: c[c.obs["perturbation"] != "control"].copy(), "no control cells"),
        (lambda c: c[:, 2:].copy(), "not among the 80 genes of the cells: A, B"),
        (lambda c: c[::30].copy(), "no phase has 10 control cells"),
    ):
        with pytest.raises(InvalidDataError, match=message):
            broken(change)()
    task = broken(lambda c: c[:, 1:].copy())()
    assert list(task.data["toy"].perturbations) == ["B"] and "2 perturbations are left out" in task.warnings[0]
    scores = task.score(task.run(lambda configs=None: Narrowed()))
    assert scores.metrics["cosine_shift_conditions"] is None and scores.metrics["cosine_shift"] > 0.5


class Narrowed(Linear):
    def embed(self, cells, *, context):
        return np.asarray(cells.X @ MAP[-cells.n_vars :], dtype=np.float32) + OFFSET


def test_cells_without_phases_make_one(tmp_path):
    cells = planted()
    del cells.obs["phase"]
    cells.write_h5ad(tmp_path / "plain.h5ad")
    scores = scored(tmp_path / "plain.h5ad", Linear)[0]
    assert scores.tables["units"]["phase"].tolist() == ["all"] * 3
    assert scores.tables["units"]["n_control"].tolist() == [180] * 3


def test_few_cells_are_left_out_with_a_remark(file):
    scores = scored(file, Linear, source={"min_cells": 30})[0]
    units = scores.tables["units"]
    assert len(units) == 7 and units["n_matched"].min() == 40
    assert "toy/S: fewer than 30 cells, left out: A (24)" in scores.warnings


def test_a_run_leaves_the_same_record_twice(file, tmp_path, bench_host, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "toy_embedders", SimpleNamespace(Linear=Linear))

    class Plugin:
        @hookimpl
        def hyped_models(self):
            yield ModelSpec("toy_linear", "embedding", "toy_embedders:Linear")

    bench_host.register(Plugin(), "toys", "toys", "1.0")
    for folder in ("one", "two"):
        task = task_of(file)
        job = runner.Job("embedding", task, task.params.model_dump(mode="json"), {})
        result = runner.run_model(job, "toy_linear", host=bench_host)
        assert result.status == "ok", result.reason
        assert result.timing["cells_embed"] == planted().n_obs
        write_record(tmp_path / folder, job, result)
    names = sorted(p.name for p in (tmp_path / "one").iterdir())
    assert names == ["means.parquet", "nulls.csv", "record.json", "units.csv"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
