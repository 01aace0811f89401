"""`GearsNetwork` beside `PlainGears`, which computes every cell: output, gradient, running statistics, steps."""

from __future__ import annotations

import copy
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from hyped_core.errors import InvalidDataError
from hyped_seq.gears import decoder
from hyped_seq.gears.decoder import decode
from hyped_seq.gears.graph_conv import Neighbours
from hyped_seq.gears.graphs import Graph
from hyped_seq.gears.network import Architecture, Batch, GearsNetwork
from hyped_seq.gears.weighted_norm import Block, WeightedBatchNorm

plain = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("gears_plain.py"))))

GENES, PERTURBATIONS, HIDDEN = 23, 11, 6
MIXED = [(1,), (), (2, 3), (1,), (5,), (), (2, 3), (4,)]
CASES = {
    "mixed": MIXED,
    "controls": [(), (), ()],
    "one perturbed": [(), (4,), (), ()],
    "one perturbed, first": [(4,), (), ()],
    "one set": [(7, 8)] * 4,
    "first alone with its set": [(9,), (1,), (1,), ()],
    "two": [(0,), (10,)],
}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def some_graph(nodes, rng, edges=4):
    """Random edges; some nodes have a self loop, the last node no edge."""
    pairs = np.unique(rng.integers(0, nodes - 1, (nodes * edges, 2)), axis=0)
    return Graph(pairs[:, 0], pairs[:, 1], rng.uniform(0.1, 1, len(pairs)).astype(np.float32), nodes)


def both(dtype=torch.float64, seed=0, **sizes):
    """Network and its plain twin with the same weights, norms moved off their initial ones, in training."""
    architecture = Architecture(GENES, PERTURBATIONS, HIDDEN, **sizes)
    rng = np.random.default_rng(seed)
    graphs = some_graph(GENES, rng), some_graph(PERTURBATIONS, rng)
    generator = torch.Generator().manual_seed(seed)
    network = GearsNetwork(architecture, *graphs, generator=generator)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, WeightedBatchNorm):
                for tensor in (module.weight, module.bias, module.running_mean):
                    tensor.add_(0.3 * torch.randn(tensor.shape, generator=generator))
        if architecture.state:
            network.cell_state.weight.normal_(generator=generator)
        network.gene_emb.weight[0] *= 1e-2  # shorter than 1: to be left as it is
    twin = plain.PlainGears(architecture, *graphs)
    assert twin.load_state_dict(network.state_dict()) == nn.modules.module._IncompatibleKeys([], [])
    return network.to(dtype), twin.to(dtype)


def batch_of(cells, signs=None, state=None):
    """Cells as a batch of distinct (set, signs) in order of appearance."""
    keys = list(zip(cells, signs if signs is not None else [None] * len(cells)))
    distinct = list(dict.fromkeys(keys))
    of_cell = torch.tensor([distinct.index(key) for key in keys])
    return Batch(
        tuple(s for s, _ in distinct), None if signs is None else tuple(side for _, side in distinct), of_cell, state
    )


def some_state(network, cells, dtype=torch.float64):
    size = network.architecture.state
    return torch.randn(cells, size, dtype=dtype, generator=torch.Generator().manual_seed(9)) if size else None


def assert_same(ours, theirs, rtol, atol):
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)


def compare_step(network, twin, cells, signs=None, *, rtol=1e-8, atol=1e-9):
    """Forward and backward of a random linear functional of the output."""
    dtype = network.indv_b2.dtype
    state = some_state(network, len(cells), dtype)
    ours, theirs = network(batch_of(cells, signs, state)), twin(cells, signs, state)
    generator = torch.Generator().manual_seed(5)
    total = [0.0, 0.0]
    for mine, his in zip(ours, theirs):
        assert (mine is None) == (his is None)
        if mine is not None:
            assert_same(mine, his, rtol, atol)
            slopes = torch.randn(mine.shape, dtype=dtype, generator=generator)
            total = [total[0] + (mine * slopes).sum(), total[1] + (his * slopes).sum()]
    for model, value in zip((network, twin), total):
        model.zero_grad()
        value.backward()
    his_parameters = dict(twin.named_parameters())
    # a bias in front of a norm has no gradient but the rounding of terms as large as the largest of the network
    scale = max(float(p.grad.abs().max()) for p in his_parameters.values() if p.grad is not None)
    for name, parameter in network.named_parameters():
        wanted = his_parameters[name].grad
        if parameter.grad is None or wanted is None:
            for gradient in (parameter.grad, wanted):
                assert gradient is None or not gradient.any(), name
        else:
            assert_same(parameter.grad, wanted, rtol, atol + rtol * max(scale, 1.0))
    state_dict = twin.state_dict()
    for name, value in network.state_dict().items():
        if "running" in name or "tracked" in name or "emb" in name:
            assert_same(value, state_dict[name], rtol, atol)


