"""The tracker ``lap``: frame-to-frame linear assignment, gap closing and divisions, in micrometres and
hours."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_imaging.track.config import LapConfig
from hyped_imaging.track.divisions import Division, division_candidates, may_divide
from hyped_imaging.track.kernels import greedy_divisions, track_positions
from hyped_imaging.track.links import Deadline, Objects, close_gaps, link_frames
from hyped_imaging.track.objects import canonical_order, check_objects, with_tracks

if TYPE_CHECKING:
    import pandas as pd

    from hyped_core.context import RunContext

IntArray = npt.NDArray[np.int64]
LOG = logging.getLogger(__name__)


class LapTracker:
    """Links nuclei by distance within reach, likeness in area and intensity; finds gaps and divisions.

    Deterministic, independent of the order of rows, and every object ends in a track or, where
    ``min_frames`` asks for it, is left with ``track_id`` 0 and a reason.
    """

    def __init__(self, config: LapConfig | None = None) -> None:
        self.config = config or LapConfig()

    def track(self, objects: pd.DataFrame, labels: npt.NDArray | None = None, *, context: RunContext) -> pd.DataFrame:
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
        deadline = Deadline(self.config.time_limit_s)
        following, divisions, reached = solve(table, self.config, deadline)
        track, parent = number_tracks(table, following, divisions)
        track, parent = drop_short(track, parent, self.config.min_frames)
        reason = np.full(len(track), "", dtype=object)
        reason[track == 0] = f"track shorter than {self.config.min_frames} frames"
        if deadline.passed():
            late = table.step >= reached
            track[late] = parent[late] = 0
            reason[late] = f"the time limit of {self.config.time_limit_s:g} s passed before this frame"
            LOG.warning(
                "lap: the time limit of %g s passed; %d of %d frames are linked, gaps and divisions may be missing",
                self.config.time_limit_s, reached, table.n_steps,
            )  # fmt: skip
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return with_tracks(objects, track[back], parent[back], reason[back])


def as_objects(table: pd.DataFrame, config: LapConfig) -> Objects:
    """Plain arrays of a table sorted by frame and label."""
    frame = table["frame"].to_numpy().astype(np.int64)
    time = table["time_h"].to_numpy().astype(np.float64)
    places = np.column_stack([table["y_um"], table["x_um"]]).astype(np.float64).reshape(len(frame), 2)
    if len(frame):  # where the origin lies does not matter, not even to the last digit, which would break ties
        places = np.round(places - places.min(axis=0), 6)
    frames, first, step = np.unique(frame, return_index=True, return_inverse=True)
    return Objects(
        step=step.astype(np.int64),
        frame=frame,
        time=time,
        xy=places,
        size=_log(table, "area_um2"),
        light=_log(with_integrated(table, config.intensity), f"integrated_{config.intensity}"),
        times=time[first] if len(frames) else np.empty(0),
        reporters=np.column_stack([_level(table, f"mean_{name}") for name in config.reporters])
        if config.reporters
        else np.zeros((len(frame), 0)),
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


def _level(table: pd.DataFrame, column: str) -> npt.NDArray[np.float64]:
    """asinh of a column over a tenth of its 95th percentile: about linear where dark, about ln where bright."""
    if column not in table.columns or len(table) == 0:
        return np.zeros(len(table))
    values = np.nan_to_num(table[column].to_numpy().astype(np.float64))
    bright = float(np.percentile(values, 95))
    return np.arcsinh(values / (bright / 10)) if bright > 0 else np.zeros(len(table))


def solve(objects: Objects, config: LapConfig, deadline: Deadline) -> tuple[IntArray, list[Division], int]:
    """Successor of each object (-1: none) after gap closing, the divisions, and the number of steps reached.

    Linked twice: what the first links tell of mothers about to divide keeps their daughters free in the
    second.
    """
    following, reached = link_frames(objects, config, deadline)
    divisions: list[Division] = []
    if config.divisions and not deadline.passed():
        dividing = may_divide(objects, following, config)
        if dividing.any():
            again, reached_again = link_frames(objects, config, deadline, dividing)
            following = again if reached_again == objects.n_steps else following
        divisions = choose_divisions(objects, following, config, deadline)
    if deadline.passed():
        return following, divisions, reached
    taken_start = np.zeros(len(following), dtype=bool)
    taken_end = np.zeros(len(following), dtype=bool)
    for division in divisions:
        taken_start[[division.first, division.second]] = True
        taken_end[division.mother] = True
    ends = np.flatnonzero((following < 0) & ~taken_end)
    starts = np.flatnonzero(~_has_previous(following) & ~taken_start)
    close_gaps(objects, following, ends, starts, config, deadline)
    return following, divisions, reached


def _has_previous(following: IntArray) -> npt.NDArray[np.bool_]:
    found = np.zeros(len(following), dtype=bool)
    found[following[following >= 0]] = True
    return found


def choose_divisions(objects: Objects, following: IntArray, config: LapConfig, deadline: Deadline) -> list[Division]:
    """Candidates taken greedily, cheapest first, as far as they agree with one another.

    A start is used once, a mother divides once, daughters last ``min_daughter_frames`` (or to the movie's
    end), and two divisions of one lineage lie ``min_cycle_h`` apart.
    """
    start_of, ahead = track_positions(following)
    mother, first, second, cost = division_candidates(objects, following, starts_of(following), config, deadline)
    lasting = (ahead >= config.min_daughter_frames) | (objects.step + ahead > objects.n_steps - 1)
    taken = greedy_divisions(mother, first, second, objects.time, start_of, lasting, config.min_cycle_h)
    parts = (part[taken].tolist() for part in (mother, first, second, cost))
    return [Division(*values) for values in zip(*parts, strict=True)]


def starts_of(following: IntArray) -> IntArray:
    """Objects that no object leads to."""
    return np.flatnonzero(~_has_previous(following)).astype(np.int64)


def number_tracks(objects: Objects, following: IntArray, divisions: list[Division]) -> tuple[IntArray, IntArray]:
    """Track and parent of each object; tracks are numbered from 1 by first frame and label."""
    following = following.copy()
    for division in divisions:
        following[division.mother] = -1
    start, _ = track_positions(following)
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
