"""Checks of expression models: form and scale, control, unseen genes; invariances and odd cells are beside."""

from __future__ import annotations

from typing import Any

import numpy as np

from hyped_core.checking.behaviour import expression_invariance as invariance
from hyped_core.checking.behaviour import expression_odd as odd
from hyped_core.checking.behaviour.asking import ask, must_answer
from hyped_core.checking.behaviour.expression_kit import (
    HALF_SEEN,
    LOG_LIMIT,
    LOWEST,
    PAIR,
    SCALE_LIMIT,
    SEEN,
    SEEN_PAIR,
    UNKNOWN_GENE,
    UNSEEN,
    check_form,
    fitted,
    mean_of,
    predicted,
    prediction_or_refusal,
    root_mean_square,
    screen,
    standard_error,
    usual_change,
)
from hyped_core.checking.behaviour.facts import FACTS_ARE_PLAIN
from hyped_core.checking.compare import dense
from hyped_core.checking.records import Check, CheckFailed, CheckSkipped, Exercise, Subject, asked_by
from hyped_core.checking.tiny.screen import tiny_perturbseq
from hyped_core.context import RunContext
from hyped_core.design.model import CONTROL, Perturbation

TASK = ("expression",)


def inputs(seed: int) -> dict[str, Any]:
    """Training, validation and control cells of the tiny screen, as the benchmark gives them, and what to predict."""
    cells = tiny_perturbseq(seed)
    return {
        "train": cells.training_cells(),
        "validation": cells.validation_cells(),
        "control": cells.control_cells(),
        "perturbations": [cells.perturbations[name] for name in (SEEN, PAIR)],
    }


def work(model: Any, inputs: dict[str, Any], context: RunContext) -> dict[str, Any]:
    """Fit, and predict each perturbation; predicted cells by the perturbation's name."""
    model.fit(inputs["train"], inputs["validation"], context=context)
    return {one.name: model.predict(inputs["control"], one, context=context) for one in inputs["perturbations"]}


EXERCISE = Exercise("expression", inputs, work)


def prediction_form(subject: Subject) -> None:
    """AnnData with control's genes in order, float32, finite: seen perturbations and new combinations."""
    cells = screen()
    model = fitted(subject)
    for name in (SEEN, SEEN_PAIR, PAIR):
        predicted(subject, model, cells.control_cells(), cells.perturbations[name])


def prediction_scale(subject: Subject) -> None:
    """ln(1 + counts per 10,000): no counts, no scaled values, no other logarithm."""
    cells = screen()
    control = cells.control_cells()
    model = fitted(subject)
    mend = "return X in the units of control.X, ln(1 + counts per 10,000): undo scaling and centring, and no log2"
    for name in (SEEN, PAIR):
        values = dense(predicted(subject, model, control, cells.perturbations[name]).X)
        where = f"predict {name}, X"
        low, high = float(values.min()), float(values.max())
        if high > LOG_LIMIT or low < LOWEST:
            said = f"values from {low:.3g} to {high:.3g}, expected between {LOWEST:g} and {LOG_LIMIT:g}"
            raise CheckFailed(said, where=where, mend=mend)
        if low >= 0 and high > 1 and (values == np.rint(values)).all():
            raise CheckFailed("whole numbers only: these are counts", where=where, mend=mend)
        ours, theirs = (float(np.expm1(np.mean(x, axis=0, dtype=np.float64)).sum()) for x in (values, control.X))
        if not 1 / SCALE_LIMIT < ours / theirs < SCALE_LIMIT:
            said = f"means that stand for {ours / theirs:.2g} times the counts of control: another scale or logarithm"
            raise CheckFailed(said, where=where, mend=mend)


def any_number_of_control_cells(subject: Subject) -> None:
    """1, 7, and more control cells than there were training cells."""
    import anndata

    cells = screen()
    train, control = cells.training_cells(), cells.control_cells()
    model = fitted(subject)
    times = train.n_obs // control.n_obs + 1
    many = anndata.concat([control] * times, keys=list(map(str, range(times))), index_unique="-")
    for given in (control[:1].copy(), control[:7].copy(), many):
        predicted(
            subject, model, given, cells.perturbations[PAIR], about=f"from {given.n_obs} control cells",
            mend="take the number of cells from the control given (control.n_obs), not from fit or from a constant",
        )  # fmt: skip


def validation_optional(subject: Subject) -> None:
    """With validation cells and without."""
    cells = screen()
    for name, given in (("without validation cells", None), ("with validation cells", cells.validation_cells())):
        model = subject.make()
        must_answer(
            lambda model=model, given=given: model.fit(cells.training_cells(), given, context=subject.context()),
            f"fit {name}",
            "take validation=None where there are none, and cells where there are: they are to choose by (when to "
            "stop), and may be left unused",
        )
        must_answer(
            lambda model=model: model.predict(
                cells.control_cells(), cells.perturbations[PAIR], context=subject.context()
            ),
            f"predict {PAIR}, {name}",
        )


