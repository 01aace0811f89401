"""Compiled loops over cells for the two modes of perturbation: rows of counts, rows of tokens, ranks of a gene."""

from __future__ import annotations

import numpy as np
from numba import njit

Array = np.ndarray


@njit(cache=True, nogil=True)
def row_targets(indptr: Array, data: Array, indices: Array, up_medians: Array, medians: Array, above: bool) -> Array:
    """(rows, genes) int64 counts that the activated genes get in each row; 0 in a row without counts.

    The row's largest count; with ``above`` the smallest whole number above that which puts the genes on top of all
    values count / median, the first on top of the second and so on. ``medians`` is by column, NaN where unknown.
    """
    n_rows, n_up = len(indptr) - 1, len(up_medians)
    out = np.zeros((n_rows, n_up), dtype=np.int64)
    for row in range(n_rows):
        highest = 0.0
        top = 0.0
        for at in range(indptr[row], indptr[row + 1]):
            count = float(data[at])
            highest = max(highest, count)
            if above:
                value = count / medians[indices[at]]
                if value > top:  # false for NaN
                    top = value
        if highest == 0:
            continue
        for gene in range(n_up - 1, -1, -1):
            count = highest
            if above:
                count = max(highest + 1, np.floor(top * up_medians[gene]) - 1)
                while count / up_medians[gene] <= top:  # the product above is rounded either way
                    count += 1
                top = count / up_medians[gene]
            out[row, gene] = np.int64(count)
    return out


@njit(cache=True, nogil=True)
def row_sizes(indptr: Array, indices: Array, changed: Array, targets: Array) -> Array:
    """(rows + 1,) int64 ``indptr`` after the columns where ``changed`` left and the targets above 0 were put in."""
    out = np.zeros(len(indptr), dtype=np.int64)
    for row in range(len(indptr) - 1):
        kept = 0
        for at in range(indptr[row], indptr[row + 1]):
            kept += not changed[indices[at]]
        for gene in range(targets.shape[1]):
            kept += targets[row, gene] > 0
        out[row + 1] = out[row] + kept
    return out


@njit(cache=True, nogil=True)
def write_rows(
    indptr: Array, indices: Array, data: Array, changed: Array, columns: Array, targets: Array,
    out_indptr: Array, out_indices: Array, out_data: Array,
) -> None:  # fmt: skip
    """Fill the rows of `row_sizes`; ``columns`` of the targets ascend, and so do the columns of each row."""
    for row in range(len(indptr) - 1):
        place = out_indptr[row]
        gene = 0
        for at in range(indptr[row], indptr[row + 1]):
            column = indices[at]
            while gene < len(columns) and columns[gene] <= column:
                if targets[row, gene] > 0:
                    out_indices[place] = columns[gene]
                    out_data[place] = targets[row, gene]
                    place += 1
                gene += 1
            if not changed[column]:
                out_indices[place] = column
                out_data[place] = data[at]
                place += 1
        while gene < len(columns):
            if targets[row, gene] > 0:
                out_indices[place] = columns[gene]
                out_data[place] = targets[row, gene]
                place += 1
            gene += 1


@njit(cache=True, nogil=True, error_model="numpy")  # a total of 0 is for the tokenizer to refuse
def column_ranks(
    indptr: Array, indices: Array, data: Array, n_counts: Array, medians: Array, tokens: Array,
    target_sum: float, token: int,
) -> Array:  # fmt: skip
    """(rows,) int32 rank of the gene of ``token`` among the row's known genes, 1 the highest; 0 where it has no count.

    Value: count / n_counts * target_sum / median; of equal values the smaller token comes first. ``medians`` and
    ``tokens`` are by column, NaN and -1 where unknown.
    """
    n_rows = len(indptr) - 1
    out = np.zeros(n_rows, dtype=np.int32)
    for row in range(n_rows):
        own = -1.0
        for at in range(indptr[row], indptr[row + 1]):
            if tokens[indices[at]] == token and data[at] > 0:
                own = max(own, float(data[at]) / n_counts[row] * target_sum / medians[indices[at]])
        if own < 0:
            continue
        rank = 1
        for at in range(indptr[row], indptr[row + 1]):
            other = tokens[indices[at]]
            if other < 0 or other == token or data[at] <= 0:
                continue
            value = float(data[at]) / n_counts[row] * target_sum / medians[indices[at]]
            rank += value > own or (value == own and other < token)
        out[row] = rank
    return out


@njit(cache=True, nogil=True)
def edited_sizes(
    tokens: Array, offsets: Array, up: Array, down: Array, specials: int, limit: int, sizes: Array, changes: Array
) -> None:
    """Fill ``sizes`` (sequences,) with lengths after the edit of `write_edited` and ``changes`` (sequences, 2).

    A length is 0 where no gene is left. ``changes``: genes that were put in and not there before, genes removed.
    """
    for i in range(len(offsets) - 1):
        first, last = offsets[i] + (specials > 0), offsets[i + 1] - (specials > 0)
        moved = 0
        removed = 0
        for at in range(first, last):
            for gene in up:
                moved += tokens[at] == gene
            for gene in down:
                removed += tokens[at] == gene
        genes = last - first - moved - removed + len(up)
        changes[i, 0] = len(up) - moved
        changes[i, 1] = removed
        sizes[i] = min(genes, limit - specials) + specials if genes > 0 else 0


@njit(cache=True, nogil=True)
def write_edited(
    tokens: Array, offsets: Array, up: Array, down: Array, specials: int, out: Array, out_offsets: Array, kept: Array
) -> None:
    """Write the sequences ``kept``: first the tokens ``up`` in their order, then the others without ``down``, cut."""
    for target in range(len(kept)):
        i = kept[target]
        place, end = out_offsets[target], out_offsets[target + 1]
        first, last = offsets[i], offsets[i + 1]
        if specials > 0:
            out[place] = tokens[first]
            out[end - 1] = tokens[last - 1]
            place, end, first, last = place + 1, end - 1, first + 1, last - 1
        for gene in up:
            if place < end:
                out[place] = gene
                place += 1
        for at in range(first, last):
            if place == end:
                break
            token = tokens[at]
            out_of_place = False
            for gene in up:
                out_of_place |= token == gene
            for gene in down:
                out_of_place |= token == gene
            if not out_of_place:
                out[place] = token
                place += 1


@njit(cache=True, nogil=True)
def token_places(tokens: Array, offsets: Array, specials: int, token: int) -> Array:
    """(sequences,) int32 place of ``token`` among a sequence's genes, 1 the first; 0 where it is not there."""
    out = np.zeros(len(offsets) - 1, dtype=np.int32)
    skip = 1 if specials > 0 else 0
    for i in range(len(out)):
        first = offsets[i] + skip
        for at in range(first, offsets[i + 1] - skip):
            if tokens[at] == token:
                out[i] = at - first + 1
                break
    return out
