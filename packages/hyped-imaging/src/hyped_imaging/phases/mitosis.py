"""Mitosis from shape and division: condensed nuclei are brighter and smaller than they were a while before."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hyped_imaging.phases.params import PhaseParams
from hyped_imaging.phases.traces import FloatArray, IntArray, earlier_median, track_median

BoolArray = npt.NDArray[np.bool_]


def find_mitosis(
    track: IntArray,
    parent: IntArray,
    time: FloatArray,
    area: FloatArray,
    light: FloatArray | None,
    border: BoolArray | None,
    g1_on: BoolArray,
    sg2m_on: BoolArray,
    params: PhaseParams,
) -> BoolArray:
    """Objects in mitosis: G1's reporter off, at the end of S/G2/M, and condensed or about to divide.

    A nucleus is condensed where it is brighter by ``mitosis_light``, and brighter and smaller by
    ``mitosis_change`` in sum (natural logarithms), than it was one to ``mitosis_reference_h`` hours before.
    Nuclei that the frame cuts look smaller than they are: of them brightness alone counts. Without a division
    in the tracks S/G2/M's reporter has to have been on within ``mitosis_since_h`` (what is small and bright
    later is newborn). Before a division ``mitosis_near`` is change enough within ``mitosis_window_h``, and
    within ``mitosis_division_h`` it is enough to be brighter by ``mitosis_onset``, the reporter being on.

    Rows are sorted by track and time; ``light`` is None where no channel shows the nuclei (size alone counts
    then), and ``border`` where nobody knows which nuclei are cut.
    """
    shrunk = -_against_before(area, track, time, params)
    if border is not None:
        shrunk = np.where(border, 0.0, shrunk)
    brighter = np.full(len(track), np.inf) if light is None else _against_before(light, track, time, params)
    change = shrunk if light is None else shrunk + brighter
    ahead = until_division(track, parent, time)
    since = since_last(sg2m_on, track, time)
    condensed = (change >= params.mitosis_change) & (since <= params.mitosis_since_h)
    dividing = (change >= params.mitosis_near) & (ahead <= params.mitosis_window_h)
    begun = sg2m_on & (ahead <= params.mitosis_division_h) & (brighter >= params.mitosis_onset)
    return (((condensed | dividing) & (brighter >= params.mitosis_light)) | begun) & ~g1_on & (track > 0)


def until_division(track: IntArray, parent: IntArray, time: FloatArray) -> FloatArray:
    """Hours from each object to its track's division; inf where the track does not end in one.

    A division lies halfway between the mother's last frame and the first frame of a daughter.
    """
    out = np.full(len(track), np.inf)
    if len(track) == 0:
        return out
    first = np.append(True, track[1:] != track[:-1])
    last = np.append(first[1:], True)
    born = first & (parent > 0) & (track > 0)
    order = np.lexsort((time[born], parent[born]))
    mothers, at = np.unique(parent[born][order], return_index=True)
    births = time[born][order][at]
    found = np.searchsorted(mothers, track[last])
    found = np.minimum(found, max(len(mothers) - 1, 0))
    if len(mothers) == 0:
        return out
    divides = mothers[found] == track[last]
    division = np.where(divides, (births[found] + time[last]) / 2, np.inf)
    return division[np.cumsum(first) - 1] - time


def since_last(on: BoolArray, track: IntArray, time: FloatArray) -> FloatArray:
    """Hours since ``on`` was last True in the same track: 0 where it is, inf where it never was before."""
    where = np.maximum.accumulate(np.where(on, np.arange(len(on)), -1))
    known = (where >= 0) & (track[where] == track)
    return np.where(known, time - time[where], np.inf)


def _against_before(values: FloatArray, track: IntArray, time: FloatArray, params: PhaseParams) -> FloatArray:
    """Natural log of each value over the median of its track some hours before, or over the track's median."""
    before = earlier_median(values, track, time, 1.0, params.mitosis_reference_h)
    usual = np.where(np.isnan(before), track_median(values, track), before)
    ratio = np.maximum(np.nan_to_num(values), 1e-9) / np.maximum(np.nan_to_num(usual), 1e-9)
    return np.log(np.clip(ratio, 0.01, 100.0))
