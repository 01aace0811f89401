"""The order of phases along tracks: calls that go against the cycle for a frame or two are mended."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from hyped_imaging.phases.traces import FloatArray, IntArray

ORDER = ("dark", "G1", "G1S", "S_G2M", "M")
"""Phases of the ``fucci`` system from one division to the next."""
SKIPPED = 0.3
"""What leaving out G1S, which is shorter than a few frames, costs: a share of a frame."""
DIVISION = 0.84
"""What a division within a track costs: this share of ``backward``, so that it takes dark frames to believe in
one, and none is made up to explain a step from S/G2/M to G1."""


def mend(
    phase: npt.NDArray[np.object_], track: IntArray, time: FloatArray, max_gap_h: float, backward: float
) -> npt.NDArray[np.object_]:
    """The sequence of phases nearest to the calls in which every step is one that the cycle allows.

    The nearest is the one of least cost: one for each frame that is called otherwise, ``backward`` for each
    step that the cycle forbids (a swap of two tracks, say, is one), nothing for steps over more than
    ``max_gap_h`` hours. By dynamic programming (Viterbi) in each track; rows are sorted by track and time.
    """
    names = np.array(ORDER, dtype=object)
    state = np.full(len(phase), -1, np.int64)
    for i, name in enumerate(ORDER):
        state[phase == name] = i
    out = _nearest(state, track, time, max_gap_h, _costs(backward))
    return np.where(out >= 0, names[out], phase)


def _costs(backward: float) -> FloatArray:
    """(5, 5) cost of the step from a phase (row) to another (column)."""
    dark, g1, g1s, sg2m, m = range(5)
    cost = np.full((5, 5), backward)
    np.fill_diagonal(cost, 0.0)
    for before, after in ((dark, g1), (g1, g1s), (g1s, sg2m), (sg2m, m)):
        cost[before, after] = 0.0
    cost[g1, sg2m] = SKIPPED
    cost[[sg2m, m], dark] = DIVISION * backward
    return cost


@njit(cache=True, nogil=True)
def _nearest(
    state: IntArray, track: IntArray, time: FloatArray, max_gap_h: float, step: FloatArray
) -> IntArray:
    """State of each row on the cheapest path of its track; rows of state -1 stay so and carry no cost."""
    n = state.size
    out = np.full(n, -1, np.int64)
    came = np.zeros((n, 5), np.int64)
    cost = np.zeros(5)
    fresh = np.zeros(5)
    start = 0
    for i in range(n):
        begins = i == 0 or track[i] != track[i - 1]
        free = not begins and time[i] - time[i - 1] > max_gap_h
        for after in range(5):
            best, origin = np.inf, after
            if begins:
                best = 0.0
            else:
                for shift in range(5):
                    before = (after + shift) % 5
                    price = cost[before] + (0.0 if free else step[before, after])
                    if price < best:
                        best, origin = price, before
            came[i, after] = origin
            fresh[after] = best + (1.0 if state[i] >= 0 and state[i] != after else 0.0)
        cost[:] = fresh
        if begins:
            start = i
        if i == n - 1 or track[i + 1] != track[i]:
            at = int(np.argmin(cost))
            for j in range(i, start - 1, -1):
                out[j] = at if state[j] >= 0 else -1
                at = came[j, at]
    return out
