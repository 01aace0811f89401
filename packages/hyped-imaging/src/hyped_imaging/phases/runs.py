"""Runs of equal phase along tracks, with what is known of when they began and ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_core.design import coarse_phase
from hyped_imaging.phases.mitosis import until_division
from hyped_imaging.phases.params import PhaseParams
from hyped_imaging.phases.sequence import mend
from hyped_imaging.phases.traces import FloatArray, IntArray

if TYPE_CHECKING:
    import pandas as pd

BoolArray = npt.NDArray[np.bool_]

FOLLOWS = {
    "fucci": {
        ("dark", "G1"),
        ("G1", "G1S"),
        ("G1", "S_G2M"),
        ("G1S", "S_G2M"),
        ("S_G2M", "M"),
    },
    "coarse": {("G1", "S_G2M")},
    "cycle": set(),
}
"""Steps within a cell's life whose time ends one phase and begins the next; a division does so too."""
FIRST = {"fucci": ("dark",), "coarse": ("G1",), "cycle": ("cycle",)}
"""Phases that a division begins."""
LAST = {"fucci": ("M",), "coarse": ("S_G2M",), "cycle": ("cycle",)}
"""Phases that a division ends."""


def lineages(track: IntArray, parent: IntArray) -> IntArray:
    """The first track of each row's lineage: sisters and cousins have the same. Untracked rows: themselves,
    as negative numbers."""
    known = dict(zip(track[track > 0].tolist(), parent[track > 0].tolist(), strict=True))
    root: dict[int, int] = {}
    for name in known:
        way = []
        while name not in root and known.get(name, 0) > 0 and name not in way:
            way.append(name)
            name = known[name]
        top = root.get(name, name)
        root.update(dict.fromkeys([*way, name], top))
    found = np.array([root.get(name, name) for name in track.tolist()], dtype=np.int64)
    return np.where(track > 0, found, -1 - np.arange(len(track)))


def phase_runs(table: pd.DataFrame, params: PhaseParams | None = None) -> pd.DataFrame:
    """Runs of the systems ``fucci``, ``coarse`` and ``cycle`` (birth to division) of one scene's tracks.

    Takes what `call_phases` gives. Calls against the cycle's order are mended first (`sequence.mend`). One
    row a run: ``system, phase, track_id, lineage, life, n_frames, begin_h, end_h, seen_h``. ``begin_h`` and
    ``end_h`` lie halfway between the two frames that the change fell between; they are NaN where the run was
    under way when the track began, or not over when it ended, and where the change is one that the cycle does
    not know or fell into a gap of more than ``max_gap_h``. ``seen_h`` is the last time the run was seen.
    A ``life`` is one cell from birth to division: a track, or a part of one that divided without ending.
    """
    rows = table[(table["track_id"] > 0) & (table["phase"] != "")]
    rows = rows.sort_values(["track_id", "time_h"], kind="stable")
    return runs_of(
        rows["phase"].to_numpy(object),
        rows["track_id"].to_numpy(np.int64),
        rows["parent_id"].to_numpy(np.int64),
        rows["time_h"].to_numpy(np.float64),
        params or PhaseParams(),
    )[0]


def runs_of(
    called: npt.NDArray[np.object_], track: IntArray, parent: IntArray, time: FloatArray, params: PhaseParams
) -> tuple[pd.DataFrame, npt.NDArray[np.object_], IntArray]:
    """`phase_runs` of arrays sorted by track and time; and the mended phase and the life of each row."""
    import pandas as pd

    phase = mend(called, track, time, params.max_gap_h, params.backward_frames)
    phase = _one_division(phase, track, parent, time, params)
    divided = divides_within(phase, track)
    new_track = np.append(True, track[1:] != track[:-1])[: len(track)]
    life = np.cumsum(new_track | divided)
    parts = []
    for system in FOLLOWS:
        labels = {
            "fucci": phase,
            "coarse": coarse_phase(phase, "fucci"),
            "cycle": np.full(len(phase), "cycle", dtype=object),
        }[system]
        parts.append(_runs(system, labels, divided, life, track, parent, time, params))
    runs = pd.concat(parts, ignore_index=True)
    root = dict(zip(track.tolist(), lineages(track, parent).tolist(), strict=True))
    runs.insert(3, "lineage", runs["track_id"].map(root).astype(np.int64))
    return runs, phase, life


