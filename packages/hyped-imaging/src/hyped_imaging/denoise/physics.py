"""The camera's noise, read off an image or a movie alone: how its variance grows with the signal, and how alike it
is in neighbouring pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

PATCH = 8
"""Edge of the patches whose DCT tells noise from signal."""
PATCHES = 30_000
"""Patches looked at, spread evenly."""
FRAMES = 8
"""Frames of a movie looked at, spread evenly."""
FEWEST = 16
"""Patches that have to be left where constant ones are set aside."""
BINS = 24
"""Intensity bins of the variance curve."""
COLOURED = 2.0
"""Noise is taken as correlated where its middle frequencies are this many times as strong as its highest."""
NEARLY_WHITE = 1.3
"""Most that the variance at the highest frequencies is raised by for noise that is not correlated."""
EVEN = 0.5
"""Noise is everywhere: correlated noise has, at middle frequencies, in the quietest patches (`FEW`) at least this share
of what it has in the quiet ones (`MANY`). Structures leave some patches far quieter than others."""
SMOOTHEST = 1e4
"""Most that the middle frequencies of correlated noise exceed the highest: what is smoother is signal."""
FEW, MANY = 0.02, 0.2
"""Shares of patches that are compared for it."""
NOTHING = 1e-11
"""Variance that is none, where the image's is 1: what rounding leaves."""
QUIET, QUIETEST = 0.3, 0.05
"""Shares of patches of one intensity, and of all, that are taken to hold noise alone."""

_U, _V = (axis.ravel() for axis in np.mgrid[:PATCH, :PATCH])
_HIGH = (_U >= 5) & (_V >= 5)
_MIDDLE = (_U + _V >= 3) & (_U + _V <= 5) & (_U >= 1) & (_V >= 1)
_RING = np.minimum(np.hypot(_U, _V).astype(int), 7)


