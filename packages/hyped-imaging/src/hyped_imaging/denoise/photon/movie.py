"""Denoising of a movie of one channel: patches are grouped with their like in the neighbouring frames.

A group holds no patch that differs by more than noise can, so a nucleus is averaged with itself where it has moved
to, never with the background it has left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_imaging.denoise.photon.filtering import filter_groups
from hyped_imaging.denoise.photon.fusion import fuse, halve, halved_noise
from hyped_imaging.denoise.photon.matching import PATCH, match_patches, trim_groups
from hyped_imaging.denoise.photon.single import NOISELESS, SMALLEST, corners, patch_window

if TYPE_CHECKING:
    from hyped_core.context import RunContext
    from hyped_imaging.denoise.photon.model import PhotonConfig
    from hyped_imaging.denoise.physics import NoisePhysics

Plane = npt.NDArray[np.float32]
Stack = npt.NDArray[np.float32]
ReadFrame = Callable[[int], Plane]
"""Gives the frame of a number, camera units."""

BAND = 16
"""Rows of references that are worked on together: fixed, so that sums have one order whatever the threads."""


@dataclass(frozen=True)
class Pass:
    """One round of collaborative filtering.

    Attributes
    ----------
    wiener : shrink by the estimate of the round before, instead of cutting off what is below the noise.
    strength : see `filter_groups`.
    smoothing : standard deviation in pixels of the Gaussian that what is compared is smoothed by; 0 for none.
    unlike : patches differ where their mean squared difference is more than this many noise variances.
    radius, count : see `match_patches`.
    step : distance of references in pixels.
    """

    wiener: bool
    strength: float
    smoothing: float
    unlike: float
    radius: int = 9
    count: int = 32
    step: int = 4


PASSES = (
    Pass(wiener=False, strength=3.2, smoothing=1.5, unlike=4.0),
    Pass(wiener=True, strength=1.5, smoothing=0.0, unlike=4.0),
)
FUSE_LOW, FUSE_HIGH = 0.4, 0.8
"""Where scales meet, see `hyped_imaging.denoise.photon.fusion.fuse`."""
BLOCKS = 4096
"""Blocks of a frame, spread evenly, that its light is told by."""
LOST = 0.5
"""A frame whose blocks are (in the median) below this share of the frame before, or above its inverse, is lost."""


@dataclass(frozen=True)
class Light:
    """How bright the frames of a movie are against each other, and what else is known of them before the work.

    Attributes
    ----------
    pedestal : reading without light, camera units.
    factor : (t,), light of each frame over that of the first; 1 for lost frames.
    usable : (t,), False for lost frames: blank, dark, or saturated as a whole.
    mean, low, high : (t,), of the frames' pixels, camera units.
    variance : of all pixels of the movie.
    """

    pedestal: float
    factor: npt.NDArray[np.float64]
    usable: npt.NDArray[np.bool_]
    mean: npt.NDArray[np.float64]
    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]
    variance: float


@dataclass(frozen=True)
class Work:
    """A window of frames (slot, y, x), in the slot of their number modulo the slots: what one pass has in hand."""

    noisy: Stack
    guide: Stack
    numerator: Stack
    denominator: Stack


def frame_light(read: ReadFrame, count: int, noise: NoisePhysics) -> Light:
    """Follow lamp flicker, bleaching and lost frames through a movie of ``count`` frames, each read once.

    The step from one usable frame to the next is the median ratio of blocks of 8 x 8 pixels that are well above the
    pedestal in both: most of an image stays where it is from frame to frame. It takes the whole movie, whichever
    frames are denoised, so that these do not depend on where a run starts; at most `BLOCKS` numbers a frame are held.
    """
    blocks: list[npt.NDArray[np.float64]] = []
    facts = np.empty((count, 4))
    for t in range(count):
        plane = read(t)
        blocks.append(_block_means(plane))
        facts[t] = plane.mean(dtype=np.float64), plane.min(), plane.max(), plane.var(dtype=np.float64)
    mean, least, most, spreads = facts.T
    low = min((float(np.percentile(b, 1)) for b in blocks if np.ptp(b) > 0), default=0.0)
    pedestal = min(-noise.offset / noise.gain, low) if noise.gain > 0 else min(low, 0.0)
    spread = np.sqrt(max(float(noise.variance(np.float32(np.median(blocks[0])))), noise.floor)) / PATCH
    factor, usable = np.ones(count), np.ones(count, bool)
    last = -1
    for t, block in enumerate(blocks):
        if least[t] == most[t]:
            usable[t] = False
            continue
        if last >= 0:
            one, two = blocks[last] - pedestal, block - pedestal
            bright = (one > 5 * spread) & (two > 5 * spread)
            ratio = float(np.median(two[bright] / one[bright])) if bright.mean() >= 0.02 else 1.0
            lit = (one > 5 * spread).mean() < 0.02 or (two > 5 * spread).mean() >= 0.25 * (one > 5 * spread).mean()
            if not (lit and LOST <= ratio <= 1 / LOST):
                usable[t] = False
                continue
            factor[t] = factor[last] * ratio
        last = t
    variance = float(spreads.mean() + mean.var())
    return Light(pedestal, factor, usable, mean, least.astype(np.float32), most.astype(np.float32), variance)


def denoise_movie(stack: Stack, noise: NoisePhysics, config: PhotonConfig, context: RunContext) -> Stack:
    """Denoise the frames (t, y, x) of a movie that is in memory: `stream_movie`'s results, in camera units."""
    result = np.empty_like(stack)
    frames = stream_movie(stack.__getitem__, len(stack), noise, config, context.threads)
    for t, plane in enumerate(context.progress.track(frames, "photon", total=len(stack))):
        result[t] = plane
    return result


