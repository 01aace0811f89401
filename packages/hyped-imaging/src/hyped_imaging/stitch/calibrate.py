"""What is estimated once for a scene, from a sample of its frames: illumination, camera offset, layout, seams."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hyped_core.errors import CorruptFileError, ParamsError
from hyped_core.io.atomic import atomic_path
from hyped_imaging.stitch.flatfield import Flatfield, background_profile, block_means, estimate_flatfield
from hyped_imaging.stitch.fuse import NO_GAINS, Fuser
from hyped_imaging.stitch.layout import Layout, solve_layout
from hyped_imaging.stitch.offset import block_noise, estimate_offset, from_overlaps, overlap_terms
from hyped_imaging.stitch.params import StitchParams
from hyped_imaging.stitch.plan import ScenePlan
from hyped_imaging.stitch.record import illumination_record, pair_record, tile_records
from hyped_imaging.stitch.register import Measured, Overlap, PairShift, find_overlaps, measure_pairs
from hyped_imaging.stitch.seams import Seams, intensity_scale, shared_parts
from hyped_imaging.stitch.source import Tiles, TileSource

_SEAM_FRAMES = 3
_NOISE_EVERY = 8
"""Noise is measured in every eighth of the frames that the illumination is taken from."""
_OFFSET_OVERLAPS = 96
"""Overlaps that the camera's offset is taken from, at least; and at most so many frames of them:"""
_OFFSET_FRAMES = 24


