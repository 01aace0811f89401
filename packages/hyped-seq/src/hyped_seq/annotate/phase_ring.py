"""A model of phases: genes rise and fall round the cycle; sorted cells say, some wrongly, where the phases are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hyped_seq.annotate.phase_params import PhaseParams

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

ITERATIONS = 40
LABEL_ERROR = 0.1
"""Share of sorted cells taken to be in another phase than sorted for, before the data say more."""
LABEL_WIDTH = 0.04
"""Standard deviation of the kernel (share of the cycle) that smooths labels before phases are laid out."""
BOUNDARY_WIDTH = 0.02
"""Standard deviation of the border between two phases, as a share of the cycle."""
DENSITY_WIDTH = 0.05
"""Standard deviation of the kernel that smooths how many cells are at a place."""


@dataclass(frozen=True, slots=True)
class RingModel:
    """``G`` genes at ``K`` places round the cycle, and ``P`` phases over the places.

    A cell at a place has ``depth * exp(log_rate)`` molecules of each gene. Genes that vary more than a Poisson
    count does weigh less (quasi-likelihood with the dispersion found within phases). Where all these genes of a cell
    are louder or softer together than its depth says, by a gamma factor of mean 1, the factor is integrated out.

    Attributes
    ----------
    log_rate : (K, G) natural log of the share of a cell's molecules.
    weight : (G,) 1 / (1 + dispersion x mean count), at most 1.
    membership : (K, P) share of the cells at a place that are in each phase.
    label : (P, P) probability that a cell of a phase (row) was sorted as another (column).
    density : (K,) share of the sorted cells at each place.
    loudness : variance of the factor; 0: depth says it all.
    """

    log_rate: FloatArray
    weight: FloatArray
    membership: FloatArray
    label: FloatArray
    density: FloatArray
    loudness: float = 0.0

    def place_log_likelihood(
        self, counts: FloatArray, depth: FloatArray, shift: FloatArray | float = 0.0, temperature: float = 1.0
    ) -> FloatArray:
        """(cells, K) log likelihood up to a constant of each cell; ``shift`` (G,) is added to the log rates."""
        log_rate = self.log_rate + shift
        expected = depth[:, None] * (np.exp(log_rate) @ self.weight)
        found = (counts * self.weight) @ log_rate.T - _cost(counts @ self.weight, expected, self.loudness)
        return np.asarray(found / temperature)

    def exposure(
        self, at: FloatArray, counts: FloatArray, depth: FloatArray, shift: FloatArray | float = 0.0
    ) -> FloatArray:
        """(K,) molecules over all genes at each place, given where cells are: ``at`` (cells, K), rows adding to 1."""
        expected = depth[:, None] * (np.exp(self.log_rate + shift) @ self.weight)
        return _exposure(at, depth, counts @ self.weight, expected, self.loudness)

    def within_phase(self) -> FloatArray:
        """(K, P) where the cells of each phase are: columns add up to 1."""
        joint = self.density[:, None] * self.membership
        return np.asarray(joint / joint.sum(axis=0))

    def label_error(self) -> float:
        """Estimated share of the sorted cells that are in another phase than the one they were sorted for."""
        return float(1.0 - (self.density @ self.membership) @ np.diag(self.label))


def fit_ring(
    counts: FloatArray,
    depth: FloatArray,
    labels: IntArray,
    n_phases: int,
    params: PhaseParams,
    loudness: float = 0.0,
) -> RingModel:
    """Learn a ring from sorted cells by expectation maximisation.

    Parameters
    ----------
    counts : (cells, G) raw counts.
    depth : (cells,) molecules of the cell over all genes.
    labels : (cells,) which phase a cell was sorted for, in the order of the cycle from 0; each has to occur.
    loudness : as in `RingModel`.

    Phases are laid out as arcs in their order. A label is right with a probability that is learned together
    with everything else, so that cells in the wrong gate do not smear the phases.
    """
    n_places = params.places
    place = (np.arange(n_places) + 0.5) / n_places
    centre = (np.arange(n_phases) + 0.5) / n_phases
    apart = np.abs(place[:, None] - centre)
    apart = np.minimum(apart, 1.0 - apart)
    by_phase, overall = _rates(counts, depth, labels, n_phases), (counts.sum(axis=0) + 0.5) / depth.sum()
    weight = 1.0 / (1.0 + _dispersion(counts, depth[:, None] * by_phase[labels]) * counts.mean(axis=0))
    near = np.exp(-0.5 * (apart * n_phases / 0.36) ** 2)
    log_rate = (near / near.sum(axis=1, keepdims=True)) @ np.log(by_phase)
    label = np.full((n_phases, n_phases), LABEL_ERROR / max(n_phases - 1, 1))
    np.fill_diagonal(label, 1.0 - LABEL_ERROR)
    border = _kernel(n_places, BOUNDARY_WIDTH)
    membership = border @ np.eye(n_phases)[apart.argmin(axis=1)]
    density = np.full(n_places, 1.0 / n_places)
    smooth, spread = _kernel(n_places, params.smoothing), _kernel(n_places, DENSITY_WIDTH)
    gather = _kernel(n_places, LABEL_WIDTH)
    sorted_as, weighted, pseudo = np.eye(n_phases)[labels], counts * weight, 0.5 * depth.mean()
    total = weighted.sum(axis=1)
    for _ in range(ITERATIONS):
        expected = depth[:, None] * (np.exp(log_rate) @ weight)
        found = weighted @ log_rate.T - _cost(total, expected, loudness)
        found += np.log(density) + np.log(membership @ label)[:, labels].T
        at = softmax(found)
        exposure = smooth @ _exposure(at, depth, total, expected, loudness)
        log_rate = np.log((smooth @ (at.T @ counts) + overall * pseudo) / (exposure[:, None] + pseudo))
        tally = at.T @ sorted_as
        share = membership[:, :, None] * label[None]
        share /= share.sum(axis=1, keepdims=True)
        label = np.einsum("kl,kpl->pl", tally, share) + 2.0 * np.eye(n_phases) + 0.5
        label /= label.sum(axis=1, keepdims=True)
        membership = border @ _arcs((gather @ tally) @ np.log(label).T)
        density = spread @ at.sum(axis=0) + 1.0
        density /= density.sum()
    return RingModel(log_rate, weight, membership, label, density, loudness)


def softmax(logs: FloatArray) -> FloatArray:
    """Rows of probabilities from rows of log weights."""
    found = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def _cost(total: FloatArray, expected: FloatArray, loudness: float) -> FloatArray:
    """(cells, K) what ``expected`` molecules take off the log likelihood of cells that have ``total``."""
    if loudness == 0:
        return expected
    return np.asarray((total[:, None] + 1.0 / loudness) * np.log1p(loudness * expected))


def _exposure(
    at: FloatArray, depth: FloatArray, total: FloatArray, expected: FloatArray, loudness: float
) -> FloatArray:
    """(K,) depth of the cells at each place, times the mean of each cell's factor given its ``total``."""
    if loudness > 0:
        at = at * (1.0 + loudness * total[:, None]) / (1.0 + loudness * expected)
    return np.asarray(at.T @ depth)


