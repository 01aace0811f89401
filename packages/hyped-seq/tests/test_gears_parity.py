"""GEARS in mode `reference` beside what cell-gears 0.1.2 did on the same cells (`scripts/gears_oracle/fixtures.py`)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

torch = pytest.importorskip("torch", reason="torch is not installed")

from hyped_seq.gears.de_genes import group_moments, top_genes, welch_scores  # noqa: E402
from hyped_seq.gears.graphs import coexpression_graph, term_graph  # noqa: E402
from hyped_seq.gears.loss import autofocus_loss  # noqa: E402
from hyped_seq.gears.network import Batch  # noqa: E402
from hyped_seq.gears.official import load_official  # noqa: E402
from hyped_seq.gears.terms import read_terms  # noqa: E402

HERE = Path(__file__).parent / "data" / "gears"
FACTS = json.loads((HERE / "screen.json").read_text())
VALUES = np.load(HERE / "screen.npz")["values"]
CONDITIONS = np.array(FACTS["conditions"])
MODELS = tuple(FACTS["models"])
WHOLE = ("mixed", "one_perturbed", "control", "same", "pair")
NEAR = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    """Name, the original's numbers, and a maker of our network with its weights."""
    found = np.load(HERE / f"{request.param}.npz")

    def make():
        checkpoint = load_official(
            HERE / request.param, genes=FACTS["genes"], perturbations=FACTS["perturbations"]
        )
        checkpoint.network.requires_grad_(True)
        return checkpoint

    return request.param, found, make


def nodes(name):
    return tuple(FACTS["perturbations"].index(gene) for gene in name.split("+") if gene != "ctrl")


def batch_of(kind):
    """The batch of our network, its conditions, and the genes that enter the loss of each."""
    named = [name for name, _ in FACTS["batches"][kind]]
    conditions = list(dict.fromkeys(named))
    of_cell = torch.tensor([conditions.index(name) for name in named])
    kept = torch.zeros(len(conditions), len(FACTS["genes"]), dtype=torch.bool)
    for i, name in enumerate(conditions):
        kept[i, slice(None) if name == "ctrl" else FACTS["non_zero"][name]] = True
    return Batch(tuple(nodes(name) for name in conditions), None, of_cell), kept


def training(make, kind):
    """Our network in training, in double where the fixture is: equal rows in a batch magnify rounding."""
    network = make().network.train()
    return network if kind == "mixed" else network.double()


def loss_of(name, network, found, kind):
    batch, kept = batch_of(kind)
    change, log_variance = network(batch)
    options = FACTS["models"][name]["options"]
    control = VALUES[CONDITIONS == "ctrl"].mean(axis=0)
    like = network.indv_b2.dtype
    x, y = (torch.from_numpy(found[f"{kind}/{part}"]).to(like) for part in "xy")
    return autofocus_loss(
        change, log_variance, x, y, batch.of_cell, kept, torch.from_numpy(control).to(like),
        direction_weight=options.get("direction_lambda", 0.1), uncertainty_weight=options.get("uncertainty_reg", 1.0),
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("kind", WHOLE)
def test_outputs(model, kind, mode):
    """Of every cell, whatever stands first in the batch, by running and by the batch's statistics."""
    _, found, make = model
    network = training(make, kind) if mode == "train" else make().network
    change, log_variance = network(batch_of(kind)[0])
    ours = change.detach().numpy() + found[f"{kind}/x"]
    np.testing.assert_allclose(ours, found[f"{kind}/{mode}/output"], **NEAR)
    if log_variance is not None:
        np.testing.assert_allclose(log_variance.detach().numpy(), found[f"{kind}/{mode}/log_variance"], **NEAR)


def test_the_first_cell_of_a_batch_is_another(model):
    """The original's defect is in the fixture: five cells of one perturbation, the first changes otherwise."""
    _, found, _ = model
    change = found["same/eval/output"] - found["same/x"]
    assert np.abs(change[0] - change[1]).max() > 1e-4
    assert np.abs(change[1:] - change[1]).max() < 1e-5


@pytest.mark.parametrize("kind", WHOLE)
def test_losses(model, kind):
    name, found, make = model
    loss = loss_of(name, training(make, kind), found, kind)
    assert float(loss.total.detach()) == pytest.approx(float(found[f"{kind}/loss"]), rel=1e-5)


@pytest.mark.parametrize("kind", ["mixed", "one_perturbed"])
def test_gradients(model, kind):
    name, found, make = model
    network = training(make, kind)
    loss_of(name, network, found, kind).total.backward()
    flat, at = found[f"{kind}/gradient"], 0
    scale = np.abs(flat).max()
    parameters = dict(network.named_parameters())
    for key in FACTS["models"][name]["names"]["gradient"]:
        grown = parameters[key].grad
        theirs = flat[at : at + parameters[key].numel()].reshape(parameters[key].shape)
        at += parameters[key].numel()
        assert grown is not None, key
        np.testing.assert_allclose(grown.numpy(), theirs, rtol=1e-4, atol=1e-5 * scale, err_msg=key)
    assert at == len(flat)
    held = {key for key, value in parameters.items() if value.grad is not None and bool((value.grad != 0).any())}
    assert held <= set(FACTS["models"][name]["names"]["gradient"])


@pytest.mark.parametrize("kind", ["mixed", "control"])
def test_one_step(model, kind):
    """Weights and running statistics after one step of Adam with clipped gradients."""
    name, found, make = model
    network = training(make, kind)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=5e-4)
    loss_of(name, network, found, kind).total.backward()
    torch.nn.utils.clip_grad_value_(network.parameters(), 1.0)
    gradients = {key: value.grad for key, value in network.named_parameters()}
    optimiser.step()
    flat, at = found[f"{kind}/after"], 0
    ours = network.state_dict()
    for key in FACTS["models"][name]["names"]["after"]:
        size = ours[key].numel()
        theirs, mine = flat[at : at + size], ours[key].numpy().reshape(-1)
        at += size
        gradient = gradients.get(key)
        if gradient is None:
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6, err_msg=key)
            continue
        # Adam's first step is the learning rate times the gradient's sign: where weight decay and a gradient of
        # rounding size only decide, it may go either way
        clear = np.abs(gradient.numpy().reshape(-1)) > 1e-6
        np.testing.assert_allclose(mine[clear], theirs[clear], rtol=1e-5, atol=2e-6, err_msg=key)
        assert np.abs(mine - theirs).max(initial=0) < 2.1e-3, key
    assert at == len(flat)


