"""One scene of a CZI from tiles to a movie on disk, frame by frame, and the record of how well they fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hyped_core.context import Progress, SilentProgress
from hyped_core.errors import ParamsError
from hyped_core.io.atomic import write_json
from hyped_imaging.readers.czi import CziFile
from hyped_imaging.stitch.flatfield import (
    Flatfield,
    block_means,
    block_noise,
    estimate_flatfield,
    estimate_offset,
)
from hyped_imaging.stitch.fuse import Fuser, seam_error
from hyped_imaging.stitch.layout import Layout, solve_layout
from hyped_imaging.stitch.params import StitchParams
from hyped_imaging.stitch.plan import ScenePlan
from hyped_imaging.stitch.record import illumination_record, pair_record, tile_records
from hyped_imaging.stitch.register import Overlap, PairShift, find_overlaps, measure_pairs

_SEAM_FRAMES = 3
_KEEP_BYTES = 96 * 2**20
"""Frames of small scenes are read once, though illumination, layout and fusion all need them."""
_NOISE_EVERY = 8
"""Noise is measured in every eighth of the frames that the illumination is taken from."""


def stitch_scene(
    czi: CziFile,
    plan: ScenePlan,
    out: str | Path,
    params: StitchParams,
    *,
    qc: str | Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the scene's movie to ``out`` and return its record (written to ``qc`` too where that is given).

    Memory is that of a few frames, whatever their number. The movie appears whole or not at all.
    """
    from hyped_core.container.movies import MovieWriter

    source = _Source(czi, plan, params)
    overlaps = find_overlaps(plan.corners, plan.sizes)
    flats = _flatfields(source, params)
    sample = Fuser(plan.corners, plan.sizes, len(plan.channels), flats)
    pairs = _measure(source, sample, overlaps, params) if params.refine else _stage_pairs(overlaps)
    layout, corners, before, after = _place(source, sample, overlaps, pairs)
    canvas = plan.shape[2:] if params.canvas == "stage" else None
    fuser = Fuser(
        corners, plan.sizes, len(plan.channels), flats, params.fusion, params.subtract_offset, canvas
    )
    notes: dict[str, Any] = {
        "scene": plan.scene.name,
        "source": czi.path.name,
        "time_source": plan.time_source,
    }
    if flats is not None:
        notes["offset"] = 0.0 if params.subtract_offset else round(flats[0].offset, 3)
    lost: list[list[int]] = []
    frames = plan.shape[0]
    with MovieWriter(
        out, shape=(frames, *fuser.shape[:1], *fuser.canvas), dtype=np.uint16, channels=plan.channels,
        pixel_size_um=plan.pixel_size_um, time_h=plan.time_h, data_range=(0, 2**czi.bits - 1), attrs=notes,
    ) as writer:  # fmt: skip
        reporter = progress or SilentProgress()
        for frame in reporter.track(range(frames), f"stitch {plan.scene.name}", total=frames):
            tiles = source.tiles(frame)
            lost += [[frame, index] for index, tile in enumerate(tiles) if tile is None]
            writer.write_frame(frame, fuser.fuse(tiles))
    record = {
        "scene": plan.scene.name,
        "source": czi.path.name,
        "reader": czi.reader,
        "n_frames": frames,
        "n_tiles": len(corners),
        "shape": [frames, len(plan.channels), *fuser.canvas],
        "channels": list(plan.channels),
        "pixel_size_um": plan.pixel_size_um,
        "pixel_size_source": plan.pixel_size_source,
        "time_source": plan.time_source,
        "time_first_h": round(float(plan.time_h[0]), 6),
        "time_last_h": round(float(plan.time_h[-1]), 6),
        "residual_px": round(layout.residual_px, 6),
        "seam_error": round(after, 6),
        "seam_error_before": round(before, 6),
        "n_pairs": len(pairs),
        "n_pairs_measured": int(layout.used.sum()),
        "pairs": [pair_record(pair, layout, k) for k, pair in enumerate(pairs)],
        "tiles": tile_records(czi, plan, layout, corners),
        "missing_tiles": lost,
        "illumination": illumination_record(plan, flats),
    }
    if qc is not None:
        write_json(qc, record)
    return record


class _Source:
    """Tiles of the scene's frames with Z projected: (c, y, x), the camera's dtype (float32 for a mean)."""

    def __init__(self, czi: CziFile, plan: ScenePlan, params: StitchParams) -> None:
        self.czi, self.plan, self.params = czi, plan, params
        self._kept: dict[int, list[npt.NDArray | None]] = {}
        self._room = _KEEP_BYTES

    def tiles(self, frame: int) -> list[npt.NDArray | None]:
        """Projected tiles of one frame, None where one is missing; the first frames asked for are kept."""
        if frame in self._kept:
            return self._kept[frame]
        stacks = self.czi.read_tiles(self.plan.scene.index, frame)
        tiles = [None if stack is None else self._project(stack) for stack in stacks]
        size = sum(stack.nbytes for stack in stacks if stack is not None)
        if size <= self._room:
            self._room -= size
            self._kept[frame] = tiles
        return tiles

    def _project(self, stack: npt.NDArray) -> npt.NDArray:
        kind = self.params.z_projection
        if isinstance(kind, int):
            return stack[:, kind]
        if stack.shape[1] == 1:
            return stack[:, 0]
        return stack.max(axis=1) if kind == "max" else stack.mean(axis=1, dtype=np.float32)

    def spread(self, count: int) -> list[int]:
        """At most ``count`` frames, evenly spread over the scene."""
        n = self.plan.shape[0]
        return sorted(set(np.linspace(0, n - 1, min(count, n)).round().astype(int).tolist()))

    def sampled(self, count: int) -> Iterator[list[npt.NDArray | None]]:
        """Tiles of `spread` frames."""
        for frame in self.spread(count):
            yield self.tiles(frame)


