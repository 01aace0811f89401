"""What a score becomes where it has no value: stated, counted, never better than it should be."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

DIGITS = 6
"""Digits after the point (or significant ones below 1) kept in every metrics file."""


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
    values: Iterable[float | None], rng: np.random.Generator, *, draws: int = 1000, level: float = 0.95
) -> tuple[float | None, float | None]:
    """Percentile interval of the mean over units, (None, None) for fewer than 3 units or an undefined one."""
    array = np.array([np.nan if v is None else float(v) for v in values], dtype=float)
    if array.size < 3 or not np.isfinite(array).all():
        return None, None
    picks = rng.integers(0, array.size, size=(draws, array.size))
    means = array[picks].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def is_constant(vector: npt.ArrayLike) -> bool:
    """True where all entries are equal up to rounding: a correlation with it has no value."""
    array = np.asarray(vector, dtype=float)
    if array.size == 0:
        return True
    spread = float(array.max() - array.min())
    return spread <= 1e-12 * max(1.0, float(np.abs(array).max()))
