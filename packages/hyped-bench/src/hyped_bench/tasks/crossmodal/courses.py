"""Sums over lineages and bins of time, from which courses of scenes are made, as measured or with lineages redrawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_bench.metrics.phases import lineages
from hyped_bench.tasks.crossmodal.contracts import Course
from hyped_core.design.phases import COARSE_PHASES, coarse_phase

if TYPE_CHECKING:
    import pandas as pd

FloatArray = npt.NDArray[np.float64]

QUANTITIES = ("dividing", "growth", "speed_um_h", "area_um2")
SHORT = {"dividing": "dividing", "growth": "growth", "speed_um_h": "speed", "area_um2": "area"}
"""Quantity -> its name in keys of metrics."""
JOIN_UM = 30.0
"""A lineage that begins this near a nucleus of the frame before is taken for part of that one's lineage."""
_SUMS = ("nuclei", "placed", "dividing", "path", "hours", "area", "measured")


@dataclass(frozen=True, slots=True)
class SceneSums:
    """A scene's nuclei summed by lineage and bin.

    Attributes
    ----------
    time_h : (bins,) middle of each bin, hours; bins with less than half of the usual frames are left out.
    frames : (bins,) frames in each bin.
    sums : (lineages, bins, 7): nuclei, nuclei with a coarse phase, of them in S_G2M, micrometres moved, hours
        moved in, area and nuclei with an area, off the border.
    """

    scene: str
    condition: str
    replicate: int
    time_h: FloatArray
    frames: FloatArray
    sums: FloatArray

    @property
    def n_lineages(self) -> int:
        """Lineages: what is redrawn."""
        return len(self.sums)

    def values(self, weights: FloatArray | None = None) -> FloatArray:
        """Quantities (..., bins, 4), each lineage counted ``weights`` (..., lineages) times; NaN where undefined."""
        if weights is None:
            weights = np.ones(self.n_lineages)
        shape = self.sums.shape[1:]
        flat = np.asarray(weights, float) @ self.sums.reshape(self.n_lineages, -1)
        total = dict(zip(_SUMS, np.moveaxis(flat.reshape(*flat.shape[:-1], *shape), -1, 0), strict=True))
        with np.errstate(divide="ignore", invalid="ignore"):
            per_frame = total["nuclei"] / self.frames
            growth = np.log2(per_frame / per_frame[..., :1])
            columns = (
                total["dividing"] / total["placed"],
                np.where(np.isfinite(growth), growth, np.nan),
                total["path"] / total["hours"],
                total["area"] / total["measured"],
            )
        return np.stack(columns, axis=-1)

    def strata(self) -> list[npt.NDArray[np.intp]]:
        """Lineages seen in the first bin, and those that came later: the scene starts with as many in every redraw."""
        first = self.sums[:, 0, 0] > 0
        return [rows for rows in (np.flatnonzero(first), np.flatnonzero(~first)) if len(rows)]

    def redraws(self, draws: int, rng: np.random.Generator) -> FloatArray:
        """Weights (draws, lineages) of lineages drawn again with replacement, within each stratum."""
        weights = np.zeros((draws, self.n_lineages))
        for rows in self.strata():
            weights[:, rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=draws)
        return weights

    def halves(self, draws: int, rng: np.random.Generator) -> FloatArray:
        """Weights (draws, lineages) of 0 and 1: half of each stratum; the other half is ``1 - weights``."""
        weights = np.zeros((draws, self.n_lineages))
        for rows in self.strata():
            order = np.argsort(rng.random((draws, len(rows))), axis=1)
            odd = rng.integers(0, 2, size=(draws, 1)) * (len(rows) % 2)
            weights[:, rows] = order < len(rows) // 2 + odd
        return weights


def scene_sums(nuclei: pd.DataFrame, bin_h: float) -> list[SceneSums]:
    """Sums of every scene, sorted by name.

    Parameters
    ----------
    nuclei
        ``scene, condition, replicate, frame, time_h, y_um, x_um``; ``track_id, parent_id`` (0: none),
        ``phase`` of the system fucci, ``area_um2`` and ``border`` where they are there.
    """
    found = []
    for scene, own in nuclei.groupby(nuclei["scene"].astype(str), sort=True):
        own = own.assign(scene=own["scene"].astype(str)).reset_index(drop=True)
        for name in ("track_id", "parent_id"):
            if name not in own:
                own[name] = 0
        time = own["time_h"].to_numpy(float)
        place = np.floor(time / bin_h + 1e-6).astype(int)
        bins, column = np.unique(place, return_inverse=True)
        frames = np.array([len(np.unique(time[column == i])) for i in range(len(bins))], float)
        kept = frames >= np.median(frames) / 2
        names, row = np.unique(families(own).astype(str), return_inverse=True)
        coarse = coarse_phase(own["phase"].astype(str) if "phase" in own else [""] * len(own), "fucci")
        path, hours = _steps(own)
        area = own["area_um2"].to_numpy(float) if "area_um2" in own else np.full(len(own), np.nan)
        whole = np.isfinite(area) & ~(own["border"].to_numpy(bool) if "border" in own else False)
        entries = (
            np.ones(len(own)), np.array([p is not None for p in coarse], float), coarse == COARSE_PHASES[1],
            path, hours, np.where(whole, area, 0.0), whole,
        )  # fmt: skip
        sums = np.zeros((len(names), len(bins), len(_SUMS)))
        for i, entry in enumerate(entries):
            np.add.at(sums[..., i], (row, column), np.asarray(entry, float))
        condition, replicate = str(own["condition"].iloc[0]), int(own["replicate"].iloc[0])
        middle = (bins + 0.5) * bin_h
        found.append(SceneSums(str(scene), condition, replicate, middle[kept], frames[kept], sums[:, kept]))
    return found


