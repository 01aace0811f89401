"""Compiled loops of the tracker ``lap``: neighbours on a grid, sparse linear assignment, runs along tracks."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def grid_of(points: np.ndarray, cell: float) -> tuple:
    """Points sorted into square cells: (origin y, origin x, cell, rows, columns, first of each cell, order).

    Cells are enlarged where the points spread so far that there would be many more cells than points.
    """
    n = len(points)
    low_y, low_x, high_y, high_x = points[0, 0], points[0, 1], points[0, 0], points[0, 1]
    for i in range(n):
        low_y, high_y = min(low_y, points[i, 0]), max(high_y, points[i, 0])
        low_x, high_x = min(low_x, points[i, 1]), max(high_x, points[i, 1])
    # a little wider than the reach, so that rounding never puts a neighbour two cells away
    cell = max(cell * 1.000001, max(high_y - low_y, high_x - low_x) / (2.0 * np.sqrt(n) + 1.0), 1e-300)
    rows, columns = int((high_y - low_y) / cell) + 1, int((high_x - low_x) / cell) + 1
    first = np.zeros(rows * columns + 1, np.int64)
    place = np.empty(n, np.int64)
    for i in range(n):
        place[i] = int((points[i, 0] - low_y) / cell) * columns + int((points[i, 1] - low_x) / cell)
        first[place[i] + 1] += 1
    for c in range(rows * columns):
        first[c + 1] += first[c]
    free = first[:-1].copy()
    order = np.empty(n, np.int64)
    for i in range(n):
        order[free[place[i]]] = i
        free[place[i]] += 1
    return low_y, low_x, cell, rows, columns, first, order


@njit(cache=True, nogil=True)
def near_pairs(source: np.ndarray, target: np.ndarray, reach: float, most: int) -> tuple:
    """(first pair of each source, target of each pair, squared distance): at most ``most`` nearest a source.

    Pairs of a source lie within ``reach`` and are sorted by distance, equal distances by target.
    """
    n = len(source)
    start = np.zeros(n + 1, np.int64)
    if n == 0 or len(target) == 0:
        return start, np.empty(0, np.int64), np.empty(0, np.float64)
    low_y, low_x, cell, rows, columns, first, order = grid_of(target, reach)
    most = min(most, len(target))
    found = np.empty(n * most, np.int64)
    squared = np.empty(n * most, np.float64)
    limit = reach * reach
    count = 0
    for i in range(n):
        y, x = source[i, 0], source[i, 1]
        above, left = np.floor((y - low_y) / cell), np.floor((x - low_x) / cell)
        begin = count
        for r in range(int(max(above - 1, 0)), int(min(above + 2, rows))):
            for c in range(int(max(left - 1, 0)), int(min(left + 2, columns))):
                for k in range(first[r * columns + c], first[r * columns + c + 1]):
                    j = order[k]
                    d = (target[j, 0] - y) ** 2 + (target[j, 1] - x) ** 2
                    if d > limit:
                        continue
                    at = count
                    if count - begin == most:
                        at = count - 1
                        if d > squared[at] or (d == squared[at] and j > found[at]):
                            continue
                    else:
                        count += 1
                    while at > begin and (d < squared[at - 1] or (d == squared[at - 1] and j < found[at - 1])):
                        squared[at], found[at] = squared[at - 1], found[at - 1]
                        at -= 1
                    squared[at], found[at] = d, j
        start[i + 1] = count
    return start, found[:count].copy(), squared[:count].copy()


@njit(cache=True, nogil=True)
def _push(heap_key: np.ndarray, heap_item: np.ndarray, size: int, key: float, item: int) -> int:
    at = size
    while at > 0:
        up = (at - 1) >> 1
        if heap_key[up] < key or (heap_key[up] == key and heap_item[up] <= item):
            break
        heap_key[at], heap_item[at] = heap_key[up], heap_item[up]
        at = up
    heap_key[at], heap_item[at] = key, item
    return size + 1


@njit(cache=True, nogil=True)
def _pop(heap_key: np.ndarray, heap_item: np.ndarray, size: int) -> int:
    size -= 1
    key, item = heap_key[size], heap_item[size]
    at = 0
    while 2 * at + 1 < size:
        down = 2 * at + 1
        other = down + 1
        if other < size and (
            heap_key[other] < heap_key[down]
            or (heap_key[other] == heap_key[down] and heap_item[other] < heap_item[down])
        ):
            down = other
        if key < heap_key[down] or (key == heap_key[down] and item <= heap_item[down]):
            break
        heap_key[at], heap_item[at] = heap_key[down], heap_item[down]
        at = down
    heap_key[at], heap_item[at] = key, item
    return size


@njit(cache=True, nogil=True)
def sparse_assignment(
    start: np.ndarray, columns: np.ndarray, gains: np.ndarray, row_alone: np.ndarray, n_columns: int
) -> np.ndarray:
    """Column of each row, -1 for alone: the cheapest choice in which no column is used twice.

    Row ``i`` may take ``columns[start[i]:start[i + 1]]``, which costs the same slice of ``gains`` (any sign),
    or stay alone for ``row_alone[i]``. Rows are brought in one by one, each along the shortest augmenting
    path (Jonker and Volgenant 1987 and Crouse 2016, doi:10.1109/TAES.2016.140952, with a heap in place of
    the scan, since the graph is sparse and its components small).
    """
    n = len(row_alone)
    column_of = np.full(n, -1, np.int64)
    row_of = np.full(n_columns, -1, np.int64)
    row_price = np.zeros(n)
    column_price = np.zeros(n_columns)
    distance = np.full(n_columns, np.inf)
    through = np.empty(n_columns, np.int64)
    done = np.zeros(n_columns, np.bool_)
    heap_key, heap_item = np.empty(len(columns) + 1), np.empty(len(columns) + 1, np.int64)
    touched, settled = np.empty(n_columns, np.int64), np.empty(n_columns, np.int64)
    for r in range(n):
        i, here, size, n_touched, n_settled = r, 0.0, 0, 0, 0
        alone_best, alone_row, sink = np.inf, -1, -1
        while True:
            staying = here + row_alone[i] - row_price[i]
            if staying < alone_best:
                alone_best, alone_row = staying, i
            for k in range(start[i], start[i + 1]):
                j = columns[k]
                if done[j]:
                    continue
                d = here + gains[k] - row_price[i] - column_price[j]
                if d < distance[j]:
                    if distance[j] == np.inf:
                        touched[n_touched] = j
                        n_touched += 1
                    distance[j], through[j] = d, i
                    size = _push(heap_key, heap_item, size, d, j)
            while size > 0 and (done[heap_item[0]] or heap_key[0] > distance[heap_item[0]]):
                size = _pop(heap_key, heap_item, size)
            if size == 0 or heap_key[0] >= alone_best:
                here = alone_best
                break
            j = heap_item[0]
            here = heap_key[0]
            size = _pop(heap_key, heap_item, size)
            if row_of[j] < 0:
                sink = j
                break
            done[j] = True
            settled[n_settled] = j
            n_settled += 1
            i = row_of[j]
        row_price[r] += here
        for s in range(n_settled):
            j = settled[s]
            row_price[row_of[j]] += here - distance[j]
            column_price[j] -= here - distance[j]
        # hand columns on along the path: to its end at a free column, or at a row that stays alone from now on
        if sink >= 0:
            j = sink
        else:
            j = column_of[alone_row]
            column_of[alone_row] = -1
        while j >= 0:
            i = through[j]
            row_of[j] = i
            j, column_of[i] = column_of[i], j
            if i == r:
                break
        for t in range(n_touched):
            distance[touched[t]] = np.inf
            done[touched[t]] = False
    return column_of


@njit(cache=True, nogil=True)
def link_step(
    expected: np.ndarray,
    owner: np.ndarray,
    dividing: np.ndarray,
    target: np.ndarray,
    features: np.ndarray,
    later: np.ndarray,
    halved: np.ndarray,
    reach: float,
    most: int,
    row_alone: np.ndarray,
    column_alone: np.ndarray,
) -> np.ndarray:
    """Object of the next frame that each row takes, -1 for none.

    Rows are objects of ``features[owner]`` expected at ``expected``; an object that may be ``dividing``
    has two. A pair costs its squared distance over the squared reach plus the absolute differences of
    (weighted) features, and where the object may divide the least of these and of the differences from
    ``features + halved``, what its daughters have.
    """
    start, found, squared = near_pairs(expected, target, reach, most)
    n, n_owners = len(expected), len(dividing)
    kept = np.zeros(n + 1, np.int64)
    gains = np.empty(len(found))
    count = 0
    for i in range(n):
        a = owner[i]
        for k in range(start[i], start[i + 1]):
            j = found[k]
            cost = squared[k] / (reach * reach) - column_alone[j]
            for f in range(features.shape[1]):
                change = abs(features[a, f] - later[j, f])
                if dividing[a]:
                    half = abs(features[a, f] + halved[f] - later[j, f])
                    change = half if i >= n_owners else min(change, half)
                cost += change
            if cost < row_alone[i]:
                found[count], gains[count] = j, cost
                count += 1
        kept[i + 1] = count
    return sparse_assignment(kept, found[:count], gains[:count], row_alone, len(target))


@njit(cache=True, nogil=True)
def track_positions(following: np.ndarray) -> tuple:
    """(first object, objects still to come) of each object's run; successors come later in the table."""
    n = len(following)
    first, ahead = np.arange(n), np.ones(n, np.int64)
    for i in range(n):
        if following[i] >= 0:
            first[following[i]] = first[i]
    for i in range(n - 1, -1, -1):
        if following[i] >= 0:
            ahead[i] = ahead[following[i]] + 1
    return first, ahead


