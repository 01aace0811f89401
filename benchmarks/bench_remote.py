"""A model in a process of its own beside the same model here, and beside a pool of processes that pickles.

Size: 5,000 cells x 2,000 genes as float32 (40 MB), given to `no_change` and returned; one thread. What is timed is a
call, not the start of the process (which takes about half a second with anndata).
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

import anndata
import numpy as np
import pandas as pd
import pytest

from hyped_core.context import RunContext
from hyped_core.design import Perturbation
from hyped_core.plugins.registry import get_model
from hyped_core.remote.host import RemoteModel, Runner

CELLS, GENES = 5_000, 2_000


def made() -> anndata.AnnData:
    """Control cells."""
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"perturbation": "control", "phase": "G1"}, index=[f"c{i}" for i in range(CELLS)])
    x = rng.gamma(1.0, 1.0, (CELLS, GENES)).astype(np.float32)
    return anndata.AnnData(x, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(GENES)]))


def here(cells: anndata.AnnData) -> anndata.AnnData:
    """The model called in this process, whichever that is."""
    model = get_model("expression", "no_change").create()
    model.fit(cells, context=RunContext())
    return model.predict(cells, Perturbation.from_name("A"), context=RunContext())


@pytest.mark.benchmark(group="a model called with 5,000 cells x 2,000 genes")
@pytest.mark.parametrize("way", ["ours", "in this process", "pickled to a pool"])
def test_call(benchmark, way):
    """The prediction equals the one made here."""
    cells, rounds = made(), 5
    expected = here(cells).X
    if way == "in this process":
        found = benchmark.pedantic(here, (cells,), rounds=rounds, warmup_rounds=1)
    elif way == "pickled to a pool":
        with ProcessPoolExecutor(1) as pool:
            found = benchmark.pedantic(
                lambda: pool.submit(here, cells).result(), rounds=rounds, warmup_rounds=1
            )
    else:
        with RemoteModel("expression", "no_change", Runner()) as remote:
            model = remote.create()

            def call() -> anndata.AnnData:
                model.fit(cells, context=RunContext())
                return model.predict(cells, Perturbation.from_name("A"), context=RunContext())

            found = benchmark.pedantic(call, rounds=rounds, warmup_rounds=1)
            benchmark.extra_info["child_peak_mb"] = round(remote.process.peak_memory_mb)
    assert np.array_equal(found.X, expected)
