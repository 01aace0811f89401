"""What the background and the carriers of each hashtag look like in one capture, and the log-odds that follow.

Counts are read as ln(1 + count) above the tag's background. Everything is fitted by medians on the capture itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

ROUNDS = 3
"""Times that carriers and levels are settled in turn."""
TAIL = 4.0
"""Degrees of freedom of the Student t: with it a count that lies far off is some evidence, never proof."""
CLEAN_SHARE = 0.75
"""Share of cells, those with the weakest second tag, on which levels are fitted: doublets stay out."""
LEAST_STEP = float(np.log(2))
"""Carriers are taken to lie at least a doubling above background."""
LEAST_SCALE = 0.05
"""Added to every scale, natural log units: no tag is measured better than that."""
SHARED_PART = 0.5
"""Part of the shared background that is taken off."""
PSEUDO_CELLS = 20.0
"""Weight, in cells, with which a tag's carriers are drawn towards those of all tags: a tag with few has no own."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Each tag without (0) and with (1) a carrier: location and scale of ln(1 + count) above background.

    Attributes
    ----------
    mean0, scale0, mean1, scale1 : (tags,), natural log units.
    share : (tags,), share of cells that carry the tag; they sum to one.
    """

    mean0: Floats
    scale0: Floats
    mean1: Floats
    scale1: Floats
    share: Floats

    def log_odds(self, above: Floats) -> Floats:
        """ln [share x P(value | carrier) / P(value | background)] of (cells, tags) values above background.

        Both densities are Student t with `TAIL` degrees of freedom, held at their peak below the background's
        and above the carriers' location, so the odds rise with the count and are never clipped.
        """
        carrier = _log_t(np.minimum(above, self.mean1), self.mean1, self.scale1)
        background = _log_t(np.maximum(above, self.mean0), self.mean0, self.scale0)
        return carrier - background + np.log(self.share)

    def height(self, above: Floats, tag: Integers) -> Floats:
        """(cells,) how far each cell's ``tag`` lies above the median carrier, in that tag's scales."""
        value = above[np.arange(len(above)), tag]
        return (value - self.mean1[tag]) / self.scale1[tag]


def background_offsets(logs: Floats, iterations: int = 30) -> Floats:
    """Background of each tag: its median log count in the cells whose highest centred tag is another.

    Starts from the lower of two means of each tag, so that one which most cells carry is not its own background.

    Parameters
    ----------
    logs : (cells, tags), ln(1 + count).

    Returns
    -------
    (tags,) offsets in the same unit.
    """
    offsets = _lower_means(logs)
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


def _lower_means(logs: Floats, iterations: int = 20) -> Floats:
    """(tags,) lower of the two means (k-means in one dimension, from the middle of the range) of each tag."""
    border = (logs.min(axis=0) + logs.max(axis=0)) / 2
    lower = border
    for _ in range(iterations):
        low = logs <= border
        n_low, total = low.sum(axis=0), np.where(low, logs, 0.0).sum(axis=0)
        lower = total / np.maximum(n_low, 1)
        upper = (logs.sum(axis=0) - total) / np.maximum(len(logs) - n_low, 1)
        upper = np.where(n_low < len(logs), upper, lower)
        moved = (lower + upper) / 2
        if np.allclose(moved, border, atol=1e-9):
            break
        border = moved
    return lower


def fit_levels(above: Floats, counts: Floats, carried: Integers, clean: npt.NDArray[np.bool_]) -> Levels:
    """Levels of every tag from the cells that are ``clean`` and the tag each of them carries.

    Parameters
    ----------
    above : (cells, tags), ln(1 + count) above background.
    counts : (cells, tags), raw counts; they set the least scale that Poisson noise allows.
    carried : (cells,), index of the tag.
    clean : (cells,), cells taken for singlets.
    """
    above, counts, carried = above[clean], counts[clean], carried[clean]
    n_tags = above.shape[1]
    mean0, scale0, mean1, scale1 = (np.zeros(n_tags) for _ in range(4))
    number = np.bincount(carried, minlength=n_tags).astype(float)
    for tag in range(n_tags):
        own = carried == tag
        scale0[tag] = 1.0
        for mine, mean, scale in ((~own, mean0, scale0), (own, mean1, scale1)):
            if mine.any():
                values = above[mine, tag]
                mean[tag] = np.median(values)
                scale[tag] = _scale(values, mean[tag], counts[mine, tag])
    seen = number > 0
    together = number[seen].sum()
    usual_mean = (number[seen] * mean1[seen]).sum() / together
    usual_scale = np.sqrt((number[seen] * scale1[seen] ** 2).sum() / together)
    weight = number / (number + PSEUDO_CELLS)
    mean1 = weight * mean1 + (1 - weight) * usual_mean
    scale1 = np.sqrt(weight * scale1**2 + (1 - weight) * usual_scale**2)
    share = (number + 0.5) / (number + 0.5).sum()
    return Levels(mean0, scale0, np.maximum(mean1, mean0 + LEAST_STEP), scale1, share)


def settle(counts: Floats) -> tuple[Levels, Floats]:
    """Levels of a capture and the (cells, tags) values above background that they are levels of.

    Carriers and levels are settled in turn. Of what a cell's other tags say about its own background a part is
    taken off (`SHARED_PART`): sticky cells have more of every tag, and so have two cells in one droplet, which is
    why not all of it is.

    Parameters
    ----------
    counts : (cells, tags), raw counts; every cell and every tag has some.
    """
    logs = np.log1p(counts)
    above = logs - background_offsets(logs)
    evidence = values = above
    for _ in range(ROUNDS):
        order = two_highest(evidence)
        clean = clean_cells(evidence, order)
        values = above - SHARED_PART * shared_background(above, order, clean)
        levels = fit_levels(values, counts, order[:, 0], clean)
        evidence = levels.log_odds(values)
    return levels, values


def clean_cells(evidence: Floats, order: Integers) -> npt.NDArray[np.bool_]:
    """(cells,) the `CLEAN_SHARE` of cells with the weakest second tag, and of each tag's carriers at least half.

    Parameters
    ----------
    order : (cells, 1 or 2), from `two_highest`.
    """
    second = evidence[np.arange(len(evidence)), order[:, -1]]
    clean = second <= np.quantile(second, CLEAN_SHARE)
    for tag in np.unique(order[:, 0]):
        own = order[:, 0] == tag
        clean[own] |= second[own] <= np.median(second[own])
    return clean


def shared_background(above: Floats, order: Integers, clean: npt.NDArray[np.bool_]) -> Floats:
    """(cells, tags) background that a cell's tags other than its highest two predict for each of its tags.

    A line through the clean cells, one slope in [0, 1] for all tags, by least squares with weights that far
    points lose. Nothing where there are fewer than three tags.
    """
    n_cells, n_tags = above.shape
    if n_tags < 3:
        return np.zeros_like(above)
    rows = np.arange(n_cells)
    highest = np.zeros(above.shape, dtype=bool)
    highest[rows[:, None], order] = True
    rest = np.where(highest, 0.0, above).sum(axis=1, keepdims=True)
    others = np.where(highest, rest / (n_tags - 2), (rest - above) / max(n_tags - 3, 1))
    second = above[rows, order[:, 1]]
    seen = others if n_tags > 3 else np.where(highest, others, second[:, None])
    background = np.ones(above.shape, dtype=bool)
    background[rows, order[:, 0]] = False
    background &= clean[:, None]
    slope = _robust_slope(seen[background], above[background])
    return slope * (others if n_tags > 3 else np.where(highest, others, 0.0))


def _robust_slope(x: Floats, y: Floats, iterations: int = 4) -> float:
    weight = np.ones(len(x))
    slope = 0.0
    for _ in range(iterations):
        total = weight.sum()
        centre_x, centre_y = (weight * x).sum() / total, (weight * y).sum() / total
        spread = (weight * (x - centre_x) ** 2).sum()
        slope = float((weight * (x - centre_x) * (y - centre_y)).sum() / (spread + 1e-9))
        residual = y - centre_y - slope * (x - centre_x)
        scale = 1.4826 * np.median(np.abs(residual - np.median(residual))) + LEAST_SCALE
        weight = 1 / (1 + (residual / (2 * scale)) ** 2)
    return float(np.clip(slope, 0, 1))


def two_highest(values: Floats) -> Integers:
    """(cells, 2) columns of the highest two of each row, highest first; (cells, 1) where there is one tag."""
    first = values.argmax(axis=1)
    if values.shape[1] == 1:
        return first[:, None]
    others = values.copy()
    others[np.arange(len(values)), first] = -np.inf
    return np.column_stack([first, others.argmax(axis=1)])


def _scale(values: Floats, median: float, counts: Floats) -> float:
    """Standard deviation by the median deviation and by the 95 % quantile, and not below Poisson noise's.

    The largest of the three: where counts are a few molecules, half of the values or more may be equal.
    """
    spread = 1.4826 * float(np.median(np.abs(values - median)))
    upper = (float(np.quantile(values, 0.95)) - median) / 1.645
    rate = float(np.median(counts)) if np.median(counts) > 0 else float(counts.mean())
    return max(spread, upper, np.sqrt(rate) / (1 + rate)) + LEAST_SCALE


def _log_t(values: Floats, mean: Floats, scale: Floats) -> Floats:
    """Log density of a Student t up to the constant that both components share."""
    return -np.log(scale) - (TAIL + 1) / 2 * np.log1p(((values - mean) / scale) ** 2 / TAIL)
