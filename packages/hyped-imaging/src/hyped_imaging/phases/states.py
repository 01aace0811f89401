"""States of the ``fucci`` system along tracks, from the levels of the two reporters and signs of mitosis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_core.errors import DesignError, InvalidDataError
from hyped_imaging.phases.mitosis import find_mitosis
from hyped_imaging.phases.params import PhaseParams
from hyped_imaging.phases.position import cycle_position
from hyped_imaging.phases.traces import FloatArray, normalise, smooth

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
    """The table with ``phase``, ``phase_per_frame``, ``g1_level``, ``sg2m_level``, ``cycle_position`` and
    ``cycle_position_by``; rows in the given order.

    Levels are shares of what bright nuclei of the movie show. ``cycle_position`` goes from 0 at birth to 1 at
    division, and ``cycle_position_by`` says what it rests on (`position.SOURCES`). Without reporters in the
    design ``phase`` is empty, and levels and position are NaN. Objects of no track, or of one below
    ``min_frames``, are called from their own frame alone: ``phase_per_frame`` is True.

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
        out["cycle_position"] = np.nan
        out["cycle_position_by"] = ""
        return out
    order = np.lexsort((table["label"], table["frame"], table["track_id"]))
    rows = table.iloc[order]
    track = rows["track_id"].to_numpy(dtype=np.int64)
    parent = rows["parent_id"].to_numpy(dtype=np.int64)
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
        parent,
        time,
        rows["area_um2"].to_numpy(dtype=np.float64),
        None if light is None else light.to_numpy(dtype=np.float64),
        rows["border"].to_numpy(dtype=bool) if "border" in rows.columns else None,
        levels[0] >= params.on_share,
        levels[1] >= params.on_share,
        params,
    )
    phase = states(levels[0], levels[1], mitotic & ~alone, params.on_share)
    position, source = cycle_position(phase, track, parent, time, levels[0], levels[1], alone, params)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    out["phase"] = phase[back]
    out["phase_per_frame"] = alone[back]
    out["g1_level"] = levels[0][back]
    out["sg2m_level"] = levels[1][back]
    out["cycle_position"] = position[back]
    out["cycle_position_by"] = source[back]
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
