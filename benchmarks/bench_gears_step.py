"""An optimisation step of GEARS beside the straightforward way, which carries every gene of every cell through torch.

A step is forward, loss, backward, clipping and Adam on a batch of 32 cells, hidden size 64, both modes: 1,000 genes and
20 perturbations (about 17 distinct sets a batch), 5,000 genes and 140 (about 29). Random graphs of 20 neighbours, the
same batches for both, one thread and two. Both take turns; each one's best of the rounds counts, and
``times_as_fast`` must reach `LIMIT`. Also 128 perturbations predicted, which the straightforward way does with 300
control cells each (timed on one, not looped).
"""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hyped_seq.gears.graphs import Graph
from hyped_seq.gears.loss import autofocus_loss
from hyped_seq.gears.network import Architecture, Batch, GearsNetwork

TESTS = Path(__file__).resolve().parents[1] / "packages" / "hyped-seq" / "tests"
plain = SimpleNamespace(**runpy.run_path(str(TESTS / "gears_plain.py")))

LIMIT = {1: 3.0, 2: 2.0}
"""By threads."""
PREDICT_LIMIT = 50.0
CELLS, HIDDEN, ROUNDS, CONTROLS = 32, 64, 8, 300
SIZES = {"1000 genes": (1000, 1000, 20), "5000 genes": (5000, 5000, 140)}
"""Genes, genes in the perturbation graph, perturbations."""


def random_graph(nodes: int, rng: np.random.Generator) -> Graph:
    """Each node with itself and about 20 others."""
    every = np.arange(nodes)
    ends = np.stack([np.r_[every, np.repeat(every, 20)], np.r_[every, rng.integers(0, nodes, 20 * nodes)]])
    pairs = np.unique(ends, axis=1)
    return Graph(pairs[1], pairs[0], rng.uniform(0.4, 1, pairs.shape[1]).astype(np.float32), nodes)


def models(size: str, mode: str) -> tuple:
    """Ours and the straightforward one with the same weights, and a generator."""
    genes, nodes, _ = SIZES[size]
    rng = np.random.default_rng(0)
    architecture = Architecture(genes, nodes, HIDDEN, mode=mode)
    graphs = random_graph(genes, rng), random_graph(nodes, rng)
    ours = GearsNetwork(architecture, *graphs, generator=torch.Generator().manual_seed(0))
    theirs = plain.PlainGears(architecture, *graphs)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs, rng


@pytest.fixture
def threads(request):
    """So many, and as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.benchmark(group="a step of GEARS")
@pytest.mark.parametrize("threads", [1, 2], indirect=True, ids=["1 thread", "2 threads"])
@pytest.mark.parametrize("mode", ["fixed", "reference"])
@pytest.mark.parametrize("size", SIZES)
def test_step(benchmark, size, mode, threads):
    """Milliseconds of both are in ``extra_info``; the time shown is ours."""
    ours, theirs, rng = models(size, mode)
    genes, nodes, perturbations = SIZES[size]
    sets = [(), *((int(node),) for node in rng.choice(nodes, perturbations, replace=False))]
    drawn = rng.integers(0, len(sets), CELLS)
    x, y = (torch.from_numpy(rng.random((CELLS, genes), dtype=np.float32)) for _ in range(2))
    control = x.mean(0)
    distinct, of_cell = np.unique(drawn, return_inverse=True)
    of_cell, kept = torch.from_numpy(of_cell), torch.ones(len(distinct), genes, dtype=torch.bool)
    batch = Batch(tuple(sets[i] for i in distinct), None, of_cell)
    optimisers = [torch.optim.Adam(m.parameters(), lr=1e-3, weight_decay=5e-4, fused=True) for m in (ours, theirs)]

    def step(network: torch.nn.Module, optimiser: torch.optim.Adam, given) -> float:
        optimiser.zero_grad()
        change, _ = network(given)
        loss = autofocus_loss(change, None, x, y, of_cell, kept, control).total
        loss.backward()
        torch.nn.utils.clip_grad_value_(network.parameters(), 1.0)
        optimiser.step()
        return loss.item()

    def hyped() -> float:
        return step(ours, optimisers[0], batch)

    def straightforward() -> float:
        return step(theirs, optimisers[1], [sets[i] for i in drawn])

    assert hyped() == pytest.approx(straightforward(), rel=1e-4)
    ratio, quick, slow = beside(hyped, straightforward, LIMIT[threads])
    benchmark.pedantic(hyped, rounds=2)
    benchmark.extra_info.update(
        sets=len(distinct),
        ms=round(1e3 * quick, 1),
        straightforward_ms=round(1e3 * slow, 1),
        times_as_fast=round(ratio, 2),
        load=round(os.getloadavg()[0], 1),
    )
    assert ratio >= LIMIT[threads]


@pytest.mark.benchmark(group="predict a perturbation with GEARS")
@pytest.mark.parametrize("threads", [1], indirect=True, ids=["1 thread"])
def test_predict(benchmark, threads):
    """Ours for 128 perturbations, the straightforward way's for one with 300 control cells; ratio a perturbation."""
    ours, theirs, rng = models("1000 genes", "reference")
    sets = [(int(node),) for node in rng.choice(1000, 128, replace=False)]
    ours.eval()
    theirs.eval()
    found = []

    def hyped() -> None:
        found[:] = ours.changes(sets)

    @torch.no_grad()
    def straightforward() -> torch.Tensor:
        return theirs([sets[0]] * CONTROLS)[0]

    hyped()
    torch.testing.assert_close(found[0], straightforward()[-1], rtol=1e-4, atol=1e-5)
    _, quick, slow = beside(hyped, straightforward, PREDICT_LIMIT / len(sets))
    ratio = slow / (quick / len(sets))
    benchmark.pedantic(hyped, rounds=2)
    benchmark.extra_info.update(
        ms_a_perturbation=round(1e3 * quick / len(sets), 2),
        straightforward_ms=round(1e3 * slow, 1),
        times_as_fast=round(ratio, 1),
        load=round(os.getloadavg()[0], 1),
    )
    assert ratio >= PREDICT_LIMIT


def beside(ours, theirs, limit: float) -> tuple[float, float, float]:
    """Ratio of the best times, and the times in seconds (ours, theirs)."""
    quick, slow = [], []
    for _ in range(ROUNDS):
        for run, found in ((theirs, slow), (ours, quick)):
            start = perf_counter()
            run()
            found.append(perf_counter() - start)
        if len(slow) >= 3 and min(slow) >= limit * min(quick):
            break  # more rounds are for a machine that does something else beside
    return min(slow) / min(quick), min(quick), min(slow)
