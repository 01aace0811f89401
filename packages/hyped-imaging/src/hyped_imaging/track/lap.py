"""The tracker ``lap``: frame-to-frame linear assignment, gap closing and divisions, in micrometres and
hours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_imaging.track.assignment import assign
from hyped_imaging.track.config import LapConfig
from hyped_imaging.track.divisions import Division, division_candidates
from hyped_imaging.track.links import Objects, gap_candidates, link_frames
from hyped_imaging.track.objects import canonical_order, check_objects, with_tracks

if TYPE_CHECKING:
    import pandas as pd

    from hyped_core.context import RunContext

IntArray = npt.NDArray[np.int64]


class LapTracker:
    """Links nuclei by distance within reach, likeness in area and intensity; finds gaps and divisions.

    Deterministic, independent of the order of rows, and every object ends in a track or, where
    ``min_frames`` asks for it, is left with ``track_id`` 0 and a reason.
    """

    def __init__(self, config: LapConfig | None = None) -> None:
        self.config = config or LapConfig()

    def track(
        self, objects: pd.DataFrame, labels: npt.NDArray | None = None, *, context: RunContext
    ) -> pd.DataFrame:
        """``objects`` with ``track_id``, ``parent_id`` and ``unassigned_reason``; rows in the given order.

        Columns read: ``frame, time_h, y_um, x_um, label`` and, where there, ``area_um2`` and
        ``integrated_<intensity>`` (else ``mean_<intensity>`` times area). ``labels`` are not used.

        Raises
        ------
        ValidationError
            NaN positions, times that do not rise with frames, labels used twice: see `check_objects`.
        """
        check_objects(objects)
        order = canonical_order(objects)
        table = as_objects(objects.iloc[order], self.config)
        following, divisions = solve(table, self.config)
        track, parent = number_tracks(table, following, divisions)
        track, parent = drop_short(track, parent, self.config.min_frames)
        reason = np.full(len(track), "", dtype=object)
        reason[track == 0] = f"track shorter than {self.config.min_frames} frames"
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return with_tracks(objects, track[back], parent[back], reason[back])


def as_objects(table: pd.DataFrame, config: LapConfig) -> Objects:
    """Plain arrays of a table sorted by frame and label."""
    frame = table["frame"].to_numpy().astype(np.int64)
    time = table["time_h"].to_numpy().astype(np.float64)
    frames, first, step = np.unique(frame, return_index=True, return_inverse=True)
    return Objects(
        step=step.astype(np.int64),
        frame=frame,
        time=time,
        xy=np.column_stack([table["y_um"], table["x_um"]]).astype(np.float64).reshape(len(frame), 2),
        size=_log(table, "area_um2"),
        light=_log(with_integrated(table, config.intensity), f"integrated_{config.intensity}"),
        times=time[first] if len(frames) else np.empty(0),
    )


def with_integrated(table: pd.DataFrame, channel: str | None) -> pd.DataFrame:
    """The table with ``integrated_<channel>``, from mean and area where only these are there."""
    column, mean = f"integrated_{channel}", f"mean_{channel}"
    if column in table.columns or mean not in table.columns or "area_um2" not in table.columns:
        return table
    return table.assign(**{column: table[mean] * table["area_um2"]})


def _log(table: pd.DataFrame, column: str) -> npt.NDArray[np.float64]:
    """ln of a column, its lowest values lifted to a hundredth of the median; zeros where it is not there."""
    if column not in table.columns or len(table) == 0:
        return np.zeros(len(table))
    values = table[column].to_numpy().astype(np.float64)
    good = values[np.isfinite(values) & (values > 0)]
    if good.size == 0:
        return np.zeros(len(table))
    return np.log(np.clip(np.nan_to_num(values, nan=0.0), 0.01 * np.median(good), None))


def solve(objects: Objects, config: LapConfig) -> tuple[IntArray, list[Division]]:
    """Successor of each object (-1: none) after gap closing, and the divisions."""
    following = link_frames(objects, config)
    divisions = choose_divisions(objects, following, config) if config.divisions else []
    taken_start = np.zeros(len(following), dtype=bool)
    taken_end = np.zeros(len(following), dtype=bool)
    for division in divisions:
        taken_start[[division.first, division.second]] = True
        taken_end[division.mother] = True
    ends = np.flatnonzero((following < 0) & ~taken_end)
    starts = np.flatnonzero(~_has_previous(following) & ~taken_start)
    a, b, cost = gap_candidates(objects, ends, starts, config)
    made_a, made_b = assign(a, b, cost, config.unlinked_cost, (len(ends), len(starts)))
    following[ends[made_a]] = starts[made_b]
    return following, divisions


def _has_previous(following: IntArray) -> npt.NDArray[np.bool_]:
    found = np.zeros(len(following), dtype=bool)
    found[following[following >= 0]] = True
    return found


def run_lengths(following: IntArray, before: bool) -> IntArray:
    """Objects of the tracklet from each object on (or up to it), itself included."""
    n = len(following)
    length = np.ones(n, np.int64)
    order = range(n) if before else range(n - 1, -1, -1)
    for i in order:  # successors always come later in the table
        j = following[i]
        if j >= 0:
            if before:
                length[j] = length[i] + 1
            else:
                length[i] = length[j] + 1
    return length


def choose_divisions(objects: Objects, following: IntArray, config: LapConfig) -> list[Division]:
    """Candidates taken greedily, cheapest first, as far as they agree with one another.

    A start is used once, a mother divides once, daughters last ``min_daughter_frames`` (or to the movie's
    end), and two divisions of one lineage lie ``min_cycle_h`` apart.
    """
    start_of = tracklet_starts(following)
    ahead = run_lengths(following, before=False)
    last = objects.n_steps - 1
    used: set[int] = set()
    moments: dict[int, list[float]] = {}
    chosen = []
    for division in division_candidates(objects, following, starts_of(following), config):
        mother, first, second = division.mother, division.first, division.second
        if used & {first, second} or -mother - 1 in used:
            continue
        if any(
            ahead[d] < config.min_daughter_frames and objects.step[d] + ahead[d] <= last
            for d in (first, second)
        ):
            continue
        time = float(objects.time[second])
        lineages = {int(start_of[mother]), int(start_of[first]), int(start_of[second])}
        if any(
            abs(time - other) < config.min_cycle_h for line in lineages for other in moments.get(line, ())
        ):
            continue
        used |= {first, second, -mother - 1}
        for line in lineages:
            moments.setdefault(line, []).append(time)
        chosen.append(division)
    return chosen


def starts_of(following: IntArray) -> IntArray:
    """Objects that no object leads to."""
    return np.flatnonzero(~_has_previous(following)).astype(np.int64)


def tracklet_starts(following: IntArray) -> IntArray:
    """First object of each object's tracklet."""
    start = np.arange(len(following))
    for i in range(len(following)):
        j = following[i]
        if j >= 0:
            start[j] = start[i]
    return start


