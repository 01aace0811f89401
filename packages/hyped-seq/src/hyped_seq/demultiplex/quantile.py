"""`quantile`: the quantile rule of Seurat's HTODemux (Stoeckius et al. 2018), with scikit-learn's k-means.

Own code after the published method: cluster, take each tag's lowest cluster as background, fit a negative binomial to
it, call the tag positive above a quantile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pydantic import Field

from hyped_core.params import Params
from hyped_seq.demultiplex.calls import DOUBLET, NEGATIVE, call_table, centred_log_ratios, dense_counts

if TYPE_CHECKING:
    from anndata import AnnData

    from hyped_core.context import RunContext


class QuantileConfig(Params):
    """Settings of `quantile`."""

    quantile: float = Field(0.99, gt=0, lt=1)
    """Quantile of a tag's background above which a cell is positive (HTODemux: 0.99)."""
    starts: int = Field(4, ge=1)
    """Starts of k-means."""


class Quantile:
    """Assigns cells of one capture by a threshold for each tag."""

    def __init__(self, config: QuantileConfig | None = None) -> None:
        self.config = config or QuantileConfig()

    def assign(self, hto: AnnData, *, context: RunContext) -> pd.DataFrame:
        """Calls for cells x tags raw counts: no positive tag is Negative, one a singlet, more a doublet.

        A rule has no posterior. ``probability`` is the share of the tag's background that lies below the count of
        the weakest tag called positive (two tags: the second), and of a Negative call the quantile itself: one minus
        the rate at which background alone passes for that tag. It is not the probability that the call is right.

        Returns
        -------
        Columns ``call``, ``kind``, ``probability``, ``tags``, ``forced_call`` (tag highest above its threshold).
        """
        from scipy.stats import nbinom

        counts = dense_counts(hto)
        names = np.asarray(hto.var_names, dtype=object)
        used = np.flatnonzero(counts.sum(axis=0) > 0)
        filled = counts.sum(axis=1) > 0
        below = np.zeros(counts.shape)
        thresholds = np.full(len(names), np.inf)
        for tag, values in zip(used, self._backgrounds(counts[np.ix_(filled, used)]), strict=True):
            size, chance = _negative_binomial(values)
            thresholds[tag] = nbinom.ppf(self.config.quantile, size, chance)
            below[:, tag] = nbinom.cdf(counts[:, tag], size, chance)
        positive = counts > thresholds
        number = positive.sum(axis=1)
        height = np.where(np.isinf(thresholds), -np.inf, np.log1p(counts) - np.log1p(thresholds))
        order = np.argsort(-height, axis=1, kind="stable")
        rows, second = np.arange(len(counts)), order[:, min(1, len(names) - 1)]
        best = names[order[:, 0]]
        negative, doublet = number == 0, number > 1
        call = np.where(negative, NEGATIVE, np.where(doublet, DOUBLET, best))
        weakest = np.where(doublet, below[rows, second], below[rows, order[:, 0]])
        probability = np.where(negative, np.where(filled, self.config.quantile, 1.0), weakest)
        tags = np.where(negative, "", np.where(doublet, best + "+" + names[second], best))
        table = call_table(list(hto.obs_names), call, probability, tags)
        return table.assign(forced_call=np.where(filled, best, ""))

    def _backgrounds(self, counts: np.ndarray) -> list[np.ndarray]:
        """Counts of each tag in the cluster of cells in which it is lowest on average."""
        from sklearn.cluster import KMeans

        n_cells, n_tags = counts.shape
        if n_cells <= n_tags + 1:
            return [counts[:, tag] for tag in range(n_tags)]
        values = centred_log_ratios(counts)
        number = min(n_tags + 1, len(np.unique(values, axis=0)))
        clusters = KMeans(number, n_init=self.config.starts, random_state=0).fit_predict(values)
        means = np.array([counts[clusters == cluster].mean(axis=0) for cluster in np.unique(clusters)])
        lowest = np.unique(clusters)[means.argmin(axis=0)]
        return [counts[clusters == lowest[tag], tag] for tag in range(n_tags)]


def _negative_binomial(values: np.ndarray) -> tuple[float, float]:
    """Size and chance of the negative binomial with these moments, without the top half per cent (doublets)."""
    kept = values[values <= np.quantile(values, 0.995)]
    mean = max(float(kept.mean()), 1e-3)
    variance = max(float(kept.var()), 1.001 * mean)
    size = mean**2 / (variance - mean)
    return size, size / (size + mean)