def stream_movie(
    read: ReadFrame,
    count: int,
    noise: NoisePhysics,
    config: PhotonConfig,
    threads: int = 1,
    frames: Sequence[int] | None = None,
) -> Iterator[Plane]:
    """Denoise frames of one movie and channel, looking for their like in their neighbours.

    Every frame is read once for the movie's light and once more for the work. What is held does not grow with the
    movie but for at most 32 kB a frame: about 11 floats a pixel for each of ``2 neighbours + 1`` frames.

    Parameters
    ----------
    read : gives the frame (y, x) float32 of a number, camera units; not modified.
    count : frames of the movie, in order of time.
    noise : physics of the camera's noise, the same for all frames.
    config : ``neighbours`` frames are used on each side; strength, scales and reach of the search are its, too.
    threads : do not change the result.
    frames : which frames are wanted, ascending; all by default. A frame's pixels do not depend on which others are.

    Yields
    ------
    (y, x) float32 in camera units; each frame keeps its mean and lies within the range it had. Constant frames,
    and a movie without noise or below 8 pixels, come back as they are.
    """
    wanted = list(range(count)) if frames is None else list(frames)
    if not wanted:
        return
    light = frame_light(read, count, noise) if min(read(wanted[0]).shape) >= PATCH else None
    if light is None or noise.floor <= NOISELESS * light.variance:
        yield from (read(t).copy() for t in wanted)
        return
    near = min(config.neighbours, count - 1)
    zero = np.float32(light.pedestal)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        work = Rounds(noise, light, near, pool, passes_of(config), config.scales)
        for run in _runs(wanted, work.reach):
            first, asked = run[0], set(run)
            levels = ((read(t) - zero) / np.float32(light.factor[t]) for t in range(max(0, first - work.reach), count))
            for t, level in enumerate(work.estimates(levels, first), first):
                if t in asked:
                    plane = level * np.float32(light.factor[t]) + zero
                    plane += np.float32(light.mean[t] - plane.mean(dtype=np.float64))
                    yield np.clip(plane, light.low[t], light.high[t])
                if t == run[-1]:
                    break


def _runs(wanted: Sequence[int], reach: int) -> list[list[int]]:
    """``wanted`` cut where going through a gap would be more work than starting anew behind it."""
    runs: list[list[int]] = []
    for t in wanted:
        if runs and t - runs[-1][-1] <= reach + 1:
            runs[-1].append(t)
        else:
            runs.append([t])
    return runs


def passes_of(config: PhotonConfig) -> tuple[Pass, ...]:
    """The rounds under this configuration: its strength is a factor on the noise's standard deviation."""
    return tuple(
        replace(one, radius=config.search_px, strength=one.strength * config.strength ** (2 if one.wiener else 1))
        for one in PASSES
    )


