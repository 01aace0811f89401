"""The encoder's layers on a CPU without gradients: in place, block by block, with oneDNN's matrix products.

Where its operator is missing (`hyped_seq.cpu_products`) the encoder runs its plain layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyped_seq.cpu_products import available, fused_product

if TYPE_CHECKING:
    from hyped_seq.geneformer.encoder import Layer, SelfAttention

BLOCK_TOKENS = 1024
"""Whole sequences that go through a layer together, in tokens; a longer one goes alone."""
PIECE_TOKENS = 512
"""Tokens whose feed-forward states are held at once, so that they stay in the cache."""
QUERY_ROWS = 256
"""Queries of one head whose scores are held at once, for each thread."""
SHORT = 96
"""Sequences below this length are attended to by PyTorch's own kernel, all of one length together."""


def suits(x: Tensor) -> bool:
    """Whether `run_layer` can take ``x``."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_grad_enabled() and available()


def run_layer(layer: Layer, x: Tensor, lengths: Sequence[int]) -> None:
    """Put packed sequences (n, d) through one layer, in place."""
    middle, out, inner = layer.attention.output, layer.output, layer.intermediate
    for start, block in _blocks(lengths):
        part = x[start : start + sum(block)]
        mixed = _attention(layer.attention.self, part, block)
        for rows in _pieces(len(part), PIECE_TOKENS):
            state = middle.LayerNorm(_linear(middle.dense, mixed[rows], add=part[rows]))
            wide = _linear(inner.dense, state, activation=inner.kind)
            part[rows] = out.LayerNorm(_linear(out.dense, wide, add=state))


def _blocks(lengths: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """Runs of neighbours of up to `BLOCK_TOKENS` tokens: where a run starts, and its lengths."""
    start, block = 0, []
    for length in lengths:
        if block and sum(block) + length > BLOCK_TOKENS:
            yield start, block
            start, block = start + sum(block), []
        block.append(length)
    yield start, block


def _pieces(n: int, size: int) -> Iterator[slice]:
    """``range(n)`` in slices of ``size``; never one row alone, whose products are rounded in another order."""
    start = 0
    while start < n:
        stop = n if n - start <= size + 1 else start + size
        yield slice(start, stop)
        start = stop


def _attention(module: SelfAttention, x: Tensor, lengths: Sequence[int]) -> Tensor:
    q, k, v = (_linear(part, x).view(len(x), module.heads, -1) for part in (module.query, module.key, module.value))
    mixed = torch.empty_like(q)
    start, i = 0, 0
    while i < len(lengths):
        length, count = lengths[i], 1
        if length < SHORT:
            while i + count < len(lengths) and lengths[i + count] == length:
                count += 1
        rows = slice(start, start + count * length)
        if length < SHORT:
            parts = (part[rows].view(count, length, *q.shape[1:]).transpose(1, 2) for part in (q, k, v))
            mixed[rows] = F.scaled_dot_product_attention(*parts).transpose(1, 2).reshape(-1, *q.shape[1:])
        else:
            for head in range(module.heads):
                _attend(q[rows, head], k[rows, head], v[rows, head], mixed[rows, head])
        start, i = rows.stop, i + count
    return mixed.view(len(x), -1)


def _attend(q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
    """softmax(q k' / sqrt(width)) v of one head of one sequence, all (L, width), for some queries at a time."""
    q, k, v = q * q.shape[1] ** -0.5, k.contiguous(), v.t().contiguous()
    for rows in _pieces(len(q), QUERY_ROWS * torch.get_num_threads()):
        scores = fused_product(q[rows], k)
        torch.softmax(scores, 1, out=scores)
        out[rows] = fused_product(scores, v)


def _linear(module: nn.Linear, x: Tensor, *, add: Tensor | None = None, activation: str = "none") -> Tensor:
    return fused_product(x, module.weight, module.bias, add=add, activation=activation)
