"""Compiled loops of rank value encoding: counts of cells to sortable keys, sorted keys to tokens in exact order.

A key is 32 bits: on top how far the value lies below the largest that is told apart, then the place of the entry in
its row. Its value is a float32 product, rounded further, so entries whose keys lie at most one step apart may be in
the wrong order; `write_tokens` compares these, and only these, as float64 numbers of the official arithmetic.
"""

from __future__ import annotations

import numba
import numpy as np

ABSENT = np.uint32(0xFFFFFFFF)
"""Key of an entry that is no expressed gene of the dictionary: behind all others."""
FINE, NO_COUNT, NO_COLUMN, NOT_RISING, NO_TOTAL = 0, 1, 2, 3, 4
"""What `rank_keys` found: nothing, a value that is no count, a column outside the matrix, columns that do not rise
(unsorted or repeated), a cell with counts whose total is 0."""
_ONE = np.int32(0x3F800000)
"""Bits of the float32 1.0; `Columns` scales values so that the smallest is 2."""
_RANGE = np.int32((1 << 28) - 1)
"""32 octaves in units of a float32's last bit; values above share the largest."""
_MOST = 2147483647.0
_FEW = 12


@numba.njit(cache=True, nogil=True)
def place_bits(stored: int) -> int:
    """Bits of a key that hold the place in a row of ``stored`` entries, 11 at least."""
    bits = 11
    while (1 << bits) < stored:
        bits += 1
    return bits


@numba.njit(cache=True, nogil=True)
def _no_counts(counts: np.ndarray, whole: bool) -> int:
    """How many values are no counts. (Loops of their own like this one become vector code; within others few do.)"""
    wrong = 0
    if whole:
        for j in range(len(counts)):
            wrong += (counts[j] < 0) | (counts[j] > 2147483647)
    else:
        for j in range(len(counts)):
            wrong += not (counts[j] >= 0 and np.floor(counts[j]) == counts[j] and counts[j] <= _MOST)
    return wrong


@numba.njit(cache=True, nogil=True)
def _odd_columns(columns: np.ndarray, n_columns: np.uint64) -> tuple[int, int]:
    """How many columns lie outside the matrix, and how many are not above the one before."""
    outside, falling = 0, 0
    for j in range(len(columns)):
        outside += np.uint64(columns[j]) >= n_columns
    for j in range(1, len(columns)):
        falling += columns[j] <= columns[j - 1]
    return outside, falling


@numba.njit(cache=True, nogil=True)
def _multiply(counts: np.ndarray, columns: np.ndarray, scaled: np.ndarray, values: np.ndarray) -> None:
    """Scaled counts of a row."""
    for j in range(len(counts)):
        values[j] = np.float32(counts[j]) * scaled[np.uint64(columns[j])]


@numba.njit(cache=True, nogil=True)
def _pack(bits: np.ndarray, shift: int, drop: int, out: np.ndarray) -> int:
    """Keys of a row from the bits of its values; how many are present."""
    n = 0
    for j in range(len(out)):
        above = min(bits[j] - _ONE, _RANGE)
        here = bits[j] >= _ONE
        key = (np.uint32(_RANGE - above) >> np.uint32(drop) << np.uint32(shift)) | np.uint32(j)
        out[j] = key if here else ABSENT
        n += here
    return n


