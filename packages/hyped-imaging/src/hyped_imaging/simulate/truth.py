"""The truth as tables: nuclei with tracks and phases, and the shares of the phases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_core.simulate.biology import alive_at, cycle_position
from hyped_imaging.simulate.params import SimulateParams
from hyped_imaging.simulate.render import measure
from hyped_imaging.simulate.scene import SceneLife, crop

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class TruthTable:
    """Collects the truth of a scene frame by frame, giving a new track to a nucleus that comes back.

    A track's ``parent_id`` is the mother's track where the mother was in the field in the frame before.
    """

    life: SceneLife
    params: SimulateParams

    def __post_init__(self) -> None:
        self._track_of: dict[int, int] = {}
        self._next = 1
        self._frames: list[pd.DataFrame] = []

    def add(self, frame: int, time_h: float, drawn: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Add the frame whose labels `draw` gave; returns the labels (y, x) of the truth: track ids."""
        import pandas as pd

        moment, pixel = self.life.moments[frame], self.params.mosaic.pixel_size_um
        cells = self.life.cells
        visible = crop(drawn)
        areas, _ = measure(visible, len(cells))
        enough = areas[:, 0] >= max(self.params.nuclei.min_visible_um2 / pixel**2, 1.0)
        enough[0] = False
        sums, touching = measure(np.where(enough[visible], visible, 0).astype(np.int32), len(cells))
        shown = np.flatnonzero(enough)
        before, now = self._track_of, {}
        parents = cells["parent_id"].to_numpy()
        parent_track = []
        for cell in shown:
            known = int(cell) in before
            now[int(cell)] = before[int(cell)] if known else self._next
            self._next += 0 if known else 1
            parent_track.append(0 if known else before.get(int(parents[cell - 1]), 0))
        translate = np.zeros(len(cells) + 1, np.int32)
        for cell, track in now.items():
            translate[cell] = track
        self._track_of = now
        order = np.searchsorted(moment.looks.index + 1, shown)
        tracks = translate[shown].astype(np.int64)
        self._frames.append(
            pd.DataFrame(
                {
                    "scene": self.life.name,
                    "frame": np.int64(frame),
                    "time_h": float(time_h),
                    "label": tracks,
                    "track_id": tracks,
                    "parent_id": np.array(parent_track, np.int64),
                    "y_um": sums[shown, 1] / sums[shown, 0] * pixel,
                    "x_um": sums[shown, 2] / sums[shown, 0] * pixel,
                    "phase": moment.looks.phase[order],
                    "touching": touching[shown],
                    "dim": self.life.traits.dim[shown - 1],
                    "condition": self.life.condition,
                    "replicate": np.int64(self.life.replicate),
                    "area_um2": sums[shown, 0] * pixel**2,
                    "cell_id": shown.astype(np.int64),
                    "g1_level": moment.looks.g1[order],
                    "sg2m_level": moment.looks.sg2m[order],
                    "cycle_position": _positions(cells, moment.time_h)[shown - 1],
                }
            )
        )
        return translate[visible]

    def table(self) -> pd.DataFrame:
        """The truth, one row a nucleus and frame; ``parent_id`` is the same in all rows of a track."""
        import pandas as pd

        table = pd.concat(self._frames, ignore_index=True)
        first = table.groupby("track_id")["parent_id"].transform("first")
        return table.assign(parent_id=first).sort_values(["frame", "track_id"], ignore_index=True)


def _positions(cells: pd.DataFrame, time_h: float) -> npt.NDArray[np.float64]:
    """Place in the cycle of every cell of the scene; NaN where it is not alive (debris)."""
    out = np.full(len(cells), np.nan)
    out[alive_at(cells, time_h)] = cycle_position(cells, time_h)
    return out


def phase_fractions(tracks: pd.DataFrame) -> pd.DataFrame:
    """Shares of phases among the nuclei of a condition's replicate and frame.

    Columns ``condition, replicate, frame, time_h, system`` (``fucci`` or ``coarse``), ``phase, n, n_total,
    fraction``; phases nobody is in have rows too.
    """
    import pandas as pd

    from hyped_core.design import COARSE_PHASES, PHASE_SYSTEMS, coarse_phase

    keys = ["condition", "replicate", "frame", "time_h"]
    systems = {
        "fucci": (PHASE_SYSTEMS["fucci"].phases, tracks["phase"]),
        "coarse": (COARSE_PHASES, pd.Series(coarse_phase(tracks["phase"], "fucci"), index=tracks.index)),
    }
    tables = []
    for system, (phases, values) in systems.items():
        shown = pd.DataFrame({phase: (values == phase).astype(int) for phase in phases})
        counts = pd.concat([tracks[keys], shown], axis=1).groupby(keys, as_index=False).sum()
        counts["n_total"] = counts[list(phases)].sum(axis=1)
        long = counts.melt(id_vars=[*keys, "n_total"], var_name="phase", value_name="n")
        tables.append(long.assign(system=system, fraction=long["n"] / long["n_total"]))
    columns = [*keys, "system", "phase", "n", "n_total", "fraction"]
    return pd.concat(tables, ignore_index=True)[columns].sort_values(
        ["condition", "replicate", "frame", "system"], ignore_index=True, kind="stable"
    )
