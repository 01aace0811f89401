"""One plane: groups of alike patches, and of points of light, are filtered together, first cut off at the noise, then
weighted by what the first pass found, at several scales."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hyped_imaging.denoise.photon.filtering import filter_groups
from hyped_imaging.denoise.photon.fusion import fuse, halve, halved_noise
from hyped_imaging.denoise.photon.matching import PATCH, match_patches
from hyped_imaging.denoise.photon.points import point_groups
from hyped_imaging.denoise.physics import NoisePhysics

BAND = 32
"""Rows of reference patches that one thread does at a time; what is added up in which order hangs on it, and on no
number of threads."""
SMALLEST = 24
"""Least edge of a scale, in pixels."""
NOISELESS = 1e-9
"""Variance below which a plane is noise-free, as a share of the plane's own."""


@dataclass(frozen=True, slots=True)
class Passes:
    """How a plane is filtered (`hyped_imaging.denoise.photon.model.PhotonConfig` says what users set).

    Attributes
    ----------
    threshold, threshold_correlated : the first pass cuts off coefficients below this many standard deviations of their
        noise, where it is white and where it is correlated.
    shrink : factor on the noise variance in the later passes.
    first, later : patches in a group, powers of two.
    refinements : passes after the first, each guided by the one before.
    step, search : distance of reference patches, and how far matches may lie, in pixels.
    blur, blur_correlated : width of the Gaussian under which patches are compared in the first pass, pixels.
    low, high : where the scales meet (`fuse`).
    scales : how many scales.
    """

    threshold: float = 2.8
    threshold_correlated: float = 3.1
    shrink: float = 1.0
    first: int = 32
    later: int = 64
    refinements: int = 2
    step: int = 5
    search: int = 9
    blur: float = 1.0
    blur_correlated: float = 1.5
    low: float = 0.3
    high: float = 0.7
    scales: int = 3


def denoise_plane(
    plane: npt.NDArray[np.float32], physics: NoisePhysics, passes: Passes, threads: int = 1
) -> npt.NDArray[np.float32]:
    """(y, x) float32 with the noise ``physics`` -> the same without, float32, within the plane's range.

    Planes with an edge below 8 pixels, constant ones and such without noise come back as they are.
    """
    plane = np.asarray(plane, np.float32)
    zero = np.float32(np.median(plane))
    unit = np.float32(plane.std(dtype=np.float64))
    if min(plane.shape) < PATCH or unit <= 1e-7 * abs(zero) or unit == 0:
        return plane.copy()
    noise = physics.of_units(float(zero), float(unit))  # in these units no number hangs on the camera's scale
    if noise.floor <= NOISELESS:
        return plane.copy()
    unitless = np.ascontiguousarray((plane - zero) / unit)
    result = _scales(unitless, noise, passes, threads, 0)
    return np.clip(result * unit + zero, plane.min(), plane.max())


def _scales(
    plane: npt.NDArray[np.float32], noise: NoisePhysics, passes: Passes, threads: int, depth: int
) -> npt.NDArray[np.float32]:
    fine = filter_plane(plane, noise, passes, threads, max(2, passes.step - depth))
    if depth + 1 >= passes.scales or min(plane.shape) < 2 * SMALLEST:
        return fine
    coarse = _scales(halve(plane), halved_noise(noise), passes, threads, depth + 1)
    return fuse(fine, coarse, passes.low, passes.high)


def filter_plane(
    plane: npt.NDArray[np.float32], noise: NoisePhysics, passes: Passes, threads: int, step: int
) -> npt.NDArray[np.float32]:
    """All passes over one scale, reference patches ``step`` pixels apart."""
    from scipy.ndimage import gaussian_filter

    width = passes.blur_correlated if noise.correlated else passes.blur
    stack = plane[None]
    pilot = stack
    guide = gaussian_filter(plane, width)[None] if width > 0 else stack
    with ThreadPoolExecutor(threads) as pool:
        for number in range(1 + passes.refinements):
            pilot = _one_pass(stack, pilot, guide, noise, passes, step, number > 0, pool)
            guide = pilot
    return pilot[0]


def _one_pass(
    stack: npt.NDArray[np.float32],
    pilot: npt.NDArray[np.float32],
    guide: npt.NDArray[np.float32],
    noise: NoisePhysics,
    passes: Passes,
    step: int,
    wiener: bool,
    pool: ThreadPoolExecutor,
) -> npt.NDArray[np.float32]:
    rows, columns = corners(stack.shape[1], step), corners(stack.shape[2], step)
    spectrum, window = noise.spectrum.reshape(-1), patch_window()
    threshold = passes.threshold_correlated if noise.correlated else passes.threshold
    strength = passes.shrink if wiener else threshold
    count = passes.later if wiener else passes.first

    def band(start: int) -> tuple[int, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        mine = rows[start : start + BAND]
        top = max(0, int(mine[0]) - passes.search)
        bottom = min(stack.shape[1], int(mine[-1]) + PATCH + passes.search)
        part = slice(top, bottom)
        frames = np.zeros(1, np.int32)
        index, found = match_patches(guide[:, part], 0, mine - np.int32(top), columns, passes.search, frames, count)
        above, below = np.zeros((2, 1, bottom - top, stack.shape[2]), np.float32)
        filter_groups(
            stack[:, part], pilot[:, part], index, found, spectrum, noise.gain, noise.offset, noise.floor,
            strength, wiener, window, above, below,
        )  # fmt: skip
        return top, above, below

    numerator, denominator = np.zeros_like(stack), np.zeros_like(stack)
    for top, above, below in pool.map(band, range(0, len(rows), BAND)):
        numerator[:, top : top + above.shape[1]] += above
        denominator[:, top : top + above.shape[1]] += below
    for index, found in point_groups(guide[0], noise, passes.first):
        filter_groups(
            stack, pilot, index, found, spectrum, noise.gain, noise.offset, noise.floor,
            strength, wiener, window, numerator, denominator,
        )  # fmt: skip
    return numerator / denominator


def corners(edge: int, step: int) -> npt.NDArray[np.int32]:
    """Corners of reference patches along an edge: every ``step`` pixels, and the last that fits."""
    return np.unique(np.append(np.arange(0, edge - PATCH + 1, step), edge - PATCH)).astype(np.int32)


def patch_window() -> npt.NDArray[np.float32]:
    """(8, 8) Kaiser window: a patch's edge counts less than its middle where patches overlap."""
    side = np.kaiser(PATCH, 2.0)
    return np.outer(side, side).astype(np.float32)
