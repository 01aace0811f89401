"""What the checks of expression models share: cells, a fitted model, a checked prediction, changes between means."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_core.checking.behaviour.asking import TYPED, ask, kept, must_answer
from hyped_core.checking.behaviour.working import comparing
from hyped_core.checking.compare import dense, difference
from hyped_core.checking.records import CheckFailed, Subject, asked_by
from hyped_core.checking.tiny.screen import TinyScreen, tiny_perturbseq
from hyped_core.context import RunContext
from hyped_core.design.model import CONTROL, Perturbation
from hyped_core.errors import HypedError

if TYPE_CHECKING:
    from anndata import AnnData

LOG_LIMIT = 12.0
"""ln(1 + 10,000) is 9.2: values above this are not log-normalised."""
LOWEST = -5.0
"""A shift below control can end under 0, a change of expression as large as this is none."""
SCALE_LIMIT = 3.0
"""Counts that predicted and control means stand for may differ by this factor, as in the benchmark."""
ROUNDING = {"rtol": 1e-3, "atol": 1e-3}
"""Within which two ways to the same numbers agree: sums in another order, single precision."""
SEEN, SEEN_PAIR, PAIR, UNSEEN, HALF_SEEN = "G005", "G005+G018", "G005+G044", "G109", "G005+G109"
"""A single and a combination of the training cells, a new combination of seen genes, an unseen gene, one of two."""
UNKNOWN_GENE = "answer for genes that were not perturbed in training, or raise InvalidDataError that names the gene"


def fitted(subject: Subject, train: AnnData | None = None, validation: AnnData | None = None, *, mend: str = "") -> Any:
    """A model after `fit`: a fresh one where ``train`` is given, else one that learned from the screen's cells.

    ``mend`` says what to do where it does not fit.

    Raises
    ------
    CheckFailed
        It refuses the cells, or raises.
    """

    def fit(context: RunContext) -> Any:
        model = subject.make()
        cells = screen().training_cells() if train is None else train
        must_answer(lambda: model.fit(cells, validation, context=context), "fit", mend)
        return model

    with asked_by("validation_optional"):
        return kept(subject, "expression", fit) if train is None else fit(subject.context())


def predicted(
    subject: Subject, model: Any, control: AnnData, perturbation: Perturbation, *, about: str = "", mend: str = ""
) -> AnnData:
    """A prediction of a fitted model, held to its form; ``mend`` says what to do where it gives none.

    Raises
    ------
    CheckFailed
        It refuses, raises, or returns something of another form; ``about`` says what was special.
    """
    where = _where(perturbation, about)
    result = must_answer(lambda: model.predict(control, perturbation, context=subject.context()), where, mend)
    check_form(result, control, where)
    return result


def prediction_or_refusal(
    subject: Subject, model: Any, control: AnnData, perturbation: Perturbation, *, about: str = "", mend: str = TYPED
) -> tuple[AnnData | None, HypedError | None]:
    """A prediction held to its form, or the typed error that the model refuses with."""
    where = _where(perturbation, about)
    result, refusal = ask(lambda: model.predict(control, perturbation, context=subject.context()), where, mend)
    if refusal is None:
        check_form(result, control, where)
    return result, refusal


@asked_by("prediction_form")
def check_form(result: Any, control: AnnData, where: str, *, finite: bool = True) -> None:
    """Refuse what is no AnnData of at least one cell with control's genes in control's order and (finite) float32."""
    if not hasattr(result, "var_names") or not hasattr(result, "X"):
        raise CheckFailed(
            f"returned {type(result).__name__}, expected AnnData",
            where=where,
            mend="return anndata.AnnData(values.astype('float32'), var=control.var), one row a predicted cell",
        )
    ours, theirs = list(result.var_names), list(control.var_names)
    if ours != theirs:
        said = "the genes in another order than" if set(ours) == set(theirs) else "other genes than"
        at, pair = next(((i, two) for i, two in enumerate(zip(ours, theirs)) if two[0] != two[1]), (0, ()))
        first = f"column {at} is {pair[0]}, in control {pair[1]}" if pair else ""
        counts = f"{len(ours)} in place of {len(theirs)}" if len(ours) != len(theirs) else ""
        raise CheckFailed(
            f"returned {said} control has: {'; '.join(text for text in (counts, first) if text)}",
            where=f"{where}, var_names",
            mend="return AnnData(..., var=control.var), with column i of X for control.var_names[i]",
        )
    if result.n_obs == 0:
        raise CheckFailed(
            "returned no cells",
            where=where,
            mend="return predicted cells: as many as control has, or any number from 1",
        )
    values = result.X
    if values is None or getattr(values, "ndim", 0) != 2:
        mend = "put the predicted cells into X: (cells, genes), dense or sparse"
        raise CheckFailed("returned no matrix (cells, genes)", where=f"{where}, X", mend=mend)
    if values.dtype != np.float32:
        mend = "give X as float32: AnnData(values.astype('float32'), ...)"
        raise CheckFailed(f"returned {values.dtype}, expected float32", where=f"{where}, X", mend=mend)
    if not finite:
        return
    wrong = ~np.isfinite(dense(values))
    if wrong.any():
        genes = np.asarray(ours, dtype=object)[wrong.any(axis=0)]
        raise CheckFailed(
            f"returned {int(wrong.sum())} NaN or infinite values in {len(genes)} genes, the first {genes[0]}",
            where=f"{where}, X",
            mend="return finite values: control's where nothing is known of a gene, and no division by a variance "
            "or mean that may be 0",
        )


def mean_of(cells: AnnData) -> npt.NDArray[np.float64]:
    """(genes,) mean over cells."""
    return dense(cells.X).mean(axis=0, dtype=np.float64)


@comparing
@asked_by("predictions_in_any_order")
def same_prediction(subject: Subject, ours: AnnData, theirs: AnnData, where: str, what: str, mend: str) -> None:
    """Refuse predictions that differ by more than rounding; ``what`` says what should not have mattered.

    Of a model that is not deterministic only the means are compared, as by `same_mean`.
    """
    if not subject.spec.deterministic:
        same_mean(ours, theirs, where, what, mend)
    elif found := difference(dense(ours.X), dense(theirs.X), **ROUNDING):
        raise CheckFailed(f"{what}: {found}", where=where, mend=mend)


@comparing
@asked_by("predictions_in_any_order")
def same_mean(ours: AnnData, theirs: AnnData, where: str, what: str, mend: str) -> None:
    """Refuse predictions whose means differ by more than chance and a tenth of what perturbations do."""
    gap, unit = root_mean_square(mean_of(ours) - mean_of(theirs)), usual_change()
    limit = 0.1 * unit + standard_error(ours, theirs)
    if gap > limit:
        raise CheckFailed(
            f"{what}: the predicted means differ by {gap:.3f} (root mean square over genes, at most {limit:.3f} is "
            f"rounding and chance; perturbations change it by {unit:.2f})",
            where=where,
            mend=mend,
        )


def standard_error(ours: AnnData, theirs: AnnData) -> float:
    """By how much the means of two draws of cells may differ: twice the standard error, over genes.

    As many cells in both are taken as pairs: of models that move each cell given nothing is left to chance.
    """
    first, second = dense(ours.X), dense(theirs.X)
    parts = [first - second] if len(first) == len(second) else [first, second]
    return 2.0 * float(np.sqrt(np.sum([one.var(axis=0, dtype=np.float64) / len(one) for one in parts], axis=0).mean()))


def root_mean_square(values: npt.NDArray) -> float:
    """Over all values."""
    return float(np.sqrt(np.mean(np.square(values))))


@cache
def usual_change() -> float:
    """How far a training perturbation moves the mean of the cells: root mean square over genes, median of all."""
    cells = screen()
    control = mean_of(cells.control_cells())
    return float(np.median([root_mean_square(mean_of(cells.given((name,))) - control) for name in cells.train]))


@cache
def screen(seed: int = 0) -> TinyScreen:
    """The cells that checks use: of the tiny screen 80 control cells and 10 of each perturbation, since most fit.

    Made once; its methods give copies.
    """
    whole = tiny_perturbseq(seed)
    label = whole.cells.obs["perturbation"].to_numpy()
    rows = [np.flatnonzero(label == name)[: 80 if name == CONTROL else 10] for name in whole.perturbations]
    return replace(whole, cells=whole.cells[np.sort(np.concatenate(rows))].copy())


def _where(perturbation: Perturbation, about: str) -> str:
    return f"predict {perturbation.name}" + (f", {about}" if about else "")
