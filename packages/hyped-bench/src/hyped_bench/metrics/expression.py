"""Scores of predicted expression: on means, on changes, by discrimination and between populations of cells.

Vectors are means over cells of ln(1 + counts per 10,000), one value a gene. What "no change" scores is
said with each; raw similarity of means is high for any prediction because housekeeping genes dominate it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hyped_bench.metrics.undefined import is_constant
from hyped_core.errors import InvalidDataError

Vector = npt.NDArray[np.float64]


def _same(*vectors: npt.ArrayLike) -> tuple[Vector, ...]:
    arrays = tuple(np.asarray(v, dtype=np.float64) for v in vectors)
    if len({a.shape for a in arrays}) != 1 or arrays[0].ndim != 1:
        raise InvalidDataError(f"vectors differ in shape: {[a.shape for a in arrays]}")
    return arrays


def cosine(prediction: npt.ArrayLike, truth: npt.ArrayLike) -> float | None:
    """<p, t> / (|p| |t|) (paper, Table 3). None for a zero vector. No change scores about 0.99 on means.

    >>> cosine([1.0, 0.0], [1.0, 1.0])
    0.7071067811865475
    """
    p, t = _same(prediction, truth)
    norms = float(np.sqrt(p @ p) * np.sqrt(t @ t))
    return None if norms <= 1e-300 else float(p @ t / norms)


def pearson(prediction: npt.ArrayLike, truth: npt.ArrayLike) -> float | None:
    """Correlation over genes (paper, Table 3). None for a constant vector. No change scores about 0.97."""
    p, t = _same(prediction, truth)
    if is_constant(p) or is_constant(t):
        return None
    return cosine(p - p.mean(), t - t.mean())


def mse(prediction: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Mean over genes of (p - t)^2 (paper, Table 3). No change scores the mean squared true change."""
    p, t = _same(prediction, truth)
    return float(np.mean((p - t) ** 2))


