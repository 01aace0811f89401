"""Divisions: a track that begins beside another that at that moment turns into two like halves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hyped_imaging.track.config import LapConfig
from hyped_imaging.track.kernels import along_median, along_rise
from hyped_imaging.track.links import Deadline, Objects, near

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

WINDOW = 3
"""Objects before and after a division whose median area and intensity are compared."""

HISTORY, LEAST = 12, 4
"""Objects before a division against which the mother's condensation is judged; with fewer than `LEAST` it is
unknown."""

UNKNOWN = 0.75
"""What a mother is taken to lack of condensation where its past or all areas and intensities are unknown."""


@dataclass(frozen=True, slots=True)
class Division:
    """A candidate: ``mother`` is the last object before, the daughters the first objects after."""

    mother: int
    first: int
    second: int
    cost: float


def previous_of(following: IntArray) -> IntArray:
    """Predecessor of each object, -1 where there is none."""
    previous = np.full(len(following), -1, np.int64)
    linked = np.flatnonzero(following >= 0)
    previous[following[linked]] = linked
    return previous


def condensation(objects: Objects, following: IntArray) -> FloatArray:
    """How much denser an object or the two before it are than its track was, NaN where unknown.

    Chromosomes condense before they part, so a mother's nucleus is small and bright. Density is ln mean
    intensity, or minus ln area where there is no intensity; what is usual is the median over `HISTORY`
    objects.
    """
    if not objects.size.any():
        return np.full(len(objects.size), np.nan)
    return along_rise(objects.light - objects.size, previous_of(following), WINDOW, HISTORY, LEAST)


def may_divide(objects: Objects, following: IntArray, config: LapConfig) -> npt.NDArray[np.bool_]:
    """Objects that look as if about to divide: half as condensed as a mother is, or more."""
    return np.nan_to_num(condensation(objects, following), nan=0.0) > config.condensation / 2


def division_costs(
    objects: Objects,
    following: IntArray,
    mother: IntArray,
    first: IntArray,
    second: IntArray,
    config: LapConfig,
) -> FloatArray:
    """What each candidate costs; inf where the daughters lie too far apart.

    Sum of: squared distance of the daughters' middle from the mother and of the daughters from one another,
    in units of ``max_division_um`` (the first halved); the absolute ln ratio of the daughters' areas and of
    their intensities; how far ln((I1 + I2) / I mother) is from 0, since DNA is shared out, not made; and
    ``condensation_weight`` times what the mother lacks of ``condensation``, `UNKNOWN` of it where there is
    no telling.
    Values before and after are medians over `WINDOW` frames, the mother's own last value counting half.
    """
    cost = distance_costs(objects, mother, first, second, config)
    sizes = [along_median(objects.size, following, WINDOW, rows) for rows in (first, second)]
    cost = cost + np.abs(sizes[0] - sizes[1])
    if objects.light.any():
        light = [along_median(objects.light, following, WINDOW, rows) for rows in (first, second)]
        earlier = along_median(objects.light, previous_of(following), WINDOW, mother)
        cost = cost + np.abs(light[0] - light[1])
        both = np.logaddexp(light[0], light[1])
        cost = cost + (np.abs(both - earlier) + np.abs(both - objects.light[mother])) / 2
    lack = 1 - np.clip(condensation(objects, following)[mother] / config.condensation, 0, 1)
    return cost + config.condensation_weight * np.where(np.isnan(lack), UNKNOWN, lack)


def distance_costs(
    objects: Objects, mother: IntArray, first: IntArray, second: IntArray, config: LapConfig
) -> FloatArray:
    """The part of `division_costs` that distances make, inf where the daughters lie too far apart."""
    apart = np.linalg.norm(objects.xy[first] - objects.xy[second], axis=1)
    middle = (objects.xy[first] + objects.xy[second]) / 2
    away = np.linalg.norm(middle - objects.xy[mother], axis=1)
    cost = (apart / config.max_division_um) ** 2 + (2 * away / config.max_division_um) ** 2
    return np.where(apart > config.max_division_um, np.inf, cost)


def division_candidates(
    objects: Objects, following: IntArray, starts: IntArray, config: LapConfig, deadline: Deadline
) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
    """(mother, first, second, cost) of every plausible division, cheapest first.

    The second daughter is a track that starts; the mother is an object one frame earlier (or up to
    ``max_daughter_delay_h`` before) whose track goes on as the first daughter, or ends and hands over to
    another track that starts.
    """
    is_start = np.zeros(len(objects.step), dtype=bool)
    is_start[starts] = True
    mothers, firsts, seconds = [], [], []
    for step in range(1, objects.n_steps):
        here = np.arange(objects.bounds[step], objects.bounds[step + 1])
        newborn = here[is_start[here]]
        if newborn.size == 0:
            continue
        if deadline.passed():
            break
        earlier = step - 1
        while earlier >= 0:
            first_step = earlier + 1
            if first_step < step and (objects.times[step] - objects.times[first_step] > config.max_daughter_delay_h):
                break
            before = np.arange(objects.bounds[earlier], objects.bounds[earlier + 1])
            reach = config.max_division_um + config.slack_um
            a, b, _ = near(objects.xy[newborn], objects.xy[before], reach)
            second, mother = newborn[a], before[b]
            going_on = following[mother] >= 0
            mothers.append(mother[going_on])
            firsts.append(following[mother[going_on]])
            seconds.append(second[going_on])
            ended = np.unique(mother[~going_on])
            if earlier == step - 1 and ended.size:
                for m in ended:
                    candidates = second[mother == m]
                    i, j = np.triu_indices(len(candidates), k=1)
                    mothers.append(np.full(len(i), m))
                    firsts.append(candidates[i])
                    seconds.append(candidates[j])
            earlier -= 1
    if not mothers:
        none = np.empty(0, np.int64)
        return none, none, none, np.empty(0)
    m, f, s = (np.concatenate(parts).astype(np.int64) for parts in (mothers, firsts, seconds))
    # A late second daughter is compared with where the first one is by then.
    now = f.copy()
    for _ in range(objects.n_steps):
        behind = (objects.step[now] < objects.step[s]) & (following[now] >= 0)
        if not behind.any():
            break
        now[behind] = following[now[behind]]
    kept = (objects.step[now] == objects.step[s]) & (now != s)
    m, f, s, now = m[kept], f[kept], s[kept], now[kept]
    # The other parts of the cost are not negative: what distances alone rule out needs no looking at.
    near_enough = distance_costs(objects, m, now, s, config) < config.division_cost
    m, f, s, now = m[near_enough], f[near_enough], s[near_enough], now[near_enough]
    cost = division_costs(objects, following, m, now, s, config)
    cost = cost + 0.2 * (objects.step[s] - objects.step[m] - 1)
    good = np.flatnonzero(cost < config.division_cost)
    order = good[np.lexsort((s[good], m[good], cost[good]))]
    return m[order], f[order], s[order], cost[order]
