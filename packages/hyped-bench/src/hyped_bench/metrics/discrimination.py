"""Whether a prediction is closer to its own perturbation than to the others: ranks among centroids, both ways round.

Arrays are (perturbations, genes): predicted and true changes from one common reference, which cancels for l1 and l2.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from hyped_core.errors import InvalidDataError

Distance = Literal["l1", "l2", "cosine"]
Scores = npt.NDArray[np.float64]
TIE = 1e-12
"""Distances that differ by less than this share of the largest are one."""


def discrimination(
    predictions: npt.ArrayLike, truths: npt.ArrayLike, distance: Distance = "l1", exclude: npt.ArrayLike | None = None
) -> Scores | None:
    """Perturbation discrimination score of each predicted change: the prediction is fixed, truths are ranked.

    (n - r) / n, r the number of the n true changes that lie closer to the prediction than its own: 1 where its own is
    closest, 1/n where it is farthest (cell-eval 0.8's discrimination_score). Ties share the mean rank; cell-eval breaks
    them by order. A model that predicts one change for all (doing nothing, the mean of training perturbations) scores
    (n + 1) / (2 n) on average over perturbations, and for each of them with the cosine of a zero change; with genes
    left out the average is near that, not equal to it.

    ``exclude`` is a boolean (n, genes): genes left out of all distances of a perturbation, those it targets. None for
    fewer than two perturbations.
    """
    ranks = _ranks(predictions, truths, distance, exclude)
    return None if ranks is None else (len(ranks) - ranks) / len(ranks)


def transposed_rank(
    predictions: npt.ArrayLike, truths: npt.ArrayLike, distance: Distance = "l1", exclude: npt.ArrayLike | None = None
) -> Scores | None:
    """As `discrimination`, with the truth fixed and the predictions ranked (PerturBench's rank, scPertEval's rank).

    (n - r) / n, r the number of predictions that lie closer to the true change than its own prediction: higher is
    better here; PerturBench reports r / n and scPertEval r / (n - 1), where 0 is best. A model that predicts one
    change for all scores (n + 1) / (2 n) for each perturbation: all predictions tie. None for fewer than two.
    """
    ranks = _ranks(truths, predictions, distance, exclude)
    return None if ranks is None else (len(ranks) - ranks) / len(ranks)


def centroid_accuracy(
    predictions: npt.ArrayLike, truths: npt.ArrayLike, exclude: npt.ArrayLike | None = None
) -> Scores | None:
    """Share of the other n - 1 true centroids that lie farther (Euclid) from the prediction than its own (Systema).

    Ties count half. 1 where its own is closest, 0 where it is farthest: (n s - 1) / (n - 1) of `discrimination` s with
    l2. One prediction for all scores 0.5 on average. None for fewer than two perturbations.
    """
    ranks = _ranks(predictions, truths, "l2", exclude)
    return None if ranks is None else 1.0 - ranks / (len(ranks) - 1)


def _ranks(
    fixed: npt.ArrayLike, ranked: npt.ArrayLike, distance: Distance, exclude: npt.ArrayLike | None
) -> Scores | None:
    """For each row of ``fixed`` how many rows of ``ranked`` lie closer than the one of its own index; ties half."""
    a, b = np.asarray(fixed, dtype=np.float64), np.asarray(ranked, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 2:
        raise InvalidDataError(f"predicted changes {a.shape} and true ones {b.shape} differ in shape")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InvalidDataError("changes have NaN or infinity", mend="predict a number for every gene")
    if len(a) < 2:
        return None
    out = None if exclude is None else np.asarray(exclude, dtype=bool)
    if out is not None and out.shape != a.shape:
        raise InvalidDataError(f"genes to leave out {out.shape} and changes {a.shape} differ in shape")
    apart, scale = _distances(a, b, distance, out)
    own = np.diagonal(apart)[:, None]
    tolerance = TIE * scale
    closer = (apart < own - tolerance).sum(axis=1)
    tied = (np.abs(apart - own) <= tolerance).sum(axis=1) - 1
    return closer + tied / 2


def _distances(
    a: npt.NDArray, b: npt.NDArray, distance: str, out: npt.NDArray[np.bool_] | None
) -> tuple[npt.NDArray, npt.NDArray]:
    """Distances (n, n), squared for l2, of rows of ``a`` to rows of ``b``, and what rounding is relative to (n, 1).

    Genes left out for a row of ``a`` are few, so their part is taken away from distances over all genes.
    """
    n = len(a)
    few = [np.flatnonzero(row) for row in out] if out is not None else [np.empty(0, int)] * n
    if distance == "l1":
        from scipy.spatial.distance import cdist

        apart = cdist(a, b, "cityblock")
        scale = apart.max(axis=1, keepdims=True)
        for i, genes in enumerate(few):
            if genes.size:
                apart[i] -= np.abs(b[:, genes] - a[i, genes]).sum(axis=1)
        return apart, scale
    if distance not in ("l2", "cosine"):
        raise InvalidDataError(f"unknown distance {distance!r}", mend="use l1, l2 or cosine")
    dot = a @ b.T
    squares_a, squares_b = np.repeat((a**2).sum(axis=1), n).reshape(n, n), np.tile((b**2).sum(axis=1), (n, 1))
    scale = (squares_a + squares_b).max(axis=1, keepdims=True)
    for i, genes in enumerate(few):
        if genes.size:
            dot[i] -= b[:, genes] @ a[i, genes]
            squares_a[i] -= (a[i, genes] ** 2).sum()
            squares_b[i] -= (b[:, genes] ** 2).sum(axis=1)
    if distance == "l2":
        return squares_a + squares_b - 2 * dot, scale
    # a change that lies in the left-out genes alone is zero up to rounding, and has no direction
    known = (squares_a > 1e-15 * scale) & (squares_b > 1e-15 * scale)
    cosine = np.divide(dot, np.sqrt(np.where(known, squares_a * squares_b, 1.0)), out=np.zeros_like(dot), where=known)
    return 1.0 - cosine, np.ones((n, 1))
