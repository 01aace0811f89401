"""The loss beside a loop over perturbations, entry by entry."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_core.errors import InvalidDataError
from hyped_seq.gears.loss import autofocus_loss


def looped(change, log_variance, x, y, of_cell, kept, control_mean, direction_weight, uncertainty_weight):
    """(error, direction) as the description has it."""
    error = direction = 0.0
    present = sorted(set(of_cell.tolist()))
    for p in present:
        rows = [i for i, q in enumerate(of_cell.tolist()) if q == p]
        genes = [g for g in range(x.shape[1]) if kept[p, g]]
        size = len(rows) * len(genes)
        for i in rows:
            for g in genes:
                predicted = x[i, g] + change[i, g]
                d = (predicted - y[i, g]) ** 4
                if log_variance is not None:
                    d = d + uncertainty_weight * torch.exp(-log_variance[i, g]) * d
                error = error + d / size
                sides = torch.sign(y[i, g] - control_mean[g]) - torch.sign(predicted - control_mean[g])
                direction = direction + direction_weight * sides**2 / size
    return error / len(present), torch.as_tensor(direction / len(present))


def some(seed, cells=9, genes=5, perturbations=4):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.rand(*shape, dtype=torch.float64, generator=generator)

    kept = draw(perturbations, genes) < 0.7
    kept[:, seed % genes] = True
    kept[0] = True
    of_cell = torch.randint(0, perturbations, (cells,), generator=generator)
    return dict(
        change=(draw(cells, genes) - 0.5).requires_grad_(),
        log_variance=(draw(cells, genes) - 0.5).requires_grad_(),
        x=draw(cells, genes),
        y=draw(cells, genes),
        of_cell=of_cell,
        kept=kept,
        control_mean=draw(genes),
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), uncertain=st.booleans(), direction=st.floats(0, 2), uncertainty=st.floats(0, 3))
def test_equals_the_loop(seed, uncertain, direction, uncertainty):
    parts = some(seed)
    if not uncertain:
        parts["log_variance"] = None
    loss = autofocus_loss(**parts, direction_weight=direction, uncertainty_weight=uncertainty)
    error, side = looped(*parts.values(), direction, uncertainty)
    assert loss.error.item() == pytest.approx(error.item(), rel=1e-10)
    assert loss.direction.item() == pytest.approx(side.item(), rel=1e-10)
    assert loss.total.item() == pytest.approx((error + side).item(), rel=1e-10)
    inputs = [parts["change"]] + ([parts["log_variance"]] if uncertain else [])
    for mine, his in zip(torch.autograd.grad(loss.total, inputs), torch.autograd.grad(error, inputs)):
        torch.testing.assert_close(mine, his, rtol=1e-9, atol=1e-12)


def test_direction_moves_the_loss_and_not_its_gradient():
    parts = some(1)
    weak, strong = (autofocus_loss(**parts, direction_weight=w) for w in (0.0, 10.0))
    assert strong.total > weak.total and strong.error == weak.error
    of = [parts["change"], parts["log_variance"]]
    for a, b in zip(torch.autograd.grad(weak.total, of), torch.autograd.grad(strong.total, of)):
        assert torch.equal(a, b)


def test_a_perturbation_counts_once_however_many_cells_it_has():
    parts = some(2, cells=4)
    parts["of_cell"] = torch.tensor([0, 1, 2, 3])
    once = autofocus_loss(**parts)
    of_cells, thrice = ("change", "log_variance", "x", "y", "of_cell"), torch.tensor([0, 1, 1, 1, 2, 3])
    twice = {name: value[thrice] if name in of_cells else value for name, value in parts.items()}
    assert autofocus_loss(**twice).total.item() == pytest.approx(once.total.item(), rel=1e-12)


def test_genes_that_are_not_kept_have_no_part():
    parts = some(3)
    out = ~parts["kept"][parts["of_cell"]]
    assert out.any()
    loss = autofocus_loss(**parts)
    gradient = torch.autograd.grad(loss.total, parts["change"])[0]
    assert not gradient[out].any() and gradient[~out].all()
    parts["y"] = torch.where(out, parts["y"] + 100, parts["y"])
    assert autofocus_loss(**parts).total == loss.total


def test_a_perturbation_without_a_cell_may_keep_nothing():
    parts = some(4, cells=3)
    parts["of_cell"] = torch.tensor([0, 1, 1])
    whole = autofocus_loss(**parts).total
    parts["kept"][3] = False
    assert autofocus_loss(**parts).total == whole
    parts["kept"][1] = False
    with pytest.raises(InvalidDataError, match="keeps no gene"):
        autofocus_loss(**parts)


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("x", (9, 4), "x: shape"),
        ("y", (8, 5), "y: shape"),
        ("log_variance", (9, 1), "log_variance: shape"),
        ("kept", (4, 6), "loss: of_cell"),
        ("control_mean", (9, 5), "control_mean"),
    ],
)
def test_shapes_that_do_not_fit(name, shape, said):
    parts = some(5)
    parts[name] = torch.ones(shape, dtype=parts[name].dtype)
    with pytest.raises(InvalidDataError, match=said):
        autofocus_loss(**parts)