@pytest.mark.parametrize("mode", ["fixed", "reference"])
@pytest.mark.parametrize("cells", CASES.values(), ids=CASES)
def test_forward_gradient_and_running_statistics(mode, cells):
    network, twin = both(mode=mode)
    alike = len(set(cells)) == 1 and cells[0]  # norms of equal rows divide rounding by sqrt(1e-5) and multiply by 0
    compare_step(network, twin, cells, atol=1e-6 if alike else 1e-9)


@pytest.mark.parametrize(
    "sizes",
    [
        dict(mode="reference", uncertainty=True),
        dict(mode="fixed", uncertainty=True, state=3),
        dict(mode="fixed", state=3),
        dict(mode="reference", gene_layers=3, perturbation_layers=2),
        dict(mode="fixed", gene_layers=2, perturbation_layers=3, uncertainty=True),
    ],
    ids=lambda sizes: "-".join(map(str, sizes.values())),
)
def test_forms_of_the_network(sizes):
    network, twin = both(**sizes)
    compare_step(network, twin, MIXED)


def test_signs_multiply_each_gene_s_vector():
    network, twin = both()
    cells = [(1,), (1,), (2, 3), (2, 3), ()]
    signs = [(1.0,), (-1.0,), (1.0, -1.0), (1.0, -1.0), ()]
    compare_step(network, twin, cells, signs)
    network.eval()
    (up, down), plainly = network.changes([(1,), (1,)], [(1.0,), (-1.0,)]), network.changes([(1,)])
    assert_same(up, plainly[0], 1e-12, 1e-12)
    assert (up - down).abs().max() > 1e-3


@pytest.mark.parametrize("mode", ["fixed", "reference"])
def test_several_steps_of_adam(mode):
    """Biases that a norm takes away again are left out: their gradient is 0, and rounding in the twin."""
    network, twin = both(mode=mode, state=2 if mode == "fixed" else 0)
    idle = {
        name
        for name, parameter in network.named_parameters()
        if name.endswith(("network.0.bias", "network.3.bias")) or name == "emb_trans_v2.network.4.bias"
    }
    optimisers = [torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=5e-4) for model in (network, twin)]
    rng = np.random.default_rng(0)
    for _ in range(5):
        cells = [MIXED[i] for i in rng.integers(0, len(MIXED), 12)]
        y = torch.from_numpy(rng.random((12, GENES)))
        state = some_state(network, 12)
        ours, theirs = network(batch_of(cells, None, state))[0], twin(cells, None, state)[0]
        assert_same(ours, theirs, 1e-6, 1e-7)
        for optimiser, out in zip(optimisers, (ours, theirs)):
            optimiser.zero_grad()
            ((out - y) ** 4).mean().backward()
            optimiser.step()
        with torch.no_grad():
            for name in idle:
                network.get_parameter(name).copy_(twin.get_parameter(name))
    state_dict = twin.state_dict()
    for name, value in network.state_dict().items():
        assert_same(value, state_dict[name], 1e-5, 1e-7)


