"""Scores of estimated compositions, of forecasts and of predicted responses: pure functions on arrays.

Leading axes of the arrays are free (redraws); what has no value is NaN.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def fraction_gap(estimate: npt.ArrayLike, truth: npt.ArrayLike) -> FloatArray:
    """Estimated minus true fraction; its absolute value is ``fraction_error``.

    A control that says the same of every condition has the distance of each condition from that value.

    >>> float(fraction_gap(0.75, 0.5))
    0.25
    """
    return np.asarray(estimate, float) - np.asarray(truth, float)


def order_agreement(estimate: npt.ArrayLike, truth: npt.ArrayLike) -> float | None:
    """Share of pairs of units that are in the true order (concordance index, Harrell 1982); ties of the estimate half.

    0.5 for a control that says the same of every unit. Pairs with equal truth are left out; None where there are none.

    >>> order_agreement([0.1, 0.3, 0.2], [1, 2, 3])
    0.6666666666666666
    >>> order_agreement([0.5, 0.5], [0.2, 0.3])
    0.5
    """
    first, second = np.asarray(estimate, float), np.asarray(truth, float)
    i, j = np.triu_indices(len(first), 1)
    gap, true = np.sign(first[i] - first[j]), np.sign(second[i] - second[j])
    kept = (true != 0) & np.isfinite(gap) & np.isfinite(true)
    if not kept.any():
        return None
    return float(np.mean(np.where(gap[kept] == 0, 0.5, gap[kept] == true[kept])))


def rmse(predicted: npt.ArrayLike, truth: npt.ArrayLike) -> FloatArray:
    """Root of the mean squared error over the last axis, of entries where the truth is defined.

    >>> float(rmse([1.0, 2.0, 9.0], [1.0, 4.0, np.nan]))
    1.4142135623730951
    """
    gap = np.asarray(predicted, float) - np.asarray(truth, float)
    known = np.isfinite(np.broadcast_to(np.asarray(truth, float), gap.shape))
    count = known.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(np.where(known, gap**2, 0.0).sum(axis=-1) / np.where(count > 0, count, np.nan))


def one_step(history: npt.ArrayLike) -> FloatArray:
    """Mean absolute difference of consecutive values (time, quantities): what `mase` is measured in.

    NaN for a quantity that is constant up to rounding.
    """
    values = np.asarray(history, float)
    steps = np.abs(np.diff(values, axis=0)).mean(axis=0)
    return np.where(steps > 1e-9 * np.maximum(np.abs(values).max(axis=0), 1e-12), steps, np.nan)


def mase(predicted: npt.ArrayLike, truth: npt.ArrayLike, scale: npt.ArrayLike) -> FloatArray:
    """Mean absolute scaled error (Hyndman and Koehler, Int. J. Forecasting 2006), averaged over quantities.

    ``mean_q(mean_t |predicted - truth| / scale_q)`` over (..., times, quantities), ``scale`` as `one_step` gives it.
    1 is what saying the last value gives one bin ahead within the start; further ahead persistence scores more.

    >>> float(mase([[1.0], [1.0]], [[2.0], [3.0]], [0.5]))
    3.0
    """
    gap = np.abs(np.asarray(predicted, float) - np.asarray(truth, float))
    known = np.isfinite(np.broadcast_to(np.asarray(truth, float), gap.shape))
    count = known.sum(axis=-2)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where(known, gap, 0.0).sum(axis=-2) / np.where(count > 0, count, np.nan)
    return np.mean(each / np.asarray(scale, float), axis=-1)


def z_rmse(predicted: npt.ArrayLike, truth: npt.ArrayLike, error: npt.ArrayLike) -> FloatArray:
    """RMSE of changes (..., entries), each in units of the truth's own standard error.

    Who knows the expected change scores about 1 (that is the measurement's noise), who knows what was measured 0;
    saying no change scores the root mean square of the changes in standard errors: below about 1.5 there is
    little to predict.

    >>> float(z_rmse([0.0, 0.0], [2.0, 4.0], [1.0, 2.0]))
    2.0
    """
    scale = np.asarray(error, float)
    return rmse(np.asarray(predicted, float) / scale, np.asarray(truth, float) / scale)


def pearson_rows(first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray:
    """Pearson's r over the last axis; NaN where one side is constant (no change, say) or undefined.

    >>> round(float(pearson_rows([1.0, 2.0, 3.0], [2.0, 4.0, 6.5])), 4)
    0.9979
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    a, b = a - a.mean(axis=-1, keepdims=True), b - b.mean(axis=-1, keepdims=True)
    norm = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(norm > 1e-12, (a * b).sum(axis=-1) / norm, np.nan)
