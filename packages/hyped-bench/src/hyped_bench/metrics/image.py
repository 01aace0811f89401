"""Scores of denoised images: against a clean reference, and the paper's protocol without one."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from hyped_core.errors import InvalidDataError

PAPER_OFFSET_DB = 20.0 * math.log10(255.0)
"""What Table 4 adds to a PSNR: its images lie in [0, 1] while the peak was taken as 255 (48.13 dB)."""

SnrFormula = Literal["mean_over_std", "power"]


def _pair(image: npt.ArrayLike, reference: npt.ArrayLike) -> tuple[npt.NDArray, npt.NDArray]:
    first, second = np.asarray(image, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if first.shape != second.shape:
        raise InvalidDataError(
            f"the image has shape {first.shape}, its reference {second.shape}",
            mend="a denoiser returns the shape it was given",
        )
    if first.size == 0:
        raise InvalidDataError("the image has no pixels")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InvalidDataError("the image or its reference has NaN or infinity", mend="return finite intensities")
    return first, second


def mse(image: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Mean of (image - reference)^2 in squared units of the input; 0 for the reference itself (paper, Table 4).

    Doing nothing: the unchanged noisy image scores its noise variance against a clean reference, and 0 against itself.

    >>> mse([[0.0, 2.0]], [[0.0, 0.0]])
    2.0
    """
    first, second = _pair(image, reference)
    return float(np.mean((first - second) ** 2))


def psnr(image: npt.ArrayLike, reference: npt.ArrayLike, data_range: float) -> float | None:
    """10 log10(data_range^2 / MSE) in dB; None where the MSE is 0 (the ratio has no bound) (paper, Table 4).

    Doing nothing: the unchanged noisy image scores 10 log10(data_range^2 / noise variance) against a clean reference;
    against itself, the paper's way, it has no value, and hardly changing it scores without bound.

    ``data_range`` is the width of the scale the images live on (255 for 8 bits, 1 for unit range); it is
    never guessed, because a wrong one adds a constant (see `PAPER_OFFSET_DB`).

    >>> round(psnr([[0.0, 1.0]], [[0.0, 0.9]], data_range=1.0), 4)
    23.0103
    """
    if data_range <= 0:
        raise InvalidDataError(f"data_range must be above 0, not {data_range}")
    error = mse(image, reference)
    return None if error == 0 else float(10.0 * math.log10(data_range**2 / error))


def ssim(image: npt.ArrayLike, reference: npt.ArrayLike, data_range: float) -> float | None:
    """Mean structural similarity (Wang et al. 2004; 7x7 windows, K1=0.01, K2=0.03) of one plane.

    scikit-image's implementation with its defaults; 1 for the reference itself, None for planes below 7x7. Doing
    nothing: the unchanged noisy image scores 1 against itself (the paper's way), and against a clean reference what
    its noise leaves of the structure.
    """
    from skimage.metrics import structural_similarity

    first, second = _pair(image, reference)
    if min(first.shape) < 7:
        return None
    return float(structural_similarity(first, second, data_range=data_range))


def unit_range(
    plane: npt.ArrayLike, *, clip: float = 98.0, rule: Literal["percentile", "share"] = "percentile"
) -> tuple[npt.NDArray[np.float64], float, float]:
    """Clip bright intensities and scale to [0, 1] (paper, imaging benchmark, step 1).

    The paper clips "intensities above 98 %": ``percentile`` takes the 98th percentile of the pixels,
    ``share`` takes 98 % of the maximum. Returns the scaled array and the (low, high) that map to 0 and 1.
    """
    array = np.asarray(plane, dtype=np.float64)
    low = float(array.min())
    high = float(np.percentile(array, clip)) if rule == "percentile" else float(array.max()) * clip / 100.0
    if high <= low:
        high = low + 1.0
    return np.clip((array - low) / (high - low), 0.0, 1.0), low, high


def signal_to_noise(
    image: npt.ArrayLike, foreground: npt.ArrayLike, formula: SnrFormula = "mean_over_std"
) -> float | None:
    """Ratio of foreground signal to background noise; the paper gives neither formula nor unit.

    ``mean_over_std``: mean of the foreground over the standard deviation of the background (an amplitude).
    ``power``: mean square of the foreground over the mean square of the background. Doing nothing scores the noisy
    image's own ratio; a blur raises it without bound, and so does a constant added to the image, so it is no measure
    of truth. None where either part is empty or the background has no noise.
    """
    array, mask = np.asarray(image, dtype=np.float64), np.asarray(foreground) > 0
    if array.shape != mask.shape:
        raise InvalidDataError(f"image {array.shape} and foreground {mask.shape} differ in shape")
    if not mask.any() or mask.all():
        return None
    signal, noise = array[mask], array[~mask]
    if formula == "power":
        below = float(np.mean(noise**2))
        return None if below == 0 else float(np.mean(signal**2)) / below
    spread = float(noise.std())
    return None if spread == 0 else float(signal.mean()) / spread


def signal_to_error(image: npt.ArrayLike, reference: npt.ArrayLike) -> float | None:
    """10 log10(variance of the reference / mean square error) in dB: the signal-to-noise ratio against a known truth.

    The variance leaves the camera's offset out of the signal. The unchanged noisy image scores its own signal-to-noise
    ratio; a constant at the reference's mean scores 0. None where the error is 0 or the reference is constant.

    >>> round(signal_to_error([[0.0, 2.0]], [[0.0, 1.0]]), 4)
    -3.0103
    """
    first, second = _pair(image, reference)
    error, signal = float(np.mean((first - second) ** 2)), float(second.var())
    return None if error == 0 or signal == 0 else 10.0 * math.log10(signal / error)


def decibel(ratio: float | None, formula: SnrFormula = "mean_over_std") -> float | None:
    """20 log10 of an amplitude ratio, 10 log10 of a power ratio; None for None and for ratios not above 0.

    A unit, no score of its own: doing nothing scores that of its ratio, and equal amplitudes 0.
    """
    if ratio is None or ratio <= 0:
        return None
    return (10.0 if formula == "power" else 20.0) * math.log10(ratio)
