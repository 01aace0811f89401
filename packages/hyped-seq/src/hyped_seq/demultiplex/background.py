"""Hashtag counts to background-centred log counts, and a monotone two-component mixture per tag."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def background_offsets(logs: Floats, iterations: int = 20) -> Floats:
    """Background of each tag: its median log count in the cells whose highest centred tag is another.

    Parameters
    ----------
    logs : (cells, tags), ln(1 + count).

    Returns
    -------
    (tags,) offsets in the same unit.
    """
    offsets = np.median(logs, axis=0)
    for _ in range(iterations):
        top = (logs - offsets).argmax(axis=1)
        updated = offsets.copy()
        for tag in range(logs.shape[1]):
            others = logs[top != tag, tag]
            if others.size:
                updated[tag] = np.median(others)
        if np.allclose(updated, offsets, atol=1e-9):
            break
        offsets = updated
    return offsets


def centred(logs: Floats, share_of_mean: float, iterations: int = 20) -> Floats:
    """Log counts minus the tag's background, minus ``share_of_mean`` of the cell's own mean.

    Subtracting the whole mean (the centred log ratio) over-corrects: a true tag raises its own cell's mean.
    """
    above = logs - background_offsets(logs, iterations)
    return above - share_of_mean * above.mean(axis=1, keepdims=True)


@dataclass(frozen=True, slots=True)
class TagMixture:
    """Two normal components of one tag's centred log counts: without (0) and with (1) the tag."""

    weight: float
    mean0: float
    mean1: float
    variance0: float
    variance1: float

    def log_odds(self, values: Floats) -> Floats:
        """ln P(with the tag) - ln P(without), monotone in ``values`` and never clipped.

        Between the two means the quadratic of two normals rises; beyond them, where unequal variances would
        turn it around, it goes on straight with the slope it has at that mean.
        """
        inside = np.clip(values, self.mean0, self.mean1)
        step = self.mean1 - self.mean0
        slope = np.where(values < self.mean0, step / self.variance1, step / self.variance0)
        quadratic = (
            np.log(self.weight / (1 - self.weight))
            + 0.5 * np.log(self.variance0 / self.variance1)
            - (inside - self.mean1) ** 2 / (2 * self.variance1)
            + (inside - self.mean0) ** 2 / (2 * self.variance0)
        )
        return quadratic + (values - inside) * slope


def fit_mixture(
    values: Floats, is_top: npt.NDArray[np.bool_], iterations: int = 200, floor: float = 1e-2
) -> TagMixture:
    """Fit a `TagMixture` by expectation maximisation, started from the cells whose top tag this is.

    ``floor`` keeps variances from vanishing. Where the data hold no two components (nobody carries the tag),
    the means are kept at least half a natural log unit apart, in the right order.
    """
    share = np.where(is_top, 0.9, 0.05)
    mixture = _maximise(values, share, floor)
    for _ in range(iterations):
        updated_share = 1 / (1 + np.exp(-np.clip(mixture.log_odds(values), -50, 50)))
        change = np.abs(updated_share - share).max()
        share = updated_share
        mixture = _maximise(values, share, floor)
        if change < 1e-5:
            break
    return mixture


def _maximise(values: Floats, share: Floats, floor: float) -> TagMixture:
    total1 = max(share.sum(), 1e-6)
    total0 = max(len(values) - total1, 1e-6)
    mean1 = float((share * values).sum() / total1)
    mean0 = float(((1 - share) * values).sum() / total0)
    variance1 = float((share * (values - mean1) ** 2).sum() / total1) + floor
    variance0 = float(((1 - share) * (values - mean0) ** 2).sum() / total0) + floor
    weight = float(np.clip(total1 / len(values), 1e-4, 1 - 1e-4))
    return TagMixture(weight, mean0, max(mean1, mean0 + 0.5), variance0, variance1)
