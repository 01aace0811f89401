"""`tiny_hashtags`: hashtag counts of 240 cells whose tags are known, made in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

TAGS = ("HTO-A", "HTO-B", "HTO-C", "HTO-D")
N_SINGLETS, N_DOUBLETS, N_NEGATIVES = 200, 24, 16
_BACKGROUND, _CARRIED = 6.0, 160.0
"""Mean counts of a tag that a cell does not carry, and of one that it carries."""


@dataclass(frozen=True, slots=True)
class TinyHashtags:
    """A capture with known truth.

    Attributes
    ----------
    hto : (cells, tags) raw counts, CSR float32, cells in random order; no columns in ``obs`` or ``var``, as models of
        the task demultiplex get it.
    truth : of each cell ``call`` (tag, Doublet or Negative), ``kind`` (singlet, doublet, negative) and ``tags`` (names
        joined with ``+``), indexed as ``hto``.
    """

    hto: AnnData
    truth: pd.DataFrame


def tiny_hashtags(seed: int = 0) -> TinyHashtags:
    """200 singlets, 24 doublets of two different tags and 16 cells without a tag; 4 tags.

    Counts are negative binomial: about 6 of a tag that a cell does not carry, about 160 of one that it carries, both in
    proportion to the cell's size: a good model is right on nearly all singlets. Equal seeds give equal counts.
    """
    import anndata
    import pandas as pd
    import scipy.sparse as sp

    rng = np.random.default_rng([seed, 7_402])
    n = N_SINGLETS + N_DOUBLETS + N_NEGATIVES
    kinds = rng.permutation(np.repeat(["singlet", "doublet", "negative"], [N_SINGLETS, N_DOUBLETS, N_NEGATIVES]))
    carries = np.zeros((n, len(TAGS)), dtype=bool)
    for row, kind in enumerate(kinds):
        carries[row, rng.choice(len(TAGS), {"singlet": 1, "doublet": 2, "negative": 0}[kind], replace=False)] = True
    size = np.exp(rng.normal(0.0, 0.3, n))[:, None]
    mean = size * (_BACKGROUND * np.array([1.0, 1.6, 0.7, 1.2]) + carries * _CARRIED)
    spread = np.where(carries, 8.0, 4.0)
    counts = rng.poisson(mean * rng.gamma(spread, 1.0 / spread)).astype(np.float32)
    names = pd.Index([f"cell{i:03d}" for i in range(n)])
    hto = anndata.AnnData(sp.csr_matrix(counts), obs=pd.DataFrame(index=names), var=pd.DataFrame(index=list(TAGS)))
    joined = ["+".join(tag for tag, has in zip(TAGS, row, strict=True) if has) for row in carries]
    named = {"singlet": None, "doublet": "Doublet", "negative": "Negative"}
    call = [named[kind] or tags for kind, tags in zip(kinds, joined, strict=True)]
    truth = pd.DataFrame({"call": call, "kind": kinds.astype(object), "tags": joined}, index=names)
    return TinyHashtags(hto, truth)
