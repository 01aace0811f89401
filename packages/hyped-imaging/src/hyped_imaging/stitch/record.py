"""The record of a stitched scene as plain data: every pair's shift, every tile's place, the illumination."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_imaging.readers.czi import CziFile
from hyped_imaging.stitch.flatfield import Flatfield
from hyped_imaging.stitch.layout import Layout
from hyped_imaging.stitch.params import StitchParams
from hyped_imaging.stitch.plan import ScenePlan
from hyped_imaging.stitch.register import PairShift

if TYPE_CHECKING:
    from hyped_imaging.stitch.calibrate import Calibration


def pair_record(
    pair: PairShift, layout: Layout, k: int, seam_before: float, seam: float
) -> dict[str, Any]:
    """Shift, correlation, whether it was used, its residual and its seam's error, of pair ``k`` of the
    layout."""
    used = bool(layout.used[k])
    return {
        "tiles": [pair.first, pair.second],
        "shift_px": [round(value, 3) for value in pair.shift],
        "correlation": round(pair.correlation, 4),
        "used": used,
        "residual_px": round(float(np.hypot(*layout.residuals[k])), 3) if used else None,
        "seam_error_before": _rounded(seam_before),
        "seam_error": _rounded(seam),
    }


def _rounded(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def tile_records(czi: CziFile, plan: ScenePlan, layout: Layout, corners: npt.NDArray) -> list[dict[str, Any]]:
    """Stage (absolute), refined (relative to the frame) and used integer position of every tile, x and y in
    pixels."""
    rows = czi.tiles(plan.scene.index)
    return [
        {
            "m": int(row.m),
            "stage_x": int(row.x), "stage_y": int(row.y), "w": int(row.w), "h": int(row.h),
            "x": round(float(layout.positions[k, 1]), 3), "y": round(float(layout.positions[k, 0]), 3),
            "used_x": int(corners[k, 1]), "used_y": int(corners[k, 0]),
        }
        for k, row in enumerate(rows.itertuples())
    ]  # fmt: skip


def illumination_record(plan: ScenePlan, flats: list[Flatfield] | None) -> dict[str, Any] | None:
    """Offset, unevenness and number of tiles by channel; None where the illumination was left as it is."""
    if flats is None:
        return None
    return {
        name: {
            "offset": round(flat.offset, 3),
            "unevenness": round(flat.unevenness, 4),
            "n_tiles": flat.n_tiles,
        }
        for name, flat in zip(plan.channels, flats, strict=True)
    }


def offset_note(calibration: Calibration, params: StitchParams) -> dict[str, float]:
    """The movie's attribute ``offset``: what of the camera's offset it still holds; empty where unknown."""
    if not calibration.gains.size:
        return {}
    return {"offset": 0.0 if params.subtract_offset else round(float(calibration.offset[0]), 3)}


def level_record(plan: ScenePlan, levels: dict[int, tuple[list[list[int]], int]]) -> dict[str, Any]:
    """By channel: smallest and largest value of the raw tiles, share of saturated pixels over all frames and in
    the worst, and frames that show one value only.

    ``levels``: frame -> (`Fuser.levels` as lists, pixels a channel).
    """
    out = {}
    for c, name in enumerate(plan.channels):
        seen = {frame: (*rows[c], pixels) for frame, (rows, pixels) in levels.items() if pixels}
        shares = [saturated / pixels for saturated, _, _, pixels in seen.values()]
        out[name] = {
            "lowest": min((low for _, low, _, _ in seen.values()), default=None),
            "highest": max((high for _, _, high, _ in seen.values()), default=None),
            "saturated": round(float(np.mean(shares)), 9) if shares else 0.0,
            "saturated_worst": round(max(shares, default=0.0), 9),
            "constant_frames": [frame for frame, (_, low, high, _) in seen.items() if low == high],
        }
    return out
