"""What the classical denoisers know of noise: variance against intensity, and its likeness in neighbouring pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NORM = np.float32(6.0)
"""Of the diagonal second difference, the mask 1 -2 1, -2 4 -2, 1 -2 1 (Immerkaer 1996): divided by it, it has unit gain
on white noise; it is blind to planes and edges along the axes."""
CORRELATED = 1.5
"""Ratio of the noise that every second pixel shows to what neighbours show from which noise counts as correlated. On
public images it is 1.1 to 1.3 for confocal and two-photon microscopes (structure adds some), 5 to 6 for wide-field."""


@dataclass(frozen=True, slots=True)
class NoiseModel:
    """Noise of one plane.

    Attributes
    ----------
    gain, offset : variance = gain x mean + offset, camera units.
    variance : mean of the variance over the plane's pixels.
    correlation : between the noise of neighbouring pixels, 0 (white) to 0.9; it falls with distance as its power.
    """

    gain: float
    offset: float
    variance: float = 0.0
    correlation: float = 0.0

    def sigma(self, mean: float) -> float:
        """Standard deviation at a mean intensity."""
        return float(np.sqrt(max(self.gain * mean + self.offset, 0.0)))


def residuals(plane: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Diagonal second differences of the plane, where they are defined: its noise where there is no signal."""
    if min(plane.shape) < 3:
        return np.zeros((0, 0), np.float32)
    down = plane[:-2] - 2 * plane[1:-1] + plane[2:]  # the mask is a product of second differences
    return (down[:, :-2] - 2 * down[:, 1:-1] + down[:, 2:]) / NORM


def robust_sigma(values: npt.NDArray[np.float32]) -> float:
    """1.4826 x the median absolute value; 0 for nothing."""
    return 1.4826 * float(np.median(np.abs(values))) if values.size else 0.0


def noise_sigma(plane: npt.NDArray[np.float32]) -> float:
    """Robust standard deviation of the noise, camera units.

    Noise that is alike in neighbouring pixels hides from `residuals`, so the largest of the estimates on the plane and
    on its four subsamples of every second pixel is taken; for white noise they agree.
    """
    return max(robust_sigma(residuals(part)) for part in (plane, *_subsamples(plane)))


def fit_noise(plane: npt.NDArray[np.float32], bins: int = 24) -> NoiseModel:
    """Noise against intensity: robust variance in equally filled bins of the local mean, fitted by a line.

    The gain is at least 0; with fewer than three usable bins the noise is taken as constant. Where every second pixel
    shows half as much noise again as neighbours do, the noise is correlated: its variance is then that of every third
    pixel, and its correlation the one that hides the rest of it from neighbours.
    """
    means, variances = _by_intensity(plane, bins)
    if len(means) < 3 or np.ptp(means) < 1e-6 * max(np.abs(means).max(), 1.0):
        gain, offset = 0.0, robust_sigma(residuals(plane)) ** 2
    else:
        gain, offset = line(means, variances)
        offset = offset if gain > 0 else robust_sigma(residuals(plane)) ** 2
    fine = float(variances.mean()) if len(variances) else offset
    if fine <= 0 or _apparent(plane, 2, bins) <= CORRELATED * fine:
        return NoiseModel(gain, offset, fine, 0.0)
    whole = max(_apparent(plane, 3, bins), fine)
    grid = np.linspace(0.0, 0.9, 91)
    return NoiseModel(gain, offset, whole, float(grid[np.argmin(np.abs(_passed(grid) - fine / whole))]))


def _subsamples(plane: npt.NDArray[np.float32], step: int = 2) -> list[npt.NDArray[np.float32]]:
    return [np.ascontiguousarray(plane[a::step, b::step]) for a in range(step) for b in range(step)]


def _apparent(plane: npt.NDArray[np.float32], step: int, bins: int) -> float:
    """Mean variance of the residuals of every ``step``-th pixel; 0 where there are too few pixels."""
    seen = [variances.mean() for _, variances in (_by_intensity(part, bins) for part in _subsamples(plane, step))
            if len(variances)]  # fmt: skip
    return float(np.mean(seen)) if seen else 0.0


def _by_intensity(plane: npt.NDArray[np.float32], bins: int) -> tuple[npt.NDArray, npt.NDArray]:
    """Mean and robust variance of the residuals in bins of the local mean that hold some."""
    values = residuals(plane).ravel()
    if values.size < 50 * bins:
        sigma = robust_sigma(values)
        return (np.array([float(plane.mean())]), np.array([sigma**2])) if sigma > 0 else (np.zeros(0), np.zeros(0))
    rows = plane[:-2] + plane[1:-1] + plane[2:]
    mean = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]).ravel() / np.float32(9)
    order = np.argsort(mean, kind="stable")
    found = [(float(mean[rows].mean()), robust_sigma(values[rows]) ** 2) for rows in np.array_split(order, bins)]
    usable = np.array([pair for pair in found if pair[1] > 0]).reshape(-1, 2)
    return usable[:, 0], usable[:, 1]


def _passed(correlation: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Share of the variance of noise with correlation r^|distance| along each axis that `residuals` lets through."""
    return ((6 - 8 * correlation + 2 * correlation**2) / 6) ** 2


def line(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Slope (at least 0) and intercept by the median of pairwise slopes (Theil and Sen): outliers do not count."""
    i, j = np.triu_indices(len(x), k=1)
    apart = np.abs(x[j] - x[i]) > 1e-9
    slope = max(float(np.median((y[j] - y[i])[apart] / (x[j] - x[i])[apart])), 0.0) if apart.any() else 0.0
    return slope, float(np.median(y - slope * x))
