"""Checks of expression models on odd cells: constant and empty genes, single cells, few genes, none at all, NaN."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hyped_core.checking.behaviour.asking import ask
from hyped_core.checking.behaviour.expression_kit import (
    PAIR,
    SEEN,
    check_form,
    fitted,
    predicted,
    prediction_or_refusal,
    screen,
)
from hyped_core.checking.compare import dense
from hyped_core.checking.records import CheckFailed, Subject, asked_by
from hyped_core.checking.tiny.screen import DOUBLES, SINGLES
from hyped_core.design.model import CONTROL

if TYPE_CHECKING:
    from anndata import AnnData

NAN = "raise hyped_core.errors.InvalidDataError where not numpy.isfinite(X).all(), in fit and in predict"


def odd_cells(subject: Subject) -> None:
    """A gene without counts, a constant one, a cell without counts, a perturbation with one cell: finite predictions.

    Normalised cells keep their genes whether or not any cell has them, so that all four are usual.
    """
    cells = screen()
    train, control = cells.training_cells(), cells.control_cells()
    names = train.obs["perturbation"].to_numpy()
    train = train[np.sort(np.r_[np.flatnonzero(names != SEEN), np.flatnonzero(names == SEEN)[:1]])].copy()
    for one in (train, control):
        one.X[0] = 0.0
        one.X[:, 1] = 0.0
        one.X[:, 2] = 1.5
    model = fitted(subject, train)
    for name in (SEEN, PAIR):
        predicted(
            subject, model, control, cells.perturbations[name], about="constant genes, a cell without counts",
            mend="divide by a gene's or cell's deviation or sum only where it is above 0, and take one cell's "
            "variance as 0",
        )  # fmt: skip


def unknown_covariates(subject: Subject) -> None:
    """``phase`` and ``pool`` are empty text where nothing is known of them, and new values may come with control."""
    cells = screen()
    train, control = cells.training_cells(), cells.control_cells()
    for one in (train, control):
        one.obs["phase"] = ""
        one.obs["pool"] = ""
    about = "phase and pool unknown"
    mend = "take '' and values of obs.phase and obs.pool that fit did not see as unknown, not as keys that are there"
    predicted(subject, fitted(subject, train, mend=mend), control, cells.perturbations[PAIR], about=about, mend=mend)
    control.obs["pool"] = "P9"
    model = fitted(subject)
    about = "from a pool that training cells do not have"
    predicted(subject, model, control, cells.perturbations[PAIR], about=about, mend=mend)


def few_perturbations(subject: Subject) -> None:
    """One training perturbation; and control cells alone, relabelled as every condition: predicted or refused."""
    cells = screen()
    control = cells.control_cells()
    one = cells.given((CONTROL, SEEN))
    _fit_and_predict(subject, one, control, "one training perturbation")
    relabelled = cells.given((CONTROL,))
    half = relabelled.obs_names[: relabelled.n_obs // 2]
    relabelled.obs.loc[half, "perturbation"] = PAIR
    relabelled.uns["perturbations"][PAIR] = cells.perturbations[PAIR].model_dump(mode="json")
    _fit_and_predict(subject, relabelled, control, "control cells alone, half of them relabelled")


def few_genes(subject: Subject) -> None:
    """Ten genes and two genes, a few cells of each perturbation: predicted or refused."""
    cells = screen()
    for genes in ([*SINGLES, "G109", "G110"], [SINGLES[0], "G110"]):
        train, control = cells.training_cells()[:, genes].copy(), cells.control_cells()[:, genes].copy()
        names = train.obs["perturbation"].to_numpy()
        rows = [np.flatnonzero(names == name)[:5] for name in (CONTROL, *SINGLES, *DOUBLES)]
        _fit_and_predict(subject, train[np.sort(np.concatenate(rows))].copy(), control, f"{len(genes)} genes")


def empty_control(subject: Subject) -> None:
    """No control cell to start from: no cell predicted, or refused."""
    cells = screen()
    control = cells.control_cells()[:0].copy()
    model = fitted(subject)
    where = f"predict {PAIR}, from no control cell"
    call = lambda: model.predict(control, cells.perturbations[PAIR], context=subject.context())  # noqa: E731
    mend = "return control[:0].copy(), no cell with control's genes, or raise hyped_core.errors.InvalidDataError"
    with asked_by("any_number_of_control_cells"):
        result, refusal = ask(call, where, mend)
    if refusal is not None:
        return
    if getattr(result, "n_obs", 1):
        check_form(result, control, where)
    elif list(result.var_names) != list(control.var_names):
        with asked_by("prediction_form"):
            raise CheckFailed("returned other genes than control has", where=where, mend=mend)


def nan_in_cells(subject: Subject) -> None:
    """One NaN in the training cells, or in control: refused, filled in, or NaN in that gene alone."""
    cells = screen()
    clean = fitted(subject)
    for place in ("train", "control"):
        train, control = cells.training_cells(), cells.control_cells()
        spoilt = train if place == "train" else control
        spoilt.X[3, 7] = np.nan
        where = f"{'fit' if place == 'train' else f'predict {PAIR}'}, a NaN in {place}.X"
        model = clean
        if place == "train":
            model = subject.make()
            _, refusal = ask(lambda model=model, train=train: model.fit(train, context=subject.context()), where, NAN)
            if refusal is not None:
                continue
        call = lambda model=model, control=control: model.predict(  # noqa: E731
            control, cells.perturbations[PAIR], context=subject.context()
        )
        result, refusal = ask(call, where, NAN)
        if refusal is not None:
            continue
        check_form(result, control, where, finite=False)
        spread = np.delete(~np.isfinite(dense(result.X)), 7, axis=1)
        if spread.any():
            with asked_by("prediction_form"):
                raise CheckFailed(
                    f"one NaN in one gene made {int(spread.sum())} values of other genes NaN, without a word",
                    where=where,
                    mend=NAN,
                )


def _fit_and_predict(subject: Subject, train: AnnData, control: AnnData, about: str) -> None:
    """Fit and predict, either of which may be refused with a typed error."""
    cells = screen()
    model = subject.make()
    mend = f"learn from {about}, or raise hyped_core.errors.InvalidDataError from fit, which says what it takes"
    with asked_by("validation_optional"):
        _, refusal = ask(lambda: model.fit(train, context=subject.context()), f"fit, {about}", mend)
    if refusal is None:
        for name in (SEEN, PAIR):
            with asked_by("unseen_perturbation", "any_number_of_control_cells"):
                prediction_or_refusal(subject, model, control, cells.perturbations[name], about=about, mend=mend)


CHECKS = (
    (
        "odd_cells",
        "Real screens have genes that no cell expresses and perturbations that one cell survived; a division by their "
        "zero variance spoils every gene.",
        odd_cells,
    ),
    (
        "unknown_covariates",
        "Public screens have no phases, and new cells come from pools that training never saw.",
        unknown_covariates,
    ),
    (
        "few_perturbations",
        "Leave-one-out over three conditions leaves two; a model that needs more has to say so, not to crash.",
        few_perturbations,
    ),
    (
        "few_genes",
        "Panels of targeted sequencing have ten genes; a model with fixed sizes has to say so, not to crash.",
        few_genes,
    ),
    (
        "empty_control",
        "A filter that leaves no cell must end in a sentence, not in a traceback from inside a library.",
        empty_control,
    ),
    (
        "nan_in_cells",
        "One NaN that spreads silently through a decomposition or a loss turns the whole prediction into NaN.",
        nan_in_cells,
    ),
)
"""(name, why, run)."""
