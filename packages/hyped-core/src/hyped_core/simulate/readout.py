"""What a table of cells says about a time: who is there, in which phase, how bright, how far round."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_core.errors import UsageError
from hyped_core.simulate.params import ReporterParams

if TYPE_CHECKING:
    import pandas as pd

FloatArray = npt.NDArray[np.float64]

POSITION_BOUNDS = (0.0, 0.45, 0.78, 0.95, 1.0)
"""Where G1, S, G2 and M begin on the scale of `cycle_position`, and where M ends."""


def alive_at(cells: pd.DataFrame, time_h: float) -> npt.NDArray[np.bool_]:
    """(cells,) True where the cell is there at ``time_h``: born, and not yet divided or dead."""
    birth, end = cells["birth_h"].to_numpy(), cells["end_h"].to_numpy()
    censored = cells["fate"].to_numpy() == "censored"
    return (birth <= time_h) & ((time_h < end) | (censored & (time_h <= end)))


def phase_at(
    cells: pd.DataFrame, time_h: float, system: str, reporters: ReporterParams | None = None
) -> npt.NDArray[np.object_]:
    """Phases of the cells alive at ``time_h``, in table order.

    ``"fucci"``: dark (just after division), G1, G1S (just after S entry), S_G2M, M. ``"rna"``: G1, S, G2M.
    Both come from the same times, so their coarse phases agree cell by cell.
    """
    if system not in ("fucci", "rna"):
        raise UsageError(f"there is no phase system {system!r}", mend="systems: fucci, rna")
    reporters = reporters or ReporterParams()
    here = cells[alive_at(cells, time_h)]
    birth, s, g2, m = (here[c].to_numpy() for c in ("birth_h", "s_start_h", "g2_start_h", "m_start_h"))
    if system == "rna":
        return np.select([time_h < s, time_h < g2], ["G1", "S"], "G2M").astype(object)
    return np.select(
        [time_h >= m, time_h >= s + reporters.g1s_h, time_h >= s, time_h >= birth + reporters.dark_h],
        ["M", "S_G2M", "G1S", "G1"],
        "dark",
    ).astype(object)


def reporter_levels(
    cells: pd.DataFrame, time_h: float, reporters: ReporterParams | None = None
) -> tuple[npt.NDArray[np.int64], FloatArray, FloatArray]:
    """Ids of the cells alive at ``time_h`` and the levels of their G1 and S/G2/M reporters, each in [0, 1].

    The Cdt1 probe is cleared at division, rises through G1 and falls after S entry; the Geminin probe rises
    around S entry, climbs to the end of G2 and falls in M. A level is at or above ``reporters.threshold``
    exactly in the phases in which `phase_at` says the reporter is on (M, where it falls, aside).
    """
    reporters = reporters or ReporterParams()
    here = cells[alive_at(cells, time_h)]
    birth, s, m = (here[c].to_numpy() for c in ("birth_h", "s_start_h", "m_start_h"))
    cutoff = reporters.threshold
    rate = -np.log1p(-cutoff) / reporters.dark_h
    in_g1 = time_h < s
    top = -np.expm1(-rate * (np.minimum(time_h, s) - birth))
    since = np.where(in_g1, 0.0, (time_h - np.where(in_g1, time_h, s)) / reporters.g1s_h)
    fall = np.log(np.maximum(top, cutoff * 1.0001) / cutoff)
    g1 = top * np.exp(-fall * since)
    started = np.where(np.isfinite(s), (time_h - s) / reporters.sg2m_rise_h, -60.0)
    with np.errstate(invalid="ignore"):
        progress = np.where(np.isfinite(s), (time_h - s) / np.maximum(m - s, 1e-9), 0.0)
    plateau = 2 * cutoff + (1 - 2 * cutoff) * np.clip(progress, 0.0, 1.0)
    sg2m = plateau / (1.0 + np.exp(-np.clip(started, -60, 60)))
    mitosis = np.clip((time_h - m) / np.maximum(here["m_length_h"].to_numpy(), 1e-9), 0.0, 1.0)
    sg2m = sg2m * (1.0 - mitosis**2 * (3.0 - 2.0 * mitosis))
    return here["cell_id"].to_numpy(np.int64), np.clip(g1, 0, 1), np.clip(sg2m, 0, 1)


def cycle_position(cells: pd.DataFrame, time_h: float) -> FloatArray:
    """Position in [0, 1) in the cycle of the cells alive at ``time_h``; bounds are `POSITION_BOUNDS`.

    A cell that will not enter S creeps toward, and never reaches, the end of G1.
    """
    here = cells[alive_at(cells, time_h)]
    birth, s, g2, m = (here[c].to_numpy() for c in ("birth_h", "s_start_h", "g2_start_h", "m_start_h"))
    leaves = ~np.isfinite(s)
    end = m + here["m_length_h"].to_numpy()
    starts = [birth, s, g2, m]
    stops = [np.where(leaves, np.inf, s), g2, m, end]
    position = np.zeros(len(here))
    for start, stop, low, high in zip(starts, stops, POSITION_BOUNDS, POSITION_BOUNDS[1:], strict=False):
        inside = (time_h >= start) & (time_h < stop) & np.isfinite(stop)
        span = np.where(inside, stop - np.where(inside, start, 0.0), 1.0)
        part = np.where(inside, time_h - np.where(inside, start, 0.0), 0.0) / np.maximum(span, 1e-9)
        position = np.where(inside, low + (high - low) * part, position)
    age = np.where(leaves, time_h - birth, 0.0)
    creeping = POSITION_BOUNDS[1] * -np.expm1(-np.maximum(age, 0.0) / 10.0)
    return np.clip(np.where(leaves, creeping, position), 0.0, np.nextafter(1.0, 0.0))
