"""Outlines of nuclei as short polygons of whole numbers, and what the nuclei table knows of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_bench.report.movie_frames import View

if TYPE_CHECKING:
    import pandas as pd

UNIT = 2
"""Coordinates are halves of a shown pixel."""
SPACING = 4.0
"""Shown pixels from corner to corner along an outline."""
CORNERS = (7, 20)


def polygons(mask: npt.NDArray) -> dict[int, npt.NDArray[np.int64]]:
    """Label -> corners (n, 2) as (x, y), in units of half a pixel from the upper left corner of ``mask``.

    Each outline is the longest contour of its label (``skimage.measure.find_contours`` at 0.5), reduced to
    corners at equal steps along it. Labels without a contour (one pixel wide at the border) get a square.
    """
    from scipy.ndimage import find_objects
    from skimage.measure import find_contours

    found: dict[int, npt.NDArray[np.int64]] = {}
    values = np.unique(mask)
    values = values[values > 0]
    if not values.size:
        return found
    dense = np.searchsorted(values, mask) + 1
    dense[mask <= 0] = 0
    for number, box in enumerate(find_objects(dense), start=1):
        own = np.pad(dense[box] == number, 1).astype(np.float32)
        contour = max(find_contours(own, 0.5), key=len)
        corners = _resampled(contour[:-1])
        corners += (box[0].start - 0.5, box[1].start - 0.5)
        found[int(values[number - 1])] = np.rint(corners[:, ::-1] * UNIT).astype(np.int64)
    return found


def _resampled(contour: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Corners of a closed line (n, 2) at equal steps along it."""
    closed = np.concatenate([contour, contour[:1]])
    way = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    count = int(np.clip(round(way[-1] / SPACING), *CORNERS))
    places = np.arange(count) * way[-1] / count
    return np.stack([np.interp(places, way, closed[:, k]) for k in (0, 1)], axis=1)


def nuclei_of_frame(
    mask: npt.NDArray | None, rows: pd.DataFrame | None, view: View, pixel_size_um: float, phases: list[str]
) -> list[list[int]]:
    """What the page draws of a frame: per nucleus ``[track, phase, x, y, x0, y0, dx1, dy1, ...]``.

    Parameters
    ----------
    mask
        Labels of the view at the size shown, None where the frame was not segmented: then no corners follow.
    rows
        Rows of the nuclei table of this frame, None without one: then track is 0 and phase -1.
    phases
        Names that ``phase`` is a position in; -1 where a nucleus has none of them.
    """
    outlines = {} if mask is None else polygons(mask)
    entries: list[list[int]] = []
    drawn: set[int] = set()
    if rows is not None:
        place = {name: k for k, name in enumerate(phases)}
        height, width = view.size
        columns = (rows[c].to_numpy() for c in ("label", "track_id", "phase", "y_um", "x_um"))
        for label, track, phase, y_um, x_um in zip(*columns, strict=True):
            y, x = (
                round(((um / (pixel_size_um or 1.0)) + 0.5 - part.start) / view.factor * UNIT)
                for um, part in ((y_um, view.y), (x_um, view.x))
            )
            corners = outlines.get(int(label))
            inside = 0 <= y < height * UNIT and 0 <= x < width * UNIT
            if corners is None and (mask is not None or not inside):
                continue
            drawn.add(int(label))
            entries.append([int(track), place.get(str(phase), -1), x, y, *_steps(corners)])
    for label, corners in outlines.items():
        if label not in drawn:
            x, y = (int(v) for v in np.rint(corners.mean(axis=0)))
            entries.append([0, -1, x, y, *_steps(corners)])
    return entries


def _steps(corners: npt.NDArray[np.int64] | None) -> list[int]:
    """The first corner, then steps from corner to corner: short numbers."""
    if corners is None:
        return []
    return [int(v) for v in np.diff(corners, axis=0, prepend=0).ravel()]
