"""Compiled loops of rank value encoding: counts of cells to sortable keys, sorted keys to tokens in exact order.

A key is 32 bits: on top how far the value lies below the largest of its row, in steps as fine as the row's range of
values leaves bits for, then the place of the entry in its row. Its value is a float32 product (the count, the gene's
factor and their product are each rounded by at most 2**-24, which is 3 units of the last bit; `FINEST` is above twice
that), so only entries whose keys lie at most one step apart may be in the wrong order; `write_tokens` compares these,
and only these, as float64 numbers of the official arithmetic.

Short loops of their own become vector code, within others few do. The compiler of numba takes sums of small integers
as 64 bits: each step is cast back where that halves the time.
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
FINEST = 3
"""Fewest bits that are dropped of a value: a step is then 8 units, and two values are wrong by 6 at most."""
_MOST = 2147483647.0
_FEW = 12


@numba.njit(cache=True, nogil=True)
def place_bits(stored: int) -> int:
    """Bits of a key that hold the place in a row of ``stored`` entries."""
    bits = 6
    while (1 << bits) < stored:
        bits += 1
    return bits


@numba.njit(cache=True, nogil=True)
def _no_counts(counts: np.ndarray, whole: bool) -> int:
    """How many values are no counts."""
    wrong = np.int32(0)
    if whole:
        for j in range(len(counts)):
            wrong = np.int32(wrong + ((counts[j] < 0) | (counts[j] > 2147483647)))
    else:
        for j in range(len(counts)):
            fine = (counts[j] >= 0) & (np.floor(counts[j]) == counts[j]) & (counts[j] <= _MOST)
            wrong = np.int32(wrong + (not fine))
    return wrong


@numba.njit(cache=True, nogil=True)
def _falling(columns: np.ndarray) -> int:
    """How many columns are not above the one before."""
    falling = np.int32(0)
    for j in range(1, len(columns)):
        falling = np.int32(falling + (columns[j] <= columns[j - 1]))
    return falling


@numba.njit(cache=True, nogil=True)
def _multiply(counts: np.ndarray, columns: np.ndarray, scaled: np.ndarray, values: np.ndarray) -> None:
    """Scaled counts of a row."""
    for j in range(len(counts)):
        values[j] = np.float32(counts[j]) * scaled[np.uint64(columns[j])]


@numba.njit(cache=True, nogil=True)
def _range_of(bits: np.ndarray) -> tuple[np.int32, np.int32]:
    """Smallest and largest of the values that are present, in units above 1.0."""
    least, most = _RANGE, np.int32(0)
    for j in range(len(bits)):
        here = bits[j] >= _ONE
        above = np.int32(min(np.int32(bits[j] - _ONE), _RANGE))
        least = np.int32(min(least, above if here else _RANGE))
        most = np.int32(max(most, above if here else np.int32(0)))
    return least, most


@numba.njit(cache=True, nogil=True)
def _pack(bits: np.ndarray, most: np.int32, shift: np.uint32, drop: np.uint32, out: np.ndarray) -> int:
    """Keys of a row from the bits of its values; how many are present."""
    n = np.int32(0)
    for j in range(len(out)):
        here = bits[j] >= _ONE
        below = np.uint32(most - min(np.int32(bits[j] - _ONE), _RANGE))
        key = np.uint32(np.uint32(np.uint32(below >> drop) << shift) | np.uint32(j))
        out[j] = key if here else ABSENT
        n = np.int32(n + here)
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
    starts: np.ndarray,
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
    keys : uint32, filled; those of a row begin at its field of ``starts`` (last - first + 1,) int64, and what is left
        before the next row's is filled with `ABSENT`.
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
    seen_at = np.empty(n_groups, dtype=np.int64)
    n_sums = 0
    for row in range(first, last):
        low, stored = indptr[row], indptr[row + 1] - indptr[row]
        columns, counts = indices[low : low + stored], data[low : low + stored]
        if _no_counts(counts, whole):
            return NO_COUNT, row
        if _falling(columns):
            return NOT_RISING, row
        if stored and (columns[0] < 0 or np.uint64(columns[stored - 1]) >= n_columns):
            return NO_COLUMN, row
        if sum_up:
            total = np.int64(0)
            for j in range(stored):
                total += np.int64(counts[j])
            totals[row] = np.float64(total)
        _multiply(counts, columns, scaled, values)
        if n_groups:  # the first column of each that occurs stands for all
            begin = n_sums
            for j in range(stored):
                if values[j] < 0:
                    values[j] = 0
                    g = group[columns[j]]
                    k = place_of[g]
                    if k < 0:
                        k = place_of[g] = n_sums
                        seen_at[g] = j
                        sum_group[k] = g
                        sums[k] = 0.0
                        n_sums += 1
                    sums[k] += counts[j]
            for k in range(begin, n_sums):
                g = sum_group[k]
                values[seen_at[g]] = np.float32(sums[k]) * -scaled[columns[seen_at[g]]]
                place_of[g] = -1
        least, most = _range_of(bits[:stored])
        shift, drop = place_bits(stored), FINEST
        while (most - least) >> drop >= (1 << (32 - shift)) - 1:  # the last is that of absent ones
            drop += 1
        at, end = starts[row - first], starts[row - first + 1]
        n = _pack(bits, most, np.uint32(shift), np.uint32(drop), keys[at : at + stored])
        keys[at + stored : end] = ABSENT
        if n and not totals[row] > 0:
            return NO_TOTAL, row
        known[row - first] = n
        sum_ends[row - first] = n_sums
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
    step = np.uint32(1 << shift)
    above = np.uint32(~np.uint32(step - 1))
    for i in range(ready - 1):
        close[i] = np.uint32(np.uint32(ranked[i + 1] & above) - np.uint32(ranked[i] & above)) <= step
    for i in range(ready - 1, (ready + 7) // 8 * 8 + 1):  # to the end of the word
        close[i] = 0
    return ready


@numba.njit(cache=True, nogil=True)
def _place(tokens: np.ndarray, columns: np.ndarray, ranked: np.ndarray, mask: np.uint32, out: np.ndarray) -> None:
    """Tokens of a row in the order of its keys."""
    for k in range(len(ranked)):
        out[k] = tokens[np.uint64(columns[np.uint64(ranked[k] & mask)])]


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
    starts: np.ndarray,
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
    tokens, medians : (columns,) of each column's gene; what columns of no gene hold is not used. Tokens are uint16
        where that holds them: what is read in any order then fits a core's nearest cache.
    keys : of `rank_keys`, each row's sorted up to its field of ``sorted_to`` and smaller than all behind.
    room : most genes of a sequence; ``front`` and ``back`` are tokens around them, -1 for none.
    lengths : (last - first,) int64, filled; 0 for a row without genes, which gets no tokens at all.
    """
    longest = 0
    for row in range(first, last):
        longest = max(longest, indptr[row + 1] - indptr[row])
    words = np.empty(longest // 8 + 2, dtype=np.uint64)
    close = words.view(np.uint8)
    run_values, run_tokens = np.empty(longest, dtype=np.float64), np.empty(longest, dtype=np.int32)
    summed = np.zeros(n_groups, dtype=np.float64)
    for row in range(first, last):
        low, stored = indptr[row], indptr[row + 1] - indptr[row]
        columns, counts = indices[low : low + stored], data[low : low + stored]
        ranked = keys[starts[row - first] : starts[row - first + 1]]  # with what fills the row up: it may lie between
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
        _place(tokens, columns, ranked[:kept], mask, out[at : at + kept])
        at += kept
        if back >= 0:
            out[at] = back
            at += 1
        lengths[row - first] = at - begin
    return at
