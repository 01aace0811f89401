"""Checks of expression models: a plain good model passes all, and each catches the mistake that it is for."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import ClassVar

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from hyped_core.checking.behaviour import expression
from hyped_core.checking.behaviour.asking import ask, must_answer, must_refuse
from hyped_core.checking.behaviour.expression_kit import check_form, fitted, screen
from hyped_core.checking.compare import difference
from hyped_core.checking.records import CheckFailed, Subject
from hyped_core.checking.run import Maker, check_model
from hyped_core.errors import InvalidDataError, UsageError
from hyped_core.remote.process import RemoteError
from hyped_core.spec import ModelSpec

checked = runpy.run_path(str(Path(__file__).with_name("checked_models.py")))
outcome = checked["outcome"]
CHECKS = {check.name: check for check in expression.CHECKS}
OFFERED = ("uncertainty_layers", "facts_are_plain")
"""Checks of what a model may have."""


def dense(matrix):
    return np.asarray(matrix.toarray() if sp.issparse(matrix) else matrix, dtype=np.float64)


class Good:
    """Sums what single genes do; of unseen genes the mean. Written as a first-time author would, with care."""

    def __init__(self):
        self.shifts = None

    def fit(self, train, validation=None, *, context):
        if not np.isfinite(dense(train.X)).all():
            raise InvalidDataError("holds NaN", where="train.X")
        labels = train.obs["perturbation"].to_numpy()
        means = {name: dense(train[labels == name].X).mean(axis=0) for name in sorted(set(labels))}
        control = means.pop("control")
        self.genes = list(train.var_names)
        self.shifts = {name: mean - control for name, mean in means.items()}

    def predict(self, control, perturbation, *, context):
        if self.shifts is None:
            raise UsageError("has learned nothing yet", mend="call fit first")
        if list(control.var_names) != self.genes:
            raise InvalidDataError("has other genes than the training cells", where="control")
        return self.cells(control, dense(control.X) + self.shift(perturbation))

    def shift(self, perturbation):
        usual = np.mean(list(self.shifts.values()), axis=0)
        return np.sum([self.shifts.get(gene, usual) for gene in perturbation.genes], axis=0, initial=0.0)

    def cells(self, control, values):
        return anndata.AnnData(values.astype(np.float32), obs=control.obs[[]].copy(), var=control.var[[]].copy())


class ReturnsDoubles(Good):
    def cells(self, control, values):
        return anndata.AnnData(values, obs=control.obs[[]].copy(), var=control.var[[]].copy())


class ReturnsArray(Good):
    def cells(self, control, values):
        return values.astype(np.float32)


class ReversesGenes(Good):
    def cells(self, control, values):
        return super().cells(control, values)[:, ::-1].copy()


class LosesNames(Good):
    def cells(self, control, values):
        return anndata.AnnData(values.astype(np.float32))


class DividesByZero(Good):
    def cells(self, control, values):
        with np.errstate(all="ignore"):
            return super().cells(control, values / np.where(values > 6, 0, 1))


class ReturnsNothing(Good):
    def cells(self, control, values):
        return super().cells(control, values)[:0].copy()


class ReturnsCounts(Good):
    def cells(self, control, values):
        return super().cells(control, np.rint(np.expm1(np.clip(values, 0, 5))))


class ReturnsScaled(Good):
    def cells(self, control, values):
        return super().cells(control, (values - values.mean(axis=0)) / 0.05)


class ReturnsLog2(Good):
    def cells(self, control, values):
        return super().cells(control, values / np.log(2))


class KnowsItsBatch(Good):
    def fit(self, train, validation=None, *, context):
        super().fit(train, validation, context=context)
        self.batch = int((train.obs["perturbation"] == "control").sum())

    def cells(self, control, values):
        return super().cells(control, values.reshape(self.batch, -1))


class NeedsValidation(Good):
    def fit(self, train, validation=None, *, context):
        assert validation.n_obs
        super().fit(train, validation, context=context)


class NeverValidates(Good):
    def fit(self, train, validation=None, *, context):
        if validation is not None:
            raise InvalidDataError("takes no validation cells")
        super().fit(train, validation, context=context)


class MovesControl(Good):
    def shift(self, perturbation):
        usual = np.mean(list(self.shifts.values()), axis=0)
        return super().shift(perturbation) if perturbation.genes else usual


class KnowsOnlySeen(Good):
    def shift(self, perturbation):
        return np.sum([self.shifts[gene] for gene in perturbation.genes], axis=0, initial=0.0)


class RefusesWithoutName(KnowsOnlySeen):
    def shift(self, perturbation):
        try:
            return super().shift(perturbation)
        except KeyError as error:
            raise InvalidDataError("cannot predict this") from error


class NanForUnseen(Good):
    def shift(self, perturbation):
        known = any(gene in self.shifts for gene in perturbation.genes)
        return super().shift(perturbation) * (1.0 if known else np.nan)


class ForgotToSay(Good):
    def predict(self, control, perturbation, *, context):
        return self.cells(control, dense(control.X) + self.shift(perturbation))


class NegativeVariance(Good):
    def cells(self, control, values):
        made = super().cells(control, values)
        made.layers["variance"] = -np.ones_like(made.X)
        return made


class GoodVariance(Good):
    def cells(self, control, values):
        made = super().cells(control, values)
        made.layers["variance"], made.layers["log_variance"] = np.ones_like(made.X), -np.ones_like(made.X)
        return made


class DenseOnly(Good):
    def predict(self, control, perturbation, *, context):
        return super().predict(control, perturbation, context=context) if np.isfinite(control.X).all() else None


class ReadsStoredOnly(Good):
    """Means over the stored values of a sparse matrix: of those that are not 0."""

    def fit(self, train, validation=None, *, context):
        super().fit(train, validation, context=context)
        if sp.issparse(train.X):
            labels = train.obs["perturbation"].to_numpy()
            for name in self.shifts:
                part = train[labels == name].X
                self.shifts[name] = self.shifts[name] + 0.5 * (part.nnz / np.prod(part.shape))


class ByPlaceWhereSparse(Good):
    """Finds genes by name in dense cells, and by place in sparse ones."""

    def predict(self, control, perturbation, *, context):
        if not sp.issparse(control.X):
            return super().predict(control, perturbation, context=context)
        return self.cells(control, dense(control.X) + self.shift(perturbation))


class ChangesSparseTraining(Good):
    def fit(self, train, validation=None, *, context):
        super().fit(train, validation, context=context)
        if sp.issparse(train.X):
            train.X.data[:] = np.expm1(train.X.data)


class EmptiesSparseControl(Good):
    def predict(self, control, perturbation, *, context):
        made = super().predict(control, perturbation, context=context)
        if sp.issparse(control.X):
            control.X.data[:] = 0
        return made


class ReadsColumnsAsRows(Good):
    def predict(self, control, perturbation, *, context):
        if sp.issparse(control.X):
            x = control.X
            control = anndata.AnnData(x.toarray(), obs=control.obs, var=control.var)
            if x.format == "csc":
                control.X = np.resize(x.data, x.shape)
        return super().predict(control, perturbation, context=context)


class WeightsByPlace(Good):
    def fit(self, train, validation=None, *, context):
        super().fit(train, validation, context=context)
        weights = context.rng("weights").normal(0, 1, train.n_vars)
        self.shifts = {name: value * weights for name, value in self.shifts.items()}


class GoesByPlace(Good):
    def predict(self, control, perturbation, *, context):
        self.genes = list(control.var_names)
        return super().predict(control, perturbation, context=context)


class FirstGeneOnly(Good):
    def shift(self, perturbation):
        return self.shifts.get(perturbation.genes[0], 0.0) if perturbation.genes else 0.0


class NamesKnown(Good):
    def shift(self, perturbation):
        return self.shifts[perturbation.name] if perturbation.name in self.shifts else super().shift(perturbation)


class ReadsNames(Good):
    def fit(self, train, validation=None, *, context):
        super().fit(train, validation, context=context)
        plate = np.array([len(name) for name in train.obs_names], dtype=float).mean()
        self.shifts = {name: value * plate for name, value in self.shifts.items()}


class CentresBatch(Good):
    """Takes the mean of the cells given for the mean of all, and so the size of the batch."""

    def cells(self, control, values):
        return super().cells(control, values + 40.0 / len(values))


class Drifts(Good):
    calls = 0

    def shift(self, perturbation):
        self.calls += 1
        return super().shift(perturbation) * (1 + 0.1 * self.calls)


class Remembers(Good):
    last = 0.0

    def shift(self, perturbation):
        self.last, before = super().shift(perturbation), self.last
        return self.last + 0.1 * before * (perturbation.name != "G005+G044" or not np.array_equal(before, self.last))


class Accumulates(Good):
    def fit(self, train, validation=None, *, context):
        before = self.shifts or {}
        super().fit(train, validation, context=context)
        self.shifts = {name: value + before.get(name, 0.0) for name, value in self.shifts.items()}


class SharesWhatItLearned(Good):
    learned: ClassVar[dict] = {}

    def fit(self, train, validation=None, *, context):
        super().fit(train, validation, context=context)
        self.learned.update(self.shifts)

    def shift(self, perturbation):
        return self.learned[perturbation.name] if perturbation.name in self.learned else super().shift(perturbation)


class Standardises(Good):
    def fit(self, train, validation=None, *, context):
        super().fit(train, validation, context=context)
        self.scale = dense(train.X).std(axis=0)

    def cells(self, control, values):
        with np.errstate(all="ignore"):
            return super().cells(control, values / self.scale * self.scale)


class OneHotPools(Good):
    def fit(self, train, validation=None, *, context):
        super().fit(train, validation, context=context)
        self.pools = {"P1": 0, "P2": 1}

    def predict(self, control, perturbation, *, context):
        assert all(self.pools[pool] >= 0 for pool in control.obs["pool"])
        return super().predict(control, perturbation, context=context)


class NeedsManyPerturbations(Good):
    def fit(self, train, validation=None, *, context):
        super().fit(train, validation, context=context)
        np.linalg.inv(np.cov(np.array(list(self.shifts.values()))[:5, :5]))
        if len(self.shifts) < 5:
            raise ValueError("not enough values to unpack")


class FiftyComponents(Good):
    def fit(self, train, validation=None, *, context):
        super().fit(train, validation, context=context)
        np.zeros(train.n_vars)[49]


class HeavyFacts(Good):
    def fit(self, train, validation=None, *, context):
        super().fit(train, validation, context=context)
        self.facts = {"cells": np.int64(train.n_obs)}


class EndlessFacts(Good):
    facts = {"loss": float("nan")}


class DrawsCells(Good):
    def predict(self, control, perturbation, *, context):
        return super().predict(control[context.rng().choice(control.n_obs, 1)], perturbation, context=context)


class Recentres(Good):
    def predict(self, control, perturbation, *, context):
        moved = control.copy()
        moved.X = dense(control.X) - dense(control.X).mean(axis=1, keepdims=True)
        made = super().predict(moved, perturbation, context=context)
        made.X = made.X + dense(control.X).mean(axis=1, keepdims=True).astype(np.float32)
        return made


TOLD = {
    NeverValidates: {"runs"},
    NanForUnseen: {"control_in_control_out", "unseen_perturbation"},
    ForgotToSay: {"genes_by_name", "predict_before_fit"},
    DenseOnly: {"nan_in_cells", "sparse_input"},
    ReadsNames: {"cell_names", "prediction_scale"},
    CentresBatch: {"control_batches", "control_in_control_out", "empty_control"},
    Drifts: {"calls_repeat"},
    SharesWhatItLearned: {"few_genes", "instances_apart"},
    OneHotPools: {"predict_before_fit", "unknown_covariates"},
    NeedsManyPerturbations: {"few_perturbations", "gene_order"},
    DrawsCells: {"control_batches", "control_in_control_out", "empty_control"},
}
"""The checks that tell of a defect where it is not its own alone: one that is more general, or several that differ."""
BROKEN = [
    ("prediction_form", ReturnsDoubles, "float64"),
    ("prediction_form", ReturnsArray, "ndarray"),
    ("prediction_form", ReversesGenes, "in another order"),
    ("prediction_form", LosesNames, "other genes"),
    ("prediction_form", DividesByZero, "NaN or infinite"),
    ("prediction_form", ReturnsNothing, "no cells"),
    ("prediction_scale", ReturnsCounts, "values from 0 to"),
    ("prediction_scale", ReturnsScaled, "values from -"),
    ("prediction_scale", ReturnsLog2, "times the counts of control"),
    ("any_number_of_control_cells", KnowsItsBatch, "from 1 control cells: raises ValueError"),
    ("validation_optional", NeedsValidation, "fit without validation cells: raises AttributeError"),
    ("validation_optional", NeverValidates, "fit with validation cells: refused"),
    ("control_in_control_out", MovesControl, "moves the mean by"),
    ("unseen_perturbation", KnowsOnlySeen, "predict G109: raises KeyError"),
    ("unseen_perturbation", RefusesWithoutName, "refused without naming G109"),
    ("unseen_perturbation", NanForUnseen, "NaN or infinite"),
    ("predict_before_fit", ForgotToSay, "predict before fit: raises AttributeError"),
    ("uncertainty_layers", NegativeVariance, "layers['variance']"),
    ("facts_are_plain", HeavyFacts, "facts: cannot be written as JSON: Object of type int64"),
    ("facts_are_plain", EndlessFacts, "facts: cannot be written as JSON"),
    ("sparse_input", DenseOnly, "from sparse cells (CSR): raises TypeError"),
    ("sparse_input", ReadsStoredOnly, "sparse cells give another prediction"),
    ("sparse_input", ChangesSparseTraining, "fit, train: sparse cells are not as they were"),
    ("sparse_input", EmptiesSparseControl, "control: sparse cells are not as they were"),
    ("sparse_input", ReadsColumnsAsRows, "(CSC): sparse cells give another prediction"),
    ("gene_order", WeightsByPlace, "genes in another order give another prediction"),
    ("genes_by_name", GoesByPlace, "what was learned of one gene is applied to another"),
    ("genes_by_name", ByPlaceWhereSparse, "sparse cells: what was learned of one gene is applied to another"),
    ("order_of_changes", FirstGeneOnly, "it is G005+G018, and is predicted otherwise"),
    ("order_of_changes", NamesKnown, "it is G005+G018, and is predicted otherwise"),
    ("cell_names", ReadsNames, "cells under other names"),
    ("control_batches", CentresBatch, "given in two parts"),
    ("predictions_in_any_order", Drifts, "asked for before"),
    ("predictions_in_any_order", Remembers, "asked for before"),
    ("fit_again", Accumulates, "fitted before on other cells"),
    ("no_leak_of_test_cells", SharesWhatItLearned, "learned from the held-out cells"),
    ("odd_cells", Standardises, "NaN or infinite"),
    ("unknown_covariates", OneHotPools, "phase and pool unknown: raises KeyError"),
    ("few_perturbations", NeedsManyPerturbations, "one training perturbation: raises"),
    ("few_genes", FiftyComponents, "10 genes: raises IndexError"),
    ("empty_control", DrawsCells, "raises ValueError"),
    ("nan_in_cells", Recentres, "of other genes NaN"),
]


@pytest.mark.parametrize("name", CHECKS)
def test_a_good_model_passes(name, tmp_path):
    expected = "skipped" if name in OFFERED else "passed"
    assert outcome(CHECKS[name], "expression", Good, tmp_path) == expected


@pytest.mark.parametrize(("name", "model", "said"), BROKEN, ids=[f"{n}-{m.__name__}" for n, m, _ in BROKEN])
def test_a_wrong_model_fails(name, model, said, tmp_path):
    assert said in outcome(CHECKS[name], "expression", model, tmp_path)


class DrawsManyCells(Good):
    """As many cells as it likes, drawn from those given, with noise; the same for a seed."""

    def cells(self, control, values):
        rows = self.rng.choice(len(values), 250 if len(values) else 0)
        made = anndata.AnnData((values[rows] + self.rng.normal(0, 0.1, values[rows].shape)).astype(np.float32))
        made.var_names = control.var_names
        return made

    def predict(self, control, perturbation, *, context):
        self.rng = self.generator(context)
        return super().predict(control, perturbation, context=context)

    def generator(self, context):
        return context.rng("cells")


class NeverTheSame(DrawsManyCells):
    def generator(self, context):
        return np.random.default_rng()


@pytest.mark.parametrize("name", CHECKS)
def test_a_model_that_draws_its_cells_passes(name, tmp_path):
    expected = ("skipped",) if name in OFFERED else ("passed",)
    assert outcome(CHECKS[name], "expression", DrawsManyCells, tmp_path) in expected
    assert outcome(CHECKS[name], "expression", NeverTheSame, tmp_path, deterministic=False) in expected


def test_a_model_that_is_not_deterministic_has_to_say_so(tmp_path):
    said = outcome(CHECKS["predictions_in_any_order"], "expression", NeverTheSame, tmp_path)
    assert "depends on what was asked for before" in said


@pytest.mark.parametrize(("name", "model", "said"), BROKEN, ids=[f"{n}-{m.__name__}" for n, m, _ in BROKEN])
def test_a_defect_is_told_by_as_few_checks_as_can_be(name, model, said):
    assert set(checked["failing"]("expression", model)) == TOLD.get(model, {name})


def test_a_change_in_place_that_sparse_cells_do_not_take_is_told_once():
    class CentresInPlace(Good):
        def fit(self, train, validation=None, *, context):
            train.X -= 0.5
            super().fit(train, validation, context=context)

    spec = ModelSpec(name="good", task="expression", target="a:B")
    asked = ["runs", "inputs_unmodified", "sparse_input"]
    records = check_model(spec, lambda values=None: CentresInPlace(), only=asked)
    assert [(r.check, r.status) for r in records[1:]] == [("inputs_unmodified", "failed"), ("sparse_input", "skipped")]


def test_the_first_gene_out_of_order_is_named():
    genes = list(screen().control_cells().var_names)
    for given, said in (
        ([genes[0], *genes[2:], genes[1]], f"another order than control has: column 1 is {genes[2]}, in control "),
        (genes[:-1], f"other genes than control has: {len(genes) - 1} in place of {len(genes)}"),
    ):
        control = screen().control_cells()
        with pytest.raises(CheckFailed) as failed:
            check_form(control[:, given], control, "predict")
        assert said in failed.value.message


def test_every_check_has_a_wrong_model():
    assert {name for name, _, _ in BROKEN} == set(CHECKS)


def test_a_variance_and_its_logarithm_are_told_apart(tmp_path):
    assert outcome(CHECKS["uncertainty_layers"], "expression", GoodVariance, tmp_path) == "passed"


def raising(error):
    def call():
        raise error

    return call


def test_a_refusal_is_told_from_a_crash():
    refusal = InvalidDataError("holds NaN")
    assert ask(raising(refusal), "fit") == (None, refusal)
    assert must_refuse(raising(refusal), "fit", "though it is no cell") is refusal
    elsewhere = RemoteError("KeyError: 'G109'", frames=[])  # of a model in a process of its own
    for error in (KeyError("G109"), elsewhere):
        with pytest.raises(CheckFailed, match="raises KeyError: 'G109'") as failed:
            ask(raising(error), "fit")
        assert failed.value.where == "fit" and "InvalidDataError" in failed.value.mend
    with pytest.raises(CheckFailed, match="refused what models of the task are asked for: holds NaN"):
        must_answer(raising(refusal), "fit")
    with pytest.raises(CheckFailed, match=r"answered with ndarray of shape \(2,\), though it is no cell"):
        must_refuse(lambda: np.zeros(2), "fit", "though it is no cell")
    with pytest.raises(MemoryError):
        ask(raising(MemoryError()), "fit")


def test_the_exercise_predicts_from_equal_inputs_for_equal_seeds(tmp_path):
    inputs = expression.EXERCISE.inputs(3)
    assert difference(inputs, expression.EXERCISE.inputs(3)) is None
    assert difference(inputs, expression.EXERCISE.inputs(4)) is not None
    subject = Subject("expression", "good", ModelSpec(name="good", task="expression", target="a:B"), Good, tmp_path)
    outputs = expression.EXERCISE.work(Good(), inputs, subject.context())
    assert list(outputs) == ["G005", "G005+G044"]


def test_a_model_fitted_once_is_copied_for_each_check(tmp_path):
    fits = []

    class Counting(Good):
        def fit(self, train, validation=None, *, context):
            fits.append(context.scratch)
            super().fit(train, validation, context=context)

    spec = ModelSpec(name="good", task="expression", target="a:B")
    maker = Maker(lambda values=None: Counting())
    models = [fitted(Subject("expression", "good", spec, maker, tmp_path)) for _ in range(3)]
    models[1].shifts.clear()
    assert len(fits) == 1 and models[0].shifts and models[2].shifts
    assert fits[0].is_dir()  # what the model put there is still there
    fitted(Subject("expression", "good", spec, maker, tmp_path), screen().training_cells())
    assert len(fits) == 2


def test_a_model_that_cannot_be_copied_is_fitted_anew(tmp_path):
    fits = []

    class Locked(Good):
        def __deepcopy__(self, memo):
            raise TypeError("cannot pickle")

        def fit(self, train, validation=None, *, context):
            fits.append(1)
            super().fit(train, validation, context=context)

    spec = ModelSpec(name="good", task="expression", target="a:B")
    maker = Maker(lambda values=None: Locked())
    first, second = (fitted(Subject("expression", "good", spec, maker, tmp_path)) for _ in range(2))
    assert first is not second and len(fits) == 2
