"""Tracking control: nearest neighbours from frame to frame, no divisions, no gaps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from hyped_core.context import RunContext
from hyped_core.errors import InvalidDataError
from hyped_core.params import Params


class NearestConfig(Params):
    """How far a nucleus may go."""

    max_distance_um: float = Field(20.0, gt=0)
    """Longest link between consecutive frames."""


class NearestTracker:
    """Links pairs that are each other's nearest, shortest first within the limit."""

    def __init__(self, config: NearestConfig | None = None) -> None:
        self.config = config or NearestConfig()

    def track(
        self, objects: pd.DataFrame, labels: npt.NDArray | None = None, *, context: RunContext
    ) -> pd.DataFrame:
        """``objects`` with ``track_id`` from 1 up and ``parent_id`` 0; `InvalidDataError` for a place that is none."""
        from scipy.spatial import cKDTree

        frame = objects["frame"].to_numpy()
        place = objects[["y_um", "x_um"]].to_numpy(dtype=float)
        if not np.isfinite(place).all():
            bad = int((~np.isfinite(place)).any(axis=1).sum())
            raise InvalidDataError(f"{bad} objects have no finite place", where="y_um, x_um", mend="leave them out")
        track = np.zeros(len(objects), dtype=np.int64)
        count = 0
        before = np.zeros(0, dtype=np.intp)
        last = None
        for now in np.unique(frame):
            rows = np.flatnonzero(frame == now)
            if last is not None and now == last + 1 and len(before) and len(rows):
                forward = cKDTree(place[rows]).query(
                    place[before], distance_upper_bound=self.config.max_distance_um
                )
                backward = cKDTree(place[before]).query(place[rows])[1]
                found = np.isfinite(forward[0])
                mutual = np.flatnonzero(found)[backward[forward[1][found]] == np.flatnonzero(found)]
                track[rows[forward[1][mutual]]] = track[before[mutual]]
            fresh = rows[track[rows] == 0]
            track[fresh] = np.arange(count + 1, count + 1 + len(fresh))
            count += len(fresh)
            before, last = rows, now
        return objects.assign(track_id=track, parent_id=np.zeros(len(objects), dtype=np.int64))