def mae(prediction: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Mean over genes of |p - t| (paper, Table 3). No change scores the mean absolute true change."""
    p, t = _same(prediction, truth)
    return float(np.mean(np.abs(p - t)))


def pearson_delta(prediction: npt.ArrayLike, truth: npt.ArrayLike, reference: npt.ArrayLike) -> float | None:
    """Correlation of p - r with t - r, r the mean of real control cells (or of training perturbations).

    As in cell-eval and Systema, except that the control always comes from the truth. None where either
    change is constant: no change has no value, and the benchmark then states 0.
    """
    p, t, r = _same(prediction, truth, reference)
    return pearson(p - r, t - r)


def cosine_delta(prediction: npt.ArrayLike, truth: npt.ArrayLike, reference: npt.ArrayLike) -> float | None:
    """Cosine of p - r with t - r; None for no change (the benchmark then states 0)."""
    p, t, r = _same(prediction, truth, reference)
    return None if is_constant(p - r) and np.allclose(p, r) else cosine(p - r, t - r)


def mse_delta(prediction: npt.ArrayLike, truth: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Mean over genes of ((p - r) - (t - r))^2: with one control for both sides it equals `mse`.

    It differs from `mse` only where a submission brings its own control cells (cell-eval), which HYPED never
    uses; the name is kept so that tables compare.
    """
    p, t, r = _same(prediction, truth, reference)
    return mse(p - r, t - r)


def mse_relative(prediction: npt.ArrayLike, truth: npt.ArrayLike, reference: npt.ArrayLike) -> float | None:
    """`mse` over what "no change" scores: 0 is perfect, 1 is no change, above 1 worse than doing nothing.

    None where the truth does not change.
    """
    p, t, r = _same(prediction, truth, reference)
    nothing = mse(r, t)
    return None if nothing == 0 else mse(p, t) / nothing


@dataclass(frozen=True, slots=True)
class Moments:
    """Number of cells, sum and sum of squares of each gene (float64): enough for a t statistic."""

    n: int
    total: Vector
    squares: Vector

    @classmethod
    def of(cls, cells: npt.ArrayLike) -> Moments:
        """Of an array (cells, genes)."""
        x = np.asarray(cells)
        return cls(len(x), x.sum(axis=0, dtype=np.float64), np.einsum("ij,ij->j", x, x, dtype=np.float64))

    def without(self, part: Moments) -> Moments:
        """Of the cells that are left when ``part`` of them is taken out."""
        return Moments(self.n - part.n, self.total - part.total, self.squares - part.squares)

    @property
    def mean(self) -> Vector:
        """Mean of each gene."""
        return self.total / max(self.n, 1)

    @property
    def variance(self) -> Vector:
        """Unbiased variance of each gene; 0 for fewer than two cells."""
        if self.n < 2:
            return np.zeros_like(self.total)
        raw = (self.squares - self.total**2 / self.n) / (self.n - 1)
        return np.where(raw > 1e-10 * self.squares / self.n, raw, 0.0)


def welch_t(cells: Moments, others: Moments) -> Vector:
    """Welch's t statistic of each gene, cells against others; 0 where there is no variance."""
    spread = cells.variance / max(cells.n, 1) + others.variance / max(others.n, 1)
    change = cells.mean - others.mean
    return np.divide(change, np.sqrt(spread), out=np.zeros_like(change), where=spread > 0)


def de_weights(t_statistic: npt.ArrayLike) -> Vector:
    """Weights of genes: |t| min-max scaled to [0, 1], NaN to 0, squared, sum 1 (arXiv 2506.22641).

    Equal weights where all |t| are the same.
    """
    size = np.nan_to_num(np.abs(np.asarray(t_statistic, dtype=np.float64)), nan=0.0)
    width = size.max() - size.min()
    if width == 0:
        return np.full(size.shape, 1.0 / size.size)
    weights = ((size - size.min()) / width) ** 2
    return weights / weights.sum()


def wmse(prediction: npt.ArrayLike, truth: npt.ArrayLike, weights: npt.ArrayLike) -> float:
    """sum_g w_g (p_g - t_g)^2 with the weights of `de_weights` (arXiv 2506.22641); 0 is perfect.

    No change scores the squared change of the genes that respond, many times its `mse`.
    """
    p, t, w = _same(prediction, truth, weights)
    return float(np.sum(w * (p - t) ** 2))


def discrimination(
    predictions: npt.ArrayLike,
    truths: npt.ArrayLike,
    distance: Literal["l1", "l2", "cosine"] = "l1",
    exclude: npt.ArrayLike | None = None,
) -> npt.NDArray[np.float64] | None:
    """Perturbation discrimination score of each predicted change (cell-eval's orientation).

    For prediction i all n true changes are ranked by distance: (n - rank) / n with rank 0 for the own truth
    being closest, 1/n for the farthest. Ties share the mean rank (cell-eval breaks them by order), so a
    prediction without information scores (n + 1) / (2 n). ``exclude`` is a boolean (n, genes): genes left out
    for each perturbation, the perturbed ones. None for fewer than two perturbations.
    """
    p, t = np.asarray(predictions, dtype=np.float64), np.asarray(truths, dtype=np.float64)
    if p.shape != t.shape or p.ndim != 2:
        raise InvalidDataError(f"predicted changes {p.shape} and true ones {t.shape} differ in shape")
    n = len(p)
    if n < 2:
        return None
    out = np.asarray(exclude, dtype=bool) if exclude is not None else np.zeros(p.shape, dtype=bool)
    scores = np.empty(n)
    for i in range(n):
        kept = ~out[i]
        apart = _distances(p[i, kept], t[:, kept], distance)
        tolerance = 1e-12 * max(1.0, float(apart.max()))
        closer = int((apart < apart[i] - tolerance).sum())
        tied = int((np.abs(apart - apart[i]) <= tolerance).sum()) - 1
        scores[i] = (n - closer - tied / 2) / n
    return scores


def _distances(point: Vector, others: npt.NDArray, distance: str) -> Vector:
    if distance == "l1":
        return np.abs(others - point).sum(axis=1)
    if distance == "l2":
        return np.sqrt(((others - point) ** 2).sum(axis=1))
    norms = np.linalg.norm(others, axis=1) * np.linalg.norm(point)
    return 1.0 - np.divide(others @ point, norms, out=np.zeros(len(others)), where=norms > 1e-300)


def energy_distance(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'| with Euclidean distances, U-statistic within terms.

    Pairs of a cell with itself are left out, so equal distributions give 0 on average (it may be slightly
    negative); a single cell is a point mass without a term within. Inputs (cells, d), usually principal
    components of the training cells. No change scores the distance of perturbed to control cells.
    """
    from scipy.spatial.distance import cdist, pdist

    x, y = np.atleast_2d(np.asarray(first, float)), np.atleast_2d(np.asarray(second, float))
    if len(x) == 0 or len(y) == 0:
        raise InvalidDataError("energy distance of an empty group of cells")
    within = [float(pdist(group).mean()) if len(group) > 1 else 0.0 for group in (x, y)]
    return 2.0 * float(cdist(x, y).mean()) - sum(within)


def principal_axes(
    cells: npt.ArrayLike, k: int, rng: np.random.Generator, iterations: int = 4
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean (genes,) and top-``k`` axes (genes, k) of the cells by randomised SVD; signs fixed.

    Halko et al. 2011 with ``iterations`` power iterations and 10 extra columns.
    """
    x = np.asarray(cells, dtype=np.float64)
    mean = x.mean(axis=0)
    x = x - mean
    k = max(1, min(k, *x.shape))
    basis = np.linalg.qr(x @ rng.standard_normal((x.shape[1], min(k + 10, min(x.shape)))))[0]
    for _ in range(iterations):
        basis = np.linalg.qr(x @ np.linalg.qr(x.T @ basis)[0])[0]
    axes = np.linalg.svd(basis.T @ x, full_matrices=False)[2][:k].T
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return mean, axes * np.where(signs == 0, 1.0, signs)