def _flatfields(source: _Source, params: StitchParams) -> list[Flatfield] | None:
    """A flat-field a channel; None where it is switched off, tiles are too few or differ in size."""
    plan = source.plan
    n_tiles = len(plan.corners)
    frames = -(-params.flatfield_tiles // n_tiles)
    if not params.flatfield or len(np.unique(plan.sizes, axis=0)) > 1:
        return None
    if min(frames, plan.shape[0]) * n_tiles < params.flatfield_min_tiles:
        return None
    blocks, noise = [], []
    for number, tiles in enumerate(source.sampled(frames)):
        present = [tile for tile in tiles if tile is not None]
        blocks += [block_means(tile) for tile in present]
        if number % _NOISE_EVERY == 0:
            noise += [(blocks[k - len(present)], block_noise(tile)) for k, tile in enumerate(present)]
    if len(blocks) < params.flatfield_min_tiles:
        return None
    stacked = np.stack(blocks)
    means, variances = (np.stack(part) for part in zip(*noise, strict=True))
    shape = tuple(int(n) for n in plan.sizes[0])
    indices = range(stacked.shape[1])
    offset = params.camera_offset
    if offset is None:
        offset = estimate_offset([means[:, c] for c in indices], [variances[:, c] for c in indices])
    return [
        estimate_flatfield(stacked[:, c], shape, degree=params.flatfield_degree, offset=offset)
        for c in indices
    ]


def _measure(source: _Source, fuser: Fuser, overlaps: list[Overlap], params: StitchParams) -> list[PairShift]:
    """Shift of every pair over `registration_frames` frames and the channels to register by."""
    plan = source.plan
    names = params.registration_channels or plan.channels
    unknown = [name for name in names if name not in plan.channels]
    if unknown:
        raise ParamsError(f"registration_channels names {', '.join(unknown)}, which the movie lacks",
                          mend=f"channels: {', '.join(plan.channels)}")  # fmt: skip
    if not overlaps:
        return []
    chosen = [plan.channels.index(name) for name in names]
    frames = _Evened(source, fuser, source.spread(params.registration_frames), chosen)
    return measure_pairs(frames, overlaps, plan.corners, plan.sizes, max_shift_px=params.max_shift_px,
                         min_correlation=params.min_correlation)  # fmt: skip


class _Evened(Sequence):
    """Frames as lists of evenly lit tiles of the chosen channels, read when they are asked for."""

    def __init__(self, source: _Source, fuser: Fuser, frames: list[int], chosen: list[int]) -> None:
        self.source, self.fuser, self.frames, self.chosen = source, fuser, frames, chosen

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> list[npt.NDArray | None]:  # type: ignore[override]
        tiles = self.source.tiles(self.frames[index])
        return [None if tile is None else self.fuser.correct(tile)[self.chosen] for tile in tiles]


def _stage_pairs(overlaps: list[Overlap]) -> list[PairShift]:
    return [PairShift(pair.first, pair.second, (0.0, 0.0), 0.0, False) for pair in overlaps]


def _place(
    source: _Source, fuser: Fuser, overlaps: list[Overlap], pairs: list[PairShift]
) -> tuple[Layout, npt.NDArray[np.int64], float, float]:
    """Solved layout, integer corners, and the seams' error at the stage's positions and at these.

    A layout that fits the pixels no better than the stage's is not taken: the stage's is kept, no pair is
    used.
    """
    stage = source.plan.corners
    layout = solve_layout(stage, pairs)
    positions, corners = _to_pixels(layout.positions)
    layout = replace(layout, positions=positions)
    before, after = _seams(source, fuser, overlaps, stage, corners)
    if after >= before and layout.used.any():
        layout = Layout(stage.astype(float), np.full((len(pairs), 2), np.nan), np.zeros(len(pairs), bool))
        return layout, stage, before, before
    return layout, corners, before, after


def _to_pixels(positions: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Positions moved so that rounding changes them least and the smallest rounds to 0; and rounded.

    What is common to all tiles cannot be measured, so its fraction of a pixel is free: the circular mean of
    the fractions is taken off.
    """
    fraction = np.angle(np.exp(2j * np.pi * positions).mean(axis=0)) / (2 * np.pi)
    moved = positions - fraction
    corners = np.rint(moved).astype(np.int64)
    return moved - corners.min(axis=0), corners - corners.min(axis=0)


def _seams(
    source: _Source, fuser: Fuser, overlaps: list[Overlap], stage: npt.NDArray, refined: npt.NDArray
) -> tuple[float, float]:
    """Mean absolute difference in the overlaps, share of the intensity scale: stage positions, refined
    ones."""
    sizes = source.plan.sizes
    totals = np.zeros((2, 2))
    for tiles in source.sampled(_SEAM_FRAMES) if overlaps else ():
        corrected = [None if tile is None else fuser.correct(tile) for tile in tiles]
        for k, corners in enumerate((stage, refined)):
            totals[k] += seam_error(corrected, corners, sizes, overlaps).sum(axis=0)
    before, after = (float(total / max(pixels, 1.0)) for total, pixels in totals)
    return before, after
