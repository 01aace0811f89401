"""Frame-to-frame links and gap closing: candidates within reach, and what each would cost."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hyped_imaging.track.assignment import assign
from hyped_imaging.track.config import LapConfig
from hyped_imaging.track.kernels import link_step, near_pairs

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

NEIGHBOURS = 12
"""Candidates kept for each object, nearest first."""


SECOND = 0.4
"""What a suspected mother pays who takes no second daughter: half of what it costs others to take nothing, so
that a doubtful one takes none from a bystander."""


class Deadline:
    """When to stop: ``seconds`` from now, never where None."""

    def __init__(self, seconds: float | None) -> None:
        self.end = np.inf if seconds is None else time.monotonic() + seconds

    def passed(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self.end


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
    reporters : (n, channels) levels whose change costs, on a scale on which their noise is about even.
    """

    step: IntArray
    frame: IntArray
    time: FloatArray
    xy: FloatArray
    size: FloatArray
    light: FloatArray
    times: FloatArray
    reporters: FloatArray
    bounds: IntArray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bounds", np.searchsorted(self.step, np.arange(self.n_steps + 1)))

    @property
    def n_steps(self) -> int:
        """Number of frames that hold objects."""
        return len(self.times)

    def rows(self, step: int) -> slice:
        """Rows of a step."""
        return slice(int(self.bounds[step]), int(self.bounds[step + 1]))

    def features(self, config: LapConfig) -> FloatArray:
        """(n, f) what tells objects apart besides their place, weighted: a difference is a cost."""
        return np.ascontiguousarray(
            np.column_stack(
                [
                    config.area_weight * self.size,
                    config.intensity_weight * self.light,
                    config.reporter_weight * self.reporters,
                ]
            )
        )

    def edge_distance(self) -> FloatArray:
        """Micrometres from each object to the nearest side of the rectangle that holds all objects."""
        if len(self.xy) == 0:
            return np.empty(0)
        sides = [np.minimum(at - at.min(), at.max() - at) for at in np.ascontiguousarray(self.xy.T)]
        return np.minimum(sides[0], sides[1])


def near(source: FloatArray, target: FloatArray, reach: float) -> tuple[IntArray, IntArray, FloatArray]:
    """Pairs (row of source, row of target, distance) within ``reach``, nearest first a source."""
    start, found, squared = near_pairs(source, target, reach, NEIGHBOURS)
    return np.repeat(np.arange(len(source)), np.diff(start)), found, np.sqrt(squared)


def alone_costs(objects: Objects, config: LapConfig) -> tuple[FloatArray, FloatArray]:
    """What the beginning and the end of a track at each object cost, less near the edge of the field."""
    share = np.where(objects.edge_distance() < config.edge_um, config.edge_share, 1.0)
    return config.appearance_cost * share, config.disappearance_cost * share


def link_frames(
    objects: Objects, config: LapConfig, deadline: Deadline, dividing: BoolArray | None = None
) -> tuple[IntArray, int]:
    """Successor of each object in the next frame (-1 where there is none), and the number of steps reached.

    The cost of a link is (distance from the expected place / gate)^2 plus the weighted changes of area,
    intensity and reporters; the gate is `LapConfig.reach_um` of the hours between the two frames, so a gap
    in time widens it. An object that may be ``dividing`` may take a second object, which then is nobody
    else's successor and begins a track: so a daughter is not taken by a bystander.
    """
    n = len(objects.step)
    following = np.full(n, -1, np.int64)
    velocity = np.zeros((n, 2))
    features = objects.features(config)
    halved = np.zeros(features.shape[1])
    halved[1] = -np.log(2) * config.intensity_weight
    appears, disappears = alone_costs(objects, config)
    dividing = np.zeros(n, dtype=bool) if dividing is None else dividing
    for step in range(objects.n_steps - 1):
        if deadline.passed():
            return following, step + 1
        here, there = objects.rows(step), objects.rows(step + 1)
        hours = objects.times[step + 1] - objects.times[step]
        coasting = min(hours, config.persistence_h) * config.velocity_memory
        expected = objects.xy[here] + velocity[here] * coasting
        may = dividing[here]
        owner = np.concatenate([np.arange(len(may)), np.flatnonzero(may)])
        # daughters fly apart, whatever way their mother went
        places = np.concatenate([expected, objects.xy[here][may]])
        alone = np.concatenate([disappears[here], np.full(int(may.sum()), SECOND)])
        taken = link_step(
            places, owner, may, objects.xy[there], features[here], features[there], halved,
            float(config.reach_um(hours)), NEIGHBOURS, alone, appears[there],
        )  # fmt: skip
        main, second = taken[: len(may)].copy(), np.full(len(may), -1, np.int64)
        second[owner[len(may) :]] = taken[len(may) :]
        only = (main < 0) & (second >= 0)
        main[only] = second[only]
        a = np.flatnonzero(main >= 0)
        b = main[a] + there.start
        following[a + here.start] = b
        velocity[b] = (objects.xy[b] - objects.xy[a + here.start]) / hours
    return following, objects.n_steps


def gap_candidates(
    objects: Objects, ends: IntArray, starts: IntArray, config: LapConfig, deadline: Deadline
) -> tuple[IntArray, IntArray, FloatArray]:
    """(index into ends, index into starts, cost) of tracks that may continue, missed frames between or none."""
    found: list[tuple[IntArray, IntArray, FloatArray]] = []
    features = objects.features(config)
    last = objects.n_steps - 1
    end_bounds = np.searchsorted(objects.step[ends], np.arange(last + 2))
    start_bounds = np.searchsorted(objects.step[starts], np.arange(last + 2))
    for step in range(last):
        rows = np.arange(end_bounds[step], end_bounds[step + 1])
        if len(rows) == 0:
            continue
        if deadline.passed():
            break
        for later in range(step + 1, last + 1):
            hours = objects.times[later] - objects.times[step]
            missed = later - step - 1
            if missed > 1 and hours > config.max_gap_h:
                break
            columns = np.arange(start_bounds[later], start_bounds[later + 1])
            if len(columns) == 0:
                continue
            reach = float(config.reach_um(hours))
            a, b, distance = near(objects.xy[ends[rows]], objects.xy[starts[columns]], reach)
            a, b = rows[a], columns[b]
            change = np.abs(features[ends[a]] - features[starts[b]]).sum(axis=1)
            found.append((a, b, (distance / reach) ** 2 + change + config.gap_penalty * missed))
    if not found:
        empty = np.empty(0, np.int64)
        return empty, empty, np.empty(0)
    a, b, cost = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return a, b, cost


def close_gaps(objects: Objects, following: IntArray, ends: IntArray, starts: IntArray, config: LapConfig,
               deadline: Deadline) -> None:  # fmt: skip
    """Let tracks that end go on in tracks that start, where that costs least; ``following`` is changed."""
    a, b, cost = gap_candidates(objects, ends, starts, config, deadline)
    appears, disappears = alone_costs(objects, config)
    made_a, made_b = assign(a, b, cost, disappears[ends], appears[starts], (len(ends), len(starts)))
    following[ends[made_a]] = starts[made_b]
