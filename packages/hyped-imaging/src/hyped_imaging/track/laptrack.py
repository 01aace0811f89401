"""The tracker ``laptrack``: the package of that name behind HYPED's contract, to compare with.

Distances are micrometres. laptrack knows frames, not hours: a gap in time is one step to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import Field

from hyped_core.errors import MissingDependencyError
from hyped_core.params import Params
from hyped_imaging.track.objects import canonical_order, check_objects, with_tracks

if TYPE_CHECKING:
    import pandas as pd

    from hyped_core.context import RunContext

IntArray = npt.NDArray[np.int64]


class LaptrackConfig(Params):
    """laptrack's cutoffs as distances; its costs are squared distances, its other settings its own."""

    max_link_um: float = Field(18.0, gt=0)
    """Farthest a nucleus goes between two frames."""
    max_gap_um: float = Field(18.0, ge=0)
    """Farthest apart the ends of two tracks to be joined may lie; 0 joins none."""
    max_gap_frames: int = Field(3, ge=1)
    """Frames from the last object before a gap to the first after it."""
    max_split_um: float = Field(20.0, ge=0)
    """Farthest a new track may begin from the nucleus it splits off; 0 finds no divisions."""


class LaptrackTracker:
    """laptrack behind HYPED's contract. It assigns every object, lone ones to tracks of their own."""

    def __init__(self, config: LaptrackConfig | None = None) -> None:
        self.config = config or LaptrackConfig()

    def track(self, objects: pd.DataFrame, labels: npt.NDArray | None = None, *, context: RunContext) -> pd.DataFrame:
        """``objects`` with ``track_id``, ``parent_id`` and ``unassigned_reason``; rows in the given order.

        Raises
        ------
        MissingDependencyError
            laptrack is not installed.
        ValidationError
            The table cannot be tracked.
        """
        check_objects(objects)
        order = canonical_order(objects)
        table = objects.iloc[order]
        earlier, later = run(table, self.config) if len(table) else (np.empty(0, np.int64),) * 2
        track, parent = number_edges(len(table), earlier, later)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return with_tracks(objects, track[back], parent[back], np.full(len(table), "", dtype=object))


def run(table: pd.DataFrame, config: LaptrackConfig) -> tuple[IntArray, IntArray]:
    """Rows (before, after) of the links that laptrack makes in a table sorted by frame and label."""
    try:
        from laptrack import LapTrack
    except ImportError as error:
        raise MissingDependencyError(
            f"cannot be imported: {error}", where="laptrack", mend="pip install 'hyped-imaging[laptrack]'"
        ) from error

    places = table[["y_um", "x_um"]].to_numpy(dtype=np.float64)
    bounds = np.flatnonzero(np.diff(table["frame"].to_numpy())) + 1
    first = np.concatenate([[0], bounds])
    made = LapTrack(
        cutoff=config.max_link_um**2,
        gap_closing_cutoff=config.max_gap_um**2 or False,
        gap_closing_max_frame_count=config.max_gap_frames,
        splitting_cutoff=config.max_split_um**2 or False,
    ).predict(np.split(places, bounds))
    pairs = np.array([(first[a] + i, first[b] + j) for (a, i), (b, j) in made.edges], np.int64).reshape(-1, 2)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return pairs[:, 0], pairs[:, 1]


def number_edges(n: int, earlier: IntArray, later: IntArray) -> tuple[IntArray, IntArray]:
    """Track and parent of each of ``n`` rows from the links between them; each row follows one at most.

    A row that two others follow is where its track ends and theirs begin. Tracks are numbered from 1 by
    their first row.
    """
    goes_on = np.bincount(earlier, minlength=n)[earlier] == 1
    track = np.zeros(n, np.int64)
    parent = np.zeros(n, np.int64)
    previous = np.full(n, -1, np.int64)
    previous[later] = earlier
    divides = np.zeros(n, dtype=bool)
    divides[earlier[~goes_on]] = True
    count = 0
    for row in range(n):  # what a row follows comes before it
        before = previous[row]
        if before >= 0 and not divides[before]:
            track[row], parent[row] = track[before], parent[before]
        else:
            count += 1
            track[row], parent[row] = count, track[before] if before >= 0 else 0
    return track, parent