def _one_division(
    phase: npt.NDArray[np.object_], track: IntArray, parent: IntArray, time: FloatArray, params: PhaseParams
) -> npt.NDArray[np.object_]:
    """Trackers part mother and daughters a few frames early or late: no second division beside that one.

    A dark run between M (or S/G2/M) and the track's division is M, and such a run between the track's birth
    and a dark one is dark, where it is no longer than ``mitosis_window_h``.
    """
    if len(track) == 0:
        return phase
    ahead = until_division(track, parent, time)
    age = time - _birth(track, parent, time, params.max_gap_h)
    begins = np.append(True, (track[1:] != track[:-1]) | (phase[1:] != phase[:-1]))
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(track)) - 1
    late, dark = np.isin(phase, ("S_G2M", "M")), phase == "dark"
    before, after = np.maximum(first - 1, 0), np.minimum(last + 1, len(track) - 1)
    inside = (first > 0) & (track[before] == track[first])
    goes_on = (last + 1 < len(track)) & (track[after] == track[last])
    window = params.mitosis_window_h
    ends = dark[first] & inside & late[before] & ~goes_on & (ahead[first] <= window)
    starts = late[first] & ~inside & goes_on & dark[after] & (age[last] <= window)
    name = np.where(ends, "M", np.where(starts, "dark", phase[first]))
    return name[np.cumsum(begins) - 1].astype(object)


def divides_within(phase: npt.NDArray[np.object_], track: IntArray) -> BoolArray:
    """Rows before which a track's cell divided though the track went on: dark after S/G2/M or M."""
    out = np.zeros(len(track), bool)
    if len(track) > 1:
        late = np.isin(phase[:-1], ("S_G2M", "M"))
        out[1:] = late & (phase[1:] == "dark") & (track[1:] == track[:-1])
    return out


def _runs(
    system: str,
    labels: npt.NDArray[np.object_],
    divided: BoolArray,
    life: IntArray,
    track: IntArray,
    parent: IntArray,
    time: FloatArray,
    params: PhaseParams,
) -> pd.DataFrame:
    import pandas as pd

    n = len(track)
    new_track = np.append(True, track[1:] != track[:-1])[:n]
    begins = new_track.copy()
    begins[1:] |= (labels[1:] != labels[:-1]) | divided[1:]
    first = np.flatnonzero(begins)
    last = np.append(first[1:], n)[: len(first)] - 1
    before, after = np.maximum(first - 1, 0), np.minimum(last + 1, n - 1)
    name = labels[first] if n else labels
    steps = FOLLOWS[system]
    inside = ~new_track[first]
    goes_on = (last + 1 < n) & ~new_track[after] if n else inside
    birth = _birth(track, parent, time, params.max_gap_h)
    ahead = until_division(track, parent, time)
    opens = np.isin(name, FIRST[system])
    closes = np.isin(name, LAST[system])
    came = np.array([(a, b) in steps for a, b in zip(labels[before], name, strict=True)], bool)
    went = np.array([(a, b) in steps for a, b in zip(name, labels[after], strict=True)], bool)
    began = inside & (came | (divided[first] & opens)) & (time[first] - time[before] <= params.max_gap_h)
    ended = goes_on & (went | (divided[after] & closes)) & (time[after] - time[last] <= params.max_gap_h)
    begin = np.where(began, (time[first] + time[before]) / 2, np.nan)
    begin = np.where(~inside & opens, birth[first], begin)
    end = np.where(ended, (time[last] + time[after]) / 2, np.nan)
    division = ~goes_on & closes & (ahead[last] <= params.max_gap_h / 2)
    end = np.where(division, time[last] + np.where(division, ahead[last], 0.0), end)
    return pd.DataFrame(
        {
            "system": system,
            "phase": name,
            "track_id": track[first],
            "life": life[first],
            "n_frames": last - first + 1,
            "begin_h": begin,
            "end_h": end,
            "seen_h": time[last],
        }
    )


def _birth(track: IntArray, parent: IntArray, time: FloatArray, max_gap_h: float) -> FloatArray:
    """Hour of birth of each row's track: halfway between the mother's last frame and its first; else NaN."""
    out = np.full(len(track), np.nan)
    if len(track) == 0:
        return out
    first = np.flatnonzero(np.append(True, track[1:] != track[:-1]))
    last = np.append(first[1:], len(track)) - 1
    names = track[first]
    at = np.minimum(np.searchsorted(names, parent[first]), len(names) - 1)
    known = (parent[first] > 0) & (names[at] == parent[first])
    gap = time[first] - time[last[at]]
    known &= (gap > 0) & (gap <= max_gap_h)
    birth = np.where(known, time[first] - gap / 2, np.nan)
    return birth[np.searchsorted(names, track)]
