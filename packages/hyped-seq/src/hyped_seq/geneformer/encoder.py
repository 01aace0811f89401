"""The encoder: HuggingFace's BERT without its heads, run on packed sequences so that padding costs nothing.

Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyped_core.errors import InvalidDataError
from hyped_seq.geneformer import cpu_layers
from hyped_seq.geneformer.architecture import Architecture

Pooling = Literal["mean", "cls"]


class Embeddings(nn.Module):
    """Sum of word, position and token type 0, normed."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = architecture
        self.word_embeddings = nn.Embedding(a.vocabulary, a.hidden, padding_idx=a.pad)
        self.position_embeddings = nn.Embedding(a.positions, a.hidden)
        self.token_type_embeddings = nn.Embedding(a.token_types, a.hidden)
        self.LayerNorm = nn.LayerNorm(a.hidden, eps=a.norm_eps)
        self.dropout = nn.Dropout(a.dropout)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """(n,) tokens and their positions -> (n, d)."""
        places = self.position_embeddings.weight + self.token_type_embeddings.weight[0]
        return self.dropout(self.LayerNorm(self.word_embeddings(tokens) + F.embedding(positions, places)))


class SelfAttention(nn.Module):
    """Queries, keys and values of all heads, and attention within each sequence."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        d = architecture.hidden
        self.query, self.key, self.value = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d)
        self.heads = architecture.heads
        self.dropout = architecture.attention_dropout

    def forward(self, x: Tensor, groups: Sequence[tuple[int, int]]) -> Tensor:
        """(n, d) packed sequences, ``groups`` of (sequences, length) -> (n, d)."""
        d = x.shape[1]
        q, k, v = self.query(x), self.key(x), self.value(x)
        found, start = [], 0
        for count, length in groups:
            shape = (count, length, self.heads, d // self.heads)
            rows = slice(start, start := start + count * length)
            parts = (part[rows].view(shape).transpose(1, 2) for part in (q, k, v))
            mixed = F.scaled_dot_product_attention(*parts, dropout_p=self.dropout if self.training else 0.0)
            found.append(mixed.transpose(1, 2).reshape(count * length, d))
        return found[0] if len(found) == 1 else torch.cat(found)


class Attention(nn.Module):
    """Self-attention with its output map; names as HuggingFace has them."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.self = SelfAttention(architecture)
        self.output = Output(architecture.hidden, architecture)


class Output(nn.Module):
    """Linear map, dropout, and the norm of its sum with what went into the sublayer."""

    def __init__(self, inside: int, architecture: Architecture) -> None:
        super().__init__()
        self.dense = nn.Linear(inside, architecture.hidden)
        self.LayerNorm = nn.LayerNorm(architecture.hidden, eps=architecture.norm_eps)
        self.dropout = nn.Dropout(architecture.dropout)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """(n, inside) and (n, d) -> (n, d)."""
        return self.LayerNorm(self.dropout(self.dense(x)).add_(residual))


class Intermediate(nn.Module):
    """Linear map to the feed-forward width, and the activation."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.dense = nn.Linear(architecture.hidden, architecture.feed_forward)
        self.kind = architecture.activation

    def forward(self, x: Tensor) -> Tensor:
        """(n, d) -> (n, feed_forward)."""
        wide = self.dense(x)
        return F.relu_(wide) if self.kind == "relu" else F.gelu(wide)


class Layer(nn.Module):
    """Attention and feed-forward, each followed by a norm."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.attention = Attention(architecture)
        self.intermediate = Intermediate(architecture)
        self.output = Output(architecture.feed_forward, architecture)

    def forward(self, x: Tensor, groups: Sequence[tuple[int, int]]) -> Tensor:
        """(n, d) packed sequences -> (n, d)."""
        x = self.attention.output(self.attention.self(x, groups), x)
        return self.output(self.intermediate(x), x)


