"""Graph convolution of GEARS: neighbours' weighted sum, then a linear map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyped_seq.gears.graphs import Graph


class _Product(torch.autograd.Function):
    """A constant sparse matrix times a dense one; the gradient is the product with its transpose."""

    @staticmethod
    def forward(ctx, rows, indices, offsets, weights, *transposed):  # noqa: ANN001, ANN002, ANN205
        ctx.transposed = transposed
        return _bags(rows, indices, offsets, weights)

    @staticmethod
    def backward(ctx, gradient):  # noqa: ANN001, ANN205
        return _bags(gradient.contiguous(), *ctx.transposed), None, None, None, None, None, None


class _Sums(torch.autograd.Function):
    """Weighted sums of a few rows; the gradient is added up at these alone."""

    @staticmethod
    def forward(ctx, rows, indices, offsets, weights):  # noqa: ANN001, ANN205
        ctx.save_for_backward(indices, offsets, weights)
        ctx.rows = len(rows)
        return _bags(rows, indices, offsets, weights)

    @staticmethod
    def backward(ctx, gradient):  # noqa: ANN001, ANN205
        indices, offsets, weights = ctx.saved_tensors
        shares = gradient.repeat_interleave(offsets.diff(), 0) * weights[:, None].to(gradient.dtype)
        return gradient.new_zeros(ctx.rows, gradient.shape[1]).index_add_(0, indices, shares), None, None, None


def _bags(rows: Tensor, indices: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    return F.embedding_bag(
        indices, rows, offsets, mode="sum", per_sample_weights=weights.to(rows.dtype), include_last_offset=True
    )


class Neighbours(nn.Module):
    """The normalised graph as a matrix: row t holds the weights of the edges into node t, itself included.

    Its buffers are not part of a state dict: a checkpoint keeps the graph on its own.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        matrix = graph.normalised().tocsr()
        for prefix, table in (("", matrix), ("transposed_", matrix.T.tocsr())):
            self.register_buffer(prefix + "indices", torch.from_numpy(table.indices).long(), persistent=False)
            self.register_buffer(prefix + "offsets", torch.from_numpy(table.indptr).long(), persistent=False)
            self.register_buffer(prefix + "weights", torch.from_numpy(table.data).float(), persistent=False)
        self._matrix = matrix

    def forward(self, rows: Tensor) -> Tensor:
        """Weighted sum over each node's neighbours: (nodes, features) to (nodes, features)."""
        return _Product.apply(
            rows,
            self.indices,
            self.offsets,
            self.weights,
            self.transposed_indices,
            self.transposed_offsets,
            self.transposed_weights,
        )

    def of_sets(self, rows: Tensor, sets: Sequence[Sequence[int]], signs: Sequence[Sequence[float]] | None) -> Tensor:
        """Sum over each set's nodes of what :meth:`forward` gives them (times their sign), and of no other node.

        Returns
        -------
        (sets, features)
        """
        import numpy as np

        ends = np.cumsum([0] + [len(s) for s in sets])
        nodes = np.fromiter((node for s in sets for node in s), np.int64, ends[-1])
        part = self._matrix[nodes]
        edges = part.data
        if signs is not None:
            sign = np.fromiter((value for s in signs for value in s), np.float32, ends[-1])
            edges = edges * np.repeat(sign, np.diff(part.indptr))
        device = rows.device
        return _Sums.apply(
            rows,
            torch.from_numpy(part.indices).long().to(device),
            torch.from_numpy(part.indptr[ends]).long().to(device),
            torch.from_numpy(np.ascontiguousarray(edges)).to(device),
        )


class Convolution(nn.Module):
    """The linear map after the weighted sum; named ``lin`` as in a checkpoint of the original."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.lin = nn.Linear(features, features)

    def forward(self, rows: Tensor) -> Tensor:
        """(n, features) to (n, features)."""
        return self.lin(rows)
