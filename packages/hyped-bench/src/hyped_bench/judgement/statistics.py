"""Statistics of paired differences: intervals and p values over units or over redrawn cells, null intervals, Holm.

All functions take differences that are positive where the first is better, and work on several columns at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from hyped_bench.metrics.undefined import FEW, LEAST, percentile_ends

__all__ = [
    "DRAWS", "EXACT", "FEW", "LEAST", "LEVEL", "Intervals", "Method", "bootstrap_over_units", "holm", "null_interval",
    "over_draws", "sign_flip_p", "student",
]  # fmt: skip

DRAWS = 10_000
"""Draws of the bootstrap over units, and of sign flips where not all are counted."""
LEVEL = 0.95
EXACT = 12
"""Up to this many units all patterns of signs are counted."""

Method = Literal["bootstrap", "student", "cells"]


@dataclass(frozen=True, slots=True)
class Intervals:
    """Effects with intervals, one entry a column.

    Attributes
    ----------
    effect : mean difference.
    lo, hi : ends of the interval.
    p : two-sided, before correction for several comparisons.
    method : where the spread comes from: ``bootstrap`` over units, ``student`` (few units), ``cells`` (draws).
    """

    effect: npt.NDArray[np.float64]
    lo: npt.NDArray[np.float64]
    hi: npt.NDArray[np.float64]
    p: npt.NDArray[np.float64]
    method: Method


@lru_cache(maxsize=8)
def _weights(n: int, draws: int, seed: int) -> npt.NDArray[np.float64]:
    """Shares of ``n`` units in each draw with replacement, (draws, n); the same for every column: paired."""
    rng = np.random.default_rng([seed, n, draws])
    return rng.multinomial(n, np.full(n, 1 / n), size=draws) / n


def bootstrap_over_units(
    differences: npt.ArrayLike, *, seed: int = 0, draws: int = DRAWS, level: float = LEVEL
) -> Intervals:
    """Paired bootstrap of mean differences over units.

    The interval is that of `percentile_ends`. The p value is that of flipped signs (`sign_flip_p`), which asks for
    no spread: ten differences of 1 but for one of 0.9 are as far from 0 as ten can be.

    Parameters
    ----------
    differences : (units,) or (units, columns), finite.
    """
    values = _columns(differences)
    n = len(values)
    lo, hi = percentile_ends(_weights(n, draws, seed) @ values, n, level=level)
    return Intervals(values.mean(axis=0), lo, hi, sign_flip_p(values, seed=seed, draws=draws), "bootstrap")


def student(differences: npt.ArrayLike, *, level: float = LEVEL) -> Intervals:
    """Student's paired interval and p value: for few units, which leave nothing to draw from.

    Takes the differences for normal. Differences that are all equal have no spread: the interval is a point, and
    p is that of their signs, 2 ** (1 - n).
    """
    from scipy.special import stdtr, stdtrit

    values = _columns(differences)
    n = len(values)
    effect = values.mean(axis=0)
    error = values.std(axis=0, ddof=1) / np.sqrt(n)
    flat = error <= 1e-12 * np.abs(effect)
    reach = stdtrit(n - 1, (1 + level) / 2) * error
    p = 2 * stdtr(n - 1, -np.abs(effect) / np.where(flat, 1.0, error))
    p = np.where(flat, np.where(effect != 0, 2.0 ** (1 - n), 1.0), p)
    return Intervals(effect, effect - reach, effect + reach, p, "student")


def over_draws(effect: npt.ArrayLike, draws: npt.ArrayLike, *, level: float = LEVEL) -> Intervals:
    """Intervals from redrawn cells: the spread of the draws' differences about their own mean, laid on the effect.

    Redrawn cells repeat some cells and miss others, which moves every score the same way; so the draws say how far
    an effect scatters, and the effect itself is that of the real cells. The p value is that of a normal deviate with
    the draws' spread, and never below 1 / (1 + draws): a few hundred draws say nothing of the far tail.

    Parameters
    ----------
    effect : (columns,), from the real cells.
    draws : (draws, columns) of the same difference, cells redrawn.
    """
    from scipy.special import ndtr

    centre = np.atleast_1d(np.asarray(effect, dtype=float))
    values = _columns(draws)
    apart = values - values.mean(axis=0)
    low, high = np.quantile(apart, [(1 - level) / 2, (1 + level) / 2], axis=0)
    spread = values.std(axis=0, ddof=1)
    flat = spread <= 1e-12 * np.abs(centre)
    p = 2 * ndtr(-np.abs(centre) / np.where(flat, 1.0, spread))
    least = 1 / (1 + len(values))
    p = np.where(flat, np.where(centre != 0, least, 1.0), np.clip(p, least, 1.0))
    return Intervals(centre, centre + low, centre + high, p, "cells")


def null_interval(
    differences: npt.ArrayLike, *, seed: int = 0, draws: int = DRAWS, level: float = LEVEL
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Where the mean difference lies if each unit's sign were a coin's: the central part of the flipped means.

    All patterns are counted up to `EXACT` units, so the ends are order statistics and the mean lies outside only
    where it is rarer than ``level`` allows (which fewer than 6 units cannot reach); else they are drawn.

    Parameters
    ----------
    differences : (units,) or (units, columns), finite.
    """
    values = _columns(differences)
    flipped = _signs(len(values), draws, seed) @ values / len(values)
    low = np.quantile(flipped, (1 - level) / 2, axis=0, method="lower")
    high = np.quantile(flipped, (1 + level) / 2, axis=0, method="higher")
    return low, high


def sign_flip_p(differences: npt.ArrayLike, *, seed: int = 0, draws: int = DRAWS) -> npt.NDArray[np.float64]:
    """Two-sided p of the mean under flipped signs: exact up to `EXACT` units, else (1 + beyond) / (1 + draws).

    Up to `EXACT` units it is never below 2 ** (1 - units).
    """
    values = _columns(differences)
    n = len(values)
    observed = np.abs(values.mean(axis=0))
    flipped = np.abs(_signs(n, draws, seed) @ values / n)
    beyond = (flipped >= observed - 1e-12 * np.abs(values).mean(axis=0)).sum(axis=0)  # ties, however they are rounded
    return beyond / len(flipped) if n <= EXACT else (1 + beyond) / (1 + len(flipped))


@lru_cache(maxsize=8)
def _signs(n: int, draws: int, seed: int) -> npt.NDArray[np.float64]:
    """Patterns of signs, (patterns, n): all of them, or drawn."""
    if n <= EXACT:
        return 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    return np.random.default_rng([seed, n, draws, 1]).choice([-1.0, 1.0], size=(draws, n))


def holm(p: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Holm's step-down p values of one family; NaN entries are no members of it.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, dtype=float)
    adjusted = np.full(values.shape, np.nan)
    at = np.flatnonzero(np.isfinite(values))
    order = at[np.argsort(values[at], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def _columns(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=float)
    return array[:, None] if array.ndim == 1 else array