def control_in_control_out(subject: Subject) -> None:
    """A perturbation without changes leaves the mean where it was; a model may refuse it."""
    cells = screen()
    control = cells.control_cells()
    model = fitted(subject)
    found, refusal = prediction_or_refusal(subject, model, control, Perturbation(name=CONTROL))
    if refusal is not None or found is None:
        return
    unit = usual_change()
    gap = root_mean_square(mean_of(found) - mean_of(control))
    limit = max(0.25 * unit, standard_error(found, control))
    if gap > limit:
        with asked_by("prediction_scale"):
            raise CheckFailed(
                f"a perturbation that changes no gene moves the mean by {gap:.2f} (root mean square over genes; at "
                f"most {limit:.2f} of {unit:.2f}, what perturbations do)",
                where=f"predict {CONTROL}",
                mend="return the control cells given where perturbation.is_control, or refuse it with InvalidDataError",
            )


def unseen_perturbation(subject: Subject) -> None:
    """Genes never perturbed in training, on the panel and off it, and the other direction: predicted or refused."""
    cells = screen()
    model = fitted(subject)
    off = "NOT_ON_THE_PANEL"
    asked = (
        (cells.perturbations[UNSEEN], UNSEEN),
        (cells.perturbations[HALF_SEEN], UNSEEN),
        (Perturbation.from_name(off), off),
        (Perturbation.from_name(f"{SEEN}+{off}"), off),
        (Perturbation.from_name(SEEN, direction="suppression"), SEEN),
    )
    for perturbation, gene in asked:
        _, refusal = prediction_or_refusal(subject, model, cells.control_cells(), perturbation, mend=UNKNOWN_GENE)
        if refusal is not None and gene not in str(refusal):
            raise CheckFailed(
                f"refused without naming {gene}: {refusal.message}",
                where=f"predict {perturbation.name}",
                mend=f"raise InvalidDataError with the gene in its text: {gene} is what the model knows nothing of",
            )


def predict_before_fit(subject: Subject) -> None:
    """A model that learned nothing refuses with a typed error; one that needs nothing to learn may answer."""
    cells = screen()
    control = cells.control_cells()
    model = subject.make()
    call = lambda: model.predict(control, cells.perturbations[SEEN], context=subject.context())  # noqa: E731
    mend = "where nothing was learned, let predict raise hyped_core.errors.UsageError(..., mend='call fit or load')"
    result, refusal = ask(call, "predict before fit", mend)
    if refusal is None:
        check_form(result, control, "predict before fit")


def uncertainty_layers(subject: Subject) -> None:
    """Layers of a prediction are finite; variances and deviations are not negative."""
    cells = screen()
    model = fitted(subject)
    found = predicted(subject, model, cells.control_cells(), cells.perturbations[PAIR])
    names = [name for name in found.layers]
    if not names:
        raise CheckSkipped("the prediction has no layers")
    for name in names:
        values = dense(found.layers[name])
        plain = not name.startswith(("log", "ln"))
        spread = plain and any(word in name for word in ("variance", "std", "deviation", "uncertainty", "error"))
        if not np.isfinite(values).all() or spread and values.min(initial=0.0) < 0:
            raise CheckFailed(
                "holds values that are not finite, or below 0",
                where=f"predict {PAIR}, layers[{name!r}]",
                mend="give variances and deviations from 0 up; leave the layer out where they are not known of "
                "every value, and call a logarithm log_...",
            )


CHECKS = (
    Check(
        "validation_optional",
        TASK,
        "Screens with few perturbations have none to spare for validation, and the model must still learn.",
        validation_optional,
    ),
    Check(
        "prediction_form",
        TASK,
        "A benchmark that gets other genes, another order, NaN or other types cannot score the prediction, or scores "
        "the wrong genes.",
        prediction_form,
    ),
    Check(
        "prediction_scale",
        TASK,
        "Counts, scaled values or another logarithm look like a huge change of every gene.",
        prediction_scale,
    ),
    Check(
        "predictions_in_any_order",
        TASK,
        "A benchmark asks for many perturbations in turn; a prediction that depends on the one before cannot be "
        "repeated.",
        invariance.predictions_in_any_order,
    ),
    Check(
        "any_number_of_control_cells",
        TASK,
        "Users predict from the cells they have: one donor's seven cells as well as a whole atlas.",
        any_number_of_control_cells,
    ),
    Check(
        "control_in_control_out",
        TASK,
        "A model that moves cells to which nothing was done adds the same change to every prediction.",
        control_in_control_out,
    ),
    Check(
        "unseen_perturbation",
        TASK,
        "Predicting what was never measured is the task; NaN or an untyped error there ends a whole benchmark.",
        unseen_perturbation,
    ),
    Check(
        "predict_before_fit",
        TASK,
        "A user who forgot to fit or load gets numbers that mean nothing, or an error that says nothing.",
        predict_before_fit,
    ),
    Check(
        "uncertainty_layers",
        TASK,
        "Downstream code weighs predictions by these layers and breaks on values that no variance can have.",
        uncertainty_layers,
    ),
    FACTS_ARE_PLAIN,
    *(Check(name, TASK, why, run) for name, why, run in (*invariance.CHECKS, *odd.CHECKS)),
)
