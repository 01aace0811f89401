"""The decoder shared by all genes and perturbation sets, by far the most of GEARS' arithmetic.

In training it goes through genes in blocks that stay in a core's cache, with a gradient written out by hand: the first
norm's statistics come from mean and covariance of its Linear's input, so that Linear and norm are one product, and
what the second norm and the gene-specific readout do is folded into one vector for each gene.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from hyped_seq.gears.products import product
from hyped_seq.gears.weighted_norm import EPSILON, Block

_BLOCK_ROWS = {"cpu": 2048}
"""Rows (group, gene) that a core's second-level cache holds with what is computed of them; elsewhere all at once."""
_EVALUATION_ROWS = 1 << 13
"""The same in an evaluation, which keeps nothing."""


class Workspace:
    """Large arrays that one step leaves for the next: fresh memory costs a tenth of a step.

    A buffer given back may be written to by the next forward; torch then refuses to go back through the earlier one a
    second time (its saved tensors changed).
    """

    def __init__(self) -> None:
        self._free: list[Tensor] = []

    def take(self, size: int, like: Tensor) -> Tensor:
        """One of at least ``size`` elements, uninitialised, of the kind of ``like``."""
        for i, buffer in enumerate(self._free):
            if buffer.numel() >= size and buffer.dtype == like.dtype and buffer.device == like.device:
                return self._free.pop(i)
        self._free.clear()  # all too small, or of a network that was moved
        return like.new_empty(size + size // 8)

    def give(self, *buffers: Tensor) -> None:
        """Hand buffers back."""
        self._free += [buffer for buffer in buffers if not any(buffer is other for other in self._free)]

    def clear(self) -> None:
        """Let go of all."""
        self._free.clear()

    def __deepcopy__(self, memo: dict[int, Any]) -> Workspace:
        return Workspace()

    def __getstate__(self) -> dict[str, Any]:
        return {"_free": []}


def hidden_rows(bases: Tensor, moves: Tensor) -> Tensor:
    """``relu(bases[kind, gene] + moves[group])``, (genes, groups, hidden); of two kinds the first is group 0's."""
    rows = bases[-1][:, None] + moves
    if len(bases) > 1:
        rows[:, 0] = bases[0] + moves[0]
    return torch.relu_(rows)


def decode(
    bases: Tensor,
    moves: Tensor,
    weights: Tensor,
    cells: int,
    block: Block,
    readout: Tensor,
    bias: Tensor,
    workspace: Workspace | None = None,
) -> Tensor:
    """``readout[gene] . block(relu(bases[kind, gene] + moves[group])) + bias[gene]`` for each group and gene.

    Parameters
    ----------
    bases : (kinds, genes, hidden); of two kinds the first is group 0's and the second that of all others.
    moves : (groups, hidden)
    weights : (groups,) cells that each group stands for; ``cells`` is their sum.
    block : hidden - 2 hidden - hidden, each Linear followed by a norm. In training its running statistics move.
    readout, bias : (genes, hidden), (genes,)
    workspace : kept by the caller from step to step; None: fresh memory.

    Returns
    -------
    (groups, genes)
    """
    first, norm1, _, second, norm2 = block.network
    if block.training:
        out, mean1, variance1, mean2, variance2 = _Decoder.apply(
            bases, moves, weights, float(cells), readout, bias,
            first.weight, first.bias, norm1.weight, norm1.bias,
            second.weight, second.bias, norm2.weight, norm2.bias, workspace or Workspace(),
        )  # fmt: skip
        count = float(cells * bases.shape[1])
        norm1.track(mean1, variance1, count)
        norm2.track(mean2, variance2, count)
        return out.T
    scale1, shift1 = norm1.affine(norm1.running_mean, norm1.running_var)
    scale2, shift2 = norm2.affine(norm2.running_mean, norm2.running_var)
    matrix, constant = first.weight * scale1[:, None], first.bias * scale1 + shift1
    vectors = (readout * scale2) @ second.weight
    offsets = bias + readout @ (second.bias * scale2 + shift2)
    parts = []
    for part in _blocks(bases.shape[1], len(moves), _EVALUATION_ROWS):
        rows = product(hidden_rows(bases[:, part], moves).flatten(0, 1), matrix, constant, rectified=True)
        rows = rows.view(-1, len(moves), rows.shape[1])
        parts.append(torch.baddbmm(offsets[part, None, None], rows, vectors[part, :, None])[:, :, 0])
    return torch.cat(parts).T


def _blocks(genes: int, groups: int, rows: int) -> Iterator[slice]:
    step = max(rows // groups, 1)
    return (slice(start, min(start + step, genes)) for start in range(0, genes, step))


class _Decoder(torch.autograd.Function):
    """:func:`decode` in training: (genes, groups), and mean and variance of either norm's input."""

    @staticmethod
    def forward(
        ctx: Any,
        bases: Tensor,
        moves: Tensor,
        weights: Tensor,
        cells: float,
        readout: Tensor,
        bias: Tensor,
        w1: Tensor,
        b1: Tensor,
        gamma1: Tensor,
        beta1: Tensor,
        w2: Tensor,
        b2: Tensor,
        gamma2: Tensor,
        beta2: Tensor,
        workspace: Workspace,
    ) -> tuple[Tensor, ...]:
        genes, groups, hidden = bases.shape[1], len(moves), bases.shape[2]
        count = cells * genes
        blocks = list(_blocks(genes, groups, _BLOCK_ROWS.get(bases.device.type, genes * groups)))
        mean0, covariance0 = _moments(bases, moves, weights, count, blocks)

        products = w1 @ covariance0
        variance1 = (products * w1).sum(1)
        inverse1 = torch.rsqrt(variance1 + EPSILON)
        scale1 = gamma1 * inverse1
        matrix1 = w1 * scale1[:, None]
        shift1 = beta1 - matrix1 @ mean0

        size = genes * groups * hidden
        ctx.workspace, ctx.taken = workspace, (workspace.take(2 * size, bases), workspace.take(size, bases))
        first = ctx.taken[0][: 2 * size].view(genes, groups, 2 * hidden)
        second = ctx.taken[1][:size].view(genes, groups, hidden)
        centre, sums, squares = None, 0.0, 0.0
        for part in blocks:
            into = first[part].view(-1, 2 * hidden)
            product(hidden_rows(bases[:, part], moves).view(-1, hidden), matrix1, shift1, rectified=True, out=into)
            if centre is None:  # any centre is right; one near the mean keeps the digits of the variance
                centre = w2 @ into.mean(0)
            rows = product(into, w2, -centre, out=second[part].view(-1, hidden)).view(-1, groups * hidden)
            sums = sums + rows.sum(0)
            squares = squares + torch.linalg.vecdot(rows, rows, dim=0)
        mean2 = (weights / count) @ sums.view(groups, hidden)
        variance2 = ((weights / count) @ squares.view(groups, hidden) - mean2.square()).clamp_(min=0)
        inverse2 = torch.rsqrt(variance2 + EPSILON)
        scale2 = gamma2 * inverse2
        offsets = bias + readout @ (beta2 - scale2 * mean2)
        out = torch.baddbmm(offsets[:, None, None], second, (readout * scale2)[:, :, None])[:, :, 0]

        ctx.save_for_backward(
            bases, moves, weights, readout, w1, w2, beta2, first, second, mean0, products,
            inverse1, scale1, matrix1, mean2, inverse2, scale2,
        )  # fmt: skip
        ctx.blocks, ctx.count = blocks, count
        tracked = w1 @ mean0 + b1, variance1, mean2 + centre + b2, variance2
        ctx.mark_non_differentiable(*tracked)
        return out, *tracked

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        (
            bases, moves, weights, readout, w1, w2, beta2, first, second, mean0, products,
            inverse1, scale1, matrix1, mean2, inverse2, scale2,
        ) = ctx.saved_tensors  # fmt: skip
        count, hidden = ctx.count, bases.shape[2]
        gradient = gradient.contiguous()  # (genes, groups)

        # readout and second norm: out = readout . (scale2 (second - mean2) + beta2) + bias
        of_bias = gradient.sum(1)
        centred = torch.bmm(gradient[:, None], second)[:, 0] - of_bias[:, None] * mean2
        of_readout = centred * scale2 + of_bias[:, None] * beta2
        of_beta2 = of_bias @ readout
        of_scale2 = (readout * centred).sum(0)
        of_variance2 = -0.5 * of_scale2 * scale2 * inverse2.square()
        slope = 2 / count * of_variance2
        level = -scale2 * of_beta2 / count - slope * mean2
        slopes, levels = weights[:, None] * slope, weights[:, None] * level
        vectors = readout * scale2

        # second Linear, ReLU, and the part of the first norm and Linear that is the row's own
        of_w2, of_first = torch.zeros_like(w2), torch.zeros_like(w1)
        of_beta1 = w1.new_zeros(2 * hidden)
        taken = (ctx.workspace if ctx.taken else Workspace()).take(second.numel(), second)
        own = taken[: second.numel()].view(second.shape)
        for part in ctx.blocks:
            rows = first[part].view(-1, 2 * hidden)
            of_second = torch.addcmul(levels, second[part], slopes)
            of_second = of_second.addcmul_(gradient[part, :, None], vectors[part, None]).view(-1, hidden)
            of_w2 += product(of_second.T, rows.T)
            of_rows = _through_relu_(product(of_second, w2.T), rows)
            of_beta1 += of_rows.sum(0)
            of_first += product(of_rows.T, hidden_rows(bases[:, part], moves).view(-1, hidden).T)
            product(of_rows, matrix1.T, out=own[part].view(-1, hidden))

        # first norm's statistics: scale1 (w1 (x - mean0)) + beta1, variance1 = w1 covariance0 w1'
        of_first -= of_beta1[:, None] * mean0
        of_scale1 = (w1 * of_first).sum(1)
        of_variance1 = -0.5 * of_scale1 * scale1 * inverse1.square()
        of_w1 = scale1[:, None] * of_first + 2 * of_variance1[:, None] * products
        spread = 2 / count * (w1.T * of_variance1) @ w1
        levels = weights[:, None] * (-(of_beta1 @ matrix1) / count - mean0 @ spread)

        of_bases, of_moves = torch.empty_like(bases), torch.zeros_like(moves)
        for part in ctx.blocks:
            rows = hidden_rows(bases[:, part], moves)
            of_rows = own[part].add_(levels)
            of_rows.view(-1, hidden).add_(product((rows * weights[:, None]).view(-1, hidden), spread))
            _through_relu_(of_rows, rows)
            of_moves += of_rows.sum(0)
            if len(bases) > 1:
                of_bases[0, part] = of_rows[:, 0]
                of_rows = of_rows[:, 1:]
            torch.sum(of_rows, 1, out=of_bases[-1, part])
        if ctx.taken:  # a second time through the same graph keeps off what was given back
            ctx.workspace.give(taken, *ctx.taken)
            ctx.taken = ()
        # the norms take away what the biases before them add
        zero1, zero2 = torch.zeros_like(scale1), torch.zeros_like(scale2)
        return (
            of_bases, of_moves, None, None, of_readout, of_bias,
            of_w1, zero1, of_scale1 * inverse1, of_beta1,
            of_w2, zero2, of_scale2 * inverse2, of_beta2, None,
        )  # fmt: skip


def _through_relu_(gradient: Tensor, rows: Tensor) -> Tensor:
    """The gradient, in place, where ``rows``, what the ReLU gave, is above zero."""
    return torch.ops.aten.threshold_backward.grad_input(gradient, rows, 0, grad_input=gradient)


def _moments(bases: Tensor, moves: Tensor, weights: Tensor, count: float, blocks: list[slice]) -> tuple[Tensor, Tensor]:
    """Weighted mean (hidden,) and covariance (hidden, hidden) of :func:`hidden_rows`."""
    hidden = bases.shape[2]
    centre, sums, products = None, moves.new_zeros(len(moves), hidden), moves.new_zeros(hidden, hidden)
    for part in blocks:
        rows = hidden_rows(bases[:, part], moves)
        if centre is None:
            centre = rows.mean((0, 1))
            shift = -weights[:, None] * centre
        sums += rows.sum(0)
        weighted = torch.addcmul(shift, rows, weights[:, None]).view(-1, hidden)
        products += product(weighted.T, rows.view(-1, hidden).T)
    mean = (weights / count) @ sums
    return mean, products / count - torch.outer(mean - centre, mean)