@dataclass(frozen=True)
class Calibration:
    """What turns tiles into a frame, the same for every frame.

    Attributes
    ----------
    corners : (n, 2) integer y, x of each tile on the canvas.
    gains, offset : see `Fuser`. drift_channel : index of the channel that overlaps correlate best in.
    top : largest value the camera gives.
    record : what is reported of it, as plain data.
    """

    corners: npt.NDArray[np.int64]
    gains: npt.NDArray[np.float32]
    offset: npt.NDArray[np.float32]
    drift_channel: int
    top: int
    record: dict[str, Any]

    def fuser(self, plan: ScenePlan, params: StitchParams) -> Fuser:
        """The fuser of the scene's frames."""
        canvas = plan.shape[2:] if params.canvas == "stage" else None
        return Fuser(self.corners, plan.sizes, len(plan.channels), self.gains, self.offset, params.fusion,
                     params.subtract_offset, canvas, self.top)  # fmt: skip

    def save(self, path: Path) -> None:
        """Write it to ``path``, whole or not at all."""
        notes = {"drift_channel": self.drift_channel, "top": self.top, "record": self.record}
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, corners=self.corners, gains=self.gains, offset=self.offset,
                     notes=np.frombuffer(json.dumps(notes).encode(), np.uint8))  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read what `save` wrote.

        Raises
        ------
        CorruptFileError
            It is something else.
        """
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
                notes = json.loads(stored["notes"].tobytes())
                return cls(stored["corners"], stored["gains"], stored["offset"], notes["drift_channel"],
                           notes["top"], notes["record"])  # fmt: skip
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise CorruptFileError(f"is no calibration: {error}", where=path, mend="delete it") from error


@dataclass
class _Light:
    """What the tiles sampled for the illumination have shown: (n, c, by, bx) block means; the same and noise
    of some of them; the largest value."""

    blocks: npt.NDArray[np.float32]
    means: npt.NDArray[np.float32]
    noise: npt.NDArray[np.float32]
    highest: int


class _Sample:
    """Frames of the chosen channels, read when they are asked for, as often as they are."""

    def __init__(self, source: TileSource, count: int, chosen: list[int]) -> None:
        self.source, self.count, self.chosen = source, count, chosen

    def __iter__(self) -> Iterator[Tiles]:
        every = self.chosen == list(range(len(self.source.plan.channels)))
        for tiles in self.source.sampled(self.count):
            yield tiles if every else [None if tile is None else tile[self.chosen] for tile in tiles]


def calibrate(source: TileSource, params: StitchParams) -> Calibration:
    """Estimate illumination, offset and layout of the scene; ``record`` says how well the tiles fit.

    Raises
    ------
    ParamsError
        ``registration_channels`` names what the movie lacks.
    CorruptFileError
        None of the sampled frames can be read.
    """
    plan = source.plan
    overlaps = find_overlaps(plan.corners, plan.sizes)
    chosen = _registration_channels(plan, params)
    light = _light(source, params)
    measured = Measured([PairShift(o.first, o.second, (0.0, 0.0), 0.0, False) for o in overlaps], np.ones(1), 0)
    if params.refine and overlaps:
        sample = _Sample(source, params.registration_frames, chosen)
        measured = measure_pairs(sample, overlaps, plan.corners, plan.sizes, max_shift_px=params.max_shift_px,
                                 min_correlation=params.min_correlation)  # fmt: skip
    _, corners = _solved(plan, measured.pairs)
    flats = _flatfields(source, params, light, overlaps, corners)
    gains = np.stack([1.0 / flat.flat for flat in flats]) if flats else NO_GAINS
    offset = np.array([flat.offset for flat in flats] if flats else [0.0] * len(plan.channels), np.float32)
    fuser = Fuser(corners, plan.sizes, len(plan.channels), gains, offset)
    pairs = measured.pairs
    layout, corners, before, after = _better(source, fuser, overlaps, pairs)
    stated = 2**source.czi.bits - 1
    top = stated if light.highest <= stated else int(np.iinfo(source.czi.dtype).max)
    record = {
        "residual_px": round(layout.residual_px, 6),
        "seam_error": round(after.error, 6),
        "seam_error_before": round(before.error, 6),
        "n_pairs": len(pairs),
        "n_pairs_measured": int(layout.used.sum()),
        "n_registration_frames": measured.n_frames,
        "pairs": [pair_record(pair, layout, k, before.by_pair[k], after.by_pair[k]) for k, pair in enumerate(pairs)],
        "tiles": tile_records(source.czi, plan, layout, corners),
        "illumination": illumination_record(plan, flats),
    }  # fmt: skip
    best = int(np.argmax(measured.weights)) if len(measured.weights) == len(chosen) else 0
    return Calibration(corners, np.ascontiguousarray(gains, np.float32), offset, chosen[best], top, record)


def _registration_channels(plan: ScenePlan, params: StitchParams) -> list[int]:
    names = params.registration_channels or plan.channels
    unknown = [name for name in names if name not in plan.channels]
    if unknown:
        raise ParamsError(f"registration_channels names {', '.join(unknown)}, which the movie lacks",
                          mend=f"channels: {', '.join(plan.channels)}")  # fmt: skip
    return [plan.channels.index(name) for name in names]


def _light(source: TileSource, params: StitchParams) -> _Light:
    """Block means and noise of up to ``flatfield_tiles`` tiles; of one frame where no flat-field is wanted."""
    blocks: list[npt.NDArray] = []
    means: list[npt.NDArray] = []
    noise: list[npt.NDArray] = []
    highest = 0
    count = -(-params.flatfield_tiles // len(source.plan.corners)) if _wants_flatfield(source.plan, params) else 1
    for number, tiles in enumerate(source.sampled(count)):
        for tile in tiles:
            if tile is None:
                continue
            highest = max(highest, int(tile.max()))
            blocks.append(block_means(tile))
            if number % _NOISE_EVERY == 0 and count > 1:
                means.append(blocks[-1])
                noise.append(block_noise(tile))
    return _Light(*(np.stack(part) if part else np.empty(0, np.float32) for part in (blocks, means, noise)), highest)


def _wants_flatfield(plan: ScenePlan, params: StitchParams) -> bool:
    """Whether it is switched on, and there are enough tiles, of one size."""
    frames = min(-(-params.flatfield_tiles // len(plan.corners)), plan.shape[0])
    same = len(np.unique(plan.sizes, axis=0)) == 1
    return params.flatfield and same and frames * len(plan.corners) >= params.flatfield_min_tiles


def _flatfields(
    source: TileSource, params: StitchParams, light: _Light, overlaps: list[Overlap], corners: npt.NDArray
) -> list[Flatfield] | None:
    """A flat-field a channel; None where it is switched off, tiles are too few or differ in size."""
    plan = source.plan
    if not _wants_flatfield(plan, params) or len(light.blocks) < params.flatfield_min_tiles or not len(light.noise):
        return None
    shape = (int(plan.sizes[0, 0]), int(plan.sizes[0, 1]))
    indices = range(len(plan.channels))
    offset = params.camera_offset
    if offset is None:
        profiles = np.stack(
            [background_profile(light.blocks[:, c], shape, degree=params.flatfield_degree) for c in indices]
        )
        shown = _offset_of_overlaps(source, profiles, overlaps, corners)
        offset = estimate_offset([light.means[:, c] for c in indices], [light.noise[:, c] for c in indices], shown)
    return [
        estimate_flatfield(light.blocks[:, c], shape, degree=params.flatfield_degree, offset=offset)
        for c in indices
    ]


def _offset_of_overlaps(
    source: TileSource, profiles: npt.NDArray, overlaps: list[Overlap], corners: npt.NDArray
) -> tuple[float, float]:
    """The camera's offset from what overlaps show, with its standard error."""
    if not overlaps:
        return 0.0, np.inf
    plain = Fuser(corners, source.plan.sizes, len(profiles))
    light: Tiles = [profiles] * len(corners)
    terms = []
    count = int(np.clip(-(-_OFFSET_OVERLAPS // len(overlaps)), _SEAM_FRAMES, _OFFSET_FRAMES))
    for tiles in source.sampled(count):
        for pair in overlaps:
            seen, lit = (shared_parts(part, corners, plain, pair) for part in (tiles, light))
            if seen is not None and lit is not None:
                terms.append(overlap_terms(*seen, *lit))
    if not terms:
        return 0.0, np.inf
    tops, bottoms = zip(*terms, strict=True)
    return from_overlaps(np.stack(tops), np.stack(bottoms))


def _solved(plan: ScenePlan, pairs: list[PairShift]) -> tuple[Layout, npt.NDArray[np.int64]]:
    """The layout that fits the pairs best, and its integer corners."""
    layout = solve_layout(plan.corners, pairs)
    positions, corners = to_pixels(layout.positions)
    return replace(layout, positions=positions), corners


def _seams(
    source: TileSource, fuser: Fuser, overlaps: list[Overlap], corners: npt.NDArray[np.int64]
) -> Seams:
    """The seams with the tiles at ``corners``; the intensity scale is that of the stage's overlaps."""
    seams = Seams.none(len(overlaps))
    for tiles in source.sampled(_SEAM_FRAMES) if overlaps else ():
        seams.add(tiles, corners, overlaps, fuser, intensity_scale(tiles, source.plan.corners, overlaps, fuser))
    return seams


def _better(
    source: TileSource, fuser: Fuser, overlaps: list[Overlap], pairs: list[PairShift]
) -> tuple[Layout, npt.NDArray[np.int64], Seams, Seams]:
    """The layout, its integer corners, and the seams at the stage's positions and at these.

    A layout that fits the pixels no better than the stage's is not taken: pairs whose own seam got no better
    lose their say; where that does not help, the stage's positions are kept and no pair is used.
    """
    stage = source.plan.corners
    before = _seams(source, fuser, overlaps, stage)
    while any(pair.trusted for pair in pairs):
        layout, corners = _solved(source.plan, pairs)
        if (corners == stage).all():
            return layout, corners, before, before
        after = _seams(source, fuser, overlaps, corners)
        if after.error < before.error:
            return layout, corners, before, after
        doubted = layout.used & ~(after.by_pair < before.by_pair)
        if not doubted.any():
            break
        pairs = [replace(p, trusted=p.trusted and not doubt) for p, doubt in zip(pairs, doubted, strict=True)]
    n = len(pairs)
    return Layout(stage.astype(float), np.full((n, 2), np.nan), np.zeros(n, bool)), stage, before, before


def to_pixels(positions: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Positions moved so that rounding changes them least and the smallest rounds to 0; and rounded.

    What is common to all tiles cannot be measured, so its fraction of a pixel is free: the circular mean of
    the fractions is taken off.
    """
    fraction = np.angle(np.exp(2j * np.pi * positions).mean(axis=0)) / (2 * np.pi)
    moved = positions - fraction
    corners = np.rint(moved).astype(np.int64)
    return moved - corners.min(axis=0), corners - corners.min(axis=0)