@pytest.mark.parametrize("mode", ["fixed", "reference"])
def test_single_precision(mode):
    network, twin = both(torch.float32, mode=mode, uncertainty=True)
    compare_step(network, twin, MIXED, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("mode", ["fixed", "reference"])
@pytest.mark.parametrize("cells", [*CASES.values(), [(3,)], [()]], ids=[*CASES, "a cell", "a control"])
def test_evaluation(mode, cells):
    network, twin = both(mode=mode, uncertainty=True, state=2 if mode == "fixed" else 0)
    before = {name: value.clone() for name, value in network.eval().state_dict().items()}
    twin.eval()
    state = some_state(network, len(cells))
    ours, theirs = network(batch_of(cells, None, state)), twin(cells, None, state)
    for mine, his in zip(ours, theirs):
        assert_same(mine, his, 1e-9, 1e-10)
    for name, value in network.state_dict().items():
        if "emb" not in name:
            assert torch.equal(value, before[name]), name
    with torch.no_grad():
        assert_same(network(batch_of(cells, None, state))[0], ours[0], 1e-12, 1e-12)


def test_changes_are_those_of_forward_whatever_the_mode_of_training():
    network, _ = both(mode="reference", uncertainty=True)
    sets = [(), (1,), (2, 3), (4,)] * 20  # more than go at once
    batch = Batch(tuple(sets), None, torch.arange(len(sets)))
    network.eval()
    change, spread = network(batch)
    network.train()
    assert network.changes(sets).requires_grad is False
    assert_same(network.changes(sets)[1:], change[1:], 1e-10, 1e-12)
    assert_same(network.changes(sets, first=True)[:1], change[:1], 1e-10, 1e-12)
    assert_same(network.log_variances(sets)[1:], spread[1:], 1e-10, 1e-12)
    assert_same(network.changes_of_cells((1,))[0], change[1], 1e-10, 1e-12)
    assert network.training and network.bn_emb.num_batches_tracked == 0


def test_changes_of_states():
    network, _ = both(state=3)
    state = some_state(network, 5)
    network.eval()
    batch = Batch(((1, 2),), None, torch.zeros(5, dtype=torch.long), state)
    wanted = network(batch)[0]
    assert wanted.std(0).max() > 1e-3
    assert_same(network.changes_of_cells((1, 2), None, state), wanted, 1e-10, 1e-12)
    averaged = network.changes([(3,), (1, 2)], state=state)
    assert_same(averaged[1], wanted.mean(0), 1e-10, 1e-12)
    none = network.changes_of_cells((1, 2), None, torch.zeros(1, 3))
    assert_same(network.changes([(1, 2)]), none, 1e-10, 1e-12)


def test_a_new_network_does_not_depend_on_the_state():
    """The map of the cell state starts at zero and takes a gradient."""
    graphs = some_graph(GENES, np.random.default_rng(0)), some_graph(PERTURBATIONS, np.random.default_rng(1))
    generator = torch.Generator().manual_seed(0)
    network = GearsNetwork(Architecture(GENES, PERTURBATIONS, HIDDEN, state=3), *graphs, generator=generator)
    state = some_state(network, len(MIXED), torch.float32)
    change, _ = network(batch_of(MIXED, None, state))
    assert_same(change, network(batch_of(MIXED, None, -5 * state))[0], 1e-4, 1e-4)
    change.square().sum().backward()
    assert network.cell_state.weight.grad.abs().max() > 0


def test_equal_cells_of_a_batch_get_equal_changes_only_where_the_graph_reaches_all():
    for mode, equal in (("fixed", True), ("reference", False)):
        network, _ = both(mode=mode)
        change, _ = network(batch_of([(1,)] * 4 + [()]))
        assert torch.equal(change[1], change[3])
        assert torch.allclose(change[0], change[1], rtol=0, atol=1e-9) == equal


def test_seeded_weights_leave_torch_s_own_generator_alone():
    graphs = some_graph(GENES, np.random.default_rng(0)), some_graph(PERTURBATIONS, np.random.default_rng(1))
    made = []
    before = torch.get_rng_state()
    for seed in (1, 1, 2):
        network = GearsNetwork(
            Architecture(GENES, PERTURBATIONS, HIDDEN), *graphs, generator=torch.Generator().manual_seed(seed)
        )
        made.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


def test_initial_weights_have_the_original_s_spread():
    nodes = 400
    graphs = some_graph(nodes, np.random.default_rng(0)), some_graph(nodes, np.random.default_rng(1))
    network = GearsNetwork(Architecture(nodes, nodes, 32), *graphs, generator=torch.Generator().manual_seed(0))
    for tensor, spread in (
        (network.gene_emb.weight, 1.0),
        (network.indv_w1, (2 / (nodes + 32)) ** 0.5),
        (network.indv_w2, (2 / (33 * nodes + 33)) ** 0.5),
        (network.cross_gene_state.network[0].weight, (3 * nodes) ** -0.5),
        (network.sim_layers[0].lin.weight, (3 * 32) ** -0.5),
    ):
        assert tensor.detach().std().item() == pytest.approx(spread, rel=0.05)


@pytest.mark.parametrize("kinds", [1, 2])
@pytest.mark.parametrize("rows", [4, 1 << 20])
def test_gradient_of_the_decoder_by_differences(kinds, rows, monkeypatch):
    monkeypatch.setitem(decoder._BLOCK_ROWS, "cpu", rows)  # genes one at a time, and all at once
    torch.manual_seed(0)
    genes, groups, hidden = 5, 4, 3
    block = Block(hidden, 2 * hidden, hidden).double()
    names = [name for name, _ in block.named_parameters()]
    weights = torch.tensor([1.0, 3, 2, 1], dtype=torch.float64)

    def run(bases, moves, readout, bias, *parameters):
        inner = {f"block.{name}": p for name, p in zip(names, parameters)}
        return torch.func.functional_call(_Decode(block), inner, (bases, moves, weights, readout, bias))

    inputs = [
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in ((kinds, genes, hidden), (groups, hidden), (genes, hidden), (genes,))
    ]
    inputs += [(p.detach() + 0.2 * torch.randn_like(p)).requires_grad_() for p in block.parameters()]
    assert torch.autograd.gradcheck(run, inputs, eps=1e-6, atol=1e-6)


class _Decode(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, bases, moves, weights, readout, bias):
        return decode(bases, moves, weights, int(weights.sum()), self.block, readout, bias)


def test_blocks_of_genes_change_nothing(monkeypatch):
    network, _ = both(mode="reference")
    start = {name: value.clone() for name, value in network.state_dict().items()}
    found = []
    for rows in (1, 40, 1 << 20):
        monkeypatch.setitem(decoder._BLOCK_ROWS, "cpu", rows)
        monkeypatch.setattr(decoder, "_EVALUATION_ROWS", rows)
        network.zero_grad()
        change = network(batch_of(MIXED))[0]
        change.square().sum().backward()
        network.load_state_dict(start)  # running statistics moved
        found.append([change, network.changes([(1,), (2,)]), network.recovery_w.network[0].weight.grad.clone()])
    for other in found[1:]:
        for a, b in zip(found[0], other):
            assert_same(a, b, 1e-9, 1e-11)


def test_memory_of_a_step_is_used_again_and_never_under_another_step():
    network, _ = both(torch.float32)
    batch = batch_of(MIXED)
    earlier = network(batch)[0].square().sum()
    between = network(batch)[0].square().sum()  # two steps under way at once keep apart
    wanted = torch.autograd.grad(earlier, network.recovery_w.network[0].weight, retain_graph=True)[0]
    again = torch.autograd.grad(earlier, network.recovery_w.network[0].weight, retain_graph=True)[0]
    assert torch.equal(wanted, again)
    other = torch.autograd.grad(between, network.recovery_w.network[0].weight)[0]
    torch.testing.assert_close(other, wanted, rtol=1e-3, atol=1e-3)
    places = {buffer.data_ptr() for buffer in network._workspace._free}
    network(batch)
    assert places - {buffer.data_ptr() for buffer in network._workspace._free}
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        earlier.backward()
    assert copy.deepcopy(network)._workspace._free == []
    network.eval()
    assert network._workspace._free == []


def test_weighted_norm_is_that_of_repeated_rows():
    torch.manual_seed(0)
    ours, theirs = WeightedBatchNorm(4).double(), nn.BatchNorm1d(4).double()
    counts = torch.tensor([1, 5, 2])
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    repeated = x.repeat_interleave(counts, 0)
    slopes = torch.randn(8, 4, dtype=torch.float64)
    out = ours(x, counts.double(), 8.0)
    wanted = theirs(repeated)
    assert_same(out.repeat_interleave(counts, 0), wanted, 1e-12, 1e-12)
    summed = torch.stack([part.sum(0) for part in slopes.split(counts.tolist())])
    mine, his = torch.autograd.grad((out * summed).sum(), x)[0], torch.autograd.grad((wanted * slopes).sum(), x)[0]
    assert_same(mine, his, 1e-10, 1e-12)
    for name, value in theirs.state_dict().items():
        assert_same(ours.state_dict()[name], value, 1e-12, 1e-12)


def test_sums_over_sets_are_those_of_the_whole_graph():
    rng = np.random.default_rng(2)
    graph = some_graph(PERTURBATIONS, rng)
    near = Neighbours(graph).double()
    rows = torch.randn(PERTURBATIONS, 3, dtype=torch.float64, requires_grad=True)
    whole = plain.smoother(graph).double() @ rows
    assert_same(near(rows), whole, 1e-6, 1e-7)
    wanted = torch.stack([whole[0] - whole[10], whole[4]])
    found = near.of_sets(rows, [(0, 10), (4,)], [(1.0, -1.0), (1.0,)])
    assert_same(found, wanted, 1e-6, 1e-7)
    slopes = torch.randn(2, 3, dtype=torch.float64)
    mine, his = (torch.autograd.grad((v * slopes).sum(), rows)[0] for v in (found, wanted))
    assert_same(mine, his, 1e-6, 1e-7)
    assert torch.autograd.gradcheck(lambda r: near(r) ** 2, rows)


def test_names_of_a_checkpoint():
    """The keys of the original's state dict in mode ``reference``; ``fixed`` drops what is without effect."""
    names = {mode: set(both(mode=mode)[0].state_dict()) for mode in ("fixed", "reference")}
    idle = names["reference"] - names["fixed"]
    assert {name.split(".")[0] for name in idle} == {"pert_w", "bn_pert_base_trans"}
    assert {"indv_w1", "gene_emb.weight", "layers_emb_pos.0.lin.bias"} <= names["fixed"]
    assert {"recovery_w.network.3.weight", "pert_fuse.network.4.running_var"} <= names["fixed"]
    assert "cell_state.weight" in both(state=2)[0].state_dict()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (dict(sets=((), (11,))), "perturbed gene 11"),
        (dict(sets=((), (-1,))), "perturbed gene -1"),
        (dict(sets=()), "no set"),
        (dict(signs=((), (1.0, 1.0))), "one sign"),
        (dict(of_cell=torch.tensor([0, 2])), "set 2 of 2"),
        (dict(of_cell=torch.tensor([0, -1])), "set -1 of 2"),
        (dict(of_cell=torch.tensor([0.0, 1.0])), "not int64"),
        (dict(of_cell=torch.tensor([], dtype=torch.int64)), "at least one cell"),
        (dict(of_cell=torch.tensor([1])), "one cell has no statistics"),
        (dict(state=None), "a state of shape None"),
        (dict(state=torch.zeros(2, 3)), r"a state of shape \(2, 3\)"),
    ],
)
def test_batches_that_do_not_fit(changed, said):
    network, _ = both(state=2)
    fields = dict(sets=((), (1,)), signs=None, of_cell=torch.tensor([0, 1]), state=torch.zeros(2, 2)) | changed
    with pytest.raises(InvalidDataError, match=said):
        network(Batch(**fields))


