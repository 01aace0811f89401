"""Checks of embedders: a plain good model passes all, and each catches the mistake that it is for."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from hyped_core.checking.behaviour import embedding
from hyped_core.checking.compare import difference
from hyped_core.errors import InvalidDataError, MissingFileError, UsageError

checked = runpy.run_path(str(Path(__file__).with_name("checked_models.py")))
outcome = checked["outcome"]
CHECKS = {check.name: check for check in embedding.CHECKS}


class Good:
    """Eight principal axes of log shares, genes found by name; a changed gene gets the largest count, or none."""

    def __init__(self):
        self.axes = None
        self.facts = {}

    def fit(self, train, *, context):
        x = self.logs(self.counts(train))
        self.genes = list(train.var_names)
        self.center = x.mean(axis=0)
        self.axes = np.linalg.svd(x - self.center, full_matrices=False)[2][:8].T
        self.facts = {"cells": len(x)}

    def embed(self, cells, *, context):
        return self.project(self.known(cells))

    def embed_perturbed(self, cells, perturbation, *, context):
        counts = self.known(cells)
        largest = counts.max(axis=1)
        for change in perturbation.changes:
            at = self.place(cells, change.gene)
            counts[:, at] = largest if change.direction == "activation" else 0.0
        return self.project(counts)

    def place(self, cells, gene):
        if gene not in list(cells.var_names):
            raise InvalidDataError(f"{gene} is not among the genes", where="perturbation")
        return list(cells.var_names).index(gene)

    def known(self, cells):
        if self.axes is None:
            raise UsageError("has learned nothing yet", mend="call fit first")
        if list(cells.var_names) != self.genes:
            raise InvalidDataError("other genes than learned from", where="cells/var_names")
        return self.counts(cells)

    def counts(self, cells):
        counts = np.array(cells.X.toarray() if sp.issparse(cells.X) else cells.X, dtype=float)
        if not np.isfinite(counts).all() or (counts < 0).any() or (counts != np.rint(counts)).any():
            raise InvalidDataError("holds no raw counts", where="cells/X")
        return counts

    def logs(self, counts):
        total = counts.sum(axis=1, keepdims=True)
        return np.log1p(1e4 * np.divide(counts, total, out=np.full_like(counts, np.nan), where=total > 0))

    def project(self, counts):
        return ((self.logs(counts) - self.center) @ self.axes).astype(np.float32)


class Doubles(Good):
    def project(self, counts):
        return super().project(counts).astype(float)


class Flat(Good):
    def project(self, counts):
        return super().project(counts).ravel()


class PartlyNan(Good):
    def project(self, counts):
        found = super().project(counts)
        found[::5, 0] = np.nan
        return found


class Loses(Good):
    def project(self, counts):
        found = super().project(counts)
        found[::5] = np.nan
        return found


class Wider(Good):
    def embed_perturbed(self, cells, perturbation, *, context):
        found = super().embed_perturbed(cells, perturbation, context=context)
        return np.hstack([found, found])


class SortsRows(Good):
    def project(self, counts):
        found = super().project(counts)
        return found[np.argsort(found[:, 0])]


class CentresBatch(Good):
    def project(self, counts):
        found = super().project(counts)
        return found - np.nanmean(found, axis=0)


class ShiftsControl(Good):
    def embed_perturbed(self, cells, perturbation, *, context):
        return super().embed_perturbed(cells, perturbation, context=context) + np.float32(1)


class MovesNothing(Good):
    def embed_perturbed(self, cells, perturbation, *, context):
        return self.embed(cells, context=context)


class FirstGene(Good):
    def embed_perturbed(self, cells, perturbation, *, context):
        first = perturbation.model_copy(update={"changes": perturbation.changes[:1]})
        return super().embed_perturbed(cells, first, context=context)


class PassesOver(Good):
    def embed_perturbed(self, cells, perturbation, *, context):
        there = tuple(change for change in perturbation.changes if change.gene in set(cells.var_names))
        known = perturbation.model_copy(update={"changes": there})
        return super().embed_perturbed(cells, known, context=context)


class Untyped(Good):
    def place(self, cells, gene):
        return list(cells.var_names).index(gene)


class Unnamed(Good):
    def place(self, cells, gene):
        try:
            return list(cells.var_names).index(gene)
        except ValueError as error:
            raise InvalidDataError("unknown gene") from error


class Drifts(Good):
    calls = 0

    def project(self, counts):
        self.calls += 1
        return super().project(counts) + np.float32(self.calls)


class Leaves(Good):
    """What was perturbed last stays."""

    moved = 0.0

    def embed_perturbed(self, cells, perturbation, *, context):
        self.moved += float(len(perturbation.changes) == 2)
        return super().embed_perturbed(cells, perturbation, context=context)

    def embed(self, cells, *, context):
        return super().embed(cells, context=context) + np.float32(self.moved)


class ForgotToSay(Good):
    def known(self, cells):
        return self.counts(cells)


class HeavyFacts(Good):
    def fit(self, train, *, context):
        super().fit(train, context=context)
        self.facts = {"cells": np.int64(3)}


class WholeOnly(Good):
    def counts(self, cells):
        if cells.X.dtype.kind == "f" and cells.X.dtype.itemsize == 8:
            raise InvalidDataError("takes float32 alone")
        return super().counts(cells)


class DenseOtherwise(Good):
    def counts(self, cells):
        return super().counts(cells) + (0 if sp.issparse(cells.X) else np.arange(cells.n_vars) % 7)


class ReadsColumnsAsRows(Good):
    def counts(self, cells):
        if sp.issparse(cells.X) and cells.X.format == "csc":
            return np.resize(cells.X.data, cells.shape).astype(float)
        return super().counts(cells)


class ChangesDense(Good):
    def counts(self, cells):
        found = super().counts(cells)
        if not sp.issparse(cells.X):
            cells.X[:] = 0
        return found


class ByPlace(Good):
    def known(self, cells):
        return self.counts(cells)


class WeightsByPlace(Good):
    def fit(self, train, *, context):
        super().fit(train, context=context)
        self.axes = context.rng("weights").normal(0, 1, self.axes.shape)


class ReadsLabels(Good):
    def embed(self, cells, *, context):
        found = super().embed(cells, context=context)
        if "perturbation" in cells.obs:
            found[(cells.obs["perturbation"] != "control").to_numpy()] += 5
        return found


class EmptyCellSpreads(Good):
    def project(self, counts):
        found = super().project(counts)
        return found if np.isfinite(found).all() else np.full_like(found, np.nan)


class InfinitelyFar(Good):
    def project(self, counts):
        return np.nan_to_num(super().project(counts), nan=np.inf)


class NeedsCells(Good):
    def project(self, counts):
        return np.concatenate([super(NeedsCells, self).project(part[None]) for part in counts])


class NeedsIds(Good):
    def counts(self, cells):
        assert len(cells.var["gene_id"])
        return super().counts(cells)


class TakesLogs(Good):
    def counts(self, cells):
        return np.nan_to_num(np.array(cells.X.toarray() if sp.issparse(cells.X) else cells.X, dtype=float)).clip(0)


class Accumulates(Good):
    def fit(self, train, *, context):
        before = self.axes
        super().fit(train, context=context)
        self.axes = self.axes if before is None else self.axes + before


TOLD = {
    Drifts: {"calls_repeat"},
    Leaves: {"calls_repeat"},
    ForgotToSay: {"embed_before_fit", "embedding_genes_by_name"},
    ByPlace: {"embed_before_fit", "embedding_genes_by_name"},
}
"""The checks that tell of a defect where it is not its own alone: one that is more general, or several that differ."""
BROKEN = [
    ("embedding_form", Doubles, "float64"),
    ("embedding_form", Flat, "of shape (640,), expected (80, d)"),
    ("embedding_form", PartlyNan, "partly NaN"),
    ("embedding_form", Loses, "16 of 80 cells got no vector"),
    ("embedding_form", Wider, "returned 16 dimensions, 8 before"),
    ("embedding_cell_order", SortsRows, "cells in another order give other rows"),
    ("embedding_batches", CentresBatch, "11 cells given alone get other rows"),
    ("control_embeds_as_is", ShiftsControl, "changes no gene moves cells"),
    ("perturbation_moves_cells", MovesNothing, "moves none of 80 cells"),
    ("perturbation_moves_cells", FirstGene, "it is G005+G018, and is embedded otherwise"),
    ("unknown_gene_to_perturb", PassesOver, "passed over without a word"),
    ("unknown_gene_to_perturb", Untyped, "raises ValueError"),
    ("unknown_gene_to_perturb", Unnamed, "refused without naming NOT_ON_THE_PANEL"),
    ("embeddings_in_any_order", Drifts, "asked for before"),
    ("embeddings_in_any_order", Leaves, "asked for before"),
    ("embed_before_fit", ForgotToSay, "embed before fit: raises AttributeError"),
    ("facts_are_plain", HeavyFacts, "cannot be written as JSON"),
    ("count_forms", WholeOnly, "counts as float64: refused"),
    ("count_forms", DenseOtherwise, "dense counts give other rows"),
    ("count_forms", ReadsColumnsAsRows, "counts by columns (CSC) give other rows"),
    ("count_forms", ChangesDense, "dense counts are not as they were"),
    ("embedding_genes_by_name", ByPlace, "one gene's counts are taken for another's"),
    ("embedding_gene_order", WeightsByPlace, "other distances between cells"),
    ("labels_unused", ReadsLabels, "labelled cells get other rows"),
    ("odd_counts", EmptyCellSpreads, "NaN on one side only"),
    ("odd_counts", InfinitelyFar, "partly NaN, or infinite"),
    ("no_cells", NeedsCells, "embed, no cell: raises ValueError"),
    ("names_alone", NeedsIds, "var without gene_id and symbol: raises KeyError"),
    ("no_counts_refused", TakesLogs, "a count of -1 is taken for a count"),
    ("embedding_fit_again", Accumulates, "fitted before on other cells"),
]


@pytest.mark.parametrize("name", CHECKS)
def test_a_good_model_passes(name, tmp_path):
    assert outcome(CHECKS[name], "embedding", Good, tmp_path) == "passed"


@pytest.mark.parametrize(("name", "model", "said"), BROKEN, ids=[f"{n}-{m.__name__}" for n, m, _ in BROKEN])
def test_a_wrong_model_fails(name, model, said, tmp_path):
    assert said in outcome(CHECKS[name], "embedding", model, tmp_path)


@pytest.mark.parametrize(("name", "model", "said"), BROKEN, ids=[f"{n}-{m.__name__}" for n, m, _ in BROKEN])
def test_a_defect_is_told_by_as_few_checks_as_can_be(name, model, said):
    assert set(checked["failing"]("embedding", model)) == TOLD.get(model, {name})


def test_every_check_has_a_wrong_model():
    assert {name for name, _, _ in BROKEN} == set(CHECKS)


def test_a_model_without_its_weights_is_not_checked(tmp_path):
    class NeedsWeights:
        def embed(self, cells, *, context):
            raise MissingFileError("no weights are set", mend="fetch them")

        embed_perturbed = embed

    assert outcome(CHECKS["embedding_form"], "embedding", NeedsWeights, tmp_path) == "skipped"


def test_the_exercise_embeds_equal_inputs_for_equal_seeds():
    inputs = embedding.EXERCISE.inputs(2)
    assert difference(inputs, embedding.EXERCISE.inputs(2)) is None
    outputs = embedding.EXERCISE.work(Good(), inputs, None)
    assert list(outputs) == ["embed", "G005", "G005+G018"]
    assert len(outputs["embed"]) == inputs["cells"].n_obs and "perturbation" not in inputs["cells"].obs
