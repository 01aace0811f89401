"""The table of calls that every demultiplexer returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from hyped_core.errors import InvalidDataError

if TYPE_CHECKING:
    from anndata import AnnData

DOUBLET = "Doublet"
NEGATIVE = "Negative"
KINDS = ("singlet", "doublet", "negative")
CALL_COLUMNS = ("call", "kind", "probability", "tags")


def call_table(
    index: Sequence[str], call: Sequence[str], probability: np.ndarray, tags: Sequence[str]
) -> pd.DataFrame:
    """Calls with their kind: ``call``, ``kind``, ``probability`` (6 digits, in [0, 1]), ``tags``."""
    call = np.asarray(call, dtype=object)
    kind = np.where(call == DOUBLET, "doublet", np.where(call == NEGATIVE, "negative", "singlet"))
    return pd.DataFrame(
        {
            "call": call,
            "kind": kind,
            "probability": np.clip(np.asarray(probability, dtype=float), 0, 1).round(6),
            "tags": np.asarray(tags, dtype=object),
        },
        index=pd.Index(index, name="cell"),
    )


def dense_counts(hto: AnnData) -> np.ndarray:
    """Raw hashtag counts as (cells, tags) float64.

    Raises
    ------
    InvalidDataError
        There are no tags or cells, or a count is negative or not finite.
    """
    counts = hto.layers["counts"] if "counts" in hto.layers else hto.X
    counts = counts.toarray() if sp.issparse(counts) else np.asarray(counts)
    counts = counts.astype(np.float64)
    if counts.ndim != 2 or 0 in counts.shape:
        raise InvalidDataError(
            f"hashtag counts have shape {counts.shape}",
            where="hto",
            mend="give at least one cell and one tag",
        )
    if not np.isfinite(counts).all() or counts.min() < 0:
        raise InvalidDataError(
            "hashtag counts are negative or not finite", where="hto", mend="give raw counts"
        )
    return counts
