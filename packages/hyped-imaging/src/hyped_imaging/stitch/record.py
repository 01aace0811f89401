"""The record of a stitched scene as plain data: every pair's shift, every tile's place, the illumination."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hyped_imaging.readers.czi import CziFile
from hyped_imaging.stitch.flatfield import Flatfield
from hyped_imaging.stitch.layout import Layout
from hyped_imaging.stitch.plan import ScenePlan
from hyped_imaging.stitch.register import PairShift


def pair_record(pair: PairShift, layout: Layout, k: int) -> dict[str, Any]:
    """Shift, correlation, whether it was used and its residual, of pair ``k`` of the layout."""
    used = bool(layout.used[k])
    return {
        "tiles": [pair.first, pair.second],
        "shift_px": [round(value, 3) for value in pair.shift],
        "correlation": round(pair.correlation, 4),
        "used": used,
        "residual_px": round(float(np.hypot(*layout.residuals[k])), 3) if used else None,
    }


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
