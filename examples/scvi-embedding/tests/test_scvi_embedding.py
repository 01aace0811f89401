"""Counts, genes and perturbing by hand; training and HYPED's own checks of embedders where scvi-tools is installed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse
from scvi_embedding.counts import columns_of, counts_of, high_counts, perturbed
from scvi_embedding.model import Scvi, ScviConfig
from scvi_embedding.plugin import hyped_models

from hyped_core import Perturbation, RunContext
from hyped_core.errors import InvalidDataError, UsageError
from hyped_core.testing import CellEmbedderSuite

GENES = ["ENSG2", "ENSG1", "ENSG3"]


def cells(values=((1, 2, 0), (0, 4, 3))) -> AnnData:
    var = pd.DataFrame({"symbol": ["B", "A", "C"]}, index=GENES)
    return AnnData(sparse.csr_matrix(np.array(values, np.float32)), var=var)


def test_the_model_runs_in_an_environment_of_its_own():
    (spec,) = hyped_models()
    assert "scvi-tools==1.4.2" in spec.environment and spec.load_config().epochs == 20


def test_genes_go_by_name_and_absent_ones_count_nothing():
    np.testing.assert_array_equal(counts_of(cells()).toarray(), [[2, 1, 0], [4, 0, 3]])
    np.testing.assert_array_equal(counts_of(cells(), ["ENSG3", "ENSG9", "ENSG1"]).toarray(), [[0, 0, 2], [3, 0, 4]])


@pytest.mark.parametrize("value", [-1, 0.5, np.nan])
def test_values_that_are_no_counts_are_refused(value):
    with pytest.raises(InvalidDataError, match="no counts"):
        counts_of(cells(((1, value, 0), (0, 4, 3))))


def test_activation_raises_and_suppression_empties():
    counts = counts_of(cells())  # ENSG1, ENSG2, ENSG3
    both = Perturbation.from_name("A+C")
    assert columns_of(cells(), both, sorted(GENES)) == [(0, "activation"), (2, "activation")]
    found = perturbed(counts, [(0, "activation"), (2, "suppression")], np.array([3, 1, 1], np.float32))
    np.testing.assert_array_equal(found.toarray(), [[3, 1, 0], [4, 0, 0]])
    np.testing.assert_array_equal(counts.toarray(), [[2, 1, 0], [4, 0, 3]])
    with pytest.raises(InvalidDataError, match="NOBODY"):
        columns_of(cells(), Perturbation.from_name("NOBODY"), sorted(GENES))


def test_high_counts_are_quantiles_and_at_least_one():
    np.testing.assert_array_equal(high_counts(counts_of(cells()), 1.0), [4, 1, 3])
    np.testing.assert_array_equal(high_counts(counts_of(cells()), 0.0), [2, 1, 1])


def test_nothing_is_embedded_before_fit(tmp_path: Path):
    with pytest.raises(UsageError):
        Scvi(ScviConfig()).embed(cells(), context=RunContext(scratch=tmp_path))


def test_cells_of_a_phase_lie_together(tiny_perturbseq, tmp_path: Path):
    """The distance to the own phase's centre is less than with phases shuffled."""
    pytest.importorskip("scvi")
    given, context = tiny_perturbseq.counts(), RunContext(scratch=tmp_path)
    model = Scvi(ScviConfig(epochs=60))
    model.fit(given, context=context)
    found, phase = model.embed(given, context=context), given.obs["phase"].to_numpy()

    def spread(labels) -> float:
        return float(pd.DataFrame(found).groupby(np.asarray(labels)).var().mean(axis=1).mean())

    rng = np.random.default_rng(0)
    assert spread(phase) < min(spread(rng.permutation(phase)) for _ in range(20))


class TestContract(CellEmbedderSuite):
    model = "scvi_embedding.model:Scvi"

    @pytest.fixture(autouse=True)
    def _library(self):
        pytest.importorskip("scvi")
