"""The demultiplexing control on counts whose origin is known."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

from hyped_bench.controls.demultiplex import TopTag
from hyped_core.context import RunContext
from hyped_core.contracts import Demultiplexer


def test_top_tag_centres_each_tag_before_it_compares():
    rng = np.random.default_rng(0)
    origin = np.repeat(np.arange(3), 100)
    background = np.array([5.0, 200.0, 5.0])  # the second tag is bright everywhere
    counts = rng.poisson(background, (300, 3))
    counts[np.arange(300), origin] += rng.poisson(60 + 3 * background[origin])
    hto = anndata.AnnData(sp.csr_matrix(counts.astype(np.float32)), var=pd.DataFrame(index=["A", "B", "C"]))
    calls = TopTag().assign(hto, context=RunContext())
    assert isinstance(TopTag(), Demultiplexer)
    assert (calls["call"] == np.array(["A", "B", "C"])[origin]).mean() > 0.98
    assert calls.index.equals(hto.obs_names)
    assert calls["probability"].between(0, 1).all()
    assert not (calls["kind"] == "doublet").any()


def test_an_empty_cell_is_negative():
    hto = anndata.AnnData(np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]]), var=pd.DataFrame(index=["A", "B"]))
    calls = TopTag().assign(hto, context=RunContext())
    assert calls["call"].tolist()[0] == "Negative" and calls["kind"].tolist()[0] == "negative"
