"""Measuring nuclei: one row a nucleus with place, shape and background-corrected intensity a channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_core.errors import InvalidDataError
from hyped_imaging.segment.background import background_grid
from hyped_imaging.segment.planes import check_finite

if TYPE_CHECKING:
    import pandas as pd

SHAPE_COLUMNS = (
    "label", "y_px", "x_px", "y_um", "x_um", "area_px", "area_um2", "eccentricity", "major_um", "minor_um",
    "orientation_rad", "border",
)  # fmt: skip
"""Columns of `measure` before the intensities."""


def measure(
    labels: npt.NDArray,
    planes: npt.NDArray,
    channels: Sequence[str],
    pixel_size_um: float,
    *,
    block_px: int = 64,
    halo_px: int = 3,
) -> pd.DataFrame:
    """One row a label of one frame, sorted by label.

    Parameters
    ----------
    labels : (y, x) integers, 0 is background.
    planes : (c, y, x) in camera units, one a name in ``channels``. Fastest as uint8 or uint16.
    pixel_size_um : edge of a pixel.
    block_px : side of the blocks in which the background's median is taken.
    halo_px : pixels around nuclei that are not counted as background.

    Returns
    -------
    `SHAPE_COLUMNS`, then ``mean_<channel>`` and ``integrated_<channel>``: mean and sum over the nucleus of the
    pixels minus the local background. Eccentricity, the full axes and the orientation are those of the ellipse
    with the same second moments; orientation is the angle of the long axis from the y axis towards the x axis,
    -pi/2 to pi/2, as in scikit-image.

    Raises
    ------
    InvalidDataError
        Labels and planes differ in shape, labels are no integers or negative, planes are no numbers; NaN.
    """
    import pandas as pd

    from hyped_imaging.segment.kernels import moments

    labels, planes = np.asarray(labels), np.asarray(planes)
    if planes.ndim != 3 or labels.shape != planes.shape[1:] or len(channels) != planes.shape[0]:
        raise InvalidDataError(
            f"labels {labels.shape} do not fit planes {planes.shape} of {len(channels)} channels",
            where="measure",
            mend="give labels (y, x) and planes (c, y, x) of one frame",
        )
    if planes.dtype.kind not in "uif":
        raise InvalidDataError(f"planes are {planes.dtype}, expected numbers", where="measure")
    if planes.dtype not in (np.uint8, np.uint16, np.float32):
        planes = planes.astype(np.float32)
    for name, plane in zip(channels, planes, strict=True):
        check_finite(plane, name)
    numbers, found = _numbered(labels)
    foreground = _with_halo(numbers, halo_px)
    grids = [background_grid(plane, foreground, block_px) for plane in planes] if len(found) else []
    stacked = _stacked(grids, len(planes))
    sums = moments.sums_of_labels(numbers, np.ascontiguousarray(planes), stacked, int(numbers.max(initial=0)))
    present = sums[:, moments.AREA] > 0
    sums = sums[present]
    area = sums[:, moments.AREA]
    y = sums[:, moments.SUM_Y] / area
    x = sums[:, moments.SUM_X] / area
    yy = sums[:, moments.SUM_YY] / area - y * y + 1 / 12  # 1/12 is a pixel's own extent
    xx = sums[:, moments.SUM_XX] / area - x * x + 1 / 12
    xy = sums[:, moments.SUM_XY] / area - x * y
    y, x = y + sums[:, moments.TOP], x + sums[:, moments.LEFT]
    half = np.sqrt(((yy - xx) / 2) ** 2 + xy**2)
    major, minor = (yy + xx) / 2 + half, (yy + xx) / 2 - half
    table: dict[str, npt.NDArray] = {
        "label": found[present[1:]],
        "y_px": y,
        "x_px": x,
        "y_um": y * pixel_size_um,
        "x_um": x * pixel_size_um,
        "area_px": area.astype(np.int64),
        "area_um2": area * pixel_size_um**2,
        "eccentricity": np.sqrt(np.clip(1 - minor / np.maximum(major, 1e-12), 0, 1)),
        "major_um": 4 * np.sqrt(major) * pixel_size_um,
        "minor_um": 4 * np.sqrt(np.maximum(minor, 0)) * pixel_size_um,
        "orientation_rad": 0.5 * np.arctan2(2 * xy, yy - xx),
        "border": sums[:, moments.BORDER] > 0,
    }
    for index, name in enumerate(channels):
        total = sums[:, moments.INTENSITIES + index].copy()
        table[f"mean_{name}"] = total / area
        table[f"integrated_{name}"] = total
    return pd.DataFrame(table)


def _numbered(labels: npt.NDArray) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Labels as int32 that are not much higher than there are pixels, and what 1, 2, ... stand for."""
    if labels.dtype.kind not in "iu" or (labels.size and labels.min() < 0):
        raise InvalidDataError(
            f"labels are {labels.dtype}, expected integers from 0", where="measure", mend="give labels (y, x)"
        )
    highest = int(labels.max(initial=0))
    if highest <= max(10_000, labels.size // 64):
        return np.ascontiguousarray(labels, dtype=np.int32), np.arange(1, highest + 1)
    found, numbers = np.unique(labels, return_inverse=True)
    first = 0 if found[0] == 0 else 1
    numbers = numbers.reshape(labels.shape).astype(np.int32) + np.int32(first)
    return numbers, found[1 - first :].astype(np.int64)


def _with_halo(labels: npt.NDArray[np.int32], halo_px: int) -> npt.NDArray[np.bool_]:
    import cv2

    foreground = labels > 0
    if not halo_px or not labels.size:
        return foreground
    kernel = np.ones((2 * halo_px + 1, 2 * halo_px + 1), np.uint8)
    return cv2.dilate(foreground.view(np.uint8), kernel).view(bool)


def _stacked(grids: list[npt.NDArray[np.float32]], count: int) -> npt.NDArray[np.float32]:
    """The grids in one array; those of one value (no background in the plane) are spread over the others' size."""
    if not grids:
        return np.zeros((count, 1, 1), np.float32)
    shape = max(grid.shape for grid in grids)
    return np.stack([np.broadcast_to(grid, shape) for grid in grids])