@pytest.mark.parametrize("name", MODELS)
def test_graphs(tmp_path, name):
    """Edges and weights from the training cells and from the terms."""
    options, fixture = FACTS["models"][name]["options"], FACTS["models"][name]
    used = np.isin(CONDITIONS, [c for c in FACTS["split"]["train"] if "ctrl" in c])
    ours = coexpression_graph(
        sp.csr_matrix(VALUES[used]),
        neighbours=options.get("num_similar_genes_co_express_graph", 20),
        threshold=options.get("coexpress_threshold", 0.4),
    )
    same_edges(ours, fixture["coexpression"])
    (tmp_path / "gene2go.json").write_text(json.dumps(FACTS["terms"]))
    ours = term_graph(
        read_terms(tmp_path / "gene2go.json"),
        FACTS["perturbations"],
        neighbours=options.get("num_similar_genes_go_graph", 20),
        threshold=0.1,
    )
    same_edges(ours, fixture["term"])


def same_edges(ours, theirs):
    order = np.lexsort((ours.sources, ours.targets))
    assert ours.targets[order].tolist() == theirs["targets"]
    assert ours.sources[order].tolist() == theirs["sources"]
    np.testing.assert_allclose(ours.weights[order], theirs["weights"], rtol=1e-5, atol=1e-6)


def test_top_genes_and_non_zero_genes():
    names = ["ctrl", *FACTS["top_20"]]
    group = np.array([names.index(c) for c in CONDITIONS])
    moments = group_moments(sp.csr_matrix(VALUES), group, len(names))
    top = top_genes(welch_scores(moments))
    for i, name in enumerate(names[1:], start=1):
        assert {FACTS["genes"][g] for g in top[i] if g >= 0} == set(FACTS["top_20"][name]), name
        assert np.flatnonzero(moments.mean[i] != 0).tolist() == FACTS["non_zero"][name]


def test_predictions(model):
    """Mean over 300 drawn control cells, the first of which alone sees the co-expression graph."""
    _, found, make = model
    network = make().network
    controls = VALUES[CONDITIONS == "ctrl"]
    for key in (k for k in found.files if k.startswith("predict/") and k.endswith("/mean")):
        asked = key.split("/")[1]
        draws = found[f"predict/{asked}/draws"]
        members = [nodes(asked)]
        rest, first = network.changes(members)[0].numpy(), network.changes(members, first=True)[0].numpy()
        ours = controls[draws].mean(axis=0) + ((len(draws) - 1) * rest + first) / len(draws)
        np.testing.assert_allclose(ours, found[key], **NEAR)


def test_metrics(model):
    """Of the test cells, in the original's batches of 16, by its definitions."""
    name, found, make = model
    network = make().network
    named = [c for c in FACTS["split"]["test"] for _ in FACTS["control_of"][c]]
    base = VALUES[[i for c in FACTS["split"]["test"] for i in FACTS["control_of"][c]]]
    ours = np.stack(
        [
            x + network.changes([nodes(c)], first=i % 16 == 0)[0].numpy()
            for i, (c, x) in enumerate(zip(named, base, strict=True))
        ]
    )
    np.testing.assert_allclose(ours, found["test/pred"], **NEAR)
    control = VALUES[CONDITIONS == "ctrl"].mean(axis=0)
    for condition in FACTS["split"]["test"]:
        rows = np.array(named) == condition
        guess, truth = ours[rows].mean(axis=0), found["test/truth"][rows].mean(axis=0)
        top = [FACTS["genes"].index(gene) for gene in FACTS["top_20"][condition]]
        theirs = FACTS["models"][name]["metrics_each"][condition]
        assert np.mean((guess - truth) ** 2) == pytest.approx(theirs["mse"], rel=1e-4)
        assert np.mean((guess - truth)[top] ** 2) == pytest.approx(theirs["mse_de"], rel=1e-4)
        assert np.corrcoef(guess, truth)[0, 1] == pytest.approx(theirs["pearson"], rel=1e-4)
        delta = np.corrcoef(guess - control, truth - control)[0, 1]
        assert delta == pytest.approx(FACTS["models"][name]["pearson_delta"][condition], rel=1e-3, abs=1e-5)
