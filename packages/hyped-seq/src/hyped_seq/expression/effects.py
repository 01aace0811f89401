"""Linear algebra of `latent_ridge`: gene embeddings, latent directions, and effects of genes by ridge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

Floats = npt.NDArray[np.float64]
Key = tuple[str, str]
"""(gene, direction)."""

DAMPINGS = tuple(round(0.5 + 0.05 * step, 2) for step in range(17))
"""Candidates for the damping of combinations: 0.5 to 1.3."""


def column_mean(matrix: object) -> Floats:
    """Mean of each column of a dense or sparse matrix, float64."""
    return np.asarray(matrix.mean(axis=0), dtype=np.float64).ravel()  # type: ignore[attr-defined]


def gene_embeddings(matrix: object, n_components: int, rows: npt.NDArray[np.int64]) -> Floats:
    """(genes, d) loadings of the genes on the principal components of the cells in ``rows``.

    A gene's row is scaled by the components' deviations over the gene's own, so that the dot product of two
    rows approximates their correlation. Genes without variance get zeros.
    """
    part = matrix[rows]  # type: ignore[index]
    dense = np.asarray(part.toarray() if sp.issparse(part) else part, dtype=np.float64)
    dense = dense - dense.mean(axis=0)
    deviation = np.sqrt((dense**2).mean(axis=0))
    dense /= np.where(deviation > 1e-8, deviation, 1)
    dense[:, deviation <= 1e-8] = 0
    n = max(1, min(n_components, min(dense.shape) - 1))
    if dense.shape[0] <= dense.shape[1]:
        values, vectors = np.linalg.eigh(dense @ dense.T / len(dense))
        keep = np.argsort(-values)[:n]
        return dense.T @ vectors[:, keep] / np.sqrt(len(dense))
    values, vectors = np.linalg.eigh(dense.T @ dense / len(dense))
    keep = np.argsort(-values)[:n]
    return vectors[:, keep] * np.sqrt(np.maximum(values[keep], 0))


def latent_basis(changes: Floats, weights: Floats, n_components: int) -> Floats:
    """(genes, k) orthonormal directions in which the weighted changes (perturbations, genes) vary most."""
    scaled = changes * np.sqrt(weights)[:, None]
    values, vectors = np.linalg.eigh(scaled @ scaled.T)
    keep = [i for i in np.argsort(-values)[:n_components] if values[i] > 1e-12 * max(values.max(), 1e-300)]
    if not keep:
        return np.zeros((changes.shape[1], 1))
    return scaled.T @ vectors[:, keep] / np.sqrt(values[keep])


@dataclass(frozen=True, slots=True)
class Effects:
    """What was learned about single genes, in latent coordinates.

    Attributes
    ----------
    weights : (1 + d, k) ridge from (1, signed embedding) to the effect of a gene.
    residuals : (seen keys, k) what each seen gene does beyond that.
    keys : the seen (gene, direction), rows of ``residuals``.
    damping : effects of a combination are the sum times this.
    """

    weights: Floats
    residuals: Floats
    keys: tuple[Key, ...]
    damping: float

    def of(self, genes: Sequence[Key], features: Floats) -> Floats:
        """(k,) latent change of a perturbation of ``genes`` with ``features`` (genes, 1 + d)."""
        position = {key: i for i, key in enumerate(self.keys)}
        total = features.sum(axis=0) @ self.weights
        for key in genes:
            if key in position:
                total = total + self.residuals[position[key]]
        return total * (self.damping if len(genes) > 1 else 1.0)


def fit_effects(
    latent: Floats,
    weights: Floats,
    members: Sequence[Sequence[Key]],
    features: Sequence[Floats],
    ridge: float,
    residual_ridge: float,
    damping_prior: float = 4.0,
) -> Effects:
    """Effects of genes from changes of single genes and combinations.

    A perturbation's change is the sum of its genes' effects, times a damping where it has several; an effect
    is a linear function of the gene's embedding (penalty ``ridge``) plus the gene's own residual (penalty
    ``residual_ridge``). For every damping of `DAMPINGS` the two are solved for jointly; the damping with the
    least penalised error is taken, ``damping_prior`` combinations of mean size drawing it towards 1.

    Parameters
    ----------
    latent : (perturbations, k) changes.
    weights : (perturbations,) how much each counts.
    members : genes of each perturbation.
    features : of each perturbation, (genes, 1 + d).
    """
    keys = tuple(sorted({key for member in members for key in member}))
    position = {key: i for i, key in enumerate(keys)}
    incidence = np.zeros((len(members), len(keys)))
    for row, member in enumerate(members):
        for key in member:
            incidence[row, position[key]] = 1
    summed = np.stack([feature.sum(axis=0) for feature in features])
    scales = np.concatenate([np.full(summed.shape[1], ridge**-0.5), np.full(len(keys), residual_ridge**-0.5)])
    design = np.hstack([summed, incidence]) * scales
    several = np.array([len(member) > 1 for member in members])
    root = np.sqrt(weights)[:, None]
    size = float((latent[several] ** 2).sum(axis=1).mean()) if several.any() else 0.0
    best: tuple[float, float, Floats] = (np.inf, 1.0, np.zeros((design.shape[1], latent.shape[1])))
    for damping in DAMPINGS if several.any() else (1.0,):
        scaled = design * np.where(several, damping, 1.0)[:, None]
        solution = _ridge(root * scaled, root * latent, 1.0)
        error = ((root * (latent - scaled @ solution)) ** 2).sum() + (solution**2).sum()
        error += damping_prior * size * (damping - 1) ** 2
        if error < best[0]:
            best = (float(error), damping, solution)
    solution = best[2] * scales[:, None]
    return Effects(solution[: summed.shape[1]], solution[summed.shape[1] :], keys, best[1])


def _ridge(x: Floats, y: Floats, penalty: float) -> Floats:
    """(x'x + penalty I)^-1 x'y, by whichever side is smaller."""
    rows, columns = x.shape
    if columns <= rows:
        return np.linalg.solve(x.T @ x + penalty * np.eye(columns), x.T @ y)
    return x.T @ np.linalg.solve(x @ x.T + penalty * np.eye(rows), y)
