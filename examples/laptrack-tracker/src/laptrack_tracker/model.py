"""The tracker and its config. Imported when the model runs; laptrack itself is imported when it tracks."""

import networkx as nx
import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from hyped_core import Params, RunContext
from hyped_core.errors import InvalidDataError
from laptrack_tracker.costs import division_cost, move_cost

NEEDED = ("frame", "time_h", "y_um", "x_um", "label", "area_um2")


class AreaTrackerConfig(Params):
    """Parameters of `AreaTracker`."""

    jitter_um: float = Field(8.0, gt=0)
    """How far a nucleus' centre may move however short the time."""
    speed_um_per_h: float = Field(30.0, ge=0)
    """How much farther it may move in an hour."""
    max_gap_h: float = Field(1.0, ge=0)
    """Hours from the last object before a gap to the first after it; 0 closes no gaps."""
    division_um: float = Field(20.0, ge=0)
    """How far from its mother a daughter may appear; 0 finds no divisions."""
    area_weight: float = Field(0.5, ge=0, lt=1)
    """Cost of an octave of area, as a share of what a join may cost; 0 leaves areas out."""


class AreaTracker:
    """Links nuclei by laptrack: frame to frame, over gaps, and daughters to mothers. Every nucleus gets a track."""

    def __init__(self, config: AreaTrackerConfig) -> None:
        self.config = config

    def track(
        self, objects: pd.DataFrame, labels: npt.NDArray | None = None, *, context: RunContext
    ) -> pd.DataFrame:
        """``objects``, rows as given, with ``track_id`` and ``parent_id`` (int64) and ``unassigned_reason`` ("").

        Raises
        ------
        InvalidDataError
            A column is missing, a value is NaN or infinite, or an area is not positive.
        """
        _check(objects)
        order = np.lexsort((objects["label"].to_numpy(), objects["frame"].to_numpy()))
        frames, starts = np.unique(objects["frame"].to_numpy()[order], return_index=True)
        points = np.column_stack(
            [
                objects["y_um"].to_numpy(float), objects["x_um"].to_numpy(float),
                np.log2(objects["area_um2"].to_numpy(float)), objects["time_h"].to_numpy(float),
            ]
        )[order]  # fmt: skip
        track = parent = np.zeros(len(objects), np.int64)
        for step in context.progress.track(("link", "number") if len(frames) else (), "laptrack"):
            if step == "link":
                graph = self._linked(np.split(points, starts[1:]), starts)
            else:
                track, parent = number_tracks(graph)
        back = np.argsort(order)
        return objects.assign(track_id=track[back], parent_id=parent[back], unassigned_reason="")

    def _linked(self, frames: list[npt.NDArray[np.float64]], starts: npt.NDArray[np.intp]) -> nx.DiGraph:
        """The graph of rows (0 to n - 1, in order of time): an edge from each object to what it becomes."""
        from laptrack import LapTrack

        config = self.config
        times = np.array([frame[0, 3] for frame in frames])
        within = np.searchsorted(times, times + config.max_gap_h + 1e-9, side="right") - np.arange(len(times)) - 1
        steps = int(within.max())
        found = LapTrack(
            metric=move_cost(config.jitter_um, config.speed_um_per_h, config.area_weight),
            cutoff=1.0,
            gap_closing_metric=move_cost(
                config.jitter_um, config.speed_um_per_h, config.area_weight, config.max_gap_h + 1e-9
            ),
            gap_closing_cutoff=1.0 if steps > 1 else False,
            gap_closing_max_frame_count=max(1, steps),
            splitting_metric=division_cost(config.division_um or 1.0, config.area_weight),
            splitting_cutoff=1.0 if config.division_um else False,
        ).predict(frames)
        graph = nx.DiGraph()
        graph.add_nodes_from(range(int(starts[-1]) + len(frames[-1])))
        graph.add_edges_from((int(starts[f] + i), int(starts[g] + j)) for (f, i), (g, j) in found.edges)
        return graph


def number_tracks(graph: nx.DiGraph) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Track and parent of each row, tracks numbered from 1 by their first row; a track ends where two follow it."""
    track = np.zeros(len(graph), np.int64)
    parent = np.zeros(len(graph), np.int64)
    count = 0
    for row in range(len(graph)):  # what comes before a row in time has a lower number
        before = next(iter(graph.predecessors(row)), None)
        if before is not None and graph.out_degree(before) == 1:
            track[row], parent[row] = track[before], parent[before]
        else:
            count += 1
            track[row] = count
            parent[row] = 0 if before is None else track[before]
    return track, parent


def _check(objects: pd.DataFrame) -> None:
    missing = [name for name in NEEDED if name not in objects.columns]
    if missing:
        raise InvalidDataError(
            f"the table of objects lacks {', '.join(missing)}", where="columns", mend=f"needed: {', '.join(NEEDED)}"
        )
    for name in NEEDED:
        if not np.isfinite(objects[name].to_numpy(dtype=float)).all():
            raise InvalidDataError("has values that are NaN or infinite", where=name, mend="drop or mend these rows")
    if (objects["area_um2"] <= 0).any():
        raise InvalidDataError("has values that are not positive", where="area_um2", mend="drop these objects")
