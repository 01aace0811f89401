"""What the technical duplicate says of a measurement with all cells: it is one half of them against the other half.

Both halves are noisier than the whole, so models, which meet the whole, can score above the duplicate as measured.
For means of cells the way back is known by the metric's arithmetic.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Law = Literal["correlation", "squared", "absolute", "relative", "unbiased"]

LAWS: dict[str, Law] = {
    "pearson_delta": "correlation", "cosine_delta": "correlation",
    "pearson_delta_train": "correlation", "cosine_delta_train": "correlation",
    "mse": "squared", "mse_delta": "squared", "mse_delta_train": "squared", "wmse": "squared",
    "mae": "absolute", "mae_delta": "absolute", "rmse_delta": "absolute",
    "mse_relative": "relative",
    "energy_distance": "unbiased", "mmd": "unbiased",
}  # fmt: skip
"""Metrics whose value for two measurements of all cells follows from that of two halves."""


def at_full_size(metric: str, halves: npt.ArrayLike) -> npt.NDArray[np.float64] | None:
    """What two independent measurements, each with all cells, would score; None where no law is known.

    With v the variance of a mean of all cells, a half has 2 v, two halves differ by 4 v and two whole measurements
    by 2 v: squared errors halve, absolute ones shrink by sqrt(2). ``mse_relative`` has the noisy size of the change
    below it too: r becomes 2 r / (4 - r). A correlation r of halves becomes 2 r / (1 + r) (Spearman 1910, Brown
    1910); one of 0 or less is left. Estimates that are unbiased for any number of cells stay as they are.

    >>> at_full_size("pearson_delta", [0.5]).tolist(), at_full_size("mse", [0.5]).tolist()
    ([0.6666666666666666], [0.25])
    """
    law = LAWS.get(metric)
    values = np.asarray(halves, dtype=float)
    if law is None:
        return None
    if law == "correlation":
        return np.where(values > 0, 2 * values / (1 + np.maximum(values, 0)), values)
    if law == "relative":
        return np.where(values < 4, 2 * values / (4 - np.minimum(values, 3.999)), values)
    return values * {"squared": 0.5, "absolute": 0.5**0.5, "unbiased": 1.0}[law]


def noise_free(metric: str, halves: npt.ArrayLike) -> npt.NDArray[np.float64] | None:
    """What a prediction without noise would score against a measurement with all cells: the root of its reliability.

    Only correlations have it; None for other metrics.

    >>> noise_free("pearson_delta", [0.5]).round(3).tolist()
    [0.816]
    """
    if LAWS.get(metric) != "correlation":
        return None
    whole = at_full_size(metric, halves)
    assert whole is not None  # correlations have a law
    return np.where(whole > 0, np.sqrt(np.maximum(whole, 0)), whole)
