"""Compiled loops over the text and the rows of sparse matrices; they hold no lock, so threads run side by side."""

from __future__ import annotations

import numba
import numpy as np

FINISHED, ODD_LINE, OUT_OF_ORDER, TOO_MANY = 0, 1, 2, 3
"""Why `parse_entries` stopped: the text is used up, or at a line that it leaves to its caller."""
ENTRIES, CELL, FEATURE, LINES, CANONICAL = range(5)
"""Fields of the state of `parse_entries`: entries so far, cell and feature of the last one, lines so far, and
whether in every cell the features rise and no count is zero."""
_ONE = np.uint64(1)
_TEN = np.uint64(10)
_MOST = np.uint64(2147483647)


@numba.njit(cache=True, nogil=True)
def _number(text: np.ndarray, place: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Up to ten digits at ``place`` as a number, and the place behind them; 0 where there are none or more."""
    first, number = place, np.uint64(0)
    digit = np.uint64(text[place]) - np.uint64(48)
    while digit < _TEN:
        number = number * _TEN + digit
        place += _ONE
        digit = np.uint64(text[place]) - np.uint64(48)
    return (number if place - first <= _TEN else np.uint64(0)), place


@numba.njit(cache=True, nogil=True)
def _blanks(text: np.ndarray, place: np.uint64) -> np.uint64:
    """The place behind blanks and tabs."""
    while text[place] == 32 or text[place] == 9:
        place += _ONE
    return place


@numba.njit(cache=True, nogil=True)
def parse_entries(
    text: np.ndarray,
    start: int,
    end: int,
    n_features: int,
    n_cells: int,
    features: np.ndarray,
    values: np.ndarray,
    cells: np.ndarray,
    per_cell: np.ndarray,
    state: np.ndarray,
) -> tuple[int, int]:
    """Parse whole lines ``feature cell count`` (from 1) of ``text[start:end]``; the place it got to and why.

    The text has to end with a line end: nothing else keeps the loops inside it (which, with places that have no
    sign, makes them ten times as fast). ``features`` and ``values`` (int32) take the entries, ``per_cell`` how many
    each cell has. Where ``cells`` has room it takes the cell of each entry; where it is empty, entries have to come
    sorted by cell. A line of any other form (an entry out of range, a fraction, an empty line) is left to the caller.
    """
    entries, lines, canonical = np.uint64(state[ENTRIES]), state[LINES], state[CANONICAL]
    last_cell, last_feature = state[CELL], state[FEATURE]
    sorted_by_cell, room = len(cells) == 0, np.uint64(len(values))
    at, stop, reason = np.uint64(start), np.uint64(end), FINISHED
    while at < stop:
        number, place = _number(text, at)
        feature = np.int64(number) - 1
        number, place = _number(text, _blanks(text, place))
        cell = np.int64(number) - 1
        first = _blanks(text, place)
        number, place = _number(text, first)
        if place == first or number > _MOST or place - first > _TEN:
            reason = ODD_LINE
            break
        if text[place] == 13:
            place += _ONE
        if text[place] != 10 or not (0 <= feature < n_features and 0 <= cell < n_cells):
            reason = ODD_LINE
            break
        if entries == room:
            reason = TOO_MANY
            break
        if sorted_by_cell:
            if cell < last_cell:
                reason = OUT_OF_ORDER
                break
        else:
            cells[entries] = cell
        if number == 0 or (cell == last_cell and feature <= last_feature):
            canonical = 0
        features[entries] = feature
        values[entries] = number
        per_cell[cell] += 1
        last_cell, last_feature = cell, feature
        entries += _ONE
        lines += 1
        at = place + _ONE
    state[ENTRIES], state[CELL], state[FEATURE] = entries, last_cell, last_feature
    state[LINES], state[CANONICAL] = lines, canonical
    return np.int64(at), reason


@numba.njit(cache=True, nogil=True)
def group_by_cell(
    cells: np.ndarray, features: np.ndarray, values: np.ndarray, indptr: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Entries in the order of their cells (those of one cell in the order they had): features and values."""
    place = indptr[:-1].copy()
    indices, data = np.empty_like(features), np.empty_like(values)
    for entry in range(len(cells)):
        to = place[cells[entry]]
        indices[to], data[to] = features[entry], values[entry]
        place[cells[entry]] += 1
    return indices, data


@numba.njit(cache=True, nogil=True)
def put_rows(
    rows: np.ndarray,
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    target: np.ndarray,
    to_indptr: np.ndarray,
    to_indices: np.ndarray,
    to_data: np.ndarray,
) -> int:
    """Write ``rows`` of one CSR matrix to another: columns rise, equal ones are summed, zeros are left out.

    Parameters
    ----------
    rows : row of the source for each row written, -1 for one without entries.
    target : column to write each column of the source to, -1 to drop it; an empty array leaves columns as they are.
    to_indptr : one longer than ``rows``; its first field says where in ``to_indices`` and ``to_data`` (int32) to
        begin, the rest is filled. Source and target may be one array, if rows then rise and begin at the same place.

    Returns
    -------
    -1, or the row whose sum is above 2147483647.
    """
    moved = len(target) > 0
    end = to_indptr[0]
    longest = 0
    for row in rows:
        if row >= 0:
            longest = max(longest, indptr[row + 1] - indptr[row])
    keys = np.empty(longest, dtype=np.int64)
    for number in range(len(rows)):
        row = rows[number]
        n, last, rising = 0, np.int64(-1), True
        if row >= 0:
            for entry in range(indptr[row], indptr[row + 1]):
                column = np.int64(target[indices[entry]] if moved else indices[entry])
                if column < 0 or data[entry] == 0:
                    continue
                rising = rising and column > last
                last = column
                keys[n] = (column << 32) | np.int64(data[entry])
                n += 1
        if not rising:
            keys[:n].sort()
        last, total = np.int64(-1), np.int64(0)
        for k in range(n):
            column, value = keys[k] >> 32, keys[k] & 0xFFFFFFFF
            total = total + value if column == last else value
            if total > 2147483647:
                return number
            if column != last:
                to_indices[end] = column
                end += 1
            to_data[end - 1] = total
            last = column
        to_indptr[number + 1] = end
    return -1
