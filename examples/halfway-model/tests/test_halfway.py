"""The model on eight cells and two genes, where the right answer can be worked out by hand."""

import anndata
import numpy as np
import pandas as pd
import pytest
from halfway_model.model import Halfway, HalfwayConfig

from hyped_core import Perturbation, RunContext
from hyped_core.contracts import ExpressionPredictor
from hyped_core.testing import ExpressionPredictorSuite


class TestChecks(ExpressionPredictorSuite):
    """Each check of `hyped plugins check` is a test."""

    model = "halfway_model.model:Halfway"


def cells() -> anndata.AnnData:
    """Control at (1, 2); A adds 1 to the first gene, B takes 1 from the second."""
    names = np.repeat(["control", "A", "B"], [4, 2, 2])
    x = np.array([[1, 2]] * 4 + [[2, 2]] * 2 + [[1, 1]] * 2, dtype=np.float32)
    obs = pd.DataFrame({"perturbation": names}, index=[f"c{i}" for i in range(8)])
    return anndata.AnnData(x, obs=obs, var=pd.DataFrame(index=["G1", "G2"]))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_pair_is_a_share_of_the_sum_of_its_genes(share):
    train = cells()
    control = train[train.obs.perturbation == "control"].copy()
    model = Halfway(HalfwayConfig(share=share))
    assert isinstance(model, ExpressionPredictor)
    model.fit(train, context=RunContext())
    predicted = model.predict(control, Perturbation.from_name("A+B"), context=RunContext())
    assert list(predicted.var_names) == ["G1", "G2"]
    np.testing.assert_allclose(predicted.X, [[1 + share, 2 - share]] * 4)
    np.testing.assert_allclose(control.X, [[1, 2]] * 4)  # inputs belong to the caller


def test_a_share_above_one_is_refused():
    with pytest.raises(ValueError):
        HalfwayConfig(share=1.5)