def number_tracks(
    objects: Objects, following: IntArray, divisions: list[Division]
) -> tuple[IntArray, IntArray]:
    """Track and parent of each object; tracks are numbered from 1 by first frame and label."""
    following = following.copy()
    for division in divisions:
        following[division.mother] = -1
    start = tracklet_starts(following)
    first, track = np.unique(start, return_inverse=True)  # rows are sorted by frame and label
    track = track.astype(np.int64) + 1
    parent_of = np.zeros(len(first) + 1, np.int64)
    for division in divisions:
        for daughter in (division.first, division.second):
            parent_of[track[daughter]] = track[division.mother]
    return track, parent_of[track]


def drop_short(track: IntArray, parent: IntArray, min_frames: int) -> tuple[IntArray, IntArray]:
    """Set tracks below ``min_frames`` objects that have neither parent nor daughters to 0."""
    if track.size == 0:
        return track, parent
    count = np.bincount(track)
    family = np.zeros(len(count), dtype=bool)
    family[track[parent > 0]] = True
    family[parent[parent > 0]] = True
    short = (count < min_frames) & ~family
    kept = np.where(short[track], 0, track)
    numbers = np.unique(kept[kept > 0])
    renumber = np.zeros(len(count), np.int64)
    renumber[numbers] = np.arange(1, len(numbers) + 1)
    return renumber[kept], np.where(kept > 0, renumber[parent], 0)