class Stack(nn.Module):
    """The layers, under the name HuggingFace gives them."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(architecture) for _ in range(architecture.layers))


class Encoder(nn.Module):
    """BERT encoder (Devlin et al. 2019, doi:10.18653/v1/N19-1423) with absolute positions and no head.

    Parameter names are HuggingFace's without the prefix ``bert.``, so state dicts map one to one. Weights start as
    there: normal with deviation 0.02, biases 0, norms 1. Sequences are packed one after another inside: linear maps
    and norms see tokens only, and attention runs on groups of sequences of one length, which needs no mask.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.embeddings = Embeddings(architecture)
        self.encoder = Stack(architecture)
        self.apply(_initialise)

    def forward(self, tokens: Tensor, lengths: Tensor, *, layers: int | None = None) -> Tensor:
        """States of padded sequences.

        Parameters
        ----------
        tokens
            (b, L) int64; what stands behind a sequence's length is not looked at.
        lengths
            (b,) int64, tokens of each sequence, 1 or more.
        layers
            Stop after so many layers; 0 is the state after the embeddings' norm, None runs all.

        Returns
        -------
        (b, L, d); zero behind a sequence's length.

        Raises
        ------
        InvalidDataError
            A length, a token or ``layers`` is out of range.
        """
        b, width = tokens.shape
        sizes = [int(n) for n in lengths.tolist()]
        if len(sizes) != b or (sizes and max(sizes) > width):
            raise InvalidDataError(f"lengths do not fit tokens of shape {b} x {width}", where="lengths")
        if all(n == width for n in sizes):
            return self.packed(tokens.reshape(-1), sizes, layers=layers).view(b, width, -1)
        inside = torch.arange(width, device=tokens.device) < lengths.to(tokens.device)[:, None]
        states = self.packed(tokens[inside], sizes, layers=layers)
        padded = states.new_zeros(b, width, states.shape[1])
        return padded.masked_scatter(inside[..., None], states)

    def packed(self, tokens: Tensor, lengths: Sequence[int], *, layers: int | None = None) -> Tensor:
        """States of sequences that lie one after another: (n,) tokens, lengths that sum to n -> (n, d).

        Neighbours of equal length are attended to together, so sort by length where there are many.
        """
        self._check(tokens, lengths, layers)
        positions = torch.cat([torch.arange(n) for n in lengths])
        x = self.embeddings(tokens, positions.to(tokens.device))
        if cpu_layers.suits(x) and not self.training:
            for layer in self.encoder.layer[:layers]:
                cpu_layers.run_layer(layer, x, lengths)
            return x
        groups = list(_groups(lengths))
        for layer in self.encoder.layer[:layers]:
            x = layer(x, groups)
        return x

    def pooled(
        self,
        tokens: Tensor,
        lengths: Sequence[int],
        *,
        layers: int | None = None,
        pooling: Pooling = "mean",
        special: bool = False,
    ) -> Tensor:
        """One vector a sequence: (n,) packed tokens, lengths that sum to n -> (sequences, d) float32.

        Parameters
        ----------
        pooling
            ``mean`` of the sequence's states, or ``cls``, the first state.
        special
            Sequences begin with ``<cls>`` and end with ``<eos>``, which the mean leaves out.

        Raises
        ------
        InvalidDataError
            A length, a token or ``layers`` is out of range; with ``special``, a sequence holds nothing else.
        """
        states = self.packed(tokens, lengths, layers=layers)
        edge = 1 if special and pooling == "mean" else 0
        if any(n <= 2 * edge for n in lengths):
            raise InvalidDataError("a sequence holds no gene between <cls> and <eos>", where="lengths")
        if pooling == "cls":
            starts = torch.tensor([0, *lengths[:-1]], device=states.device).cumsum(0)
            return states[starts].float()
        parts = states.split(list(lengths))
        return torch.stack([part[edge : len(part) - edge].mean(0, dtype=torch.float32) for part in parts])

    def _check(self, tokens: Tensor, lengths: Sequence[int], layers: int | None) -> None:
        a = self.architecture
        if not lengths or min(lengths) < 1 or sum(lengths) != len(tokens):
            raise InvalidDataError("lengths must be 1 or more and sum to the number of tokens", where="lengths")
        if max(lengths) > a.positions:
            raise InvalidDataError(
                f"a sequence of {max(lengths)} tokens; {a.label} has {a.positions} positions",
                where="lengths",
                mend=f"tokenize with max_tokens={a.positions}",
            )
        if layers is not None and not 0 <= layers <= a.layers:
            raise InvalidDataError(f"cannot run {layers} of {a.layers} layers", where="layers")
        low, high = torch.aminmax(tokens)
        if int(low) < 0 or int(high) >= a.vocabulary:
            raise InvalidDataError(
                f"tokens from {int(low)} to {int(high)}; {a.label} knows 0 to {a.vocabulary - 1}",
                where="tokens",
                mend="tokenize with the dictionary that belongs to the weights",
            )


def _groups(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Runs of equal length as (sequences, length)."""
    count = 0
    for i, length in enumerate(lengths):
        count += 1
        if i + 1 == len(lengths) or lengths[i + 1] != length:
            yield count, length
            count = 0


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        elif module.padding_idx is not None:
            with torch.no_grad():
                module.weight[module.padding_idx].zero_()
