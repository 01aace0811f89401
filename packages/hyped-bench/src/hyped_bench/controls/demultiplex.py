"""Demultiplexing control: the tag that stands out most, never a doublet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hyped_core.context import RunContext
from hyped_core.errors import InvalidDataError

if TYPE_CHECKING:
    from anndata import AnnData


class TopTag:
    """Calls the tag with the highest log count, tags centred on their medians; empty cells are Negative."""

    def assign(self, hto: AnnData, *, context: RunContext) -> pd.DataFrame:
        """One row a cell: ``call, kind, probability, tags, forced_call``; the probability is a softmax over tags.

        Raises `InvalidDataError` for no tags, and for counts that are none.
        """
        counts = np.asarray(hto.X.toarray() if hasattr(hto.X, "toarray") else hto.X, dtype=float)
        if not hto.n_vars:
            raise InvalidDataError("there is no tag to call", where="var", mend="give one column a hashtag")
        if not (np.isfinite(counts).all() and (counts >= 0).all()):
            raise InvalidDataError("counts below zero, or that are not finite", where="X", mend="give raw counts")
        logs = np.log1p(counts)
        height = np.where(counts > 0, logs - np.median(logs, axis=0), -np.inf)
        height[counts.sum(axis=1) == 0] = 0.0
        best = height.argmax(axis=1)
        share = np.exp(height - height.max(axis=1, keepdims=True))
        probability = share.max(axis=1) / share.sum(axis=1)
        names = np.asarray(hto.var_names, dtype=object)[best]
        empty = counts.sum(axis=1) == 0
        return pd.DataFrame(
            {
                "call": np.where(empty, "Negative", names),
                "kind": np.where(empty, "negative", "singlet"),
                "probability": np.where(empty, 1.0, probability),
                "tags": np.where(empty, "", names),
                "forced_call": np.where(empty, "", names),
            },
            index=hto.obs_names,
        )