def families(own: pd.DataFrame) -> npt.NDArray[np.object_]:
    """Lineages of one scene, those that begin in mid-movie without a mother joined to the nearest nucleus' lineage.

    A track that breaks off goes on under another name, and a missed division leaves a daughter without a mother:
    taken for lineages of their own they would be drawn without the rest of theirs, and numbers of nuclei would
    vary more than cells do. What begins further than ``JOIN_UM`` from any nucleus of the frame before came in.
    Nuclei without a track are taken together by squares of that edge.
    """
    from scipy.spatial import cKDTree

    track, time = own["track_id"].to_numpy(), own["time_h"].to_numpy(float)
    spot = own[["y_um", "x_um"]].to_numpy(float)
    name = lineages(own)
    loose = track <= 0
    name[loose] = [f"square {y:.0f} {x:.0f}" for y, x in np.floor(spot[loose] / JOIN_UM)]
    frame = np.unique(time, return_inverse=True)[1]
    order = np.lexsort((track, frame))
    text, first = np.unique(name[order].astype(str), return_index=True)
    begins = order[first]
    joined = dict(zip(text.tolist(), text.tolist(), strict=True))
    rows = np.split(np.argsort(frame, kind="stable"), np.cumsum(np.bincount(frame))[:-1])
    for now in np.unique(frame[begins])[1:]:  # in order of time: the frame before is settled
        new = np.sort(begins[(frame[begins] == now) & ~loose[begins]])
        if len(new):
            away, nearest = cKDTree(spot[rows[now - 1]]).query(spot[new])
            for i, near in zip(new[away <= JOIN_UM], nearest[away <= JOIN_UM], strict=True):
                joined[str(name[i])] = joined[str(name[rows[now - 1][near]])]
    return np.array([joined[str(n)] for n in name], dtype=object)


def _steps(own: pd.DataFrame) -> tuple[FloatArray, FloatArray]:
    """Micrometres and hours from a nucleus' row before (same track) to this one; 0 where there is none."""
    track, time = own["track_id"].to_numpy(), own["time_h"].to_numpy(float)
    order = np.lexsort((time, track))
    spot = own[["y_um", "x_um"]].to_numpy(float)[order]
    same = (np.diff(track[order]) == 0) & (track[order][1:] > 0)
    path, hours = np.zeros(len(own)), np.zeros(len(own))
    path[order[1:]] = np.where(same, np.linalg.norm(np.diff(spot, axis=0), axis=1), 0.0)
    hours[order[1:]] = np.where(same, np.diff(time[order]), 0.0)
    return path, hours


def measured(scenes: list[SceneSums], until: Mapping[str, float] | None = None) -> tuple[str, ...]:
    """Quantities that every scene has in at least half of its bins, and of those before ``until`` (scene -> hour)."""
    there = []
    for scene in scenes:
        known = np.isfinite(scene.values())
        start = known[scene.time_h < (until or {}).get(scene.scene, np.inf)]
        there.append((known.mean(axis=0) >= 0.5) & (start.sum(axis=0) >= max(1, len(start) / 2)))
    return tuple(q for i, q in enumerate(QUANTITIES) if all(t[i] for t in there))


def course(
    scene: SceneSums, values: FloatArray, quantities: tuple[str, ...], *, until: float = np.inf
) -> Course:
    """A course of the bins before ``until``, its gaps filled by interpolation over time.

    It is cut first and filled after: a gap at its end takes the last value before it, never one beyond the cut.
    A quantity that is undefined in all of these bins stays undefined.
    """
    shown = scene.time_h < until
    time_h = scene.time_h[shown]
    columns = [filled(time_h, values[shown, QUANTITIES.index(q)]) for q in quantities]
    table = np.stack(columns, axis=1) if columns else np.zeros((len(time_h), 0))
    return Course(scene.scene, scene.condition, scene.replicate, time_h, table, quantities)


def filled(time_h: FloatArray, values: FloatArray) -> FloatArray:
    """``values`` with NaN interpolated over time, the nearest one beyond the ends."""
    known = np.isfinite(values)
    if known.all() or not known.any():
        return values
    return np.interp(time_h, time_h[known], values[known])
