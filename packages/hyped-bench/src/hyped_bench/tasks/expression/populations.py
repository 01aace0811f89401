"""How far predicted cells are from true ones as populations, in the principal components of the training cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hyped_bench.metrics.distributions import Pairs, median_distance, sliced_wasserstein
from hyped_bench.metrics.expression import principal_axes
from hyped_bench.splits import Fold
from hyped_bench.tasks.expression.changed import matched
from hyped_bench.tasks.expression.data import ExpressionData
from hyped_bench.tasks.expression.params import ExpressionParams
from hyped_bench.tasks.expression.predicted import DRAWS, Key, Predicted
from hyped_core.context import RunContext
from hyped_core.design.model import CONTROL

DRAWN_POPULATION_KEYS = ("energy_distance", "mmd")
POPULATION_KEYS = ("energy_distance", "energy_distance_v", "mmd", "sliced_wasserstein")
AXES_CELLS = 2000
"""Training cells the components are taken of, at most."""


@dataclass(frozen=True, slots=True)
class Populations:
    """Distances between the predicted and the true cells of a unit, and what they are scored by.

    Attributes
    ----------
    pairs : of all kept predicted cells and the true cells.
    matched : of as many predicted cells as there are true ones, for distances that fall with the number of cells.
    sliced : `sliced_wasserstein` of the matched cells.
    bandwidth : of the kernel, the median distance of true and control cells: one for all models.
    """

    pairs: Pairs
    matched: Pairs
    sliced: float
    bandwidth: float

    def scores(self) -> dict[str, float]:
        """`POPULATION_KEYS`; NaN where one has no value."""
        discrepancy = self.pairs.mmd(self.bandwidth)
        return {
            "energy_distance": self.pairs.energy(),
            "energy_distance_v": self.matched.energy(biased=True),
            "mmd": np.nan if discrepancy is None else discrepancy,
            "sliced_wasserstein": self.sliced,
        }

    def draws(self, key: Key) -> dict[str, npt.NDArray[np.float64]]:
        """`DRAWN_POPULATION_KEYS` with cells redrawn, metric -> (draws,); alike for all models with as many cells."""
        rng = RunContext(seed=0).rng("expression", "populations", *key)
        true, found = (_times(rng.spawn(1)[0], size) for size in self.pairs.across.shape[::-1])
        undefined = min(self.pairs.across.shape) < 2
        return {
            "energy_distance": self.pairs.energy_draws(found, true),
            "mmd": np.full(DRAWS, np.nan) if undefined else self.pairs.mmd_draws(found, true, self.bandwidth),
        }


def populations(
    data: ExpressionData,
    fold: Fold,
    key: Key,
    found: Predicted,
    truth: Predicted | None,
    params: ExpressionParams,
    context: RunContext,
) -> Populations | None:
    """Of a unit; None for a bare mean, which is no population."""
    measured = _drawn(data, fold, key[2], params.energy_cells) if truth is None else truth.cells
    if found.cells is None or measured is None:
        return None
    centre, axes = data.remember(("axes", fold.held), lambda: _axes(data, fold, params.components, context))
    predicted, true = ((cells - centre) @ axes for cells in (found.cells, measured))
    nothing = _drawn(data, fold, CONTROL, params.energy_cells)
    control = data.remember(("control on axes", fold.held), lambda: (nothing - centre) @ axes)
    same = matched(found, len(true), key)
    pairs = Pairs.of(predicted, true)
    fewer = Pairs(pairs.within_first[np.ix_(same, same)], pairs.within_second, pairs.across[same])
    return Populations(pairs, fewer, sliced_wasserstein(predicted[same], true), median_distance(true, control))


def _drawn(data: ExpressionData, fold: Fold, name: str, most: int) -> npt.NDArray[np.float32]:
    """At most so many of a perturbation's cells, for all models the same: the first of a file may be one batch."""
    rows = data.rows(name, fold)
    if len(rows) > most:
        rng = RunContext(seed=0).rng("expression", "population cells", data.source.name, name)
        rows = np.sort(rng.choice(rows, most, replace=False))
    return data.x[rows]


def _axes(
    data: ExpressionData, fold: Fold, components: int, context: RunContext
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Of the cells that some fold with the same control cells learns from: one space for all of their units."""
    alike = next(folds for folds in data.folds_alike() if fold in folds)
    seen = data.seen(fold) if fold.held else data.seen_in(alike)
    cells = data.x[seen[:: max(1, len(seen) // AXES_CELLS)]]
    return principal_axes(cells, components, context.rng("expression", "axes", data.source.name, alike[0].name))


def _times(rng: np.random.Generator, size: int) -> npt.NDArray[np.float64]:
    """(draws, size): how often each cell is drawn."""
    return rng.multinomial(size, np.full(size, 1.0 / size), size=DRAWS).astype(np.float64)
