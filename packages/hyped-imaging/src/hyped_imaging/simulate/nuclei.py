"""What each nucleus looks like at a time: size, shape, brightness and reporters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_core.simulate.biology import alive_at, cycle_position, phase_at, reporter_levels
from hyped_imaging.simulate.params import NucleiParams

if TYPE_CHECKING:
    import pandas as pd

    from hyped_core.simulate.params import ReporterParams

FloatArray = npt.NDArray[np.float64]

DEBRIS_H = 0.8
"""Hours for which the fragments of a dead nucleus stay visible."""


@dataclass(frozen=True)
class Traits:
    """What sets cells apart, one value a cell of the lineage table."""

    size: FloatArray
    aspect: FloatArray
    bright: FloatArray
    g1: FloatArray
    sg2m: FloatArray
    wobble: FloatArray
    """(n, 6) frequencies (1/h) and phases of the slow deformations."""
    texture_phase: FloatArray
    axis: FloatArray
    """Angle along which the cell will divide."""
    dim: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Looks:
    """The nuclei alive at a time, one value each; ``index`` is the row of the lineage table."""

    index: npt.NDArray[np.int64]
    phase: npt.NDArray[np.object_]
    half_long_um: FloatArray
    half_short_um: FloatArray
    plate: npt.NDArray[np.bool_]
    """True where the long axis lies across the axis of division whatever the cell's heading."""
    lobe: FloatArray
    lobe_phase: FloatArray
    bright: FloatArray
    g1: FloatArray
    sg2m: FloatArray
    height: FloatArray
    mobility: FloatArray


def draw_traits(cells: pd.DataFrame, params: NucleiParams, rng: np.random.Generator) -> Traits:
    """Draw the traits of all cells of a lineage table; daughters take after their mother."""
    n = len(cells)
    parents = cells["parent_id"].to_numpy()
    founders = cells["founder_id"].to_numpy()

    def inherited(spread: float, likeness: float = 0.8) -> FloatArray:
        """Log-normal factors of mean 1; ``likeness`` is the correlation of daughter and mother."""
        value = rng.standard_normal(n)
        for row in np.flatnonzero(parents > 0):
            mother = parents[row] - 1
            value[row] = likeness * value[mother] + np.sqrt(1 - likeness**2) * value[row]
        return np.exp(spread * value - spread**2 / 2)

    kinds = np.unique(founders)
    n_dim = int(np.floor(params.dim_share * kinds.size + rng.random()))
    dim = np.isin(founders, rng.choice(kinds, n_dim, replace=False))
    return Traits(
        size=inherited(params.area_cv),
        aspect=1.0 + (params.aspect - 1.0) * inherited(0.35, 0.3),
        bright=inherited(params.brightness_cv) * np.where(dim, params.dim_level, 1.0),
        g1=inherited(params.reporter_cv),
        sg2m=inherited(params.reporter_cv),
        wobble=np.column_stack([rng.uniform(0.2, 1.0, (n, 3)), rng.uniform(0, 2 * np.pi, (n, 3))]),
        texture_phase=rng.uniform(0, 2 * np.pi, n),
        axis=rng.uniform(0, np.pi, n),
        dim=dim,
    )


def looks_at(
    cells: pd.DataFrame,
    traits: Traits,
    time_h: float,
    params: NucleiParams,
    reporters: ReporterParams,
) -> Looks:
    """The nuclei alive at ``time_h``: round and bright in M, small after division, shrinking before death."""
    alive = alive_at(cells, time_h)
    index = np.flatnonzero(alive)
    here = cells[alive]
    position = np.clip(cycle_position(cells, time_h) / 0.95, 0, 1)
    _, g1, sg2m = reporter_levels(cells, time_h, reporters)
    age = time_h - here["birth_h"].to_numpy()
    born = np.where(here["parent_id"].to_numpy() > 0, np.exp(-age / 0.7), 0.0)
    with np.errstate(invalid="ignore"):
        mitosis = np.clip((time_h - here["m_start_h"].to_numpy()) / here["m_length_h"].to_numpy(), 0, 1)
    mitosis = np.nan_to_num(mitosis)
    condensed = _smooth(mitosis / 0.35)
    plate = _smooth((mitosis - 0.35) / 0.3)
    left = np.where(here["fate"].to_numpy() == "dies", here["end_h"].to_numpy() - time_h, np.inf)
    dying = np.clip(1.0 - left, 0, 1)
    area = params.area_um2 * traits.size[index] * (1 + params.growth * position)
    area *= (1 - 0.45 * born) * (1 - 0.45 * condensed) * (1 - 0.65 * dying)
    wobble = traits.wobble[index]
    waves = np.sin(2 * np.pi * wobble[:, :3] * time_h + wobble[:, 3:])
    aspect = 1 + (traits.aspect[index] - 1) * (1 + 0.35 * waves[:, 0]) * (1 - condensed) * (1 - dying)
    aspect = aspect + 0.8 * plate + 0.4 * born
    mean_radius = np.sqrt(area / np.pi)
    calm = (1 - condensed) * (1 - dying)
    return Looks(
        index=index,
        phase=phase_at(cells, time_h, "fucci", reporters),
        half_long_um=mean_radius * np.sqrt(aspect),
        half_short_um=mean_radius / np.sqrt(aspect),
        plate=condensed > 0.9,
        lobe=params.lobes * (0.5 + 0.5 * np.abs(waves[:, 1])) * calm,
        lobe_phase=wobble[:, 5] + 0.8 * waves[:, 2],
        bright=traits.bright[index] * (1 + 0.15 * position + 0.9 * condensed + 0.5 * born + 0.9 * dying),
        g1=g1 * traits.g1[index],
        sg2m=sg2m * traits.sg2m[index],
        height=1.0 + 1.5 * condensed + 1.2 * born + 1.0 * dying,
        mobility=(1 - 0.7 * condensed) * (1 - 0.7 * dying),
    )


def _smooth(value: FloatArray) -> FloatArray:
    """Smooth step from 0 at 0 to 1 at 1."""
    clipped = np.clip(value, 0, 1)
    return clipped * clipped * (3 - 2 * clipped)
