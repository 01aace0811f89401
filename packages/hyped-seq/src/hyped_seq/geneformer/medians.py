"""Exact non-zero medians of genes over cells that are read in chunks, in memory that does not grow with the cells.

Positive numbers keep their order when their bits are read as a whole number. A pass over the cells counts each gene's
values in bins of these; the bin with the middle value is all that the next pass keeps, or counts in narrower bins
where it holds too much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

BINS = 640
"""Bins that a pass counts a gene's values in, 4 bytes each: 154 MB for 60,000 genes."""
COLLECT = 1 << 26
"""Most values that a pass keeps, 8 bytes each: 537 MB, which a million cells of 2,000 genes stay below."""
_SHIFT = 47
_ORIGIN = (1023 - 6) << 52
"""The first pass: 32 bins an octave from 2**-6 to 2**14 of 10,000 counts; the outermost take what lies beyond."""
_HIGHEST = 2047 << 52

Chunks = Callable[[], Iterable[tuple[Any, npt.NDArray[np.float64], npt.NDArray[np.int64]]]]
"""Makes a pass: (cells, columns) CSR counts, each place stored once, no gene with two columns; counts of each cell;
gene of each column, -1 for none."""


def exact_medians(
    chunks: Chunks, n_genes: int, *, target_sum: float = 10_000.0, bins: int = BINS, collect: int = COLLECT
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Median of ``count / n_counts * target_sum`` over the cells in which a gene has counts, for each gene.

    Equal to ``numpy.median`` of these values: with an even number of them, the mean of the middle two.

    Two passes over the cells are enough but for data with millions of values that agree in their first digits (eight
    at most: each narrows the bins ``bins``-fold). Memory: ``4 * bins`` bytes a gene (twice that in a third and later
    pass), ``8 * collect`` bytes of values, and one chunk.

    Returns
    -------
    medians : (n_genes,) float64, NaN where a gene has no counts.
    seen : (n_genes,) int64, cells in which it has.
    """
    counted = np.zeros((n_genes, bins), dtype=np.int32)
    for counts, n_counts, gene_of in chunks():
        _count_all(*_parts(counts), n_counts, gene_of, target_sum, counted)
    seen = counted.sum(axis=1, dtype=np.int64)
    # slots: ranges of bits in which values are counted, in the first pass one a gene, later one or two
    low, high = np.zeros(n_genes, dtype=np.int64), np.full(n_genes, _HIGHEST)
    origin, shift = np.full(n_genes, _ORIGIN), np.full(n_genes, _SHIFT)
    # targets: which value of which slot is wanted; two a gene, its middle values, which may be one
    genes = np.flatnonzero(seen)
    slot = np.repeat(genes, 2)
    rank = np.stack([(seen[genes] - 1) // 2, seen[genes] // 2], axis=1).ravel()
    while True:
        bin_of, before = _bins_of(counted, slot, rank)
        rank -= before
        keys, first, renamed = np.unique(slot * bins + bin_of, return_index=True, return_inverse=True)
        old, inside = keys // bins, keys % bins
        size = counted[old, inside].astype(np.int64)
        start = origin[old] + (inside << shift[old])
        low, high = (
            np.where(inside == 0, low[old], np.maximum(start, low[old])),
            np.where(inside == bins - 1, high[old], np.minimum(start + (1 << shift[old]) - 1, high[old])),
        )
        slot, owner = renamed.reshape(-1), np.repeat(genes, 2)[first]
        open_slots = np.flatnonzero(low < high)
        slot_of = _by_gene(n_genes, owner, open_slots)
        if size[open_slots].sum() <= collect:
            break
        origin, shift = low, _shifts(high - low, bins)
        del counted
        counted = _counted(chunks, slot_of, low, high, origin, shift, target_sum, bins)
        closed = np.flatnonzero(low == high)  # one number: nothing to narrow, so its bin stays the only one
        counted[closed, 0] = size[closed]
    size[low == high] = 0
    starts = np.concatenate([[0], np.cumsum(size)])
    values = np.empty(starts[-1], dtype=np.float64)
    filled = starts[:-1].copy()
    if len(values):
        hull = np.stack([np.where(slot_of[:, 0] < 0, _HIGHEST, low[slot_of[:, 0]]), high[slot_of.max(axis=1)]], axis=1)
        for counts, n_counts, gene_of in chunks():
            _collect(*_parts(counts), n_counts, gene_of, target_sum, hull, slot_of, low, high, filled, values)
    middle = _pick(values, starts, low, high, slot, rank).reshape(-1, 2)
    medians = np.full(n_genes, np.nan)
    medians[genes] = middle.mean(axis=1)
    return medians, seen


def _counted(
    chunks: Chunks,
    slot_of: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    origin: np.ndarray,
    shift: np.ndarray,
    target_sum: float,
    bins: int,
) -> npt.NDArray[np.int32]:
    """(slots, bins) values in each bin of each slot: one pass."""
    slots = np.stack([low, high, origin, shift], axis=1)
    counted = np.zeros((len(low), bins), dtype=np.int32)
    for counts, n_counts, gene_of in chunks():
        _count(*_parts(counts), n_counts, gene_of, target_sum, slot_of, slots, counted)
    return counted


def _parts(counts: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return counts.indptr, counts.indices, counts.data


def _by_gene(n_genes: int, owner: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """(n_genes, 2) the slots of each gene, -1 where there is none."""
    slot_of = np.full((n_genes, 2), -1, dtype=np.int64)
    for slot in slots[::-1]:
        gene = owner[slot]
        slot_of[gene, 1] = slot_of[gene, 0]
        slot_of[gene, 0] = slot
    return slot_of


def _shifts(width: np.ndarray, bins: int) -> np.ndarray:
    """By how many bits to shift numbers from 0 to ``width`` so that they are below ``bins``."""
    shift = np.zeros(len(width), dtype=np.int64)
    while (wide := (width >> shift) >= bins).any():
        shift += wide
    return shift


@numba.njit(cache=True, nogil=True)
def _count_all(
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    n_counts: np.ndarray,
    gene_of: np.ndarray,
    target_sum: float,
    counted: np.ndarray,
) -> None:
    """Add the values of a chunk to the first pass's bins of their genes."""
    number = np.empty(1, dtype=np.float64)
    bits = number.view(np.int64)
    last = counted.shape[1] - 1
    for row in range(len(indptr) - 1):
        for i in range(indptr[row], indptr[row + 1]):
            gene = gene_of[indices[i]]
            if gene < 0 or data[i] <= 0:
                continue
            number[0] = data[i] / n_counts[row] * target_sum
            counted[gene, min(max((bits[0] - _ORIGIN) >> _SHIFT, 0), last)] += 1


@numba.njit(cache=True, nogil=True)
def _count(
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    n_counts: np.ndarray,
    gene_of: np.ndarray,
    target_sum: float,
    slot_of: np.ndarray,
    slots: np.ndarray,
    counted: np.ndarray,
) -> None:
    """Add the values of a chunk to the bins of their genes' slots."""
    number = np.empty(1, dtype=np.float64)
    bits = number.view(np.int64)
    last = counted.shape[1] - 1
    for row in range(len(indptr) - 1):
        for i in range(indptr[row], indptr[row + 1]):
            gene = gene_of[indices[i]]
            if gene < 0 or data[i] <= 0:
                continue
            number[0] = data[i] / n_counts[row] * target_sum
            for k in range(2):
                slot = slot_of[gene, k]
                if slot < 0:
                    break
                low, high, origin, shift = slots[slot]
                if low <= bits[0] <= high:
                    counted[slot, min(max((bits[0] - origin) >> shift, 0), last)] += 1


@numba.njit(cache=True, nogil=True)
def _collect(
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    n_counts: np.ndarray,
    gene_of: np.ndarray,
    target_sum: float,
    hull: np.ndarray,
    slot_of: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    filled: np.ndarray,
    values: np.ndarray,
) -> None:
    """Keep the values of a chunk that lie in their genes' slots; ``hull``: from a gene's lowest to its highest."""
    number = np.empty(1, dtype=np.float64)
    bits = number.view(np.int64)
    for row in range(len(indptr) - 1):
        for i in range(indptr[row], indptr[row + 1]):
            gene = gene_of[indices[i]]
            if gene < 0 or data[i] <= 0:
                continue
            number[0] = data[i] / n_counts[row] * target_sum
            if not hull[gene, 0] <= bits[0] <= hull[gene, 1]:
                continue
            for k in range(2):
                slot = slot_of[gene, k]
                if slot >= 0 and low[slot] <= bits[0] <= high[slot]:
                    values[filled[slot]] = number[0]
                    filled[slot] += 1


@numba.njit(cache=True, nogil=True)
def _bins_of(counted: np.ndarray, slot: np.ndarray, rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The bin that each wanted value lies in, and how many values of its slot lie in bins before."""
    bins, before = np.empty(len(slot), dtype=np.int64), np.empty(len(slot), dtype=np.int64)
    for i in range(len(slot)):
        below, place = 0, 0
        while below + counted[slot[i], place] <= rank[i]:
            below += counted[slot[i], place]
            place += 1
        bins[i], before[i] = place, below
    return bins, before


@numba.njit(cache=True, nogil=True)
def _pick(
    values: np.ndarray, starts: np.ndarray, low: np.ndarray, high: np.ndarray, slot: np.ndarray, rank: np.ndarray
) -> np.ndarray:
    """The wanted values: of a slot that is one number this number, else by rank of the slot's kept values."""
    for k in range(len(low)):
        values[starts[k] : starts[k + 1]].sort()
    number = np.empty(1, dtype=np.float64)
    bits = number.view(np.int64)
    picked = np.empty(len(slot), dtype=np.float64)
    for i in range(len(slot)):
        k = slot[i]
        if low[k] == high[k]:
            bits[0] = low[k]
            picked[i] = number[0]
        else:
            picked[i] = values[starts[k] + rank[i]]
    return picked