@numba.njit(cache=True, nogil=True)
def rank_keys(
    first: int,
    last: int,
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    scaled: np.ndarray,
    group: np.ndarray,
    n_groups: int,
    whole: bool,
    sum_up: bool,
    totals: np.ndarray,
    keys: np.ndarray,
    known: np.ndarray,
    sum_group: np.ndarray,
    sums: np.ndarray,
    sum_ends: np.ndarray,
) -> tuple[int, int]:
    """Keys of the entries of rows ``first`` to ``last``, not sorted yet; what is wrong and in which row.

    Parameters
    ----------
    scaled : (columns,) float32, what a count is multiplied by; 0 for a column of no gene of the dictionary, negative
        for one that shares its gene with others.
    group : (columns,) int32, number of the gene that several columns share, else -1.
    whole : ``data`` are integers by their type.
    sum_up : write each row's sum to ``totals`` (rows,) float64, which is else read.
    keys : uint32, as many as the rows have entries; filled.
    known : (last - first,) int32, filled: expressed genes of the dictionary.
    sum_group, sums, sum_ends : filled: groups that occur in each row, their sums, and where each row's end.
    """
    n_columns = np.uint64(len(scaled))
    longest = 0
    for row in range(first, last):
        longest = max(longest, indptr[row + 1] - indptr[row])
    values = np.empty(longest, dtype=np.float32)
    bits = values.view(np.int32)
    place_of = np.full(n_groups, -1, dtype=np.int64)
    at, n_sums = 0, 0
    for row in range(first, last):
        low, stored = indptr[row], indptr[row + 1] - indptr[row]
        columns, counts, out = indices[low : low + stored], data[low : low + stored], keys[at : at + stored]
        wrong = _no_counts(counts, whole)
        outside, falling = _odd_columns(columns, n_columns)
        if wrong:
            return NO_COUNT, row
        if outside:
            return NO_COLUMN, row
        if falling:
            return NOT_RISING, row
        if sum_up:
            total = np.int64(0)
            for j in range(stored):
                total += np.int64(counts[j])
            totals[row] = np.float64(total)
        _multiply(counts, columns, scaled, values)
        shift = place_bits(stored)
        drop = shift - 4
        n = _pack(bits, shift, drop, out)
        if n_groups:
            begin = n_sums
            for j in range(stored):
                if values[j] < 0:
                    g = group[columns[j]]
                    k = place_of[g]
                    if k < 0:
                        k = place_of[g] = n_sums
                        sum_group[k] = g
                        sums[k] = 0.0
                        out[j] = np.uint32(j)
                        n_sums += 1
                    sums[k] += counts[j]
            for j in range(stored):
                if values[j] < 0 and out[j] != ABSENT:
                    k = place_of[group[columns[j]]]
                    values[j] = np.float32(sums[k]) * -scaled[columns[j]]
                    above = min(bits[j] - _ONE, _RANGE)
                    out[j] = (np.uint32(_RANGE - above) >> np.uint32(drop) << np.uint32(shift)) | np.uint32(j)
            for k in range(begin, n_sums):
                place_of[sum_group[k]] = -1
            n += n_sums - begin
        if n and not totals[row] > 0:
            return NO_TOTAL, row
        known[row - first] = n
        sum_ends[row - first] = n_sums
        at += stored
    return FINE, -1


@numba.njit(cache=True, nogil=True)
def _in_order(values: np.ndarray, tokens: np.ndarray, keys: np.ndarray) -> None:
    """Sort ``keys`` by falling value, equal values by rising token: few by insertion, many by Shell's gaps."""
    n = len(values)
    gap = 1
    if n > _FEW:
        while gap < n // 3:
            gap = 3 * gap + 1
    while gap:
        for i in range(gap, n):
            value, token, key = values[i], tokens[i], keys[i]
            j = i
            while j >= gap and (values[j - gap] < value or (values[j - gap] == value and tokens[j - gap] > token)):
                values[j], tokens[j], keys[j] = values[j - gap], tokens[j - gap], keys[j - gap]
                j -= gap
            values[j], tokens[j], keys[j] = value, token, key
        gap //= 3


