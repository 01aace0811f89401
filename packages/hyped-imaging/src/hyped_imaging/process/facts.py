"""The numbers of the summary: what each scene holds, and what in it deserves a second look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

_FEW = 10
_SHORT_H = 2.0
_SATURATED = 0.001


def scene_facts(record: Mapping[str, Any], nuclei: pd.DataFrame, missing: Mapping[int, str]) -> dict[str, Any]:
    """Counts, tracks, phases and seams of one scene; ``record`` is that of stitching or importing it."""
    frames = int(record.get("n_frames", 0))
    tracked = nuclei[nuclei["track_id"] > 0]
    by_frame = nuclei.groupby("frame").size().reindex(range(frames), fill_value=0).drop(list(missing), errors="ignore")
    tracks = tracked.groupby("track_id")["time_h"].agg(["min", "max", "size"])
    length = tracks["max"] - tracks["min"]
    called = nuclei[nuclei["phase"].astype(str) != ""]
    shares = called["phase"].value_counts(normalize=True)
    return {
        "frames": frames,
        "missing_frames": {str(k): v for k, v in sorted(missing.items())},
        "first_h": record.get("time_first_h"),
        "last_h": record.get("time_last_h"),
        "nuclei": len(nuclei),
        "nuclei_per_frame": _three(by_frame.to_numpy(dtype=float)),
        "frames_without_nuclei": [int(k) for k in by_frame.index[by_frame == 0]],
        "tracks": len(tracks),
        "track_hours": _three(length.to_numpy(dtype=float)),
        "divisions": int(tracked.loc[tracked["parent_id"] > 0, "parent_id"].nunique()),
        "unassigned": int((nuclei["track_id"] == 0).sum()),
        "phases": {str(name): round(float(value), 4) for name, value in sorted(shares.items())},
        "seam_error_before": record.get("seam_error_before"),
        "seam_error": record.get("seam_error"),
        "residual_px": record.get("residual_px"),
        "pairs_measured": [record.get("n_pairs_measured"), record.get("n_pairs")],
        "missing_tiles": len(record.get("missing_tiles") or ()),
    }


def _three(values: Any) -> list[float]:
    """Lowest, median and highest."""
    if len(values) == 0:
        return []
    return [round(float(v), 3) for v in (np.min(values), np.median(values), np.max(values))]


def alerts(name: str, facts: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    """What a careful eye should look at, in words."""
    found = []
    if facts["missing_frames"]:
        found.append(f"{name}: {len(facts['missing_frames'])} frame(s) could not be read and are left out")
    if facts["missing_tiles"]:
        found.append(f"{name}: {facts['missing_tiles']} tile(s) are missing from frames")
    counts = facts["nuclei_per_frame"]
    if counts and counts[1] < _FEW:
        found.append(f"{name}: few nuclei (median of {counts[1]:g} a frame); is it the right channel?")
    if facts["frames_without_nuclei"]:
        found.append(f"{name}: no nuclei in frame(s) {_listed(facts['frames_without_nuclei'])}; are they dark?")
    measured, pairs = facts["pairs_measured"]
    if pairs and measured is not None and measured < pairs / 2:
        found.append(f"{name}: {pairs - measured} of {pairs} overlaps could not be measured; the stage's places stand")
    if facts["track_hours"] and facts["track_hours"][1] < _SHORT_H and facts["frames"] > 10:
        found.append(f"{name}: half of the tracks are shorter than {_SHORT_H:g} h; see max_speed_um_h")
    for channel, level in (record.get("levels") or {}).items():
        if level["saturated"] > _SATURATED:
            found.append(f"{name}: {100 * level['saturated']:.2g} % of {channel} is saturated")
    return found


def _listed(numbers: list[int], shown: int = 8) -> str:
    return ", ".join(map(str, numbers[:shown])) + (f" and {len(numbers) - shown} more" if len(numbers) > shown else "")
