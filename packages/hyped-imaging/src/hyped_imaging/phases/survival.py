"""The product-limit estimate of durations of which some were not seen to their end (Kaplan and Meier 1958)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def survival(
    duration: FloatArray, complete: npt.NDArray[np.bool_], weight: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Distinct times (t,) and the share (..., t) of durations that exceed each of them.

    Parameters
    ----------
    duration : (n,) how long each was seen.
    complete : (n,) False where it was under way when last seen (right-censored); such a duration counts as at
        risk up to and with its own time.
    weight : (..., n) how often each counts, once where None: rows of a bootstrap.

    >>> survival(np.array([1.0, 2, 3]), np.array([True, False, True]))
    (array([1., 2., 3.]), array([0.66666667, 0.66666667, 0.        ]))
    """
    weight = np.ones(len(duration)) if weight is None else weight
    times, place = np.unique(duration, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(len(times)))
    sorted_weight = weight[..., order]
    leaving = np.add.reduceat(sorted_weight, starts, axis=-1)
    ending = np.add.reduceat(sorted_weight * complete[order], starts, axis=-1)
    at_risk = np.cumsum(leaving[..., ::-1], axis=-1)[..., ::-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = np.where(at_risk > 0, 1.0 - ending / at_risk, 1.0)
    return times, np.cumprod(factor, axis=-1)


def quantile(times: FloatArray, share: FloatArray, q: float) -> FloatArray:
    """(...) first time at which the share still under way is ``1 - q`` or less; inf where it never is."""
    reached = share <= 1.0 - q + 1e-12
    return np.where(reached.any(axis=-1), times[np.argmax(reached, axis=-1)], np.inf)


def restricted_mean(times: FloatArray, share: FloatArray, until: float) -> FloatArray:
    """(...) mean duration where longer ones count as ``until``: the area under the curve up to there."""
    inside = times < until
    edges = np.concatenate([[0.0], times[inside], [until]])
    steps = np.concatenate([np.ones((*share.shape[:-1], 1)), share[..., inside]], axis=-1)
    return (steps * np.diff(edges)).sum(axis=-1)
