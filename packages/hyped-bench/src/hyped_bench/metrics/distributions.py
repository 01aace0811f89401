"""Distances between two populations of cells: energy distance (two estimators), MMD and sliced Wasserstein.

Inputs are (cells, d), usually principal components of the training cells. All are 0 for equal distributions, symmetric,
and for a model that returns the control cells they are the distance of the perturbed cells from control. None is free
of the size of the groups: compare models on groups of equal size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hyped_core.errors import InvalidDataError

Matrix = npt.NDArray[np.float64]


def energy_distance(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'| with Euclidean distances, U-statistic within terms (scPertEval).

    Szekely and Rizzo 2013. Pairs of a cell with itself are left out, so equal distributions give 0 on average (it may
    be slightly negative); a single cell is a point mass without a term within. No change scores the distance of
    perturbed to control cells.
    """
    return Pairs.of(first, second).energy()


def energy_distance_v(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """`energy_distance` with V-statistic within terms: pairs of a cell with itself count as 0 (cell-eval, pertpy 1.x).

    Never negative, and 0 only for equal sets of cells: equal distributions give about E|x - x'| (1/n + 1/m), so a model
    gains by predicting more cells. No change scores the distance of perturbed to control cells.
    """
    return Pairs.of(first, second).energy(biased=True)


def mmd(first: npt.ArrayLike, second: npt.ArrayLike, bandwidth: float | None = None) -> float | None:
    """Unbiased squared maximum mean discrepancy with the kernel exp(-|x - y|^2 / (2 s^2)) (Gretton et al. 2012).

    Mean of k over pairs of different cells within each group, less twice the mean across. s is ``bandwidth``, or the
    median distance of different cells of the pooled groups (scPertEval); that median moves with the prediction, so
    models compare better with one s for all: `median_distance` of true and control cells. Equal distributions give 0
    on average (it may be slightly negative), 0 too where all cells are one point. No change scores the discrepancy of
    perturbed and control cells, at most 2. None for fewer than 2 cells in a group.
    """
    return Pairs.of(first, second).mmd(bandwidth)


def median_distance(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Median Euclidean distance between different cells of both groups together: the usual bandwidth of `mmd`."""
    return Pairs.of(first, second).median()


def sliced_wasserstein(first: npt.ArrayLike, second: npt.ArrayLike, *, directions: int = 100, seed: int = 0) -> float:
    """Root of the mean over random unit directions of the squared 1-D Wasserstein-2 distance (Bonneel et al. 2015).

    In one dimension W2^2 is the integral over (0, 1) of the squared difference of the two quantile functions, exact for
    groups of any size. Directions are drawn from ``seed`` and the same for all models. Never negative, 0 for equal sets
    of cells; equal distributions give a value above 0 that falls with the number of cells. No change scores the
    distance of perturbed to control cells.
    """
    x, y = _population(first), _population(second)
    _same_space(x, y)
    rays = np.random.default_rng(seed).standard_normal((x.shape[1], directions))
    rays /= np.linalg.norm(rays, axis=0)
    a, b = np.sort(x @ rays, axis=0), np.sort(y @ rays, axis=0)
    n, m = len(a), len(b)
    # quantile functions step at i/n and j/m: in whole numbers of 1/(n m), so that equal steps are equal
    steps = np.unique(np.concatenate([np.arange(1, n + 1) * m, np.arange(1, m + 1) * n]))
    widths = np.diff(steps, prepend=0) / (n * m)
    squared = (a[(steps - 1) // m] - b[(steps - 1) // n]) ** 2
    return float(np.sqrt((widths @ squared).mean()))


@dataclass(frozen=True, slots=True)
class Pairs:
    """Euclidean distances within and across two groups, from which scores and their bootstrap draws are made.

    Redrawing cells only changes how often each pair counts, so draws cost a matrix product and no new distances. All
    distances are kept, 8 (n + m)^2 bytes less the lower corner: take a few hundred cells of each group.

    Attributes
    ----------
    within_first : (n, n).
    within_second : (m, m).
    across : (n, m).
    """

    within_first: Matrix
    within_second: Matrix
    across: Matrix

    @classmethod
    def of(cls, first: npt.ArrayLike, second: npt.ArrayLike) -> Pairs:
        """Of two groups (n, d) and (m, d).

        Raises
        ------
        InvalidDataError
            For an empty group, NaN or infinity, or groups in different spaces.
        """
        from scipy.spatial.distance import cdist

        x, y = _population(first), _population(second)
        _same_space(x, y)
        return cls(cdist(x, x), cdist(y, y), cdist(x, y))

    def energy(self, biased: bool = False) -> float:
        """`energy_distance`, or `energy_distance_v` where ``biased``."""
        n, m = self.across.shape
        counts = np.ones((1, n)), np.ones((1, m))
        return float(self.energy_draws(*counts, biased=biased)[0])

    def energy_draws(
        self, first: npt.ArrayLike, second: npt.ArrayLike, biased: bool = False
    ) -> npt.NDArray[np.float64]:
        """Energy distance (draws,) of redrawn cells: ``first`` (draws, n), ``second`` (draws, m) count each cell.

        Two copies of a cell are no pair of the U-statistic, so draws lie about the score of the cells themselves; they
        are a pair at distance 0 of the V-statistic, whose draws lie above it.
        """
        w, v = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
        inside = _mean_pair(self.within_first, w, biased) + _mean_pair(self.within_second, v, biased)
        return 2.0 * _mean_across(self.across, w, v) - inside

    def median(self) -> float:
        """Median distance between different cells of both groups together; 0 for a single cell."""
        n, m = self.across.shape
        first, second = self.within_first[np.triu_indices(n, 1)], self.within_second[np.triu_indices(m, 1)]
        pooled = np.concatenate([first, second, self.across.ravel()])
        return float(np.median(pooled)) if pooled.size else 0.0

    def mmd(self, bandwidth: float | None = None) -> float | None:
        """`mmd` of the two groups."""
        n, m = self.across.shape
        if n < 2 or m < 2:
            return None
        return float(self.mmd_draws(np.ones((1, n)), np.ones((1, m)), bandwidth)[0])

    def mmd_draws(
        self, first: npt.ArrayLike, second: npt.ArrayLike, bandwidth: float | None = None
    ) -> npt.NDArray[np.float64]:
        """`mmd` (draws,) of redrawn cells, counts as in `energy_draws`; the bandwidth is that of all cells."""
        w, v = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
        width = self.median() if bandwidth is None else bandwidth
        if width <= 0:
            return np.zeros(len(w))
        # 1 - k is 0 for a cell with itself, as a distance is, so one rule of pairs serves both
        first_, second_, across = (
            -np.expm1(-(d**2) / (2 * width**2)) for d in (self.within_first, self.within_second, self.across)
        )
        return 2.0 * _mean_across(across, w, v) - _mean_pair(first_, w, False) - _mean_pair(second_, v, False)


def _mean_pair(values: Matrix, counts: Matrix, biased: bool) -> npt.NDArray[np.float64]:
    """Mean (draws,) of symmetric ``values`` with a zero diagonal over pairs of drawn cells; 0 for a single cell.

    Over all pairs where ``biased``, else over pairs of different cells.
    """
    size = counts.sum(axis=1)
    pairs = size**2 if biased else size**2 - (counts**2).sum(axis=1)
    total = np.einsum("ij,ij->i", counts @ values, counts)
    return np.divide(total, pairs, out=np.zeros_like(total), where=pairs > 0)


def _mean_across(values: Matrix, first: Matrix, second: Matrix) -> npt.NDArray[np.float64]:
    return np.einsum("ij,ij->i", first @ values, second) / (first.sum(axis=1) * second.sum(axis=1))


def _population(cells: npt.ArrayLike) -> Matrix:
    x = np.atleast_2d(np.asarray(cells, dtype=np.float64))
    if x.ndim != 2 or x.shape[0] == 0 or x.shape[1] == 0:
        raise InvalidDataError(f"distance of an empty group of cells {x.shape}", mend="predict at least one cell")
    if not np.isfinite(x).all():
        raise InvalidDataError("cells have NaN or infinity", mend="predict a number for every gene of every cell")
    return x


def _same_space(x: Matrix, y: Matrix) -> None:
    if x.shape[1] != y.shape[1]:
        raise InvalidDataError(f"groups of cells have {x.shape[1]} and {y.shape[1]} dimensions")
