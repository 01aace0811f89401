"""The tracker ``btrack`` (the paper's): Bayesian belief matrix, Kalman motion, tracks joined by an integer
program.

Positions are handed over as x, y in units of ``unit_um``, so axes cannot be swapped by the caller. btrack
knows
frames, not hours: a gap in time is one step to it.
"""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from hyped_core.params import Params
from hyped_imaging.track.objects import canonical_order, check_objects, with_tracks

if TYPE_CHECKING:
    import pandas as pd

    from hyped_core.context import RunContext

SPREAD, PROCESS = 150.0, 30.0
"""Scale of the Kalman model: initial spread of velocity and process noise, in units."""

Rows = list[tuple[int, int, list[int]]]
"""Tracks as (id, parent id, rows of the objects)."""


class BtrackConfig(Params):
    """btrack's motion and hypothesis models, in micrometres where btrack has its own units."""

    unit_um: float = Field(0.5, gt=0)
    """Micrometres in one unit of btrack's models, which are made for pixels of about this size."""
    max_search_um: float = Field(30.0, gt=0)
    """Farthest a nucleus goes between two frames."""
    accuracy: float = Field(7.5, ge=0.1, le=10)
    """Width, in standard deviations, of the integral over the predicted position."""
    measurement_noise: float = Field(40.0, gt=0)
    """Variance of a position, in units squared. Nuclei turn from frame to frame, so one position counts for
    less than btrack's own 5 lets it; where nuclei move smoothly, 5 is right."""
    max_lost: int = Field(5, ge=0, le=10)
    """Frames a track may coast without an object."""
    prob_not_assign: float = Field(0.001, gt=0, le=1)
    """Probability that a track has no object in a frame."""
    update: Literal["exact", "approximate"] = "approximate"
    """``exact`` compares everything with everything: below 1,000 objects a frame."""
    optimise: bool = True
    """Join tracks and find divisions by the global integer program."""
    optimizer_timeout: float = Field(30.0, gt=0)
    """Seconds the integer program may take; beyond, the tracks before it are the answer."""
    dist_thresh_um: float = Field(20.0, gt=0)
    """Farthest apart two tracks to be joined or a division's daughters may lie."""
    time_thresh: float = Field(3.0, gt=0)
    """Frames apart two tracks to be joined may lie."""
    segmentation_miss_rate: float = Field(0.1, gt=0, lt=1)
    """Share of nuclei that the segmentation misses."""
    lambda_dist: float = Field(3.0, gt=0)
    """Scale of the distance to the border in the probability of an entry or exit."""
    lambda_time: float = Field(5.0, gt=0)
    """Scale of the time to the movie's ends in the probability of an entry or exit."""
    lambda_link: float = Field(10.0, gt=0)
    """Scale of distance in the probability of joining two tracks."""
    lambda_branch: float = Field(50.0, gt=0)
    """Scale of distance in the probability of a division."""


class BtrackTracker:
    """btrack 0.7 behind HYPED's contract. Objects it leaves out of every track are reported, not lost."""

    def __init__(self, config: BtrackConfig | None = None) -> None:
        self.config = config or BtrackConfig()

    def track(
        self, objects: pd.DataFrame, labels: npt.NDArray | None = None, *, context: RunContext
    ) -> pd.DataFrame:
        """``objects`` with ``track_id``, ``parent_id`` and ``unassigned_reason``; rows in the given order.

        Raises
        ------
        MissingDependencyError
            btrack or its compiled library is missing; the message has the command that mends it.
        ValidationError
            The table cannot be tracked.
        """
        from hyped_imaging.track.build_btrack import require_btrack

        require_btrack()
        check_objects(objects)
        order = canonical_order(objects)
        table = objects.iloc[order]
        tracks = run(table, self.config) if len(table) else []
        track, parent = number(tracks, table)
        reason = np.full(len(table), "", dtype=object)
        reason[track == 0] = "in no track of btrack's solution"
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return with_tracks(objects, track[back], parent[back], reason[back])


