"""Confidence intervals of shares: of nuclei that come in lineages, and over replicates."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def design_effect(hits: FloatArray, sizes: FloatArray) -> FloatArray:
    """(phases,) how many times the variance of a share exceeds that of as many independent nuclei.

    Nuclei of one lineage are in step, more or less, so they count for less than as many strangers. The
    variance between lineages over that of a binomial share (Kish 1965): the phase's own or that of all phases
    together, which is steadier, whichever is larger. Never below 1 nor above what it would be if the nuclei
    of each lineage were all in one phase; that limit is also the answer where nothing can be learnt.

    Parameters
    ----------
    hits : (lineages, phases) nuclei of each lineage in each phase.
    sizes : (lineages,) all nuclei of each lineage.
    """
    n, groups = float(sizes.sum()), len(sizes)
    most = float((sizes**2).sum() / n)
    share = hits.sum(axis=0) / n
    alike = share * (1 - share)
    if not alike.any() or groups < 2:
        return np.full(hits.shape[1], most)
    between = groups / (groups - 1) * ((hits - sizes[:, None] * share) ** 2).sum(axis=0) / n
    together = between.sum() / alike.sum()
    own = np.divide(between, alike, out=np.zeros_like(alike), where=alike > 0)
    return np.clip(np.maximum(own, together), 1.0, most)


def wilson(share: float, n: float, level: float, groups: int | None = None) -> tuple[float, float]:
    """Interval of a share of ``n`` independent ones (Wilson 1927); ``n`` need not be a whole number.

    With ``groups`` the quantile is that of Student's t for as many, not of the normal distribution.

    >>> [round(end, 4) for end in wilson(0.5, 10, 0.95)]
    [0.2366, 0.7634]
    """
    from scipy.special import ndtri, stdtrit

    if n <= 0:
        return float("nan"), float("nan")
    upper = (1 + level) / 2
    z = float(ndtri(upper) if groups is None else stdtrit(max(groups - 1, 1), upper))
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return min(max(float(middle - half), 0.0), share), max(min(float(middle + half), 1.0), share)


def lineage_intervals(hits: FloatArray, sizes: FloatArray, level: float) -> list[tuple[float, float]]:
    """For each phase (column of ``hits``) Wilson's interval, with nuclei divided by the `design_effect`."""
    n = float(sizes.sum())
    if n == 0:
        return [(float("nan"), float("nan"))] * hits.shape[1]
    independent = n / design_effect(hits, sizes)
    pairs = zip(hits.sum(axis=0), independent, strict=True)
    return [wilson(float(k) / n, float(worth), level, len(sizes)) for k, worth in pairs]


def replicate_interval(
    shares: FloatArray, counted: tuple[float, float], level: float
) -> tuple[float, float]:
    """Student's t interval of the mean of replicates' shares, cut to [0, 1]; NaN for one replicate.

    Never narrower than ``counted``, the interval that the counts of all replicates alone give: replicates
    that agree by chance (all 0, say) do not show that there is no error.
    """
    from scipy.special import stdtrit

    n = len(shares)
    if n < 2:
        return float("nan"), float("nan")
    half = float(stdtrit(n - 1, (1 + level) / 2)) * float(np.std(shares, ddof=1)) / np.sqrt(n)
    mean = float(np.mean(shares))
    low, high = min(mean - half, counted[0]), max(mean + half, counted[1])
    return max(low, 0.0), min(high, 1.0)