@dataclass(frozen=True)
class Rounds:
    """The passes over a movie at all its scales, frame by frame.

    Attributes
    ----------
    near : frames on each side that a pass looks at.
    scales : how many there are from this one down.
    """

    noise: NoisePhysics
    light: Light
    near: int
    pool: Executor
    passes: tuple[Pass, ...]
    scales: int

    @property
    def reach(self) -> int:
        """Frames on each side that a frame's estimate depends on: each pass takes from and gives to neighbours."""
        return 2 * self.near * len(self.passes)

    def estimates(self, levels: Iterator[Plane], first: int) -> Iterator[Plane]:
        """Estimates of the frames from ``first`` on, with those of coarser scales in them.

        ``levels`` are the frames from ``reach`` before ``first`` (or 0) to the movie's last, light and pedestal
        taken out.
        """
        start = max(0, first - self.reach)
        top = next(levels)
        levels = chain([top], levels)
        if self.scales <= 1 or min(top.shape) < 2 * SMALLEST:
            yield from self._passes(levels, first)
            return
        halves: deque[Plane] = deque()

        def halving() -> Iterator[Plane]:
            for plane in levels:
                halves.append(halve(plane))
                yield plane

        # both scales need the same frames for one of theirs: the coarser finds those the finer has taken
        coarser = (halves.popleft() for _ in range(start, len(self.light.factor)))
        below = replace(self, noise=halved_noise(self.noise), scales=self.scales - 1)
        for fine, coarse in zip(self._passes(halving(), first), below.estimates(coarser, first), strict=True):
            yield fuse(fine, coarse, FUSE_LOW, FUSE_HIGH)

    def _passes(self, levels: Iterator[Plane], first: int) -> Iterator[Plane]:
        """Estimates at one scale: the passes hand on frame by frame."""
        frames = ((plane, plane) for plane in levels)
        for i, one in enumerate(self.passes):
            frames = self._round(frames, max(0, first - 2 * self.near * (len(self.passes) - 1 - i)), one)
        return (estimate for _, estimate in frames)

    def _round(
        self, frames: Iterator[tuple[Plane, Plane]], first: int, one: Pass
    ) -> Iterator[tuple[Plane, Plane]]:
        """One pass with ``2 near + 1`` frames in memory: (noisy, pilot) from ``2 near`` before ``first`` on to (noisy,
        estimate) from ``first`` on.

        A frame's estimate is complete when the references of all frames that may use it are done.
        """
        from scipy.ndimage import gaussian_filter

        near, total = self.near, len(self.light.factor)
        slots = min(2 * near + 1, total)
        work: Work | None = None
        for j in range(max(0, first - 2 * near), total + 2 * near):
            if j < total:
                plane, pilot = next(frames)
                work = work or Work(*(np.zeros((slots, *plane.shape), np.float32) for _ in range(4)))
                slot = j % slots
                work.noisy[slot] = plane
                work.guide[slot] = gaussian_filter(pilot, one.smoothing) if one.smoothing > 0 else pilot
                work.numerator[slot], work.denominator[slot] = 0, 0
            assert work is not None
            t = j - near
            if max(0, first - near) <= t < total:
                known = [s for s in range(max(0, t - near), min(total, t + near + 1)) if self.light.usable[s]]
                _references(work, t, known if self.light.usable[t] else [t], self.noise, self.light, self.pool, one)
            t = j - 2 * near
            if first <= t < total:
                slot = t % slots
                yield work.noisy[slot].copy(), work.numerator[slot] / work.denominator[slot]


def _references(
    work: Work, t: int, near: list[int], noise: NoisePhysics, light: Light, pool: Executor, one: Pass
) -> None:
    """Filter the groups of all references of frame ``t`` and add them to the sums of the frames ``near`` it."""
    slots, height, width = work.noisy.shape
    rows, columns = corners(height, one.step), corners(width, one.step)
    factor = float(light.factor[t])
    # the noise of what is left when the pedestal is off and the light's factor divided out
    gain = noise.gain / factor
    offset = (noise.offset + noise.gain * light.pedestal) / factor**2
    floor = noise.floor / factor**2
    spectrum, window = noise.spectrum.reshape(-1).astype(np.float32), patch_window()
    # in the order of time, so that equal distances are told apart alike wherever the ring has got to
    order = [s % slots for s in near]
    frames, own = np.arange(len(order), dtype=np.int32), near.index(t)

    def band(start: int) -> tuple[int, Stack, Stack]:
        mine = rows[start : start + BAND]
        top = max(0, int(mine[0]) - one.radius)
        bottom = min(height, int(mine[-1]) + PATCH + one.radius)
        guide, noisy = work.guide[order, top:bottom], work.noisy[order, top:bottom]
        mine = mine - np.int32(top)
        index, found = match_patches(guide, own, mine, columns, one.radius, frames, one.count)
        level = _patch_means(guide[own], mine, columns)
        variance = np.maximum(gain * level + offset, floor)
        trim_groups(guide, index, found, (one.unlike * PATCH * PATCH * variance).astype(np.float32))
        above, below = np.zeros_like(noisy), np.zeros_like(noisy)
        filter_groups(
            noisy, guide, index, found, spectrum, gain, offset, floor,
            one.strength, one.wiener, window, above, below,
        )  # fmt: skip
        return top, above, below

    for top, above, below in pool.map(band, range(0, len(rows), BAND)):
        part = slice(top, top + above.shape[1])
        for k, slot in enumerate(order):
            work.numerator[slot, part] += above[k]
            work.denominator[slot, part] += below[k]


def _patch_means(plane: Plane, rows: npt.NDArray[np.int32], columns: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """(ny, nx) means of the patches with these corners."""
    sums = np.zeros((plane.shape[0] + 1, plane.shape[1] + 1))
    np.cumsum(np.cumsum(plane, axis=0, dtype=np.float64), axis=1, out=sums[1:, 1:])
    r, c = rows[:, None], columns[None]
    total = sums[r + PATCH, c + PATCH] - sums[r, c + PATCH] - sums[r + PATCH, c] + sums[r, c]
    return total / (PATCH * PATCH)


def _block_means(plane: Plane) -> npt.NDArray[np.float64]:
    """Means of blocks of 8 x 8 pixels, at most `BLOCKS` of all that fit."""
    height, width = (n // PATCH for n in plane.shape)
    step = int(np.ceil(np.sqrt(height * width / BLOCKS)))
    blocks = plane[: height * PATCH, : width * PATCH].reshape(height, PATCH, width, PATCH)
    return blocks[::step, :, ::step].mean(axis=(1, 3), dtype=np.float64)