def configuration(config: BtrackConfig) -> dict[str, Any]:
    """btrack's own configuration: constant velocity in three dimensions, and the hypotheses to weigh."""
    spread, process, measurement = SPREAD, PROCESS, config.measurement_noise
    transition = np.eye(6)
    transition[:3, 3:] = np.eye(3)
    gain = np.concatenate([np.full(3, 0.5), np.ones(3)]) * process
    motion = {
        "name": "constant_velocity",
        "measurements": 3,
        "states": 6,
        "dt": 1.0,
        "accuracy": config.accuracy,
        "max_lost": config.max_lost,
        "prob_not_assign": config.prob_not_assign,
        "A": transition,
        "H": np.eye(3, 6),
        "P": np.diag([0.1 * spread] * 3 + [spread] * 3),
        "Q": np.outer(gain, gain),
        "R": np.eye(3) * measurement,
    }
    unit = config.unit_um
    hypothesis = {
        "name": "nuclei",
        "hypotheses": ["P_FP", "P_init", "P_term", "P_link", "P_branch"],
        "lambda_time": config.lambda_time,
        "lambda_dist": config.lambda_dist,
        "lambda_link": config.lambda_link,
        "lambda_branch": config.lambda_branch,
        "eta": 1e-10,
        "theta_dist": config.dist_thresh_um / unit,
        "theta_time": 5.0,
        "dist_thresh": config.dist_thresh_um / unit,
        "time_thresh": config.time_thresh,
        "apop_thresh": 5,
        "segmentation_miss_rate": config.segmentation_miss_rate,
        "apoptosis_rate": 0.001,
        "relax": True,
    }
    return {
        "motion_model": motion,
        "hypothesis_model": hypothesis,
        "max_search_radius": config.max_search_um / unit,
    }


def run(table: pd.DataFrame, config: BtrackConfig) -> Rows:
    """btrack's tracks over a table sorted by frame and label."""
    import logging

    import btrack
    from btrack.constants import BayesianUpdates

    logging.getLogger("btrack").setLevel(logging.ERROR)  # it reports every step at level INFO
    steps = np.unique(table["frame"].to_numpy(), return_inverse=True)[1]
    x = table["x_um"].to_numpy(dtype=np.float64) / config.unit_um
    y = table["y_um"].to_numpy(dtype=np.float64) / config.unit_um
    found = [
        btrack.btypes.PyTrackObject.from_dict(
            {"ID": i, "t": int(steps[i]), "x": x[i], "y": y[i], "z": 0.0, "label": 5, "prob": 0.0}
        )
        for i in range(len(table))
    ]
    with btrack.BayesianTracker(verbose=False) as tracker:
        tracker.configure(configuration(config))
        tracker.update_method = getattr(BayesianUpdates, config.update.upper())
        margin = config.max_search_um / config.unit_um
        tracker.volume = ((x.min() - margin, x.max() + margin), (y.min() - margin, y.max() + margin))
        tracker.append(found)
        tracker.track(step_size=100)
        plain = rows_of(tracker)
        if not config.optimise:
            return plain
        return bounded_optimise(tracker, config.optimizer_timeout) or plain


def rows_of(tracker: Any) -> Rows:
    """A tracker's tracks as rows; objects that btrack invented to fill gaps are left out."""
    return [
        (int(track.ID), int(track.parent), [ref for ref in track.refs if ref >= 0])
        for track in tracker.tracks
    ]


def bounded_optimise(tracker: Any, seconds: float) -> Rows | None:
    """The tracks after the integer program, or None where it takes longer than ``seconds`` or fails.

    GLPK overruns its own limit, so it runs in a forked process that is ended at the limit; where processes
    cannot be forked (Windows) only GLPK's own limit holds.
    """
    options = {"tm_lim": int(seconds * 1000), "msg_lev": "GLP_MSG_OFF"}
    if "fork" not in multiprocessing.get_all_start_methods():
        tracker.optimise(options=options)
        return rows_of(tracker)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def work() -> None:
        tracker.optimise(options=options)
        sender.send(rows_of(tracker))
        sender.close()

    process = context.Process(target=work, daemon=True)
    process.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(seconds) else None
    except EOFError:
        return None
    finally:
        process.kill()
        process.join()
        receiver.close()


def number(tracks: Rows, table: pd.DataFrame) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Track and parent of each row; tracks numbered from 1 by their first row, an object in one track
    only."""
    n = len(table)
    track, parent = np.zeros(n, np.int64), np.zeros(n, np.int64)
    kept = sorted((rows[0], own, above, rows) for own, above, rows in tracks if rows)
    names = {own: position for position, (_, own, _, _) in enumerate(kept, start=1)}
    for position, (_, own, above, rows) in enumerate(kept, start=1):
        free = [row for row in rows if track[row] == 0]
        track[free] = position
        if above != own:
            parent[free] = names.get(above, 0)
    return track, parent
