"""The control of the embedding task: projections and changes of counts against plain arithmetic."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from hyped_bench.controls.embedding import Pca, PcaConfig
from hyped_core.context import RunContext
from hyped_core.contracts import CellEmbedder
from hyped_core.design.model import GeneChange, Perturbation
from hyped_core.errors import InvalidDataError, UsageError

BOTH = Perturbation(
    name="UP+DOWN",
    changes=(GeneChange(gene="UP", direction="activation"), GeneChange(gene="DOWN", direction="suppression")),
)


@pytest.fixture
def cells() -> anndata.AnnData:
    rng = np.random.default_rng(5)
    counts = rng.poisson(rng.uniform(0.5, 5.0, (60, 1)) * rng.uniform(0.1, 3.0, 30))
    counts[:, 9] += 1
    counts[7] = 0
    names = [f"G{i:02d}" for i in range(30)]
    var = pd.DataFrame({"symbol": ["UP", "DOWN", *names[2:]]}, index=names)
    return anndata.AnnData(csr_matrix(counts.astype(np.float32)), var=var)


def log(counts):
    return np.log1p(counts * 10_000 / counts.sum(axis=1, keepdims=True))


def test_changes_are_changes_of_counts_before_normalising(cells):
    model = Pca(PcaConfig(components=30))
    context = RunContext()
    model.fit(cells[[i for i in range(60) if i != 7]].copy(), context=context)
    assert isinstance(model, CellEmbedder)
    before = cells.X.toarray()
    plain, changed = model.embed(cells, context=context), model.embed_perturbed(cells, BOTH, context=context)
    assert plain.dtype == changed.dtype == np.float32
    assert np.isnan(plain[7]).all() and np.isnan(changed[7]).all() and not np.isnan(np.delete(plain, 7, 0)).any()
    by_hand = before.astype(float)
    by_hand[:, 0] = before.max(axis=1)
    by_hand[:, 1] = 0
    keep = np.arange(60) != 7
    # axes of all dimensions keep lengths, so shifts are as long as in the space of genes
    shift = log(by_hand[keep]) - log(before[keep].astype(float))
    assert np.linalg.norm((changed - plain)[keep], axis=1) == pytest.approx(np.linalg.norm(shift, axis=1), rel=1e-4)
    assert (changed - plain)[keep] == pytest.approx(shift @ model.axes, abs=1e-3)
    assert np.array_equal(cells.X.toarray(), before)


def test_axes_are_those_of_the_covariance_and_the_same_each_time(cells):
    train = cells[[i for i in range(60) if i != 7]].copy()
    first, second = Pca(PcaConfig(components=3)), Pca(PcaConfig(components=3))
    for model in (first, second):
        model.fit(train, context=RunContext(seed=4))
    assert np.array_equal(first.axes, second.axes) and first.facts == {"components": 3, "fit_cells": 59}
    covariance = np.cov(log(train.X.toarray().astype(float)).T)
    top = np.linalg.eigh(covariance)[1][:, ::-1][:, :3]
    assert np.abs((first.axes * top).sum(axis=0)) == pytest.approx(np.ones(3), abs=1e-6)


def test_what_cannot_be_embedded_is_said(cells):
    model, context = Pca(), RunContext()
    with pytest.raises(UsageError, match="fit"):
        model.embed(cells, context=context)
    model.fit(cells[8:].copy(), context=context)
    with pytest.raises(InvalidDataError, match="NOSUCH is not among the 30 genes"):
        model.embed_perturbed(cells, Perturbation.from_name("NOSUCH"), context=context)
    with pytest.raises(InvalidDataError, match="same order"):
        model.embed(cells[:, ::-1].copy(), context=context)
