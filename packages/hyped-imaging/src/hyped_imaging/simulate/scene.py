"""One scene: its cells' lives and ways, and the sharp planes and labels of every frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_core.simulate.biology import alive_at, simulate_lineages
from hyped_imaging.simulate.motion import contacts, turn
from hyped_imaging.simulate.nuclei import DEBRIS_H, Looks, Traits, draw_traits, looks_at
from hyped_imaging.simulate.params import SimulateParams
from hyped_imaging.simulate.render import COLUMNS, stamp

if TYPE_CHECKING:
    import pandas as pd

    from hyped_core.design import Design

FloatArray = npt.NDArray[np.float64]
PAD_PX = 8
"""Rim drawn around the frame, so that tiles that stick out of it see something."""


@dataclass(frozen=True)
class Moment:
    """Nuclei at one frame: what they look like and where they are (micrometres in the frame, y and x)."""

    time_h: float
    looks: Looks
    y_um: FloatArray
    x_um: FloatArray
    angle: FloatArray
    debris: FloatArray
    """(n, 4): y, x, hours since death, brightness of nuclei that died a moment ago."""


@dataclass(frozen=True)
class SceneLife:
    """A scene's cells and their state at every frame."""

    name: str
    condition: str
    replicate: int
    cells: pd.DataFrame
    traits: Traits
    moments: tuple[Moment, ...]


def frame_times(design: Design, params: SimulateParams) -> FloatArray:
    """Nominal hours of the frames: every interval of the timeline, none while the medium is changed."""
    timeline, timing = design.timeline, params.timing
    step = timeline.interval_min / 60
    count = int(np.floor((timeline.imaging_end_h - timeline.imaging_start_h) / step + 1e-6)) + 1
    times = timeline.imaging_start_h + step * np.arange(count)
    if timing.gap_at_h is not None:
        times = times[(times < timing.gap_at_h - 1e-6) | (times >= timing.gap_at_h + timing.gap_h - 1e-6)]
    return times[: timing.n_frames]


def live(design: Design, scene: str, times_h: FloatArray, params: SimulateParams, seed: int) -> SceneLife:
    """Let the cells of ``scene`` live and move; ``times_h`` are the hours of the frames."""
    entry = design.scene(scene)
    number = [item.name for item in design.scenes].index(scene)
    rng = np.random.default_rng([seed, 1, number])
    height, width = (edge * params.mosaic.pixel_size_um for edge in params.mosaic.canvas)
    margin = params.nuclei.margin_um
    box = np.array([height + 2 * margin, width + 2 * margin])
    founders = max(int(round(params.nuclei.founders_per_mm2 * box.prod() * 1e-6)), 1)
    cells = simulate_lineages(
        design, entry.condition, founders, float(times_h[0]), float(times_h[-1]) + 0.5, params.biology, rng
    )
    traits = draw_traits(cells, params.nuclei, rng)
    moments = _walk(cells, traits, times_h, design.timeline.interval_min / 60, box, params, rng)
    return SceneLife(scene, entry.condition, entry.replicate, cells, traits, tuple(moments))


def _walk(
    cells: pd.DataFrame,
    traits: Traits,
    times_h: FloatArray,
    interval_h: float,
    box: FloatArray,
    params: SimulateParams,
    rng: np.random.Generator,
) -> list[Moment]:
    motion, margin = params.motion, params.nuclei.margin_um
    reporters = params.biology.reporters
    n = len(cells)
    place, velocity, push = np.zeros((n, 2)), np.zeros((n, 2)), np.zeros((n, 2))
    angle = rng.uniform(0, np.pi, n)
    placed = np.zeros(n, bool)
    parent = cells["parent_id"].to_numpy() - 1
    birth, end = cells["birth_h"].to_numpy(), cells["end_h"].to_numpy()
    dies = cells["fate"].to_numpy() == "dies"
    start = np.flatnonzero(alive_at(cells, float(times_h[0])))
    place[start] = _seed_places(start.size, box, params, rng)
    speed = motion.speed_um_h / np.sqrt(2)
    velocity[start] = speed * rng.standard_normal((start.size, 2))
    placed[start] = True
    step = interval_h / motion.substeps
    fading = np.exp(-step / motion.division_push_h)
    carried = motion.division_push_h * (1 - fading)
    ticks = np.arange(int(round((times_h[-1] - times_h[0]) / step)) + 1)
    at_frame = {int(round((t - times_h[0]) / step)): t for t in times_h}
    warm_up = np.full(12, -1)
    moments = []
    for tick in np.concatenate([warm_up, ticks]):
        now = float(times_h[0] + step * max(tick, 0))
        looks = looks_at(cells, traits, now, params.nuclei, reporters)
        here = looks.index
        fresh = here[~placed[here]]
        for row in fresh:
            mother = parent[row]
            side = 1.0 if row == fresh[parent[fresh] == mother][0] else -1.0
            axis = np.array([np.sin(traits.axis[mother]), np.cos(traits.axis[mother])])
            place[row] = place[mother] + side * 3.5 * axis
            velocity[row] = 0.5 * velocity[mother]
            push[row] = side * axis * motion.division_push_um / motion.division_push_h
            angle[row] = traits.axis[mother] + np.pi / 2
            placed[row] = True
        angle[here[looks.plate]] = traits.axis[here[looks.plate]] + np.pi / 2
        if tick in at_frame:
            gone = np.flatnonzero(dies & placed & (end <= now) & (end > now - DEBRIS_H) & (birth < end))
            debris = np.column_stack([place[gone] - margin, now - end[gone], traits.bright[gone]])
            y, x = (place[here] - margin).T
            moments.append(Moment(at_frame[int(tick)], looks, y, x, angle[here].copy(), debris))
        decay = np.exp(-step / motion.persistence_h)
        noise = rng.standard_normal((here.size, 2))
        velocity[here] = velocity[here] * decay + speed * np.sqrt(1 - decay**2) * noise
        moving = place[here] + velocity[here] * looks.mobility[:, None] * step + push[here] * carried
        push[here] *= fading
        for _ in range(3):
            moving += contacts(
                moving[:, 0], moving[:, 1], looks.half_long_um, looks.half_short_um, angle[here],
                motion.contact, motion.stiffness, motion.adhesion_per_h * step / 3, motion.reach_um,
                box[0], box[1],
            )  # fmt: skip
        outside = (moving < 0) | (moving > box)
        velocity[here] = np.where(outside, -velocity[here], velocity[here])
        place[here] = np.clip(moving, 0, box)
        heading = angle[here]
        turn(heading, velocity[here, 0], velocity[here, 1], 0.12 * step / 0.0833)
        angle[here] = heading
    return moments


