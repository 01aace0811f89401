"""Checks of what must not matter to an expression model: form and order of its inputs, names, what was asked before."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import anndata
import numpy as np

from hyped_core.checking.behaviour.asking import must_answer
from hyped_core.checking.behaviour.expression_kit import (
    PAIR,
    SEEN,
    SEEN_PAIR,
    fitted,
    predicted,
    prediction_or_refusal,
    same_mean,
    same_prediction,
    screen,
)
from hyped_core.checking.compare import difference
from hyped_core.checking.records import CheckFailed, Subject, asked_by
from hyped_core.checking.tiny.screen import HELD_OUT
from hyped_core.design.model import CONTROL, Perturbation

if TYPE_CHECKING:
    from anndata import AnnData


def sparse_input(subject: Subject) -> None:
    """CSR cells in training and prediction, and CSC cells in prediction, give what dense ones give, and stay."""
    cells = screen()
    perturbation = cells.perturbations[PAIR]
    straight = predicted(subject, fitted(subject), cells.control_cells(), perturbation)
    mend = "make X dense where it is needed: X.toarray() if scipy.sparse.issparse(X) else X (.data, .nnz and .indices "
    mend += "leave the zeros out, and mean another thing in CSC than in CSR)"
    train = cells.training_cells(sparse=True)
    with asked_by("inputs_unmodified"):  # a change in place fails of sparse cells, too
        model = fitted(subject, train, mend=mend)
    _kept(train, cells.training_cells(sparse=True), "fit, train")
    for form in ("csr", "csc"):
        control = cells.control_cells(sparse=True)
        control.X = control.X.asformat(form)
        before = control.copy()
        about = f"from sparse cells ({form.upper()})"
        with asked_by("inputs_unmodified"):
            found = predicted(subject, model, control, perturbation, about=about, mend=mend)
        _kept(control, before, f"predict {PAIR}, control")
        same_prediction(
            subject, found, straight, f"predict {PAIR}, {about}",
            "sparse cells give another prediction than dense ones", mend,
        )  # fmt: skip


@asked_by("inputs_unmodified")
def _kept(ours: AnnData, before: AnnData, where: str) -> None:
    if changed := difference(before, ours):
        raise CheckFailed(
            f"sparse cells are not as they were: {changed}",
            where=where,
            mend="make a copy of X before the first change: X.data belongs to the caller too",
        )


def gene_order(subject: Subject) -> None:
    """Genes in another order give the same prediction, in that order."""
    cells = screen()
    order = np.random.default_rng(0).permutation(cells.cells.n_vars)
    train, control = (one[:, order].copy() for one in (cells.training_cells(), cells.control_cells()))
    mend = "find genes by var_names in fit and in predict, and draw weights of a gene by its name, not by its place; "
    mend += "where that cannot be, say so in ModelSpec.expected_failures"
    straight = predicted(subject, fitted(subject), cells.control_cells(), cells.perturbations[PAIR])
    turned = predicted(subject, fitted(subject, train, mend=mend), control, cells.perturbations[PAIR], mend=mend)
    same_mean(
        turned[:, np.argsort(order)].copy(), straight, f"predict {PAIR}",
        "genes in another order give another prediction",
        mend,
    )  # fmt: skip


def genes_by_name(subject: Subject) -> None:
    """Control cells with the training cells' genes in another order, dense and sparse: gene by gene, or refused."""
    cells = screen()
    perturbation = cells.perturbations[PAIR]
    model = fitted(subject)
    straight = predicted(subject, model, cells.control_cells(), perturbation)
    order = np.random.default_rng(0).permutation(straight.n_vars)
    for sparse in (False, True):
        control = cells.control_cells(sparse=sparse)[:, order].copy()
        about = "genes in another order than in training" + (", sparse cells" if sparse else "")
        with asked_by("sparse_input") if sparse else nullcontext():
            found, refusal = prediction_or_refusal(subject, model, control, perturbation, about=about)
            if refusal is None and found is not None:
                same_mean(
                    found[:, np.argsort(order)].copy(), straight, f"predict {PAIR}, {about}",
                    "what was learned of one gene is applied to another",
                    "keep train.var_names in fit; in predict put control's genes in that order and the result back, "
                    "or raise InvalidDataError where they differ",
                )  # fmt: skip


def order_of_changes(subject: Subject) -> None:
    """``A+B`` is ``B+A``."""
    cells = screen()
    model = fitted(subject)
    for name in (SEEN_PAIR, PAIR):
        one = cells.perturbations[name]
        other = Perturbation(name="+".join(reversed(one.genes)), changes=one.changes[::-1])
        ours = predicted(subject, model, cells.control_cells(), one)
        theirs = predicted(subject, model, cells.control_cells(), other)
        same_prediction(
            subject, theirs, ours, f"predict {other.name}", f"it is {name}, and is predicted otherwise",
            "go by the set of perturbation.changes (sorted by gene), not by perturbation.name or the order of the "
            "genes",
        )  # fmt: skip


def cell_names(subject: Subject) -> None:
    """Cells under other names give the same prediction."""
    cells = screen()
    straight = predicted(subject, fitted(subject), cells.control_cells(), cells.perturbations[PAIR])
    train, control = cells.training_cells(), cells.control_cells()
    for one in (train, control):
        one.obs_names = [f"barcode-{i}" for i in range(one.n_obs, 0, -1)]
    renamed = predicted(subject, fitted(subject, train), control, cells.perturbations[PAIR])
    same_prediction(
        subject, renamed, straight, f"predict {PAIR}", "cells under other names give another prediction",
        "read X, var_names, obs.perturbation and the covariates, nothing from obs_names: barcodes tell plates and "
        "files apart",
    )  # fmt: skip


