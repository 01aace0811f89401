"""Embedding controls: principal components of log counts, which know nothing of genes but how they vary together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from hyped_bench.metrics.expression import principal_axes
from hyped_bench.tasks.embedding.genes import gene_columns
from hyped_core.context import RunContext
from hyped_core.design.model import Perturbation
from hyped_core.errors import InvalidDataError, UsageError
from hyped_core.params import Params

if TYPE_CHECKING:
    from anndata import AnnData

ROWS = 512
"""Cells made dense at once."""


class PcaConfig(Params):
    """Configuration of `Pca`."""

    components: int = Field(50, ge=2)
    """Length of the embedding."""
    fit_cells: int = Field(2000, ge=10)
    """The axes are learned from at most as many control cells, evenly spread over those given."""


class Pca:
    """Cells as ln(1 + counts per 10,000) on the principal axes of the control cells.

    The mean is not taken off: the origin is a cell without counts, as raw similarity of means in a space that is not
    centred is what the paper reports. Changes are the same either way. A perturbation is Algorithm 1's change of
    counts before they are normalised: activated genes get the cell's largest count, suppressed genes none.
    """

    def __init__(self, config: PcaConfig | None = None) -> None:
        self.config = config or PcaConfig()
        self.axes: npt.NDArray[np.float64] | None = None
        self.genes: npt.NDArray[np.object_] = np.zeros(0, dtype=object)
        self.facts: dict[str, Any] = {}

    def fit(self, train: AnnData, *, context: RunContext) -> None:
        """Axes of the control cells."""
        rows = np.unique(np.linspace(0, train.n_obs - 1, min(train.n_obs, self.config.fit_cells)).round().astype(int))
        x = np.concatenate([_log(part) for part in _blocks(train.X[rows])])
        x = x[~np.isnan(x[:, 0])]
        if len(x) < 2:
            raise InvalidDataError("fewer than two control cells have counts", mend="give cells with counts")
        _, self.axes = principal_axes(x, self.config.components, context.rng("embedding", "pca"))
        self.genes = np.asarray(train.var_names, dtype=object)
        self.facts = {"components": int(self.axes.shape[1]), "fit_cells": len(x)}

    def embed(self, cells: AnnData, *, context: RunContext) -> npt.NDArray[np.float32]:
        """(cells, components) float32; NaN for a cell without counts."""
        return self._project(cells, [], [])

    def embed_perturbed(
        self, cells: AnnData, perturbation: Perturbation, *, context: RunContext
    ) -> npt.NDArray[np.float32]:
        """(cells, components) float32 after the change of counts.

        Raises
        ------
        InvalidDataError
            A perturbed gene is not among the genes of the cells.
        """
        up, down = [], []
        for change in perturbation.changes:
            columns = gene_columns(cells.var, change.gene)
            if len(columns) == 0:
                raise InvalidDataError(
                    f"the perturbed gene {change.gene} is not among the {cells.n_vars} genes of the cells",
                    mend="give its name as var_names, var.symbol or var.gene_id have it",
                )
            (up if change.direction == "activation" else down).extend(columns)
        return self._project(cells, up, down)

    def _project(self, cells: AnnData, up: list[int], down: list[int]) -> npt.NDArray[np.float32]:
        if self.axes is None:
            raise UsageError("the axes are not learned yet", mend="call fit with control cells first")
        if not np.array_equal(np.asarray(cells.var_names, dtype=object), self.genes):
            raise InvalidDataError("the genes are not those the axes were learned on, in the same order")
        found = []
        for counts in _blocks(cells.X):
            largest = counts.max(axis=1)
            counts[:, down] = 0.0
            counts[:, up] = largest[:, None]
            found.append(_log(counts) @ self.axes)
        return np.concatenate([np.zeros((0, self.axes.shape[1])), *found]).astype(np.float32)


def _blocks(matrix: Any) -> Iterator[npt.NDArray[np.float64]]:
    """Dense float64 copies of some rows at a time."""
    for start in range(0, matrix.shape[0], ROWS):
        part = matrix[start : start + ROWS]
        counts = np.array(part.toarray() if hasattr(part, "toarray") else part, dtype=np.float64)
        if not (np.isfinite(counts).all() and (counts >= 0).all() and (counts == np.floor(counts)).all()):
            raise InvalidDataError("X holds values that are no counts", where="X", mend="give raw integer counts")
        yield counts


def _log(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """ln(1 + counts per 10,000); rows of NaN for cells without counts."""
    totals = counts.sum(axis=1, keepdims=True)
    return np.log1p(np.divide(counts * 10_000.0, totals, out=np.full_like(counts, np.nan), where=totals > 0))
