"""What guesses that need no model score on the same hidden tokens: frequencies, and frequencies at a rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hyped_seq.geneformer.masked_lm import MaskedTokens
from hyped_seq.geneformer.tokens import TokenSets

WIDTHS = (4, 16, 64, 256)
"""Ranks that are counted together, tried one after another."""
STRENGTHS = (10.0, 100.0, 1000.0)
"""How many tokens drawn by overall frequency are added to those counted at a rank."""


def frequencies(tokens: TokenSets, train: npt.NDArray[np.int64], vocabulary: int, first_gene: int) -> npt.NDArray:
    """(vocabulary,) share of each gene among the training cells' tokens, one added to each; special tokens have 0."""
    counts = np.zeros(vocabulary)
    for cell in train:
        counts[tokens[cell]] += 1  # a gene stands once in a sequence
    counts += 1
    counts[:first_gene] = 0
    return counts / counts.sum()


def baselines(
    tokens: TokenSets, train: npt.NDArray[np.int64], masked: Sequence[MaskedTokens], vocabulary: int, first_gene: int
) -> dict[str, Any]:
    """Mean loss (nats) and share guessed of predictors that count tokens in the training cells.

    ``frequency`` says of every hidden token how common each gene is; ``rank`` how common each gene is at that rank
    (neighbouring ranks together, the overall frequencies added). ``frequency_unseen`` and ``rank_unseen`` know besides
    that a gene stands once in a cell: genes that are shown have probability 0. The width and the strength of ``rank``
    are those that are best on the hidden tokens themselves, which favours it.
    """
    overall = frequencies(tokens, train, vocabulary, first_gene)
    shown = [_shown(part) for part in masked]
    scores: dict[str, dict[str, Any]] = {}
    for width in (0, *WIDTHS):
        table = overall[None] if not width else _by_rank(tokens, train, vocabulary, first_gene, width)
        for strength in STRENGTHS if width else (0.0,):
            how = {"width": width, "strength": strength} if width else {}
            found = _score(table, overall, strength, width, masked, shown)
            for suffix, (loss, guessed) in zip(("", "_unseen"), found):
                name = ("rank" if width else "frequency") + suffix
                if name not in scores or loss < scores[name]["loss"]:
                    scores[name] = {"loss": loss, "guessed": guessed, **how}
    return scores


def _by_rank(
    tokens: TokenSets, train: npt.NDArray[np.int64], vocabulary: int, first_gene: int, width: int
) -> npt.NDArray[np.float32]:
    """(ranks / width, vocabulary) how often each gene stood there."""
    longest = int(tokens.lengths.max())
    table = np.zeros((-(-longest // width), vocabulary), dtype=np.float32)
    for cell in train:
        sequence = tokens[cell]
        np.add.at(table, (np.arange(len(sequence)) // width, sequence), 1)
    table[:, :first_gene] = 0
    return table


def _shown(masked: MaskedTokens) -> list[npt.NDArray[np.int64]]:
    """Tokens that each sequence still shows and that are right."""
    right = np.ones(len(masked.tokens), dtype=bool)
    right[masked.places] = False
    ends = np.cumsum(masked.lengths)
    return [masked.tokens[a:b][right[a:b]] for a, b in zip(ends - masked.lengths, ends)]


def _score(
    table: npt.NDArray,
    overall: npt.NDArray,
    strength: float,
    width: int,
    masked: Sequence[MaskedTokens],
    shown: Sequence[Sequence[npt.NDArray[np.int64]]],
) -> list[tuple[float, float]]:
    """Mean -ln(probability) and share of tokens that are the most probable: of all genes, and of those not shown."""
    loss, right, total = np.zeros(2), np.zeros(2), 0
    added = (strength * overall).astype(np.float32)
    for part, seen in zip(masked, shown):
        ends = np.cumsum(part.lengths)
        sequence = np.searchsorted(ends, part.places, side="right")
        for i in range(len(part.lengths)):
            here = sequence == i
            targets = part.targets[here]
            rows = np.arange(len(targets))
            if width:
                chance = table[(part.places[here] - (ends[i] - part.lengths[i])) // width] + added
            else:
                chance = np.repeat(table, len(targets), axis=0)
            for variant in range(2):
                if variant:
                    chance[:, seen[i]] = 0
                target = np.maximum(chance[rows, targets], _LEAST)  # series V1 can show a gene and hide it too
                loss[variant] += np.log(chance.sum(axis=1, dtype=np.float64) / target).sum()
                right[variant] += (chance.argmax(axis=1) == targets).sum()
            total += len(targets)
    return [(float(loss[k] / total), float(right[k] / total)) for k in range(2)]


_LEAST = 1e-9
