"""Shares of phases among cells that were not sorted, and how sure they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hyped_seq.annotate.phase_ring import FloatArray, RingModel, softmax

PSEUDO_CELLS = 1.0
"""Cells of each phase that are taken to be there beforehand: keeps the shares of small groups from the edges."""
ITERATIONS = 40
TINY = 1e-300
"""Keeps what is out of the question finite as a logarithm."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of phases in one group of cells.

    Attributes
    ----------
    value : (P,) the shares, adding up to 1.
    variance : (P,) squared standard error from the number of cells and from how well phases can be told.
    posterior : (cells, P) probabilities of each cell under these shares.
    """

    value: FloatArray
    variance: FloatArray
    posterior: FloatArray


def estimate_shares(log_likelihood: FloatArray, iterations: int = 500, tolerance: float = 1e-7) -> Shares:
    """The shares of phases that explain the cells best, from (cells, P) log likelihoods.

    Expectation maximisation for the weights of a mixture with known parts (Saerens et al. 2002,
    doi:10.1162/089976602753284446), with `PSEUDO_CELLS`. The variance is the inverse of the observed
    information on the simplex.
    """
    likelihood = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
    n, n_phases = likelihood.shape
    value = np.full(n_phases, 1.0 / n_phases)
    for _ in range(iterations):
        expected = likelihood @ value
        updated = value * (likelihood / expected[:, None]).sum(axis=0) + PSEUDO_CELLS
        updated /= n + n_phases * PSEUDO_CELLS
        change = np.abs(updated - value).max()
        value = updated
        if change < tolerance:
            break
    posterior = likelihood * value
    posterior /= posterior.sum(axis=1, keepdims=True)
    return Shares(value, _variance(posterior, value), posterior)


def _variance(posterior: FloatArray, value: FloatArray) -> FloatArray:
    """(P,) from the observed information of all shares but the last, which is one minus the others."""
    score = posterior / value
    free = score[:, :-1] - score[:, -1:]
    information = free.T @ free + np.diag(PSEUDO_CELLS / value[:-1] ** 2) + PSEUDO_CELLS / value[-1] ** 2
    covariance = np.linalg.inv(information)
    return np.append(np.diag(covariance), covariance.sum())


@dataclass(frozen=True, slots=True)
class PoolFit:
    """A ring as it is in one pool of unsorted cells.

    Attributes
    ----------
    shift : (G,) natural log shift of the genes against the sorted cells.
    within : (K, P) where on the ring the cells of each phase are; columns add up to 1.
    """

    model: RingModel
    temperature: float
    shift: FloatArray
    within: FloatArray

    def log_likelihood(self, counts: FloatArray, depth: FloatArray) -> FloatArray:
        """(cells, P) log likelihood up to a constant of each cell under each phase."""
        places = self.model.place_log_likelihood(counts, depth, self.shift, self.temperature)
        top = places.max(axis=1, keepdims=True)
        return np.asarray(np.log(np.exp(places - top) @ self.within + TINY) + top)


def fit_pool(
    model: RingModel, counts: FloatArray, depth: FloatArray, temperature: float, shift_sd: float, place_cells: float
) -> PoolFit:
    """Fit to a pool of unsorted cells what differs there: the genes' levels and where in a phase cells are.

    Captures differ by gene, and so do conditions: shifts of single genes are shrunk towards the common one
    (``shift_sd``: their spread in natural logs). Within a phase, cells may be earlier or later than the sorted
    ones, which count as ``place_cells`` cells of each phase here. Both are estimated together with the shares of
    phases, so that fewer cells in S are told from lower genes of S.
    """
    shift, start = np.zeros(counts.shape[1]), model.within_phase()
    within = start
    shares = np.full(start.shape[1], 1.0 / start.shape[1])
    seen, rate = model.weight * counts.sum(axis=0), np.exp(model.log_rate)
    for _ in range(ITERATIONS):
        joint = within * shares
        total = joint.sum(axis=1, keepdims=True) + TINY
        at = softmax(model.place_log_likelihood(counts, depth, shift, temperature) + np.log(total[:, 0]))
        there = joint / total * at.sum(axis=0)[:, None]
        number = there.sum(axis=0)
        shares = (number + PSEUDO_CELLS) / (number + PSEUDO_CELLS).sum()
        within = (there + place_cells * start) / (number + place_cells)
        if shift_sd > 0 and seen.sum() > 0:
            expected = model.weight * (model.exposure(at, counts, depth, shift) @ rate)
            shift = _shift(shift, seen, expected, shift_sd)
    return PoolFit(model, temperature, shift, within)


def _shift(shift: FloatArray, seen: FloatArray, expected: FloatArray, sd: float) -> FloatArray:
    """Three Newton steps for Poisson totals with a normal prior about the common shift."""
    common = np.log(seen.sum() / expected.sum())
    for _ in range(3):
        shifted = expected * np.exp(shift)
        step = (seen - shifted - (shift - common) / sd**2) / (shifted + 1.0 / sd**2)
        shift = shift + np.clip(step, -0.5, 0.5)
    return shift


def jackknife_variance(values: npt.ArrayLike) -> FloatArray:
    """(P,) squared standard error that training adds, from (folds, P) shares by models that lack one fold each."""
    found = np.asarray(values, dtype=float)
    return np.asarray((len(found) - 1) / len(found) * ((found - found.mean(axis=0)) ** 2).sum(axis=0))