def control_batches(subject: Subject) -> None:
    """Control cells given in two parts give the prediction that they give together, on the mean."""
    cells = screen()
    control, perturbation = cells.control_cells(), cells.perturbations[PAIR]
    model = fitted(subject)
    whole = predicted(subject, model, control, perturbation)
    half = control.n_obs // 2
    with asked_by("any_number_of_control_cells"):
        parts = [
            predicted(subject, model, part.copy(), perturbation, about="from half of the control cells")
            for part in (control[:half], control[half:])
        ]
    if parts[0].n_obs != parts[1].n_obs:  # halves count alike, however many cells come of them
        fewest = min(part.n_obs for part in parts)
        parts = [part[:fewest].copy() for part in parts]
    same_mean(
        anndata.concat(parts, index_unique="-"), whole, f"predict {PAIR}",
        "control cells given in two parts give another prediction than given together",
        "move each cell by what fit learned: take no mean, deviation or size of the control cells that are given to "
        "predict",
    )  # fmt: skip


def predictions_in_any_order(subject: Subject) -> None:
    """A prediction is the same after another was asked for, from other cells."""
    cells = screen()
    control, perturbation = cells.control_cells(), cells.perturbations[PAIR]
    model = fitted(subject)
    first = predicted(subject, model, control, perturbation)
    predicted(subject, model, screen(1).control_cells(), cells.perturbations[SEEN])
    later = predicted(subject, model, control, perturbation, about="after another")
    same_prediction(
        subject, later, first, f"predict {PAIR}", "it depends on what was asked for before",
        "let predict set nothing on self and change nothing that fit learned; draw from context.rng, not from a "
        "generator that is kept",
    )  # fmt: skip


def fit_again(subject: Subject) -> None:
    """A model fitted a second time is the model that the second cells make, not a mixture."""
    cells, others = screen(), screen(1)
    fresh = fitted(subject)
    used = fitted(subject, others.training_cells())
    must_answer(lambda: used.fit(cells.training_cells(), context=subject.context()), "fit, a second time")
    ours, theirs = (
        predicted(subject, model, cells.control_cells(), cells.perturbations[PAIR]) for model in (used, fresh)
    )
    same_prediction(
        subject, ours, theirs, f"predict {PAIR}", "fitted before on other cells, it predicts otherwise",
        "let fit begin by setting to its start all that it learns: weights, means, lists of genes and perturbations",
    )  # fmt: skip


def no_leak_of_test_cells(subject: Subject) -> None:
    """What another instance learned of the held-out cells, as in another fold, must not reach this one."""
    cells = screen()
    control, perturbation = cells.control_cells(), cells.perturbations[PAIR]
    before = fitted(subject)
    first = predicted(subject, before, control, perturbation)
    knowing = fitted(subject, _everything(cells.given((CONTROL, *cells.train, *HELD_OUT))))
    predicted(subject, knowing, control, perturbation, about="by a model that learned it")
    after = fitted(subject, cells.training_cells())
    mend = "set what fit learns on self: in no attribute of the class, variable of the module, functools.cache or "
    mend += "file that another instance reads"
    for model, what in ((after, "a model made and fitted"), (before, "a model fitted before, asked")):
        found = predicted(subject, model, control, perturbation)
        same_prediction(
            subject, found, first, f"predict {PAIR}",
            f"{what} after another instance learned from the held-out cells predicts otherwise", mend,
        )  # fmt: skip


def _everything(cells: AnnData) -> AnnData:
    """Cells in which the held-out perturbations do what they never do: what leaks of them shows."""
    held = cells.obs["perturbation"].isin(HELD_OUT).to_numpy()
    cells.X[held] = cells.X[held][:, ::-1]
    return cells


CHECKS = (
    (
        "sparse_input",
        "Screens are stored sparse; a model that takes dense matrices alone, or reads sparse ones wrongly, fails on "
        "real data.",
        sparse_input,
    ),
    (
        "gene_order",
        "Files order genes differently; a model that goes by position predicts the right numbers for the wrong genes.",
        gene_order,
    ),
    (
        "genes_by_name",
        "Cells of another file have other genes at the same places; a model that does not look predicts nonsense "
        "silently.",
        genes_by_name,
    ),
    (
        "order_of_changes",
        "A combination has no order; a model that sees one in it contradicts itself between two files.",
        order_of_changes,
    ),
    (
        "cell_names",
        "Names of cells tell samples and plates apart, so a model that reads them learns the experiment's layout.",
        cell_names,
    ),
    (
        "control_batches",
        "Large data are predicted in parts, and results must not depend on where they were cut.",
        control_batches,
    ),
    (
        "fit_again",
        "Cross-validation fits one model many times; what stays from an earlier fit is knowledge of its test cells.",
        fit_again,
    ),
    (
        "no_leak_of_test_cells",
        "The test cells of one fold are training cells of another; what is shared between instances makes scores that "
        "nobody can reach on new data.",
        no_leak_of_test_cells,
    ),
)
"""(name, why, run)."""
