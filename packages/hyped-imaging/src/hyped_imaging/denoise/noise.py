"""Estimating camera noise in one plane: its standard deviation, and how its variance grows with the
signal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hyped_core.errors import InvalidDataError

LAPLACIAN = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6.0
"""Diagonal second difference (Immerkaer 1996): blind to planes and edges along the axes, unit gain on white
noise."""


@dataclass(frozen=True, slots=True)
class NoiseModel:
    """Variance = gain x mean + offset, camera units."""

    gain: float
    offset: float

    def sigma(self, mean: float) -> float:
        """Standard deviation at a mean intensity."""
        return float(np.sqrt(max(self.gain * mean + self.offset, 0.0)))


def check_stack(stack: npt.NDArray) -> npt.NDArray[np.float32]:
    """A stack (t, y, x) as float32.

    Raises
    ------
    InvalidDataError
        Not three axes, not numbers, or NaN.
    """
    stack = np.asarray(stack)
    if stack.ndim != 3 or 0 in stack.shape or stack.dtype.kind not in "uif":
        raise InvalidDataError(
            f"stack is {stack.dtype} {stack.shape}, expected numbers (t, y, x)", where="denoise"
        )
    if stack.dtype.kind == "f" and not np.isfinite(stack).all():
        raise InvalidDataError(
            "the stack holds NaN or infinite pixels", where="denoise", mend="fill them before denoising"
        )
    return stack.astype(np.float32)


def residuals(plane: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The plane under `LAPLACIAN`, cropped to where it is defined; the plane's noise where there is no
    signal."""
    import cv2

    if min(plane.shape) < 3:
        return np.zeros((0, 0), np.float32)
    return cv2.filter2D(plane, cv2.CV_32F, LAPLACIAN)[1:-1, 1:-1]


def robust_sigma(values: npt.NDArray[np.float32]) -> float:
    """1.4826 x the median absolute value; 0 for nothing."""
    return 1.4826 * float(np.median(np.abs(values))) if values.size else 0.0


def noise_sigma(plane: npt.NDArray[np.float32]) -> float:
    """Robust standard deviation of the noise, camera units.

    Noise that is alike in neighbouring pixels hides from `LAPLACIAN`, so the largest of the estimates on the
    plane and on its four subsamples of every second pixel is taken; for white noise they agree.
    """
    parts = [plane] + [np.ascontiguousarray(plane[a::2, b::2]) for a in (0, 1) for b in (0, 1)]
    return max(robust_sigma(residuals(part)) for part in parts)


def fit_noise(plane: npt.NDArray[np.float32], bins: int = 24) -> NoiseModel:
    """Variance against intensity: robust sigma in equally filled bins of the local mean, fitted by a line.

    The gain is at least 0; with fewer than three usable bins the noise is taken as constant.
    """
    import cv2

    values = residuals(plane).ravel()
    overall = robust_sigma(values) ** 2
    if values.size < 50 * bins:
        return NoiseModel(0.0, overall)
    mean = cv2.blur(plane, (3, 3))[1:-1, 1:-1].ravel()
    order = np.argsort(mean, kind="stable")
    means, variances = [], []
    for rows in np.array_split(order, bins):
        sigma = robust_sigma(values[rows])
        if sigma > 0:
            means.append(float(mean[rows].mean()))
            variances.append(sigma**2)
    x, y = np.array(means), np.array(variances)
    if len(x) < 3 or np.ptp(x) < 1e-6 * max(abs(x).max(), 1.0):
        return NoiseModel(0.0, overall)
    gain, offset = line(x, y)
    return NoiseModel(gain, offset) if gain > 0 else NoiseModel(0.0, overall)


def line(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Slope (at least 0) and intercept by the median of pairwise slopes (Theil and Sen): outliers do not
    count."""
    i, j = np.triu_indices(len(x), k=1)
    apart = np.abs(x[j] - x[i]) > 1e-9
    slope = max(float(np.median((y[j] - y[i])[apart] / (x[j] - x[i])[apart])), 0.0) if apart.any() else 0.0
    return slope, float(np.median(y - slope * x))
