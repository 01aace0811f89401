"""What pretraining learns from: cells chosen by their annotation, their tokens, a split, and batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_core.errors import InvalidDataError
from hyped_seq.geneformer.architecture import Architecture
from hyped_seq.geneformer.cell_chunks import open_cells
from hyped_seq.geneformer.dictionaries import Dictionaries, build_dictionaries
from hyped_seq.geneformer.pretrain_params import PretrainParams
from hyped_seq.geneformer.series import series_of
from hyped_seq.geneformer.tokenizer import Tokenizer
from hyped_seq.geneformer.tokens import TokenSets

if TYPE_CHECKING:
    from anndata import AnnData

    from hyped_core.context import RunContext

SHARD_TOKENS = {"cpu": 2048, "cuda": 32768}
"""Most tokens in one part of a batch: what is in memory grows with it."""
_FLOPS = 7e10
"""Floating point operations a second in training on one core: rough."""
_TEXT_PER_GENE = 150
"""Bytes of ``dictionaries.json`` for a gene."""


@dataclass(frozen=True, slots=True)
class TrainingCells:
    """Cells as sequences, and which of them are learned from.

    Attributes
    ----------
    tokens : sequences of all cells that have a gene.
    train, held_out : (n,) int64, places of sequences in ``tokens``.
    """

    dictionaries: Dictionaries
    tokens: TokenSets
    train: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.int64]


def prepare(cells: AnnData, params: PretrainParams, context: RunContext, source: str = "") -> TrainingCells:
    """Dictionaries of ``cells``, held-out ones included, their sequences, and a seeded split.

    ``source`` says in words which cells they are, for the dictionaries' own record.

    Raises
    ------
    InvalidDataError
        Counts that are none, genes without ids, a gene to keep that is unknown, or no cell with a gene.
    """
    dictionaries = build_dictionaries(
        cells, series=params.series, keep=params.keep, keep_unseen=params.keep_unseen, where=source
    )
    tokenizer = Tokenizer(dictionaries, max_tokens=min(params.max_tokens, dictionaries.series.max_tokens))
    tokens = tokenizer.tokenize_cells(cells, context=context)
    if not len(tokens):
        raise InvalidDataError("no cell has a gene with a token", where="cells", mend="give cells with counts")
    order = context.rng("pretrain", "split").permutation(len(tokens))
    count = n_held_out(len(tokens), params.held_out)
    return TrainingCells(dictionaries, tokens, np.sort(order[count:]), np.sort(order[:count]))


def n_held_out(n_cells: int, share: float) -> int:
    """How many of so many cells are held out: the share, rounded, but one at least and not all."""
    return 0 if n_cells < 2 else min(max(1, round(share * n_cells)), n_cells - 1)


def batches(
    train: npt.NDArray[np.int64], batch_cells: int, steps: int, rng: np.random.Generator
) -> Iterator[npt.NDArray[np.int64]]:
    """``steps`` batches: all cells in random order, again and again; a batch never holds a cell twice."""
    size = min(batch_cells, len(train))
    order = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        if len(order) < size:  # what is left over of a round is dropped: fewer cells than a batch
            order = rng.permutation(train)
        yield order[:size]
        order = order[size:]


def shards(
    chosen: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], most_tokens: int
) -> list[npt.NDArray[np.int64]]:
    """``chosen`` by length, cut into parts of at most ``most_tokens`` tokens (a longer sequence is alone).

    The parts depend on the cells only, so that their sum is the same for any number of threads.
    """
    order = chosen[np.lexsort((chosen, lengths[chosen]))]
    parts, held = [[]], 0
    for cell in order:
        if parts[-1] and held + lengths[cell] > most_tokens:
            parts.append([])
            held = 0
        parts[-1].append(cell)
        held += int(lengths[cell])
    return [np.array(part, dtype=np.int64) for part in parts if part]


def _stored(cells: AnnData, params: PretrainParams) -> tuple[int, int]:
    """How many counts above 0 there are, and how many genes get a token: those with such counts, and those kept."""
    with open_cells(cells) as source:
        counts = source.matrix()
        seen = np.zeros(source.shape[1], dtype=bool)
        seen[counts.indices[counts.data != 0]] = True
        ids, names = source.gene_ids, source.symbols
    have = {gene.upper() for gene in ids[seen | params.keep_unseen] if gene}
    known = {name.upper(): gene.upper() for name, gene in zip(names, ids)}
    kept = {known.get(name.upper(), name.upper()) for name in params.keep}
    return int(np.count_nonzero(counts.data)), len(have | kept)


def estimate_pretrain(cells: AnnData, params: PretrainParams, *, threads: int = 1) -> dict[str, Any]:
    """What pretraining on ``cells`` takes: the ``bytes`` of OUT, ``memory_bytes`` and ``seconds``; all rough."""
    stored, genes = _stored(cells, params)
    vocabulary = genes + len(series_of(params.series).specials)
    length = max(1, min(params.max_tokens, round(stored / max(cells.n_obs, 1)) + 2))
    sizes = Architecture(
        params.layers, params.hidden, params.heads, params.feed_forward, params.max_tokens, vocabulary
    )
    hidden, d = params.mask * length, params.hidden
    # the last layer's keys and values are those of all tokens; all else in it and the head are the hidden places' alone
    last = 4 * length * d * d + hidden * (4 * d * d + 4 * d * params.feed_forward + 4 * length * d)
    head = 2 * hidden * d * (vocabulary + d)
    work = 3 * (sizes.flops(length, layers=params.layers - 1) + last + head)
    work *= params.steps * min(params.batch_cells, cells.n_obs)
    weights = 4 * sizes.n_parameters()
    logits = 4 * params.mask * max(SHARD_TOKENS["cpu"], length) * vocabulary
    return {
        "cells": cells.n_obs,
        "vocabulary": vocabulary,
        "steps": params.steps,
        "bytes": weights + _TEXT_PER_GENE * vocabulary,
        "memory_bytes": round(12 * weights + 4 * threads * logits),
        "seconds": round(5 + work / _FLOPS / threads, 1),
        "rate": f"{_FLOPS:g} floating point operations a second and thread; rough",
    }
