"""A trained network on another panel: what is kept, what is interpolated, what starts fresh."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from hyped_core.context import RunContext  # noqa: E402
from hyped_core.errors import InvalidDataError  # noqa: E402
from hyped_seq.gears.graphs import Graph  # noqa: E402
from hyped_seq.gears.model import Gears, GearsConfig  # noqa: E402
from hyped_seq.gears.pairs import CellStates  # noqa: E402
from hyped_seq.gears.transfer import carried, match_names, transfer  # noqa: E402

shared = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("gears_planted.py"))))
SETS = [(), (0,), (3,), (0, 3)]


def made(**config: object):
    """A small checkpoint after one epoch; its co-expression graph has edges."""
    screen = shared.planted(genes=40, cells=12, controls=40, seed=3)
    settings = {"hidden": 8, "epochs": 1, "coexpression_threshold": 0.2, **config}
    model = Gears(GearsConfig.model_validate(settings))
    model.fit(screen.part(["P00", "P01", "P10", "P00+P10"]), context=RunContext())
    return model.checkpoint


@pytest.fixture(scope="module")
def checkpoint():
    return made()


@pytest.fixture(scope="module")
def reference():
    return made(mode="reference")


def changes(checkpoint, names=("P00", "P10")):
    where = checkpoint.positions
    nodes = [where[name] for name in names]
    state = torch.zeros(2, checkpoint.architecture.state) if checkpoint.architecture.state else None
    return checkpoint.network.changes([(), (nodes[0],), tuple(nodes)], state=state).numpy()


def control_input(checkpoint) -> np.ndarray:
    """What the first layer over all genes gives for an unperturbed cell, by the decoded values themselves."""
    network = checkpoint.network
    caught = []
    handle = network.cross_gene_state.network[0].register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    network.changes([()])
    handle.remove()
    layer = network.cross_gene_state.network[0]
    return (caught[0][0] @ layer.weight.T + layer.bias).detach().numpy()


@given(st.lists(st.sampled_from("abcdeABCDE"), unique=True), st.lists(st.sampled_from("abcdeABCDE"), unique=True))
def test_names_are_matched_one_to_one_and_exact_names_first(old, new):
    match = match_names(old, new)
    kept = match.old[match.old >= 0]
    assert len(set(kept)) == len(kept)
    assert match.exact == len(set(old) & set(new))
    for name, at in zip(new, match.old, strict=True):
        if at >= 0:
            assert old[at].upper() == name.upper() and (name not in old or old[at] == name)
        else:
            assert name not in old
    assert match.exact + match.by_case + match.by_alias == len(kept)
    counts = match.counts(len(old))
    assert counts["shared"] + counts["new"] == len(new) and counts["shared"] + counts["left_out"] == len(old)


def test_other_names_find_what_names_do_not():
    match = match_names(["MYOD1", "TP53"], ["ENSG2.4", "ENSG1"], aliases=[["tp53", ""]])
    assert match.old.tolist() == [1, -1] and match.by_alias == 1
    versions = match_names(["ENSG00000129152"], ["ENSG00000129152.7"])
    assert versions.old.tolist() == [0]


@pytest.mark.parametrize("which", ["checkpoint", "reference"])
def test_the_same_panel_in_another_order_predicts_the_same(which, request):
    checkpoint = request.getfixturevalue(which)
    order = np.random.default_rng(0).permutation(len(checkpoint.genes))
    nodes = np.random.default_rng(1).permutation(len(checkpoint.perturbations))
    moved = transfer(
        checkpoint, [checkpoint.genes[i] for i in order], [checkpoint.perturbations[i] for i in nodes], seed=9
    )
    assert np.allclose(changes(moved), changes(checkpoint)[:, order], atol=1e-5)
    assert moved.facts["transferred"]["genes"]["left_out"] == moved.facts["transferred"]["genes"]["new"] == 0
    assert np.allclose(moved.control_mean, checkpoint.control_mean[order])
    assert set(moved.trained_genes) == set(checkpoint.trained_genes)


def test_half_of_the_genes_keep_the_layer_behind_them_where_it_was_trained(checkpoint):
    genes = checkpoint.genes[::2]
    moved = transfer(checkpoint, genes, checkpoint.perturbations)
    assert np.allclose(control_input(moved), control_input(checkpoint), atol=1e-4)
    state, old = moved.network.state_dict(), checkpoint.network.state_dict()
    for key in ("gene_emb.weight", "emb_pos.weight", "indv_w1", "indv_b1"):
        assert torch.equal(state[key], old[key][::2])
    for key in ("indv_w2", "indv_b2", "cross_gene_state.network.0.weight"):
        assert torch.equal(state[key], old[key][:, ::2])
    for key in ("recovery_w.network.0.weight", "pert_emb.weight", "bn_pert_base.running_var"):
        assert torch.equal(state[key], old[key])
    # the graph differs a little, what genes say of a perturbation hardly does
    found, was = changes(moved)[2] - changes(moved)[0], (changes(checkpoint)[2] - changes(checkpoint)[0])[::2]
    assert np.corrcoef(found, was)[0, 1] > 0.9


def test_a_new_gene_starts_from_its_neighbours_or_fresh(checkpoint):
    old = list(checkpoint.genes)
    genes = [*old, "NEIGHBOURED", "ALONE"]
    n = len(old)
    graph = Graph(np.array([2, 5, n + 1]), np.array([n, n, n]), np.array([0.6, 0.2, 0.9], np.float32), n + 2)
    moved = transfer(checkpoint, genes, checkpoint.perturbations, gene_graph=graph, seed=4)
    was, state = checkpoint.network.state_dict(), moved.network.state_dict()
    for key, axis in (("gene_emb.weight", 0), ("indv_w1", 0), ("indv_b2", 1), ("cross_gene_state.network.0.weight", 1)):
        rows, before = state[key].movedim(axis, 0), was[key].movedim(axis, 0)
        assert torch.allclose(rows[n], 0.75 * before[2] + 0.25 * before[5], atol=1e-6)
        assert torch.equal(rows[:n], before)
    again = transfer(checkpoint, genes, checkpoint.perturbations, gene_graph=graph, seed=4).network.state_dict()
    other = transfer(checkpoint, genes, checkpoint.perturbations, gene_graph=graph, seed=5).network.state_dict()
    assert torch.equal(state["gene_emb.weight"][n + 1], again["gene_emb.weight"][n + 1])
    assert not torch.equal(state["gene_emb.weight"][n + 1], other["gene_emb.weight"][n + 1])
    counts = moved.facts["transferred"]["genes"]
    assert (counts["new"], counts["new_from_neighbours"], counts["new_fresh"]) == (2, 1, 1)
    assert np.allclose(control_input(moved), control_input(checkpoint), atol=1e-4)


def test_a_new_perturbation_is_spoken_for_by_its_neighbours(checkpoint):
    names = [*checkpoint.perturbations, "MYOD1"]
    at = checkpoint.positions["P00"]
    graph = carried(checkpoint.perturbation_graph, match_names(checkpoint.perturbations, names))
    new = len(names) - 1
    joined = Graph(
        np.append(graph.sources, at), np.append(graph.targets, new), np.append(graph.weights, 50.0), len(names)
    )
    moved = transfer(checkpoint, checkpoint.genes, names, perturbation_graph=joined, seed=1)
    alone = transfer(checkpoint, checkpoint.genes, names, seed=1)
    assert torch.equal(
        moved.network.state_dict()["pert_emb.weight"][-1], alone.network.state_dict()["pert_emb.weight"][-1]
    )
    assert np.allclose(changes(alone), changes(checkpoint), atol=1e-5)  # the others are as they were
    assert not np.allclose(*(m.network.changes([(new,)]).numpy()[0] for m in (moved, alone)))
    assert moved.facts["transferred"]["perturbations"]["new"] == 1


def test_cell_states_are_kept_or_start_anew(checkpoint):
    kept = transfer(checkpoint, checkpoint.genes, checkpoint.perturbations)
    assert torch.equal(kept.network.cell_state.weight, checkpoint.network.cell_state.weight)
    x = np.random.default_rng(0).random((3, len(checkpoint.genes))).astype(np.float32)
    assert np.allclose(kept.states.of(x), checkpoint.states.of(x), atol=1e-4)
    states = CellStates(np.ones((len(checkpoint.genes), 3), np.float32), np.zeros(3, np.float32))
    fresh = transfer(checkpoint, checkpoint.genes, checkpoint.perturbations, states=states)
    assert fresh.architecture.state == 3 and not fresh.network.cell_state.weight.any()


def test_a_reference_model_becomes_a_fixed_one(reference):
    params = reference.params.model_copy(update={"mode": "fixed", "uncertainty": True})
    moved = transfer(reference, reference.genes, reference.perturbations, params=params)
    assert moved.architecture.mode == "fixed" and "pert_w.weight" not in moved.network.state_dict()
    assert np.allclose(control_input(moved), control_input(reference), atol=1e-4)
    assert any(key.startswith("uncertainty_w") for key in moved.facts["transferred"]["fresh_tensors"])


def test_what_it_refuses(checkpoint):
    with pytest.raises(InvalidDataError, match="0 of the 3 genes.*P00, P01, P02.*ENSG1, ENSG2, ENSG3"):
        transfer(checkpoint, ["ENSG1", "ENSG2", "ENSG3"], checkpoint.perturbations)
    with pytest.raises(InvalidDataError, match="the checkpoint has 8 and 16"):
        params = checkpoint.params.model_copy(update={"hidden": 16})
        transfer(checkpoint, checkpoint.genes, checkpoint.perturbations, params=params)


def test_the_checkpoint_stays_as_it_was(checkpoint):
    before = {key: value.clone() for key, value in checkpoint.network.state_dict().items()}
    transfer(checkpoint, checkpoint.genes[::3], checkpoint.perturbations[::2])
    assert all(torch.equal(before[key], value) for key, value in checkpoint.network.state_dict().items())
