"""`gmm`: the Gaussian-mixture rule (GMM-Demux, Xin et al. 2020), with scikit-learn's mixtures.

Own code after the published method; the package of that name also estimates cell numbers, which is not done here.
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


class GmmConfig(Params):
    """Settings of `gmm`."""

    min_probability: float = Field(0.0, ge=0, le=1)
    """Abstain (Negative) from singlets that are less probable (GMM-Demux: 0.8, of doublets too); 0: never."""
    iterations: int = Field(200, ge=1)
    """At most as many steps of expectation and maximisation a tag."""


class Gmm:
    """Assigns cells of one capture by a mixture of two normals for each tag."""

    def __init__(self, config: GmmConfig | None = None) -> None:
        self.config = config or GmmConfig()

    def assign(self, hto: AnnData, *, context: RunContext) -> pd.DataFrame:
        """Calls for cells x tags raw counts.

        With p_t the posterior of tag t's upper component over centred log ratios, tags taken as independent:
        P(singlet t) = p_t prod_{s != t} (1 - p_s), P(negative) = prod (1 - p_s), P(doublet) = the rest. The class
        with the highest is called and that is its probability: a posterior of this model, not calibrated. A cell that
        is Negative because its singlet is not probable enough has P(negative) for its probability.

        Returns
        -------
        Columns ``call``, ``kind``, ``probability``, ``tags``, ``forced_call``, ``doublet_probability``.
        """
        counts = dense_counts(hto)
        names = np.asarray(hto.var_names, dtype=object)
        carries = np.zeros(counts.shape)
        used = np.flatnonzero(counts.sum(axis=0) > 0)
        filled = counts.sum(axis=1) > 0
        if filled.sum() > 1:
            values = centred_log_ratios(counts[np.ix_(filled, used)])
            for column, tag in enumerate(used):
                carries[filled, tag] = self._posterior(values[:, column])
        none = np.clip(1 - carries, 1e-12, 1)
        p_negative = none.prod(axis=1)
        p_single = carries / none * p_negative[:, None]
        p_doublet = np.clip(1 - p_negative - p_single.sum(axis=1), 0, 1)
        order = np.argsort(-carries, axis=1, kind="stable")
        single = p_single.argmax(axis=1)
        highest = p_single.max(axis=1)
        doublet = filled & (p_doublet > np.maximum(highest, p_negative)) & (len(used) > 1)
        probability = np.where(doublet, p_doublet, np.maximum(highest, p_negative))
        negative = ~filled | (~doublet & ((p_negative >= highest) | (highest < self.config.min_probability)))
        probability = np.where(negative, p_negative, probability)
        call = np.where(negative, NEGATIVE, np.where(doublet, DOUBLET, names[single]))
        pair = names[order[:, 0]] + "+" + names[order[:, min(1, len(names) - 1)]]
        tags = np.where(negative, "", np.where(doublet, pair, names[single]))
        table = call_table(list(hto.obs_names), call, np.where(filled, probability, 1.0), tags)
        forced = np.where(filled, names[single], "")
        return table.assign(forced_call=forced, doublet_probability=np.where(filled, p_doublet, 0.0).round(6))

    def _posterior(self, values: np.ndarray) -> np.ndarray:
        """P(upper component), 1 above its mean and 0 below the lower one's, so that it does not turn around."""
        from sklearn.mixture import GaussianMixture

        low, high = np.quantile(values, [0.25, 0.99])
        if high - low < 1e-6:
            return np.zeros(len(values))
        mixture = GaussianMixture(
            2, max_iter=self.config.iterations, means_init=[[low], [high]], reg_covar=1e-3, random_state=0
        )
        posterior = mixture.fit(values[:, None]).predict_proba(values[:, None])
        means = mixture.means_.ravel()
        upper = int(means.argmax())
        result = posterior[:, upper]
        result[values >= means[upper]] = 1.0
        result[values <= means[1 - upper]] = 0.0
        return result
