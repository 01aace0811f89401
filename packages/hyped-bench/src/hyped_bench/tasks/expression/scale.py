"""The scale of cells and of predictions: ln(1 + counts per 10,000), told from counts and from other logarithms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from hyped_core.errors import InvalidDataError, PluginError

if TYPE_CHECKING:
    from hyped_bench.tasks.expression.params import ExpressionSource

LOG_LIMIT = 12.0
"""ln(1 + 10,000) is 9.2: values above this cannot be log-normalised."""
SCALE_LIMIT, SCALE_WARNING = 3.0, 2.0
"""Counts that predicted and control means stand for may differ by this factor (median over perturbations) before
predictions are refused, or a warning says so. True cells of Norman: 1.1 to 1.4, one perturbation alone up to 4; the
same in log2 3.8 and more, in log10 0.23 and less."""
SLOPE_WARNING = 4 / 3
"""The slope of predicted on control means may differ from 1 by this factor before a warning says so."""


class Scale(NamedTuple):
    """See `scale_of`."""

    total: float
    slope: float


def looks_like_counts(x: npt.NDArray) -> bool:
    """True for whole numbers, none negative, of which some are above 1: the logarithm of counts has none such."""
    return bool(x.size and x.min() >= 0 and x.max() > 1 and (x == np.rint(x)).all())


def normalised(x: npt.NDArray[np.float32], where: str) -> npt.NDArray[np.float32]:
    """ln(1 + counts per 10,000) of raw counts (cells, genes); cells without a count stay 0."""
    if not looks_like_counts(x):
        raise InvalidDataError(
            "X holds no raw counts, though `counts` says so", where=where, mend="set `counts: false`"
        )
    total = x.sum(axis=1, dtype=np.float64, keepdims=True)
    share = np.divide(x, total, out=np.zeros(x.shape, dtype=np.float64), where=total > 0)
    return np.log1p(1e4 * share).astype(np.float32)


def check_cells(x: npt.NDArray, source: ExpressionSource) -> None:
    """Refuse cells of a source that are not on the log scale."""
    if x.size and (x.max() > LOG_LIMIT or x.min() < 0):
        raise InvalidDataError(
            f"X runs from {x.min():g} to {x.max():g}: that is not ln(1 + counts per 10,000)",
            where=source.cells,
            mend="normalise it, for example with `hyped seq import-cells`; of raw counts say `counts: true`",
        )
    if looks_like_counts(x):
        raise InvalidDataError(
            "X holds whole numbers only: these are counts, not ln(1 + counts per 10,000)",
            where=source.cells,
            mend="say `counts: true`, or normalise it with `hyped seq import-cells`",
        )


def scale_of(values: npt.NDArray, control: npt.NDArray) -> Scale:
    """How predicted cells lie beside the control cells they start from, both (cells, genes).

    ``total``: the counts that their means stand for over those of control, which is 1 up to what a perturbation does;
    of means, because a predicted mean of cells has fewer counts than the cells have. ``slope``: of their mean on
    control's, over the genes; another base of the logarithm is its factor (1.44 for log2).
    """
    ours, theirs = (np.asarray(x).mean(axis=0, dtype=np.float64) for x in (values, control))
    with np.errstate(over="ignore"):
        total = float(np.expm1(ours).sum())
    below, square = float(np.expm1(theirs).sum()), float(theirs @ theirs)
    return Scale(total / below if below > 0 else 1.0, float(ours @ theirs) / square if square > 0 else 1.0)


def check_scale(scales: Sequence[Scale], where: str) -> list[str]:
    """A warning where the scale of a source's predictions is odd; none where it is that of the control.

    The median over all scored perturbations decides: one of them may well change most of the counts.

    Raises
    ------
    PluginError
        Predictions are on another scale than the truth: most metrics would still find something right in them.
    """
    if not scales:
        return []
    total, slope = (float(np.median(column)) for column in zip(*scales, strict=True))
    said = f"predicted cells stand for {total:.2g} times the control's counts (median of {len(scales)} perturbations"
    said += f"; slope against control {slope:.2g})"
    if not 1 / SCALE_LIMIT <= total <= SCALE_LIMIT:
        cause = "log2, counts of another total than 10,000, or one value for all genes" if total > 1 else (
            "log10, z-scores, changes instead of cells, or normalised over more genes than the benchmark's"
        )
        raise PluginError(
            f"{said}, outside {1 / SCALE_LIMIT:.2g} to {SCALE_LIMIT:g}: another scale than the truth's; likely {cause}",
            where=where,
            mend="predict ln(1 + counts per 10,000) as the control cells given to the model have it",
        )
    if not 1 / SCALE_WARNING <= total <= SCALE_WARNING or not 1 / SLOPE_WARNING <= slope <= SLOPE_WARNING:
        return [f"{where}: {said}: is X ln(1 + counts per 10,000) over the benchmark's genes?"]
    return []