def test_other_refusals():
    graphs = some_graph(GENES, np.random.default_rng(0)), some_graph(PERTURBATIONS, np.random.default_rng(1))
    with pytest.raises(InvalidDataError, match="co-expression graph: 23 nodes where the network has 24"):
        GearsNetwork(Architecture(24, PERTURBATIONS), *graphs)
    for wrong, said in (
        (dict(state=2, mode="reference"), "knows no cell state"),
        (dict(hidden=0), "hidden is 0"),
        (dict(mode="other"), "no mode 'other'"),
    ):
        with pytest.raises(InvalidDataError, match=said):
            Architecture(GENES, PERTURBATIONS, **wrong)
    network, _ = both()
    with pytest.raises(InvalidDataError, match="takes none"):
        network.changes([(1,)], state=torch.zeros(1, 2))
    with pytest.raises(InvalidDataError, match="takes none"):
        network(Batch(((1,),), None, torch.tensor([0, 0]), torch.zeros(2, 2)))
    with pytest.raises(InvalidDataError, match="no log variance"):
        network.log_variances([(1,)])
    with pytest.raises(InvalidDataError, match="perturbed gene 99"):
        network.changes([(99,)])
    with pytest.raises(InvalidDataError, match=r"not \(cells, 2\)"):
        both(state=2)[0].changes([(1,)], state=torch.zeros(4, 3))
