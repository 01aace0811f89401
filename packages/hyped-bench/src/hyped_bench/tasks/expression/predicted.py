"""What is known of one perturbation, predicted or true: its mean, cells, redrawn means and means by phase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_core.context import RunContext

if TYPE_CHECKING:
    from hyped_bench.tasks.expression.data import ExpressionData

Key = tuple[str, str, str]
"""(source, fold, perturbation)."""

DRAWS = 200
"""How often the cells of a condition are redrawn."""

MIN_PHASE = 10
"""Fewer cells than these of a phase are no stratum."""


@dataclass(slots=True)
class Predicted:
    """What a model said about one perturbation, or what other cells say of it.

    Attributes
    ----------
    mean : (genes,) over its cells.
    cells : (cells, genes) float32, at most as many as comparisons of populations use; None for a bare mean.
    n_cells : cells predicted.
    redrawn : (draws, genes) means of its cells redrawn with replacement; None for a bare mean or where not needed.
    phases : phase -> (genes,) mean of equally many cells of each; empty where its cells have no phases.
    """

    mean: npt.NDArray[np.float64]
    cells: npt.NDArray[np.float32] | None
    n_cells: int
    redrawn: npt.NDArray[np.float64] | None = None
    phases: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)


Predictions = dict[Key, Predicted]


def redraw(values: npt.NDArray, *stream: str) -> npt.NDArray[np.float64]:
    """Means (draws, genes) of the cells (cells, genes) redrawn with replacement.

    The draw depends on ``stream`` and the number of cells only, never on the seed of a run: truth and control cells
    are redrawn alike for every model and every seed of one.
    """
    rng = RunContext(seed=0).rng("expression", "draws", *stream)
    times = rng.multinomial(len(values), np.full(len(values), 1.0 / len(values)), size=DRAWS)
    return (times.astype(np.float64) @ np.asarray(values, dtype=np.float64)) / len(values)


def equal_phases(phase: npt.NDArray[np.object_], *stream: str) -> dict[str, npt.NDArray[np.intp]]:
    """Phase -> positions of equally many cells of each: as many as the rarest has, drawn without replacement.

    Phases with fewer than `MIN_PHASE` cells and cells without a phase are left out; empty where fewer than two
    phases are left.
    """
    members = {name: np.flatnonzero(phase == name) for name in sorted(set(phase) - {""})}
    members = {name: found for name, found in members.items() if len(found) >= MIN_PHASE}
    if len(members) < 2:
        return {}
    count = min(map(len, members.values()))
    rng = RunContext(seed=0).rng("expression", "phases", *stream)
    return {name: np.sort(rng.choice(found, count, replace=False)) for name, found in members.items()}


def of_cells(
    values: npt.NDArray[np.float32],
    kept: npt.NDArray[np.float32],
    data: ExpressionData | None = None,
    *,
    rows: npt.NDArray[np.intp] | None = None,
    stream: tuple[str, ...] = (),
) -> Predicted:
    """A `Predicted` of cells (cells, genes), of which ``kept`` are used for comparisons of populations.

    Parameters
    ----------
    data
        Where given, the cells are redrawn (for sources with few perturbations) and split by phase.
    rows
        Row of ``data`` that each cell is, or was made of, one for each; None where nothing says which.
    stream
        Names of the draw. Cells made of control cells have to be redrawn as those are: a model that returns
        them has then no change in any draw.
    """
    found = Predicted(values.mean(axis=0, dtype=np.float64), kept, len(values))
    if data is None:
        return found
    if data.few:
        found.redrawn = redraw(values, *stream)
    if rows is not None:
        chosen = equal_phases(data.phase[rows], *stream)
        found.phases = {name: values[at].mean(axis=0, dtype=np.float64) for name, at in chosen.items()}
    return found
