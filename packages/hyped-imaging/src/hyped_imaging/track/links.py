"""Frame-to-frame links and gap closing: candidates within reach, and what each would cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from hyped_imaging.track.assignment import assign
from hyped_imaging.track.config import LapConfig

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

NEIGHBOURS = 12
"""Candidates kept for each object, nearest first."""


@dataclass(frozen=True, slots=True)
class Objects:
    """Objects sorted by frame and label, as plain arrays.

    Attributes
    ----------
    step : index of the object's frame among the frames that hold objects, from 0.
    frame : frame number.
    time : hours of each object.
    xy : (n, 2) y and x in micrometres.
    size : ln(area), or zeros.
    light : ln(integrated intensity), or zeros.
    times : hours of each step.
    """

    step: IntArray
    frame: IntArray
    time: FloatArray
    xy: FloatArray
    size: FloatArray
    light: FloatArray
    times: FloatArray

    @property
    def n_steps(self) -> int:
        """Number of frames that hold objects."""
        return len(self.times)

    def slices(self) -> list[slice]:
        """Rows of each step."""
        bounds = np.searchsorted(self.step, np.arange(self.n_steps + 1))
        return [slice(int(a), int(b)) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]


def near(source: FloatArray, target: FloatArray, reach: float) -> tuple[IntArray, IntArray, FloatArray]:
    """Pairs (row of source, row of target, distance) within ``reach``, nearest first a source."""
    if len(source) == 0 or len(target) == 0:
        empty = np.empty(0, np.int64)
        return empty, empty, np.empty(0)
    k = min(NEIGHBOURS, len(target))
    distance, index = cKDTree(target).query(source, k=k, distance_upper_bound=reach)
    distance, index = distance.reshape(len(source), k), index.reshape(len(source), k)
    rows, slots = np.nonzero(np.isfinite(distance))
    return rows.astype(np.int64), index[rows, slots].astype(np.int64), distance[rows, slots]


def change_cost(objects: Objects, a: IntArray, b: IntArray, config: LapConfig) -> FloatArray:
    """What the change of area and intensity from objects ``a`` to objects ``b`` costs."""
    return config.area_weight * np.abs(objects.size[a] - objects.size[b]) + config.intensity_weight * np.abs(
        objects.light[a] - objects.light[b]
    )


def link_frames(objects: Objects, config: LapConfig) -> IntArray:
    """Successor of each object in the next frame, -1 where there is none.

    The cost of a link is (distance from the expected place / gate)^2 plus `change_cost`; the gate is
    `LapConfig.reach_um` of the hours between the two frames, so a gap in time widens it.
    """
    n = len(objects.step)
    following = np.full(n, -1, np.int64)
    velocity = np.zeros((n, 2))
    rows_of = objects.slices()
    for step in range(objects.n_steps - 1):
        here, there = rows_of[step], rows_of[step + 1]
        hours = objects.times[step + 1] - objects.times[step]
        reach = float(config.reach_um(hours))
        coasting = min(hours, config.persistence_h) * config.velocity_memory
        expected = objects.xy[here] + velocity[here] * coasting
        a, b, distance = near(expected, objects.xy[there], reach)
        cost = (distance / reach) ** 2 + change_cost(objects, a + here.start, b + there.start, config)
        made_a, made_b = assign(
            a, b, cost, config.unlinked_cost, (here.stop - here.start, there.stop - there.start)
        )
        made_a, made_b = made_a + here.start, made_b + there.start
        following[made_a] = made_b
        velocity[made_b] = (objects.xy[made_b] - objects.xy[made_a]) / hours
    return following


def gap_candidates(
    objects: Objects, ends: IntArray, starts: IntArray, config: LapConfig
) -> tuple[IntArray, IntArray, FloatArray]:
    """(index into ends, index into starts, cost) of tracks that may continue after missed frames."""
    found: list[tuple[IntArray, IntArray, FloatArray]] = []
    end_step, start_step = objects.step[ends], objects.step[starts]
    last = objects.n_steps - 1
    start_rows = [np.flatnonzero(start_step == step) for step in range(last + 1)]
    for step in np.unique(end_step):
        rows = np.flatnonzero(end_step == step)
        for later in range(int(step) + 2, last + 1):
            hours = objects.times[later] - objects.times[step]
            missed = later - int(step) - 1
            if missed > 1 and hours > config.max_gap_h:
                break
            columns = start_rows[later]
            reach = float(config.reach_um(hours))
            a, b, distance = near(objects.xy[ends[rows]], objects.xy[starts[columns]], reach)
            a, b = rows[a], columns[b]
            cost = (distance / reach) ** 2 + change_cost(objects, ends[a], starts[b], config)
            found.append((a, b, cost + config.gap_penalty * missed))
    if not found:
        empty = np.empty(0, np.int64)
        return empty, empty, np.empty(0)
    a, b, cost = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return a, b, cost
