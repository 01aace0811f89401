"""States of the ``fucci`` system from levels of the two reporters, and mitosis from shape and division."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_core.errors import DesignError, InvalidDataError
from hyped_imaging.phases.params import PhaseParams
from hyped_imaging.phases.traces import FloatArray, IntArray, normalise, smooth, track_median

if TYPE_CHECKING:
    import pandas as pd

    from hyped_core.design import Design

REQUIRED = ("frame", "time_h", "label", "track_id", "parent_id", "area_um2")
"""Columns that `call_phases` reads beside the channels'."""


def reporters(table: pd.DataFrame, design: Design) -> tuple[str, str] | None:
    """Channels that report (G1, S_G2M), or None where the design has no reporters.

    Raises
    ------
    DesignError
        The design names a reporter that the table lacks, or only one of the two.
    """
    names = design.reporter("G1"), design.reporter("S_G2M")
    if names == (None, None):
        return None
    there = sorted(c.removeprefix("mean_") for c in table.columns if str(c).startswith("mean_"))
    for phase, name in zip(("G1", "S_G2M"), names, strict=True):
        if name is None:
            raise DesignError(
                f"no channel reports {phase}", where="channels", mend="name one, or no reporter at all"
            )
        if f"mean_{name}" not in table.columns:
            raise DesignError(
                f"channel {name!r}, which reports {phase}, is not in the table",
                where="channels",
                mend=f"channels there: {', '.join(there) or 'none'}",
            )
    return names[0], names[1]  # type: ignore[return-value]


def call_phases(table: pd.DataFrame, design: Design, params: PhaseParams | None = None) -> pd.DataFrame:
    """The table with ``phase``, ``phase_per_frame``, ``g1_level`` and ``sg2m_level``; rows in the given
    order.

    Levels are shares of what bright nuclei of the movie show. Without reporters in the design ``phase`` is
    empty and the levels are NaN. Objects of no track, or of one below ``min_frames``, are called from their
    own frame alone: ``phase_per_frame`` is True.

    Raises
    ------
    InvalidDataError, DesignError
        A column or a reporter's channel is missing; NaN times or areas.
    """
    params = params or PhaseParams()
    missing = [name for name in REQUIRED if name not in table.columns]
    if missing:
        raise InvalidDataError(
            f"the table of tracks lacks {', '.join(missing)}",
            where="columns",
            mend="run `hyped imaging track` first",
        )
    for name in ("time_h", "area_um2"):
        if not np.isfinite(table[name].to_numpy(dtype=np.float64)).all():
            raise InvalidDataError("holds NaN or infinite values", where=name, mend="drop or mend these rows")
    out = table.copy()
    channels = reporters(table, design)
    if channels is None or len(table) == 0:
        out["phase"] = ""
        out["phase_per_frame"] = False
        out["g1_level"] = np.nan
        out["sg2m_level"] = np.nan
        return out
    order = np.lexsort((table["label"], table["frame"], table["track_id"]))
    rows = table.iloc[order]
    track = rows["track_id"].to_numpy(dtype=np.int64)
    time = rows["time_h"].to_numpy(dtype=np.float64)
    length = np.bincount(track)[track]
    alone = (track == 0) | (length < params.min_frames)
    own = np.where(track > 0, track, -1 - np.arange(len(track)))  # untracked objects are traces of one
    levels = []
    for name in channels:
        values = rows[f"mean_{name}"].to_numpy(dtype=np.float64)
        level = normalise(values, params.bright_quantile, params.min_signal)
        smoothed = smooth(level, own, time, params.window_h / 2)
        levels.append(np.where(alone, level, smoothed))
    nuclear = design.nuclear_channel()
    light = rows.get(f"mean_{nuclear}")
    mitotic = find_mitosis(
        track,
        rows["parent_id"].to_numpy(dtype=np.int64),
        time,
        rows["area_um2"].to_numpy(dtype=np.float64),
        None if light is None else light.to_numpy(dtype=np.float64),
        levels[0] >= params.on_share,
        levels[1] >= params.on_share,
        params,
    )
    phase = states(levels[0], levels[1], mitotic & ~alone, params.on_share)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    out["phase"] = phase[back]
    out["phase_per_frame"] = alone[back]
    out["g1_level"] = levels[0][back]
    out["sg2m_level"] = levels[1][back]
    return out


def states(
    g1: FloatArray, sg2m: FloatArray, mitotic: npt.NDArray[np.bool_], on: float
) -> npt.NDArray[np.object_]:
    """``M`` where mitotic, else G1, G1S, S_G2M or dark by which of the reporters is at ``on`` or above.

    >>> list(states(np.array([1, 1, 0, 0.0]), np.array([0, 1, 1, 0.0]), np.zeros(4, bool), 0.3))
    ['G1', 'G1S', 'S_G2M', 'dark']
    """
    a, b = g1 >= on, sg2m >= on
    return np.select([mitotic, a & b, a, b], ["M", "G1S", "G1", "S_G2M"], "dark").astype(object)


def find_mitosis(
    track: IntArray,
    parent: IntArray,
    time: FloatArray,
    area: FloatArray,
    light: FloatArray | None,
    g1_on: npt.NDArray[np.bool_],
    sg2m_on: npt.NDArray[np.bool_],
    params: PhaseParams,
) -> npt.NDArray[np.bool_]:
    """Objects that are condensed (smaller and brighter than their track), at the end of S/G2/M.

    That is: G1's reporter off, and either a division follows within ``mitosis_window_h`` or S/G2/M's reporter
    was on within it. Rows are sorted by track and time.
    """
    change = -np.log(np.maximum(area, 1e-9) / np.maximum(track_median(area, track), 1e-9))
    if light is not None:
        usual = np.maximum(track_median(light, track), 1e-9)
        change = change + np.log(np.clip(light / usual, 0.1, 10))
    last = np.append(track[1:] != track[:-1], True)
    ends = dict(zip(track[last].tolist(), time[last].tolist(), strict=True))
    mothers = set(parent[parent > 0].tolist())
    end = np.array([ends[t] if t in mothers else np.inf for t in track.tolist()])
    dividing = end - time <= params.mitosis_window_h
    since = np.full(len(track), np.inf)
    seen, current = -np.inf, -1
    for i in range(len(track)):
        if track[i] != current:
            seen, current = -np.inf, track[i]
        if sg2m_on[i]:
            seen = time[i]
        since[i] = time[i] - seen
    return (change > params.mitosis) & ~g1_on & (dividing | (since <= params.mitosis_window_h)) & (track > 0)
