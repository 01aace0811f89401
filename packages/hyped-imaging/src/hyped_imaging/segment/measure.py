"""Measuring nuclei: one row a nucleus with place, shape and background-corrected intensity a channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_core.errors import InvalidDataError
from hyped_imaging.segment.background import background_map
from hyped_imaging.segment.planes import check_finite

if TYPE_CHECKING:
    import pandas as pd

SHAPE_COLUMNS = (
    "label", "y_px", "x_px", "y_um", "x_um", "area_px", "area_um2", "eccentricity", "border",
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
    planes : (c, y, x) in camera units, one a name in ``channels``.
    pixel_size_um : edge of a pixel.
    block_px : side of the blocks in which the background's median is taken.
    halo_px : pixels around nuclei that are not counted as background.

    Returns
    -------
    `SHAPE_COLUMNS`, then ``mean_<channel>`` and ``integrated_<channel>``: mean and sum over the nucleus of
    the
    pixels minus the local background. Eccentricity is that of the ellipse with the same second moments.

    Raises
    ------
    InvalidDataError
        Labels and planes differ in shape; NaN.
    """
    import cv2
    import pandas as pd

    labels, planes = np.asarray(labels), np.asarray(planes)
    if planes.ndim != 3 or labels.shape != planes.shape[1:] or len(channels) != planes.shape[0]:
        raise InvalidDataError(
            f"labels {labels.shape} do not fit planes {planes.shape} of {len(channels)} channels",
            where="measure",
            mend="give labels (y, x) and planes (c, y, x) of one frame",
        )
    flat = np.flatnonzero(labels)
    found, index = np.unique(labels.ravel()[flat], return_inverse=True)
    n = len(found)
    y, x = np.divmod(flat, labels.shape[1])
    area = np.bincount(index, minlength=n).astype(np.float64)
    y_mean, x_mean = _mean(index, y, area), _mean(index, x, area)
    edge = (y == 0) | (x == 0) | (y == labels.shape[0] - 1) | (x == labels.shape[1] - 1)
    table: dict[str, npt.NDArray] = {
        "label": found.astype(np.int64),
        "y_px": y_mean,
        "x_px": x_mean,
        "y_um": y_mean * pixel_size_um,
        "x_um": x_mean * pixel_size_um,
        "area_px": area.astype(np.int64),
        "area_um2": area * pixel_size_um**2,
        "eccentricity": _eccentricity(index, y - y_mean[index], x - x_mean[index], area),
        "border": np.bincount(index, weights=edge, minlength=n) > 0,
    }
    foreground = labels > 0
    if halo_px and n:
        kernel = np.ones((2 * halo_px + 1, 2 * halo_px + 1), np.uint8)
        foreground = cv2.dilate(foreground.astype(np.uint8), kernel).astype(bool)
    for name, plane in zip(channels, planes, strict=True):
        check_finite(plane, name)
        values = plane.astype(np.float32)
        corrected = (values - background_map(values, foreground, block_px)).ravel()[flat]
        total = np.bincount(index, weights=corrected, minlength=n)
        table[f"mean_{name}"] = total / np.maximum(area, 1)
        table[f"integrated_{name}"] = total
    return pd.DataFrame(table)


def _mean(index: npt.NDArray, values: npt.NDArray, area: npt.NDArray) -> npt.NDArray[np.float64]:
    return np.bincount(index, weights=values, minlength=len(area)) / np.maximum(area, 1)


def _eccentricity(
    index: npt.NDArray, dy: npt.NDArray, dx: npt.NDArray, area: npt.NDArray
) -> npt.NDArray[np.float64]:
    """sqrt(1 - minor^2 / major^2) from the second moments; 1/12 is a pixel's own extent."""
    yy = _mean(index, dy * dy, area) + 1 / 12
    xx = _mean(index, dx * dx, area) + 1 / 12
    xy = _mean(index, dy * dx, area)
    half = np.sqrt(((yy - xx) / 2) ** 2 + xy**2)
    major, minor = (yy + xx) / 2 + half, (yy + xx) / 2 - half
    return np.sqrt(np.clip(1 - minor / np.maximum(major, 1e-12), 0, 1))