def _seed_places(count: int, box: FloatArray, params: SimulateParams, rng: np.random.Generator) -> FloatArray:
    """Places (count, 2): some anywhere, the others beside one of those."""
    places = rng.uniform(0, 1, (count, 2)) * box
    beside = np.flatnonzero(rng.random(count) < params.nuclei.clumped)
    beside = beside[beside > 0]
    reach = 2.0 * np.sqrt(params.nuclei.area_um2 / np.pi)
    for row in beside:
        direction = rng.uniform(0, 2 * np.pi)
        partner = rng.integers(row)
        places[row] = places[partner] + reach * np.array([np.sin(direction), np.cos(direction)])
    return np.clip(places, 0, box)


def draw(
    life: SceneLife, frame: int, params: SimulateParams
) -> tuple[dict[str, npt.NDArray], npt.NDArray[np.int32]]:
    """Sharp planes of one frame (``nuclear, g1, sg2m, body``, float32) and its labels, both with the rim.

    The label of a nucleus is the row of its cell in the lineage table, counted from 1.
    """
    moment, pixel = life.moments[frame], params.mosaic.pixel_size_um
    looks = moment.looks
    rows = np.zeros((looks.index.size, len(COLUMNS)))
    values = {
        "y": moment.y_um / pixel + PAD_PX,
        "x": moment.x_um / pixel + PAD_PX,
        "half_long": looks.half_long_um / pixel,
        "half_short": looks.half_short_um / pixel,
        "angle": moment.angle,
        "lobe": looks.lobe,
        "lobe_phase": looks.lobe_phase,
        "bright": looks.bright,
        "g1": looks.g1,
        "sg2m": looks.sg2m,
        "texture": np.full(looks.index.size, params.nuclei.texture),
        "texture_phase": life.traits.texture_phase[looks.index],
        "body": 2.6 / np.sqrt(looks.height),
        "height": looks.height,
        "label": looks.index + 1.0,
    }
    for column, name in enumerate(COLUMNS):
        rows[:, column] = values[name]
    rows = np.concatenate([rows, _debris_rows(moment, pixel)])
    shape = tuple(edge + 2 * PAD_PX for edge in params.mosaic.canvas)
    labels = np.zeros(shape, np.int32)
    planes = {name: np.zeros(shape, np.float32) for name in ("nuclear", "g1", "sg2m", "body")}
    nearest = np.full(shape, np.inf, np.float32)
    stamp(rows, labels, nearest, planes["nuclear"], planes["g1"], planes["sg2m"], planes["body"])
    return planes, labels


def _debris_rows(moment: Moment, pixel: float) -> FloatArray:
    """Three bright fragments for each nucleus that died within the last hour, fading; they have no label."""
    rows = []
    for y, x, since, bright in moment.debris:
        fade = 1.0 - since / DEBRIS_H
        for k in range(3):
            turned = 2.1 * k + 7.0 * bright
            spread = 2.0 + 4.0 * since
            radius = (1.6 + 0.4 * k) * np.sqrt(max(fade, 0.1)) / pixel
            row = np.zeros(len(COLUMNS))
            row[:10] = (
                (y + spread * np.sin(turned)) / pixel + PAD_PX,
                (x + spread * np.cos(turned)) / pixel + PAD_PX,
                radius, radius, 0.0, 0.0, 0.0, 1.8 * bright * fade, 0.0, 0.0,
            )  # fmt: skip
            row[12] = 1.0
            rows.append(row)
    return np.array(rows).reshape(-1, len(COLUMNS))


def crop(plane: npt.NDArray) -> npt.NDArray:
    """The plane (..., y, x) without the rim."""
    return plane[..., PAD_PX:-PAD_PX, PAD_PX:-PAD_PX]
