"""Scores of predicted expression on means and on changes.

Vectors are means over cells of ln(1 + counts per 10,000), one value a gene. What "no change", a model that returns the
control cells, scores is said with each; raw similarity of means is high for any prediction because housekeeping genes
dominate it. Ranks among perturbations are in `hyped_bench.metrics.discrimination`, distances between populations of
cells in `hyped_bench.metrics.distributions`, differential expression in `hyped_bench.metrics.de_sets`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hyped_bench.metrics.undefined import is_constant
from hyped_core.errors import InvalidDataError

Vector = npt.NDArray[np.float64]


def _same(*vectors: npt.ArrayLike) -> tuple[Vector, ...]:
    arrays = tuple(np.asarray(v, dtype=np.float64) for v in vectors)
    if len({a.shape for a in arrays}) != 1 or arrays[0].ndim != 1:
        raise InvalidDataError(f"vectors differ in shape: {[a.shape for a in arrays]}")
    if arrays[0].size == 0:
        raise InvalidDataError("vectors have no genes")
    if not all(np.isfinite(a).all() for a in arrays):
        raise InvalidDataError("vectors have NaN or infinity", mend="give a finite value for every gene")
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

    As in cell-eval (control) and Systema (mean of training perturbations), except that the control always comes from
    the truth. None where either change is constant: no change against control has no value, nor has the mean of
    training perturbations against itself, and the benchmark then states 0. Against the mean of training perturbations
    no change scores whatever the shift they share makes of it, in no way 0.
    """
    p, t, r = _same(prediction, truth, reference)
    return pearson(p - r, t - r)


def cosine_delta(prediction: npt.ArrayLike, truth: npt.ArrayLike, reference: npt.ArrayLike) -> float | None:
    """<p - r, t - r> / (|p - r| |t - r|), r as in `pearson_delta` (Geneformer's and PerturBench's kind of score).

    None for no change against control (the benchmark then states 0) and where the truth does not change.
    """
    p, t, r = _same(prediction, truth, reference)
    return None if is_constant(p - r) and np.allclose(p, r) else cosine(p - r, t - r)


def mse_delta(prediction: npt.ArrayLike, truth: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Mean over genes of ((p - r) - (t - r))^2: with one reference for both sides it equals `mse` (cell-eval).

    It differs from `mse` only where a submission brings its own control cells (cell-eval), which HYPED never
    uses; the name is kept so that tables compare. So the value against the mean of training perturbations is the same
    again. No change scores the mean squared true change from control, whatever the reference.
    """
    p, t, r = _same(prediction, truth, reference)
    return mse(p - r, t - r)


def mae_delta(prediction: npt.ArrayLike, truth: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Mean over genes of |(p - r) - (t - r)|: equals `mae`, as `mse_delta` equals `mse` (cell-eval).

    No change scores the mean absolute true change.
    """
    p, t, r = _same(prediction, truth, reference)
    return mae(p - r, t - r)


def mse_relative(prediction: npt.ArrayLike, truth: npt.ArrayLike, reference: npt.ArrayLike) -> float | None:
    """`mse` over what "no change" scores: 0 is perfect, 1 is no change, above 1 worse than doing nothing.

    None where the truth does not change.
    """
    p, t, r = _same(prediction, truth, reference)
    nothing = mse(r, t)
    return None if nothing == 0 else mse(p, t) / nothing


def r2_delta(
    prediction: npt.ArrayLike, truth: npt.ArrayLike, reference: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> float | None:
    """1 - sum w (t - p)^2 / sum w (d - mean_w d)^2, d = t - r the true change: the share of its variance explained.

    R2(delta) of arXiv 2506.22641 and scPertEval's r2; with the weights of `de_weights` it is `weighted_r2_delta`. r is
    the mean of control cells or of training perturbations; it only enters the variance. 1 is perfect, no lower bound.
    No change against control scores -mean_w(d)^2 / var_w(d), at most 0. None where the true change is constant (as
    seen by the weights).
    """
    p, t, r = _same(prediction, truth, reference)
    w = np.ones(t.shape) if weights is None else _same(weights, t)[0]
    if (w < 0).any() or w.sum() <= 0:
        raise InvalidDataError("weights of genes are negative or all zero", mend="use `de_weights`")
    change = t - r
    if is_constant(change[w > 0]):
        return None
    spread = float(np.sum(w * (change - np.sum(w * change) / w.sum()) ** 2))
    return None if spread <= 1e-300 else 1.0 - float(np.sum(w * (t - p) ** 2)) / spread


def weighted_r2_delta(
    prediction: npt.ArrayLike, truth: npt.ArrayLike, reference: npt.ArrayLike, weights: npt.ArrayLike
) -> float | None:
    """`r2_delta` with the weights of `de_weights`: R2_w(delta) of arXiv 2506.22641, r there the mean of perturbations.

    No change scores at most 0 where r is control; against the mean of perturbations it scores 1 less its `wmse` over
    the weighted variance of d, usually below 0 too. None where the weighted change is constant.
    """
    return r2_delta(prediction, truth, reference, weights)


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
