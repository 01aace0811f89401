"""Predicted cells and means: never negative, one by the other, and the original's arithmetic in mode reference."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

torch = pytest.importorskip("torch")

from hyped_core.context import RunContext  # noqa: E402
from hyped_core.design import GeneChange, Perturbation  # noqa: E402
from hyped_core.errors import InvalidDataError  # noqa: E402
from hyped_seq.gears.graphs import Graph  # noqa: E402
from hyped_seq.gears.model import Gears, GearsConfig  # noqa: E402
from hyped_seq.gears.network import Batch  # noqa: E402
from hyped_seq.gears.predict import fallback, moved_cells, predict_cells, predict_means  # noqa: E402

shared = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("gears_planted.py"))))
NAMES = ("P00", "P01+P10", "P20", "control")


def fitted(**config: object):
    screen = shared.planted(genes=40, cells=12, controls=40, seed=3)
    model = Gears(GearsConfig.model_validate({"hidden": 8, "epochs": 1, "learning_rate": 1e-2, **config}))
    model.fit(screen.part(["P00", "P01", "P10", "P00+P10"]), context=RunContext())
    checkpoint = model.checkpoint
    if checkpoint.architecture.state:  # one short epoch leaves the map nearly zero: make the state matter
        with torch.no_grad():
            checkpoint.network.cell_state.weight += 0.5 * torch.randn(
                checkpoint.network.cell_state.weight.shape, generator=torch.Generator().manual_seed(0)
            )
    return checkpoint, np.asarray(screen.control.X)


@pytest.fixture(scope="module")
def fixed():
    return fitted(uncertainty=True)


@pytest.fixture(scope="module")
def reference():
    return fitted(mode="reference", uncertainty=True)


def values(low: float, high: float):
    return arrays(np.float32, (5, 3), elements=st.floats(low, high, width=32))


@given(values(0, 4), values(-3, 3))
def test_moved_cells_are_never_negative_and_keep_the_mean(x, change):
    before = x.copy()
    moved = moved_cells(x, change)
    assert moved.min() >= 0 and (x == before).all()
    assert np.allclose(moved.mean(0), np.maximum((x + change).mean(0), 0), atol=1e-5)


@given(values(0, 4))
def test_no_change_moves_nothing(x):
    assert np.allclose(moved_cells(x, np.zeros((1, 3), np.float32)), x, atol=1e-6)


@pytest.mark.parametrize("which", ["fixed", "reference"])
def test_means_are_those_of_the_cells(which, request):
    checkpoint, x = request.getfixturevalue(which)
    perturbations = [Perturbation.from_name(name) for name in NAMES]
    means = predict_means(checkpoint, x, perturbations)
    for mean, perturbation in zip(means, perturbations, strict=True):
        assert np.allclose(predict_cells(checkpoint, x, perturbation).x.mean(0), mean, atol=1e-5)
    assert predict_means(checkpoint, x, []).shape == (0, x.shape[1])


@pytest.mark.parametrize("which", ["fixed", "reference"])
def test_cells_are_those_of_the_network_on_a_batch_of_them(which, request):
    checkpoint, x = request.getfixturevalue(which)
    nodes, _ = checkpoint.encode(Perturbation.from_name("P01+P10"))
    state = torch.from_numpy(checkpoint.states.of(x)) if checkpoint.states is not None else None
    with torch.no_grad():
        change, spread = checkpoint.network.eval()(
            Batch(sets=(nodes,), signs=None, of_cell=torch.zeros(len(x), dtype=torch.long), state=state)
        )
    found = predict_cells(checkpoint, x, Perturbation.from_name("P01+P10"))
    assert np.allclose(found.log_variance, spread.numpy(), atol=1e-5)
    plain = x + change.numpy()
    if which == "reference":
        assert np.allclose(found.x, plain, atol=1e-5)
    else:
        assert np.allclose(found.x, moved_cells(x, change.numpy()), atol=1e-5)
        assert change.numpy().std(axis=0).max() > 1e-3


def test_directions_count_where_asked_for():
    checkpoint, x = fitted(direction="signed")
    both = [
        Perturbation(
            name="P00+P10",
            changes=(GeneChange(gene="P00", direction=first), GeneChange(gene="P10", direction=second)),
        )
        for first, second in (("activation", "suppression"), ("activation", "activation"))
    ]
    means = predict_means(checkpoint, x, both)
    assert not np.allclose(*means)
    for mean, one in zip(means, both, strict=True):
        assert np.allclose(predict_cells(checkpoint, x, one).x.mean(0), mean, atol=1e-5)
        assert not predict_cells(checkpoint, x, one).notes


def test_fallback_says_which_genes_nothing_speaks_of(fixed):
    checkpoint, _ = fixed
    nodes = checkpoint.positions
    assert fallback(checkpoint, Perturbation.from_name("P00+P10")) == ""
    nothing = replace(checkpoint, perturbation_graph=Graph([], [], [], len(nodes)))
    assert "P20" in fallback(nothing, Perturbation.from_name("P00+P20"))
    joined = replace(checkpoint, perturbation_graph=Graph([nodes["P00"]], [nodes["P20"]], [0.3], len(nodes)))
    assert fallback(joined, Perturbation.from_name("P20")) == ""
    taken = replace(checkpoint, perturbation_graph=Graph([nodes["P20"]], [nodes["P00"]], [0.3], len(nodes)))
    assert fallback(taken, Perturbation.from_name("P20")) == ""  # training P00 teaches P20's vector too
    third = nodes["P21"]
    shared_one = replace(
        checkpoint, perturbation_graph=Graph([third, third], [nodes["P00"], nodes["P20"]], [0.3, 0.3], len(nodes))
    )
    assert "P21" not in checkpoint.trained_genes and fallback(shared_one, Perturbation.from_name("P20")) == ""
    onward = replace(checkpoint, perturbation_graph=Graph([nodes["P20"]], [third], [0.3], len(nodes)))
    assert "P20" in fallback(onward, Perturbation.from_name("P20"))  # a stranger's neighbour
    unsaid = replace(nothing, trained_genes=())
    assert fallback(unsaid, Perturbation.from_name("P20")) == ""


def test_a_gene_is_named_once(fixed):
    checkpoint, x = fixed
    twice = tuple(GeneChange(gene="P00", direction=way) for way in ("activation", "suppression"))
    with pytest.raises(InvalidDataError, match="twice"):
        predict_cells(checkpoint, x, Perturbation(name="P00+P00", changes=twice))


def test_one_cell_is_enough(fixed, reference):
    for checkpoint, x in (fixed, reference):
        found = predict_cells(checkpoint, x[:1], Perturbation.from_name("P00"))
        assert found.x.shape == (1, x.shape[1]) and found.log_variance.shape == found.x.shape
