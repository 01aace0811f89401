"""What a score becomes where it has no value: stated, counted, never better than it should be."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

DIGITS = 6
"""Digits after the point (or significant ones below 1) kept in every metrics file."""
LEAST = 3
"""With fewer units there is no interval over them."""
FEW = 8
"""With fewer perturbations there is none over perturbations: it would speak of ones that nobody has seen."""


def rounded(value: object) -> float | int | None:
    """``value`` with 6 digits; None for NaN, infinity and None; integers and booleans stay integers.

    Numbers below 1 keep 6 significant digits, so that a small MSE does not become 0.

    >>> rounded(0.123456789), rounded(0.0000123456789), rounded(float("nan")), rounded(3)
    (0.123457, 1.23457e-05, None, 3)
    """
    if value is None:
        return None
    if isinstance(value, (bool, int, np.integer, np.bool_)):
        return int(value)
    number = float(value)  # type: ignore[arg-type]
    if not math.isfinite(number):
        return None
    if 0 < abs(number) < 1:
        return float(f"{number:.{DIGITS}g}")
    return round(number, DIGITS) + 0.0


def mean_defined(values: Iterable[float | None]) -> float | None:
    """Mean over the values, None where one of them is undefined or there are none.

    An undefined unit makes the mean undefined: leaving it out would reward a model for failing.
    """
    array = np.array([np.nan if v is None else float(v) for v in values], dtype=float)
    if array.size == 0 or not np.isfinite(array).all():
        return None
    return float(array.mean())


def bootstrap_interval(
    values: Iterable[float | None],
    rng: np.random.Generator,
    *,
    draws: int = 1000,
    level: float = 0.95,
    least: int = LEAST,
) -> tuple[float | None, float | None]:
    """Interval of the mean over units by bootstrap, (None, None) for fewer than ``least`` units or an undefined one.

    It is that of `percentile_ends`, which verdicts use too.
    """
    array = np.array([np.nan if v is None else float(v) for v in values], dtype=float)
    if array.size < max(least, 2) or not np.isfinite(array).all():
        return None, None
    picks = rng.integers(0, array.size, size=(draws, array.size))
    low, high = percentile_ends(array[picks].mean(axis=1), array.size, level=level)
    return float(low), float(high)


def percentile_ends(
    means: npt.ArrayLike, n: int, *, level: float = 0.95
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Ends of the interval that drawn means of ``n`` units have, its percentiles moved out for their number.

    Plain percentiles of n units are too narrow by sqrt((n - 1) / n) and by the normal in place of Student's
    distribution: those of 8 units cover 90 % where they say 95 (Hesterberg, "What teachers should know about the
    bootstrap", The American Statistician 2015, section 5.3). No end lies beyond the least and the highest unit, so
    fewer than 6 units cover less than 95 %.

    Parameters
    ----------
    means : (draws,) or (draws, columns), each the mean of ``n`` units drawn with replacement; ``n`` at least 2.

    >>> [round(float(end), 2) for end in percentile_ends(np.arange(1001) / 1000, 8)]
    [0.01, 0.99]
    """
    from scipy.special import ndtr, stdtrit

    outer = float(ndtr(-np.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 + level) / 2)))
    low, high = np.quantile(np.asarray(means, dtype=float), [outer, 1 - outer], axis=0)
    return low, high


def is_constant(vector: npt.ArrayLike) -> bool:
    """True where all entries are equal up to rounding: a correlation with it has no value."""
    array = np.asarray(vector, dtype=float)
    if array.size == 0:
        return True
    spread = float(array.max() - array.min())
    return spread <= 1e-12 * max(1.0, float(np.abs(array).max()))
