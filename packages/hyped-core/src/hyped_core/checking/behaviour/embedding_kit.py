"""What the checks of embedders share: cells, a fitted model, checked vectors, comparisons on the scale of the cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_core.checking.behaviour.asking import TYPED, ask, kept, must_answer
from hyped_core.checking.behaviour.expression_kit import screen
from hyped_core.checking.behaviour.working import comparing
from hyped_core.checking.records import CheckFailed, CheckSkipped, Subject, asked_by
from hyped_core.context import RunContext
from hyped_core.design.model import CONTROL, Perturbation
from hyped_core.errors import HypedError, MissingDependencyError, MissingFileError, MissingHardwareError

if TYPE_CHECKING:
    from anndata import AnnData

Vectors = npt.NDArray[np.float32]
GENE, PAIR = "G005", "G005+G018"
TOLERANCE = 1e-3
"""Rows are the same where they differ by at most this part of the usual distance of two cells."""


def learning_cells() -> AnnData:
    """Control cells, labelled, as models that learn get them."""
    return screen().counts((CONTROL,))


def some_cells(*names: str) -> AnnData:
    """Unlabelled cells: control's, or those of perturbations."""
    return screen().counts(names or (CONTROL,), labelled=False)


def ready(subject: Subject, train: AnnData | None = None) -> Any:
    """A model after `fit` where it learns: a fresh one where ``train`` is given, else one fitted to control cells.

    Raises
    ------
    CheckSkipped
        It needs weights, a library or hardware that is not here, and says so.
    CheckFailed
        It refuses the cells, or raises.
    """

    def fit(context: RunContext) -> Any:
        model = subject.make()
        if hasattr(model, "fit"):
            cells = learning_cells() if train is None else train
            must_answer(lambda: model.fit(cells, context=context), "fit")
            return model
        _, refusal = ask(lambda: model.embed(some_cells()[:2].copy(), context=context), "embed")
        if isinstance(refusal, (MissingFileError, MissingDependencyError, MissingHardwareError)):
            raise CheckSkipped(f"needs what is not here: {refusal.message}")
        return model

    return kept(subject, "embedding", fit) if train is None else fit(subject.context())


def embedded(
    subject: Subject, model: Any, cells: AnnData, *, about: str = "", width: int | None = None, mend: str = ""
) -> Vectors:
    """Vectors of cells, held to their form; ``mend`` says what to do where there are none."""
    where = "embed" + (f", {about}" if about else "")
    values = must_answer(lambda: model.embed(cells, context=subject.context()), where, mend)
    return check_vectors(values, cells.n_obs, where, width)


def perturbed(
    subject: Subject,
    model: Any,
    cells: AnnData,
    perturbation: Perturbation,
    *,
    about: str = "",
    width: int | None = None,
) -> Vectors:
    """Vectors of cells after a perturbation, held to their form."""
    where = f"embed_perturbed {perturbation.name}" + (f", {about}" if about else "")
    values = must_answer(lambda: model.embed_perturbed(cells, perturbation, context=subject.context()), where)
    return check_vectors(values, cells.n_obs, where, width)


def vectors_or_refusal(
    subject: Subject,
    model: Any,
    cells: AnnData,
    *,
    about: str,
    perturbation: Perturbation | None = None,
    mend: str = TYPED,
) -> tuple[Vectors | None, HypedError | None]:
    """Vectors held to their form, or the typed error that the model refuses with."""
    name = "embed" if perturbation is None else f"embed_perturbed {perturbation.name}"
    where = f"{name}, {about}" if about else name
    context = subject.context()
    if perturbation is None:
        values, refusal = ask(lambda: model.embed(cells, context=context), where, mend)
    else:
        values, refusal = ask(lambda: model.embed_perturbed(cells, perturbation, context=context), where, mend)
    return (check_vectors(values, cells.n_obs, where), None) if refusal is None else (None, refusal)


@asked_by("embedding_form")
def check_vectors(values: Any, n: int, where: str, width: int | None = None) -> Vectors:
    """Refuse what is not (cells, d) float32 with each row finite, or NaN throughout."""
    if not isinstance(values, np.ndarray):
        mend = "return a numpy array (cells, d) of float32; of torch values.detach().cpu().numpy()"
        raise CheckFailed(f"returned {type(values).__name__}, expected an array", where=where, mend=mend)
    if values.ndim != 2 or len(values) != n or values.shape[1] == 0:
        said = f"returned an array of shape {values.shape}, expected ({n}, d)"
        raise CheckFailed(said, where=where, mend="return a row for each cell given, in their order, of d numbers")
    if values.dtype != np.float32:
        mend = "return values.astype('float32')"
        raise CheckFailed(f"returned {values.dtype}, expected float32", where=where, mend=mend)
    if width is not None and values.shape[1] != width:
        said = f"returned {values.shape[1]} dimensions, {width} before"
        mend = "return vectors of one length from embed and embed_perturbed, so that they can be subtracted"
        raise CheckFailed(said, where=where, mend=mend)
    broken = ~np.isfinite(values).all(axis=1) & ~np.isnan(values).all(axis=1)
    if broken.any():
        raise CheckFailed(
            f"{int(broken.sum())} of {n} rows are partly NaN, or infinite",
            where=where,
            mend="give finite rows; a row of NaN throughout is for a cell without counts of any gene that the model "
            "knows",
        )
    return values


@comparing
@asked_by("embeddings_in_any_order", "embedding_form")
def same_rows(
    subject: Subject, ours: Vectors, theirs: Vectors, where: str, what: str, mend: str, part: float = TOLERANCE
) -> None:
    """Refuse rows that differ by more than ``part`` of the usual distance of two cells, or are NaN on one side only.

    Of a model that is not deterministic a tenth of that distance is allowed.
    """
    part = part if subject.spec.deterministic else max(part, 0.1)
    if ours.shape != theirs.shape:
        raise CheckFailed(f"{what}: of shape {ours.shape} and {theirs.shape}", where=where, mend=mend)
    lost = np.isnan(ours[:, 0]) != np.isnan(theirs[:, 0])
    if lost.any():
        said = f"{what}: {int(lost.sum())} of {len(ours)} rows are NaN on one side only"
        raise CheckFailed(said, where=where, mend=mend)
    unit = usual_distance(theirs)
    gap = np.linalg.norm(ours.astype(np.float64) - theirs, axis=1)
    worst = float(np.nanmax(gap, initial=0.0))
    if worst > part * unit:
        row = int(np.nanargmax(gap))
        raise CheckFailed(
            f"{what}: {int((gap > part * unit).sum())} of {len(ours)} rows differ, row {row} by {worst:.3g} (two cells "
            f"differ by {unit:.3g})",
            where=where,
            mend=mend,
        )


def usual_distance(values: Vectors) -> float:
    """Root mean square distance of two cells; of one cell its length."""
    known = values[~np.isnan(values[:, 0])].astype(np.float64)
    if len(known) < 2:
        return float(np.linalg.norm(known)) or 1.0
    spread = float(np.sqrt(2.0 * known.var(axis=0, ddof=1).sum()))
    return max(spread, 1e-6 * float(np.linalg.norm(known, axis=1).mean()), 1e-30)


def distances(values: Vectors) -> npt.NDArray[np.float64]:
    """(cells, cells) distances: what is left of vectors where axes may turn and change sides."""
    known = values.astype(np.float64)
    square = (known**2).sum(axis=1)
    return np.sqrt(np.maximum(square[:, None] + square[None] - 2 * known @ known.T, 0.0))