@njit(cache=True, nogil=True)
def greedy_divisions(
    mother: np.ndarray, first: np.ndarray, second: np.ndarray, time: np.ndarray, start_of: np.ndarray,
    lasting: np.ndarray, apart_h: float,
) -> np.ndarray:  # fmt: skip
    """Which candidates, in the order given, agree with all taken before: see `lap.choose_divisions`.

    ``time`` and ``lasting`` (whether an object may be a daughter) are by object; divisions of one run, named by its
    first object ``start_of``, lie ``apart_h`` or more apart.
    """
    n, objects = len(mother), len(start_of)
    taken = np.zeros(n, np.bool_)
    divided, born = np.zeros(objects, np.bool_), np.zeros(objects, np.bool_)
    head = np.full(objects, -1, np.int64)  # of each run's list of divisions, as entries below
    moment, behind = np.empty(3 * n), np.empty(3 * n, np.int64)
    entries = 0
    for k in range(n):
        m, f, s = mother[k], first[k], second[k]
        if divided[m] or born[f] or born[s] or not lasting[f] or not lasting[s]:
            continue
        runs = (start_of[m], start_of[f], start_of[s])
        free = True
        for run in runs:
            at = head[run]
            while at >= 0 and free:
                free = abs(time[s] - moment[at]) >= apart_h
                at = behind[at]
        if not free:
            continue
        taken[k], divided[m], born[f], born[s] = True, True, True, True
        for run in runs:
            moment[entries], behind[entries] = time[s], head[run]
            head[run] = entries
            entries += 1
    return taken