@dataclass(frozen=True, slots=True)
class NoisePhysics:
    """Variance of a pixel at mean m is ``max(gain * m + offset, floor)``, camera units.

    Attributes
    ----------
    gain : variance per unit of mean: camera units per photo-electron for noise that was not smoothed.
    offset : variance at mean 0; below 0 where the camera's zero lies above 0.
    floor : least variance; 0 only for an image without noise.
    spectrum : (8, 8) float32, noise power of each coefficient of an orthonormal 8 x 8 DCT over the pixel's
        variance, vertical frequency first, mean 1; all ones for white noise.
    correlated : neighbouring pixels' noise is alike.
    """

    gain: float
    offset: float
    floor: float
    spectrum: npt.NDArray[np.float32]
    correlated: bool

    def variance(self, mean: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Noise variance of a pixel whose mean is ``mean`` (any shape)."""
        return np.maximum(self.gain * np.asarray(mean, np.float64) + self.offset, self.floor)

    def of_units(self, zero: float, unit: float) -> NoisePhysics:
        """The noise of ``(image - zero) / unit``."""
        return replace(
            self,
            gain=self.gain / unit,
            offset=(self.gain * zero + self.offset) / unit**2,
            floor=self.floor / unit**2,
        )

    def scaled(self, factor: float) -> NoisePhysics:
        """The same with ``factor`` times the variance at every mean."""
        return replace(self, gain=self.gain * factor, offset=self.offset * factor, floor=self.floor * factor)


def estimate_noise(image: npt.ArrayLike, gain: float | None = None) -> NoisePhysics:
    """Noise of a plane (y, x) or of a movie (t, y, x), float or integer, finite.

    The energy of the highest DCT frequencies of 8 x 8 patches, where a microscope passes hardly any signal, by the
    patches' intensity, gives the variance as a line; low quantiles keep patches with signal out. Where the middle
    frequencies are clearly stronger in the quietest patches, and as strong in the very quietest, the noise is
    correlated, and its spectrum is read off the darker half of the patches; the lowest frequencies, where the
    background lies, are bounded by what the next ones lead to. Where the very quietest patches have far less, there
    are structures everywhere, and the noise is the little that those patches show. Of a movie the differences of
    neighbouring frames are looked at (unless they are smaller than the noise in the frames, as in a movie that repeats
    frames).

    Parameters
    ----------
    image : camera units; edges of at least 8 pixels.
    gain : camera units per photo-electron where known; used for white noise where the image does not contradict it
        by more than a factor of two.

    Returns
    -------
    The noise; ``floor`` 0 and no gain for an image without any, or smaller than 8 pixels.
    """
    stack = np.asarray(image, np.float32)
    stack = stack[None] if stack.ndim == 2 else stack
    quiet = NoisePhysics(0.0, 0.0, 0.0, np.ones((PATCH, PATCH), np.float32), False)
    picked = np.unique(np.linspace(0, len(stack) - 1, FRAMES).astype(int))
    planes = stack[picked]
    zero, unit = float(np.median(planes)), float(planes.std(dtype=np.float64))
    if min(stack.shape[1:]) < PATCH or unit <= 1e-7 * abs(zero) or unit == 0:
        return quiet
    ends = (float(planes.min()) - zero) / unit, (float(planes.max()) - zero) / unit
    samples = _samples(((plane - zero) / unit for plane in planes), len(planes), ends)
    if len(stack) > 1:
        pairs = np.unique(np.linspace(0, len(stack) - 2, FRAMES).astype(int))
        halves = ((((stack[t] - zero) + (stack[t + 1] - zero)) / (2 * unit)) for t in pairs)
        steps = ((stack[t] - stack[t + 1]) / (np.sqrt(np.float32(2)) * unit) for t in pairs)
        apart = _samples(halves, len(pairs), ends, steps)
        if np.median(apart[1][:, _HIGH].mean(1)) > 0.5 * np.median(samples[1][:, _HIGH].mean(1)):
            samples = apart
    found = _fit(*samples, gain / unit if gain else None)
    return quiet if found is None else found.of_units(-zero / unit, 1 / unit)


def _samples(planes, count: int, ends: tuple[float, float], differences=None) -> tuple:  # noqa: ANN001
    """Patch means (n,), squared DCT coefficients (n, 64) of planes, or of ``differences`` at the planes' means, and
    the share of a patch's pixels at the least value (n,).

    Patches with more than a few pixels at the greatest value, saturated ones, are left out.
    """
    basis = _dct_basis()
    low, top = ends
    means, squares, lowest = [], [], []
    for plane in planes:
        step = 3
        height, width = plane.shape
        while ((height - PATCH) // step + 1) * ((width - PATCH) // step + 1) > PATCHES // count:
            step += 1
        patches = _cut(plane, step)
        level = patches.mean(1)
        if differences is not None:
            coefficients = _cut(next(differences), step) @ basis
        else:
            coefficients = patches @ basis
        clipped = patches >= top * (1 - 1e-6) if top > 0 else np.zeros_like(patches, bool)
        kept = clipped.sum(1) < 4
        if kept.mean() < 0.1:
            kept[:] = True
        means.append(level[kept])
        squares.append(np.square(coefficients[kept]))
        lowest.append((patches[kept] <= low + 1e-6 * abs(low)).mean(1))
    return np.concatenate(means), np.concatenate(squares), np.concatenate(lowest)


def _cut(plane: npt.NDArray[np.float32], step: int) -> npt.NDArray[np.float32]:
    """Patches on a grid as rows of 64 pixels."""
    windows = np.lib.stride_tricks.sliding_window_view(plane, (PATCH, PATCH))[::step, ::step]
    return np.ascontiguousarray(windows).reshape(-1, PATCH * PATCH)


def _dct_basis() -> npt.NDArray[np.float32]:
    """(64, 64): pixels of a patch as rows times this gives orthonormal DCT-II coefficients."""
    k, i = np.mgrid[:PATCH, :PATCH]
    one = np.sqrt(np.where(k == 0, 1, 2) / PATCH) * np.cos(np.pi * (2 * i + 1) * k / (2 * PATCH))
    return np.kron(one, one).T.astype(np.float32)


def _fit(means: npt.NDArray, squares: npt.NDArray, lowest: npt.NDArray, gain: float | None) -> NoisePhysics | None:
    """The noise of patches in units where the image has a standard deviation of 1; None where there is none."""
    high = squares[:, _HIGH].mean(1)
    sparse = _sparse(means, squares)
    whole = means, squares
    if not sparse and (empty := _empty(means, squares)).any():
        filled = empty | (lowest > 0.1)  # patches across the edge of what was filled in
        enough = np.count_nonzero(~filled) >= FEWEST
        if enough:  # else there is nothing but edges of what is empty
            whole = means[~empty], squares[~empty]
        rest = ~filled if enough else ~empty
        means, squares, high = means[rest], squares[rest], high[rest]
    freedom = None if sparse else int(_HIGH.sum())
    levels, variances = _curve(means, high, freedom, QUIET)
    middle = float(np.median(variances))
    if middle <= NOTHING:
        return None
    slope, start, floor, relative = _relative(means, squares, levels, variances)
    ratio = 1.0
    if not sparse:
        middle_power = _typical(relative[:, _MIDDLE].mean(1), int(_MIDDLE.sum()), QUIETEST)
        ratio = middle_power / max(_typical(relative[:, _HIGH].mean(1), int(_HIGH.sum()), QUIETEST), 1e-12)
    white = np.ones((PATCH, PATCH), np.float32)
    if ratio <= COLOURED:
        if gain is not None and 0.5 < slope / gain < 2:
            start, slope = start + (slope - gain) * float(np.median(levels)), gain
        return NoisePhysics(slope, start, floor, white, False).scaled(float(np.clip(ratio, 1.0, NEARLY_WHITE)))
    noise = NoisePhysics(slope, start, floor, white, False)
    if ratio > SMOOTHEST or not _even(*whole, noise):
        return _beneath(*whole, noise)
    # little is left of correlated noise at the highest frequencies: only the quietest patches are free of signal there
    levels, variances = _curve(means, high, freedom, 2 * QUIETEST)
    if np.median(variances) <= NOTHING:
        return None
    slope, start, floor, relative = _relative(means, squares, levels, variances)
    spectrum = _spectrum(relative[means <= np.median(means)])
    total = float(spectrum.mean())
    shape = (spectrum / total).reshape(PATCH, PATCH).astype(np.float32)
    return NoisePhysics(slope, start, floor, shape, True).scaled(total)


def _relative(
    means: npt.NDArray, squares: npt.NDArray, levels: npt.NDArray, variances: npt.NDArray
) -> tuple[float, float, float, npt.NDArray]:
    """Slope, intercept and floor of the variance, and the squared coefficients over it."""
    middle = float(np.median(variances))
    slope, start = _line(levels, variances)
    if slope < 0:
        slope, start = 0.0, middle
    floor = max(0.5 * float(variances.min()), 1e-3 * middle)
    return slope, start, floor, squares / np.maximum(slope * means + start, floor)[:, None]


def _sparse(means: npt.NDArray, squares: npt.NDArray) -> bool:
    """So few photons that patches are commonly empty, pixels of the others hold less than one, and what there is looks
    like white noise: means count, not quantiles."""
    varying = squares[:, 1:].mean(1)
    empty = varying <= 1e-10
    if not 0.05 < empty.mean() < 0.99:
        return False
    light = np.median(np.square(means[~empty] - means[empty].max()) / varying[~empty])
    return bool(light < 1 and squares[:, _MIDDLE].mean() < COLOURED * squares[:, _HIGH].mean())


def _empty(means: npt.NDArray, squares: npt.NDArray) -> npt.NDArray[np.bool_]:
    """Patches that were filled in, as around a stitched mosaic: constant, all of one value, in an image that has noise
    elsewhere. An image without noise has constant patches of several values."""
    constant = squares[:, 1:].max(axis=1) <= 1e-9
    one_value = constant.any() and np.ptp(means[constant]) <= 1e-5
    enough = np.count_nonzero(~constant) >= FEWEST and constant.mean() < 0.9
    return constant if one_value and enough else np.zeros_like(constant)


def _typical(energy: npt.NDArray, freedom: int, quantile: float) -> float:
    """Noise variance from means of ``freedom`` squared coefficients, some of which hold signal: the low ``quantile``
    over what it is for unit noise (chi-squared)."""
    from scipy.special import chdtri

    return float(np.quantile(energy, quantile)) / (float(chdtri(freedom, 1 - quantile)) / freedom)


def _even(means: npt.NDArray, squares: npt.NDArray, noise: NoisePhysics) -> bool:
    """Whether the quietest patches have as much at middle frequencies as others, as with noise, which is everywhere."""
    energy, freedom = squares[:, _MIDDLE].mean(1), int(_MIDDLE.sum())
    if _typical(energy, freedom, FEW) <= NOTHING:
        return False
    energy = energy / noise.variance(means)
    return _typical(energy, freedom, FEW) > EVEN * _typical(energy, freedom, MANY)


def _beneath(means: npt.NDArray, squares: npt.NDArray, noise: NoisePhysics) -> NoisePhysics | None:
    """White ``noise`` that structures have lifted, brought down to what the quietest patches show of it."""
    energy, freedom = squares[:, _HIGH].mean(1), int(_HIGH.sum())
    if _typical(energy, freedom, FEW) <= NOTHING:
        return None
    energy = energy / noise.variance(means)
    return noise.scaled(min(1.0, *(_typical(energy, freedom, quantile) for quantile in (FEW, QUIETEST, MANY))))


def _curve(
    means: npt.NDArray, energy: npt.NDArray, freedom: int | None, share: float
) -> tuple[npt.NDArray, npt.NDArray]:
    """Mean and noise variance in equally filled bins of intensity, from the ``share`` of quietest patches; without
    ``freedom`` by plain means."""
    order = np.argsort(means, kind="stable")
    bins = np.array_split(order, int(np.clip(len(order) // 64, 1, BINS)))
    levels = np.array([means[rows].mean(dtype=np.float64) for rows in bins])
    if freedom is None:
        return levels, np.array([energy[rows].mean(dtype=np.float64) for rows in bins])
    return levels, np.array([_typical(energy[rows], freedom, share) for rows in bins])


def _line(levels: npt.NDArray, variances: npt.NDArray) -> tuple[float, float]:
    """Slope and intercept by reweighted least squares in relative errors: bins that signal has lifted count little
    (weights of Cauchy)."""
    spread, middle = float(np.ptp(levels)), float(np.median(variances))
    if len(levels) < 4 or spread <= 1e-6:
        return 0.0, middle
    zero = float(levels.mean())
    design = np.stack([(levels - zero) / spread, np.ones(len(levels))], axis=1)
    least = 0.05 * middle
    target, weights = variances / middle, middle / np.maximum(variances, least)
    for _ in range(15):
        line = np.linalg.lstsq(design * weights[:, None], target * weights, rcond=None)[0]
        fitted = np.maximum(design @ line, least / middle)
        weights = 1 / fitted / (1 + ((target - design @ line) / fitted / 0.15) ** 2)
    slope = float(line[0]) * middle / spread
    return slope, float(line[1]) * middle - slope * zero


def _spectrum(relative: npt.NDArray) -> npt.NDArray[np.float64]:
    """(64,) noise power of each coefficient from patches (n, 64) of squared coefficients over one variance.

    Rings of equal frequency have the level of their quietest patches and the shape of the patches' medians. The ring
    beside zero, where the background's slopes lie, is at most what the fall from the second to the third leads to.
    """
    power = np.maximum(np.median(relative, axis=0).astype(np.float64) / 0.4549, 1e-6)
    level = np.zeros(8)
    for ring in range(1, 8):
        inside = _RING == ring
        shape = power[inside] / power[inside].mean()
        energy = (relative[:, inside] / shape).mean(1)
        level[ring] = np.clip(_typical(energy, int(inside.sum()), QUIETEST), 1e-6, power[inside].mean())
        power[inside] = shape * level[ring]
    growth = float(np.clip(level[2] / level[3], 1.0, 2.0))
    nearest = min(level[1], 1.1 * level[2] * growth)
    power[_RING == 1] *= nearest / level[1]
    power[0] = nearest * np.sqrt(growth)
    return power
