"""Background of a plane at the scale of many nuclei, from what is not nucleus."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def background_map(
    plane: npt.NDArray[np.float32], foreground: npt.NDArray[np.bool_], block_px: int
) -> npt.NDArray[np.float32]:
    """Smooth background (y, x): medians of background pixels by block, filled, smoothed and interpolated.

    Blocks without background take their neighbours' value; a plane without any takes its 5th percentile.
    """
    import cv2

    height, width = plane.shape
    rows, columns = max(1, round(height / block_px)), max(1, round(width / block_px))
    values = np.full((rows, columns), np.nan, np.float32)
    weights = np.zeros((rows, columns), np.float32)
    y_edges = np.linspace(0, height, rows + 1).astype(int)
    x_edges = np.linspace(0, width, columns + 1).astype(int)
    for i in range(rows):
        for j in range(columns):
            window = slice(y_edges[i], y_edges[i + 1]), slice(x_edges[j], x_edges[j + 1])
            free = plane[window][~foreground[window]]
            if free.size:
                values[i, j] = np.median(free)
                weights[i, j] = free.size
    if not weights.any():
        return np.full(plane.shape, np.percentile(plane, 5), np.float32)
    size = (0, 0)
    near = cv2.GaussianBlur(weights, size, 1.0, borderType=cv2.BORDER_REPLICATE)
    mean = cv2.GaussianBlur(np.nan_to_num(values) * weights, size, 1.0, borderType=cv2.BORDER_REPLICATE)
    overall = float(np.sum(np.nan_to_num(values) * weights) / weights.sum())
    filled = np.where(near > 1e-3, mean / np.maximum(near, 1e-3), overall).astype(np.float32)
    return cv2.resize(filled, (width, height), interpolation=cv2.INTER_LINEAR)


def noise_of(values: npt.NDArray) -> tuple[float, float]:
    """(median, sigma) of values of which the lower half is free of signal: 1.4826 times the median
    deviation below."""
    if values.size == 0:
        return 0.0, 0.0
    middle = float(np.median(values))
    below = values[values <= middle]
    return middle, 1.4826 * float(np.median(middle - below))