@njit(cache=True, nogil=True)
def small_median(values: np.ndarray, n: int) -> float:
    """Median of the first ``n`` values, which are sorted in place: by insertion, quickest for a dozen."""
    for i in range(1, n):
        value, j = values[i], i - 1
        while j >= 0 and values[j] > value:
            values[j + 1] = values[j]
            j -= 1
        values[j + 1] = value
    return values[n // 2] if n % 2 else (values[n // 2 - 1] + values[n // 2]) / 2


@njit(cache=True, nogil=True)
def along_median(values: np.ndarray, neighbour: np.ndarray, window: int, rows: np.ndarray) -> np.ndarray:
    """Median of the value of each of ``rows`` and of up to ``window - 1`` neighbours further along its run."""
    out = np.empty(len(rows))
    some = np.empty(window)
    for i in range(len(rows)):
        at, n = rows[i], 0
        while at >= 0 and n < window:
            some[n] = values[at]
            n += 1
            at = neighbour[at]
        out[i] = small_median(some, n)
    return out


@njit(cache=True, nogil=True)
def along_rise(values: np.ndarray, previous: np.ndarray, window: int, history: int, least: int) -> np.ndarray:
    """Largest of the last ``window`` values less the median of ``history``; NaN with fewer than ``least``."""
    out = np.full(len(values), np.nan)
    some = np.empty(history)
    for i in range(len(values)):
        at, n = i, 0
        while at >= 0 and n < history:
            some[n] = values[at]
            n += 1
            at = previous[at]
        if n >= least:
            top = some[: min(n, window)].max()
            out[i] = top - small_median(some, n)
    return out