def _rates(counts: FloatArray, depth: FloatArray, labels: IntArray, n_phases: int) -> FloatArray:
    """(P, G) share of molecules per phase; half a molecule at the overall rate keeps it positive."""
    total = counts.sum(axis=0)
    extra = 0.5 * depth.sum() / np.maximum(total, 1.0)
    groups = [labels == phase for phase in range(n_phases)]
    return np.stack([(counts[g].sum(axis=0) + 0.5) / (depth[g].sum() + extra) for g in groups])


def _dispersion(counts: FloatArray, mean: FloatArray) -> FloatArray:
    """(G,) negative-binomial dispersion by moments, at least 0."""
    excess = ((counts - mean) ** 2 - mean).sum(axis=0)
    return np.asarray(np.maximum(excess / np.maximum((mean**2).sum(axis=0), 1e-12), 0.0))


def _kernel(n: int, width: float) -> FloatArray:
    """(n, n) circular Gaussian weights, rows adding up to 1; ``width`` is a share of the circle."""
    steps = np.arange(n)
    weight = np.exp(-0.5 * (np.minimum(steps, n - steps) / (n * width)) ** 2)
    return np.stack([np.roll(weight / weight.sum(), shift) for shift in range(n)])


def _arcs(evidence: FloatArray) -> FloatArray:
    """(K, P) one 1 a row, at the phase with most evidence; a phase that wins nowhere gets its best place."""
    winner = evidence.argmax(axis=1)
    for phase in range(evidence.shape[1]):
        if not (winner == phase).any():
            winner[(evidence[:, phase] - evidence.max(axis=1)).argmax()] = phase
    return np.eye(evidence.shape[1])[winner]
