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
    return cv2.resize(background_grid(plane, foreground, block_px), (width, height), interpolation=cv2.INTER_LINEAR)


def background_grid(plane: npt.NDArray, foreground: npt.NDArray[np.bool_], block_px: int) -> npt.NDArray[np.float32]:
    """`background_map` at the middles of its blocks, (rows, columns) float32; ``plane`` holds no NaN."""
    import cv2

    from hyped_imaging.segment.kernels.medians import block_medians

    plane = np.asarray(plane)
    if plane.dtype not in (np.uint8, np.uint16, np.float32):
        plane = plane.astype(np.float32)
    height, width = plane.shape
    rows, columns = max(1, round(height / block_px)), max(1, round(width / block_px))
    y_edges = np.linspace(0, height, rows + 1).astype(int)
    x_edges = np.linspace(0, width, columns + 1).astype(int)
    values, counts = block_medians(plane, np.asarray(foreground, dtype=bool), y_edges, x_edges)
    if not counts.any():
        return np.full((1, 1), np.percentile(plane.astype(np.float32), 5), np.float32)
    weights = counts.astype(np.float32)
    weighted = np.nan_to_num(values) * weights
    size = (0, 0)
    near = cv2.GaussianBlur(weights, size, 1.0, borderType=cv2.BORDER_REPLICATE)
    mean = cv2.GaussianBlur(weighted, size, 1.0, borderType=cv2.BORDER_REPLICATE)
    overall = float(np.sum(weighted) / weights.sum())
    return np.where(near > 1e-3, mean / np.maximum(near, 1e-3), overall).astype(np.float32)


def noise_of(values: npt.NDArray) -> tuple[float, float]:
    """(median, sigma) of values of which the lower half is free of signal: 1.4826 times the median
    deviation below."""
    if values.size == 0:
        return 0.0, 0.0
    middle = float(np.median(values))
    below = values[values <= middle]
    return middle, 1.4826 * float(np.median(middle - below))
