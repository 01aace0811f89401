"""How far round the cycle each nucleus is: between the changes its track shows, else by its reporters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_imaging.phases.params import PhaseParams
from hyped_imaging.phases.runs import runs_of
from hyped_imaging.phases.survival import quantile, survival
from hyped_imaging.phases.traces import FloatArray, IntArray

if TYPE_CHECKING:
    import pandas as pd

SOURCES = ("", "reporters", "one_side", "both_sides")
"""What ``cycle_position_by`` says: nothing known, level of the reporter alone, time since (or until) one
change of phase, time between two."""
STAGE = {"dark": 0, "G1": 0, "G1S": 1, "S_G2M": 1, "M": 2}
"""Stages of the scale: G1 (dark included), S and G2, M."""


def cycle_position(
    phase: npt.NDArray[np.object_],
    track: IntArray,
    parent: IntArray,
    time: FloatArray,
    g1: FloatArray,
    sg2m: FloatArray,
    alone: npt.NDArray[np.bool_],
    params: PhaseParams,
) -> tuple[FloatArray, npt.NDArray[np.object_]]:
    """Position in [0, 1) of each object (0: just born, 1: divides), and one of `SOURCES`.

    The scale is one of phases: G1, S with G2, and M have fixed shares of it (``position_bounds``), so that
    positions compare between conditions in which a phase is longer. Within a stage it is linear in time where
    the track shows both its begin and its end; where it shows one of them, time counts in units of the
    stage's usual length (the product-limit median in this table, or ``usual_h``) and fades out toward the
    other end (hyperbolic tangent: a cell that rests in G1 stays in it). Where it shows neither, and for
    objects that are ``alone``, the level of the stage's reporter says how far it is, by a rising function
    that is learnt from the frames between two changes; the course of a track is then made not to fall.
    Positions do not fall from birth to division. NaN where the phase is unknown (empty).

    Rows are sorted by track and time.
    """
    n = len(phase)
    position, source = np.full(n, np.nan), np.full(n, "", dtype=object)
    known = phase != ""
    if not known.any():
        return position, source
    tracked = known & (track > 0) & ~alone
    shown = phase.copy()
    life = -1 - np.arange(n)
    borders = np.full((n, 4), np.nan)
    usual = np.array(params.usual_h, dtype=np.float64)
    if tracked.any():
        runs, mended, lives = runs_of(
            phase[tracked], track[tracked], parent[tracked], time[tracked], params
        )
        shown[tracked], life[tracked] = mended, lives
        usual = usual_lengths(runs, params)
        borders[tracked] = _borders(runs, lives)
        late = np.isnan(borders[:, 2]) & ~np.isnan(borders[:, 3])
        borders[late, 2] = borders[late, 3] - usual[2]
    stage = np.array([STAGE.get(str(name), 0) for name in shown])
    rows = np.arange(n)
    begin, end = borders[rows, stage], borders[rows, stage + 1]
    has_begin, has_end = np.isfinite(begin) & (begin <= time), np.isfinite(end) & (end >= time)
    both = has_begin & has_end & (end > begin)
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(both, (time - begin) / (end - begin), np.nan)
        part = np.where(~both & has_begin, np.tanh((time - begin) / usual[stage]), part)
        part = np.where(~both & ~has_begin & has_end, 1 - np.tanh((end - time) / usual[stage]), part)
    level = np.where(stage == 0, g1, sg2m)
    none = known & np.isnan(part)
    for number in range(3):
        here, fit = none & (stage == number), both & known & (stage == number)
        if here.any():
            part[here] = _not_falling(_by_level(level[here], level[fit], part[fit], number), life[here])
    bounds = np.array([0.0, *params.position_bounds, 1.0])
    low, high = bounds[stage], bounds[stage + 1]
    value = np.clip(low + (high - low) * np.clip(part, 0.0, 1.0), low, np.nextafter(high, 0.0))
    position[known] = value[known]
    source[known] = np.select([both, ~none], ["both_sides", "one_side"], "reporters").astype(object)[known]
    return position, source


def usual_lengths(runs: pd.DataFrame, params: PhaseParams) -> FloatArray:
    """(3,) hours of G1, of S with G2, and of M: product-limit medians where enough were seen whole."""
    usual = np.array(params.usual_h, dtype=np.float64)
    for number, (system, phase) in enumerate((("coarse", "G1"), ("coarse", "S_G2M"), ("fucci", "M"))):
        own = runs[(runs["system"] == system) & (runs["phase"] == phase) & runs["begin_h"].notna()]
        complete = own["end_h"].notna().to_numpy()
        if complete.sum() < params.usual_from:
            continue
        length = np.where(complete, own["end_h"], own["seen_h"]) - own["begin_h"].to_numpy(np.float64)
        median = float(quantile(*survival(length, complete), 0.5))
        if np.isfinite(median) and median > 0:
            usual[number] = median
    usual[1] = max(usual[1] - usual[2], usual[2])
    return usual


def _borders(runs: pd.DataFrame, life: IntArray) -> FloatArray:
    """(rows, 4) hours of birth, entry into S, entry into M and division of each row's life; NaN: not seen."""
    parts = (
        runs[runs["system"] == "cycle"].drop_duplicates("life").set_index("life")["begin_h"],
        runs[(runs["system"] == "coarse") & (runs["phase"] == "S_G2M")]
        .drop_duplicates("life")
        .set_index("life")["begin_h"],
        runs[(runs["system"] == "fucci") & (runs["phase"] == "M")]
        .drop_duplicates("life", keep="last")
        .set_index("life")["begin_h"],
        runs[runs["system"] == "cycle"].drop_duplicates("life").set_index("life")["end_h"],
    )
    return np.column_stack([part.reindex(life).to_numpy(np.float64) for part in parts])


def _by_level(level: FloatArray, known_level: FloatArray, known_part: FloatArray, stage: int) -> FloatArray:
    """Share of a stage that lies behind, by the level of its reporter; half of M, where levels say little.

    The function is through the medians of 12 classes of equal number, made not to fall (isotonic), and the
    level itself where fewer than 60 frames could teach it.
    """
    from scipy.optimize import isotonic_regression

    if stage == 2:
        return np.full(len(level), 0.5)
    if len(known_level) < 60:
        return np.clip(level, 0.0, 1.0)
    order = np.argsort(known_level, kind="stable")
    classes = np.array_split(order, 12)
    middle = np.array([np.median(known_level[c]) for c in classes])
    share = isotonic_regression([np.median(known_part[c]) for c in classes]).x
    return np.interp(level, middle, share)


def _not_falling(values: FloatArray, group: IntArray) -> FloatArray:
    """The nearest values (least squares) that do not fall within a group; rows of a group are neighbours."""
    from scipy.optimize import isotonic_regression

    out = values.copy()
    edges = np.flatnonzero(np.append(True, group[1:] != group[:-1]))
    for start, stop in zip(edges, np.append(edges[1:], len(values)), strict=True):
        if stop - start > 1:
            out[start:stop] = isotonic_regression(values[start:stop]).x
    return out
