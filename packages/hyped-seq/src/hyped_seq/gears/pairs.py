"""Which control cell stands for a perturbed one before it was perturbed, and what a cell's state is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

Ints = npt.NDArray[np.int64]
NEAREST = 10
"""Control cells of similar state that a matched pair is drawn among."""
_POWERS, _MORE = 6, 8


@dataclass(frozen=True)
class CellStates:
    """Scores of cells on principal components of control cells: (x - centre) @ loadings, each of variance one there.

    Attributes
    ----------
    loadings : (genes, k) float32; zero for genes that do not vary among control cells.
    offset : (k,) float32, ``centre @ loadings``.
    """

    loadings: npt.NDArray[np.float32]
    offset: npt.NDArray[np.float32]

    def of(self, x: sp.csr_matrix | npt.NDArray) -> npt.NDArray[np.float32]:
        """(cells, k) float32 states of cells (cells, genes)."""
        return np.asarray(x @ self.loadings, dtype=np.float32) - self.offset

    @property
    def dims(self) -> int:
        """k."""
        return self.loadings.shape[1]


def learn_states(control: sp.csr_matrix, dims: int, *, seed: int) -> CellStates:
    """Components of the control cells (cells, genes), at most ``dims`` and fewer than cells and genes.

    By subspace iteration from a seeded start (the leading components are exact to float noise; the start matters only
    where components are as good as equal). A component's largest loading is positive.
    """
    cells, genes = control.shape
    dims = min(dims, cells - 1, genes)
    if dims < 1:
        return CellStates(np.zeros((genes, 0), np.float32), np.zeros(0, np.float32))
    x = control.astype(np.float64)
    centre = np.asarray(x.mean(axis=0)).ravel()

    def project(basis: npt.NDArray) -> npt.NDArray:
        return x @ basis - centre @ basis

    def back(scores: npt.NDArray) -> npt.NDArray:
        return x.T @ scores - np.outer(centre, scores.sum(axis=0))

    rng = np.random.default_rng([seed, 11])
    basis = np.linalg.qr(rng.standard_normal((genes, min(dims + _MORE, genes, cells))))[0]
    for _ in range(_POWERS):
        basis = np.linalg.qr(back(project(basis)))[0]
    scores = project(basis)
    values, vectors = np.linalg.eigh(scores.T @ scores / max(cells - 1, 1))
    keep = np.argsort(-values, kind="stable")[:dims]
    keep = keep[values[keep] > 1e-10 * max(float(values.max()), 1e-12)]
    loadings = basis @ vectors[:, keep]
    loadings *= np.sign(loadings[np.abs(loadings).argmax(axis=0), np.arange(loadings.shape[1])])
    loadings /= np.sqrt(values[keep])
    return CellStates(loadings.astype(np.float32), (centre @ loadings).astype(np.float32))


def random_pairs(condition: Ints, control: Ints, *, seed: int) -> Ints:
    """(cells,) row of the control cell given to each cell: any for a perturbed one, itself for a control cell.

    Parameters
    ----------
    condition : (cells,) 0 is control.
    control : rows to draw from.
    """
    rng = np.random.default_rng([seed, 12])
    pairs = control[rng.integers(0, len(control), len(condition))]
    pairs[condition == 0] = np.flatnonzero(condition == 0)
    return pairs


def matched_pairs(
    condition: Ints,
    control: Ints,
    states: npt.NDArray[np.float32],
    phase: Ints,
    *,
    train: Ints | None = None,
    seed: int,
    nearest: int = NEAREST,
) -> Ints:
    """(cells,) row of a control cell of similar state, drawn among the ``nearest``; itself for a control cell.

    What a perturbation does to the state is taken off before: of each cell's state its condition's mean difference
    from control cells of the same phase, taken over its training cells (over all of a condition that has none, whose
    pairs no training sees). Where a cell's phase is known and control cells of it are there, the pair is
    among these.

    Parameters
    ----------
    condition : (cells,) 0 is control.
    control : rows to draw from.
    states : (cells, k).
    phase : (cells,) number of the phase, -1 where it is not known.
    train : rows trained on; all where None.
    """
    from scipy.spatial import cKDTree

    if not states.shape[1]:
        return random_pairs(condition, control, seed=seed)
    # a phase without control cells counts as not known
    known = np.unique(phase[control])
    phase = np.where(np.isin(phase, known), phase, -1)
    overall = states[control].mean(axis=0, dtype=np.float64)
    expected = np.tile(overall, (len(condition), 1))
    pools = {-1: control}
    for number in known[known >= 0]:
        pools[int(number)] = control[phase[control] == number]
        expected[phase == number] = states[pools[int(number)]].mean(axis=0, dtype=np.float64)
    trained = np.ones(len(condition), dtype=bool) if train is None else np.isin(np.arange(len(condition)), train)
    wanted = states.astype(np.float64)
    for number in np.unique(condition[condition != 0]):
        rows = np.flatnonzero(condition == number)
        seen = rows[trained[rows]] if trained[rows].any() else rows
        wanted[rows] -= (states[seen] - expected[seen]).mean(axis=0)
    rng = np.random.default_rng([seed, 13])
    drawn = rng.random(len(condition))
    pairs = np.full(len(condition), -1, dtype=np.int64)
    for number, pool in pools.items():
        rows = np.flatnonzero((condition != 0) & (phase == number))
        if not len(rows):
            continue
        k = min(nearest, len(pool))
        near = cKDTree(states[pool]).query(wanted[rows], k=k)[1].reshape(len(rows), k)
        pairs[rows] = pool[near[np.arange(len(rows)), (drawn[rows] * k).astype(np.int64)]]
    pairs[condition == 0] = np.flatnonzero(condition == 0)
    return pairs
