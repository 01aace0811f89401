"""Scores of hashtag calls against known origin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hyped_core.errors import InvalidDataError

DOUBLET, NEGATIVE = "Doublet", "Negative"


def confusion(
    calls: Sequence[str] | npt.NDArray, truth: Sequence[str] | npt.NDArray
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Counts (names, names) with truth in rows and calls in columns, and the sorted names of both."""
    called, true = np.asarray(calls, dtype=object), np.asarray(truth, dtype=object)
    if called.shape != true.shape:
        raise InvalidDataError(f"{called.size} calls for {true.size} cells", mend="call every cell once")
    names, codes = np.unique(np.concatenate([true, called]).astype(str), return_inverse=True)
    table = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(table, (codes[: true.size], codes[true.size :]), 1)
    return table, list(names)


def accuracy(table: npt.NDArray) -> float | None:
    """Share of cells whose call equals the truth's: sample, Doublet or Negative; trace over total. None of no cells.

    Always calling the most frequent sample scores its share of cells (about 1 / number of samples).
    """
    total = table.sum()
    return None if total == 0 else float(np.trace(table) / total)


def f_singlet(table: npt.NDArray, names: Sequence[str]) -> float | None:
    """Mean over true samples of the per-sample F1 = 2 TP / (2 TP + FP + FN); Doublet and Negative left out.

    The per-tag F-score of Howitt et al. 2023. A sample that was never called scores 0, so calling every cell Negative
    scores 0, and always calling the one of k equal samples 2 / (k (k + 1)). Calls of samples that are not in the truth
    only cost precision. None where the truth has no singlet.
    """
    rows = [i for i, name in enumerate(names) if name not in (DOUBLET, NEGATIVE) and table[i].sum() > 0]
    if not rows:
        return None
    hits = np.diag(table)[rows]
    return float(np.mean(2 * hits / (table.sum(axis=1)[rows] + table.sum(axis=0)[rows])))


def recall_precision(
    table: npt.NDArray, names: Sequence[str], name: str = DOUBLET
) -> tuple[float | None, float | None]:
    """Recall TP / (TP + FN) and precision TP / (TP + FP) of one call.

    Never calling it scores recall 0 and no precision, calling it always recall 1 and its share as precision. None where
    there is none in the truth (recall), or none was called (precision).
    """
    if name not in names:
        return None, None
    at = list(names).index(name)
    true, called = table[at].sum(), table[:, at].sum()
    return (
        None if true == 0 else float(table[at, at] / true),
        None if called == 0 else float(table[at, at] / called),
    )


def expected_calibration_error(
    probability: Sequence[float] | npt.NDArray, right: Sequence[bool] | npt.NDArray, bins: int = 10
) -> float | None:
    """Mean over cells of |share right - mean probability| of the cell's bin; ``bins`` of equal width over [0, 1].

    0 where probabilities mean what they say, None of no cells. Always saying the share of calls that are right scores
    0 as well: read it beside `brier`.

    Source: Naeini et al. 2015.
    """
    stated, hit = _stated(probability, right)
    if stated.size == 0:
        return None
    place = np.minimum((stated * bins).astype(int), bins - 1)
    gap = np.bincount(place, hit - stated, minlength=bins)
    return float(np.abs(gap).sum() / stated.size)


def brier(probability: Sequence[float] | npt.NDArray, right: Sequence[bool] | npt.NDArray) -> float | None:
    """Mean squared difference of the probability and whether the call is right (1) or not (0).

    Always saying the share s of right calls scores s (1 - s). None of no cells. Source: Brier 1950.
    """
    stated, hit = _stated(probability, right)
    return None if stated.size == 0 else float(((stated - hit) ** 2).mean())


def _stated(
    probability: Sequence[float] | npt.NDArray, right: Sequence[bool] | npt.NDArray
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Probabilities and whether the calls are right, as numbers."""
    stated, hit = np.asarray(probability, dtype=float), np.asarray(right, dtype=float)
    if stated.shape != hit.shape:
        raise InvalidDataError(f"{stated.size} probabilities for {hit.size} calls", mend="give one for each call")
    if not ((stated >= 0) & (stated <= 1)).all():
        raise InvalidDataError("a probability is NaN or outside [0, 1]", mend="give each call's probability")
    return stated, hit


def forced_accuracy(
    forced: Sequence[str] | npt.NDArray, truth: Sequence[str] | npt.NDArray
) -> float | None:
    """Share of true singlets whose best tag, nothing abstained from and no doublets called, is their sample.

    One tag for all scores its share of the singlets (about 1 / number of samples). None where there is no singlet.
    """
    best, true = np.asarray(forced, dtype=object), np.asarray(truth, dtype=object)
    singlet = ~np.isin(true.astype(str), (DOUBLET, NEGATIVE))
    return float((best == true)[singlet].mean()) if singlet.any() else None


def called_accuracy(table: npt.NDArray, names: Sequence[str]) -> float | None:
    """Share of the cells called a sample whose sample it is: doublets among them count as wrong.

    It rises for who abstains: read it beside `accuracy`. Always calling one sample scores its share of cells. None
    where no cell was called a sample.
    """
    at = [i for i, name in enumerate(names) if name not in (DOUBLET, NEGATIVE)]
    called = table[:, at].sum()
    return float(np.diag(table)[at].sum() / called) if called else None


def resampled(table: npt.NDArray, rng: np.random.Generator, draws: int) -> npt.NDArray[np.int64]:
    """``draws`` bootstrap tables: cells resampled with replacement are a multinomial over the table."""
    total = int(table.sum())
    shares = (table / max(total, 1)).ravel()
    return rng.multinomial(total, shares, size=draws).reshape(draws, *table.shape)
