"""Scores of means, many at a time: a row a perturbation, a phase of one, or a draw of its cells.

The formulas are those of `hyped_bench.metrics.expression`, whose functions score one pair; here rows are scored
together because draws need thousands of them. A test holds the two to be equal.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float64]

PLAIN_KEYS = ("cosine", "pearson", "mse", "mae")
DELTA_KEYS = ("pearson_delta", "cosine_delta", "pearson_delta_train", "cosine_delta_train")
"""Stated as 0 where they have no value, and counted: no change has no direction."""
ERROR_KEYS = (
    "mse_delta", "mse_relative", "mse_delta_train", "mae_delta", "r2_delta", "weighted_r2_delta", "wmse"
)  # fmt: skip
ROUNDING = 1e-6
"""Cells are float32: predicted changes that differ by less, relative to the largest value, do not differ."""
MEAN_KEYS = (*PLAIN_KEYS, *DELTA_KEYS, *ERROR_KEYS)


def mean_scores(
    found: npt.ArrayLike, true: npt.ArrayLike, control: npt.ArrayLike, trained: npt.ArrayLike, weights: npt.ArrayLike
) -> dict[str, Rows]:
    """`MEAN_KEYS` of predicted means against true ones.

    Parameters
    ----------
    found, true
        (rows, genes).
    control, trained
        (rows, genes) or (genes,): means of control cells and of the training perturbations.
    weights
        (rows, genes) or (genes,): weights of genes that sum to 1, for ``wmse`` and ``weighted_r2_delta``.

    Returns
    -------
    Key -> (rows,), NaN where a score has no value.
    """
    p, t = np.atleast_2d(np.asarray(found, np.float64)), np.atleast_2d(np.asarray(true, np.float64))
    c, r, w = (np.broadcast_to(np.asarray(v, np.float64), t.shape) for v in (control, trained, weights))
    apart = p - t
    squared = apart**2
    mse, mae = squared.mean(axis=1), np.abs(apart).mean(axis=1)
    weighted = (w * squared).sum(axis=1)
    own, ours = t - c, t - r
    from_control, from_trained = _settled(p - c, p), _settled(p - r, p)
    return {
        "cosine": cosine_rows(p, t),
        "pearson": pearson_rows(p, t),
        "mse": mse,
        "mae": mae,
        "pearson_delta": pearson_rows(from_control, own),
        "cosine_delta": _cosine_of_changes(from_control, own),
        "pearson_delta_train": pearson_rows(from_trained, ours),
        "cosine_delta_train": _cosine_of_changes(from_trained, ours),
        "mse_delta": mse.copy(),
        "mse_relative": _over(mse, (own**2).mean(axis=1)),
        "mse_delta_train": mse.copy(),
        "mae_delta": mae.copy(),
        "r2_delta": _explained(squared.mean(axis=1), own, np.full_like(own, 1.0 / own.shape[1])),
        "weighted_r2_delta": _explained(weighted, ours, w),
        "wmse": weighted,
    }


def state_zero(values: Mapping[str, Rows]) -> npt.NDArray[np.intp]:
    """Put 0 where a score of `DELTA_KEYS` has no value; how many of a row's were replaced."""
    replaced = np.zeros(len(values[DELTA_KEYS[0]]), dtype=np.intp)
    for key in DELTA_KEYS:
        missing = np.isnan(values[key])
        values[key][missing] = 0.0
        replaced += missing
    return replaced


def cosine_rows(first: Rows, second: Rows) -> Rows:
    """Cosine of each pair of rows; NaN for a zero vector."""
    norms = np.sqrt((first**2).sum(axis=1)) * np.sqrt((second**2).sum(axis=1))
    return _over((first * second).sum(axis=1), np.where(norms <= 1e-300, 0.0, norms))


def pearson_rows(first: Rows, second: Rows) -> Rows:
    """Correlation over the genes of each pair of rows; NaN where one is constant up to rounding."""
    flat = constant_rows(first) | constant_rows(second)
    found = cosine_rows(first - first.mean(axis=1, keepdims=True), second - second.mean(axis=1, keepdims=True))
    return np.where(flat, np.nan, found)


def constant_rows(rows: Rows) -> npt.NDArray[np.bool_]:
    """Rows whose values are equal up to rounding (`hyped_bench.metrics.undefined.is_constant`)."""
    return np.ptp(rows, axis=1) <= 1e-12 * np.maximum(1.0, np.abs(rows).max(axis=1))


def _settled(change: Rows, found: Rows) -> Rows:
    """Predicted changes with those that are one number up to rounding put at that number, or at 0."""
    limit = ROUNDING * np.maximum(1.0, np.abs(found).max(axis=1, keepdims=True))
    level = change.mean(axis=1, keepdims=True)
    level = np.where(np.abs(level) <= limit, 0.0, level)
    return np.where(np.ptp(change, axis=1)[:, None] <= limit, level, change)


def _cosine_of_changes(change: Rows, true_change: Rows) -> Rows:
    """NaN also for a change of 0: no change has no direction."""
    return np.where((change == 0).all(axis=1), np.nan, cosine_rows(change, true_change))


def _explained(error: Rows, change: Rows, weights: Rows) -> Rows:
    """1 - weighted error over the weighted variance of the true change; NaN where that has none."""
    centre = (weights * change).sum(axis=1, keepdims=True)
    spread = (weights * (change - centre) ** 2).sum(axis=1)
    flat = constant_rows(np.where(weights > 0, change, centre))
    return 1.0 - _over(error, np.where(flat | (spread <= 1e-300), 0.0, spread))


def _over(above: Rows, below: Rows) -> Rows:
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below != 0)