@numba.njit(cache=True, nogil=True)
def _find_close(ranked: np.ndarray, ready: int, shift: np.uint32, close: np.ndarray) -> int:
    """Write to ``close`` which of the first ``ready`` keys is at most a step below the next; gives ``ready``."""
    for i in range(ready - 1):
        close[i] = np.uint32((ranked[i + 1] >> shift) - (ranked[i] >> shift)) <= np.uint32(1)
    for i in range(ready - 1, (ready + 7) // 8 * 8 + 1):  # to the end of the word
        close[i] = 0
    return ready


@numba.njit(cache=True, nogil=True)
def _take(tokens: np.ndarray, columns: np.ndarray, row_tokens: np.ndarray) -> None:
    """Tokens of a row's entries in the order of columns, so that what is then taken in another order lies near."""
    for j in range(len(columns)):
        row_tokens[j] = tokens[np.uint64(columns[j])]


@numba.njit(cache=True, nogil=True)
def _place(row_tokens: np.ndarray, ranked: np.ndarray, mask: np.uint32, out: np.ndarray) -> None:
    """Tokens of a row in the order of its keys."""
    for k in range(len(ranked)):
        out[k] = row_tokens[np.uint64(ranked[k] & mask)]


@numba.njit(cache=True, nogil=True)
def write_tokens(
    first: int,
    last: int,
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    tokens: np.ndarray,
    medians: np.ndarray,
    target_sum: float,
    totals: np.ndarray,
    keys: np.ndarray,
    known: np.ndarray,
    sorted_to: np.ndarray,
    group: np.ndarray,
    n_groups: int,
    sum_group: np.ndarray,
    sums: np.ndarray,
    sum_ends: np.ndarray,
    room: int,
    front: int,
    back: int,
    out: np.ndarray,
    at: int,
    lengths: np.ndarray,
) -> int:
    """Write the sequences of rows ``first`` to ``last`` to ``out`` from ``at`` on; the place behind them.

    Parameters
    ----------
    tokens, medians : (columns,) of each column's gene; what columns of no gene hold is not used.
    keys : of `rank_keys`, each row's sorted up to its field of ``sorted_to`` and smaller than all behind.
    room : most genes of a sequence; ``front`` and ``back`` are tokens around them, -1 for none.
    lengths : (last - first,) int64, filled; 0 for a row without genes, which gets no tokens at all.
    """
    longest = 0
    for row in range(first, last):
        longest = max(longest, indptr[row + 1] - indptr[row])
    row_tokens = np.empty(longest, dtype=np.int32)
    words = np.empty(longest // 8 + 2, dtype=np.uint64)
    close = words.view(np.uint8)
    run_values, run_tokens = np.empty(longest, dtype=np.float64), np.empty(longest, dtype=np.int32)
    summed = np.zeros(n_groups, dtype=np.float64)
    start = 0
    for row in range(first, last):
        low, stored = indptr[row], indptr[row + 1] - indptr[row]
        columns, counts, ranked = indices[low : low + stored], data[low : low + stored], keys[start : start + stored]
        start += stored
        n = known[row - first]
        lengths[row - first] = 0
        if n == 0:
            continue
        for k in range(sum_ends[row - first - 1] if row > first else 0, sum_ends[row - first]):
            summed[sum_group[k]] = sums[k]
        shift = np.uint32(place_bits(stored))
        mask = np.uint32((1 << shift) - 1)
        kept = min(n, room)
        ready = _find_close(ranked, min(sorted_to[row - first], n), shift, close)
        i = 0
        while i < ready - 1:
            if words[i >> 3] == 0:
                i = ((i >> 3) + 1) << 3
                continue
            if close[i] == 0:
                i += 1
                continue
            if i >= kept:
                break
            end = i + 1
            while close[end]:
                end += 1
            end += 1
            if end == ready and ready < n:  # what belongs to this run may lie behind what was sorted
                ranked.sort()
                ready = _find_close(ranked, n, shift, close)
                continue
            for k in range(i, end):
                j = np.uint64(ranked[k] & mask)
                column = columns[j]
                count = np.float64(counts[j])
                if n_groups and group[column] >= 0:
                    count = summed[group[column]]
                run_values[k - i] = count / totals[row] * target_sum / medians[column]
                run_tokens[k - i] = tokens[column]
            if end - i > 2:
                _in_order(run_values[: end - i], run_tokens[: end - i], ranked[i:end])
            elif run_values[0] < run_values[1] or (run_values[0] == run_values[1] and run_tokens[0] > run_tokens[1]):
                ranked[i], ranked[i + 1] = ranked[i + 1], ranked[i]
            i = end
        begin = at
        if front >= 0:
            out[at] = front
            at += 1
        _take(tokens, columns, row_tokens)
        _place(row_tokens, ranked[:kept], mask, out[at : at + kept])
        at += kept
        if back >= 0:
            out[at] = back
            at += 1
        lengths[row - first] = at - begin
    return at
