"""What a model of each cross-modal task has to offer: protocols on courses of scenes, AnnData and tables.

A model never sees a nucleus with its cell: the two modalities hold different cells, and only groups of one
condition (at one time) are compared. A course is cut where the rest is hidden; then its undefined values are filled by
interpolation over the hours that are shown, with the nearest value at the ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from hyped_core.context import RunContext

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Course:
    """What a scene's nuclei did over time.

    Attributes
    ----------
    time_h : (bins,) hours, middle of each bin, ascending.
    values : (bins, quantities).
    quantities : ``dividing`` (share of nuclei in S_G2M), ``growth`` (log2 of nuclei a frame over the first bin's),
        ``speed_um_h`` (path over time), ``area_um2`` (mean of nuclei off the border), those that were measured.
    """

    scene: str
    condition: str
    replicate: int
    time_h: FloatArray
    values: FloatArray
    quantities: tuple[str, ...]

    def of(self, quantity: str) -> FloatArray:
        """One quantity (bins,)."""
        return self.values[:, self.quantities.index(quantity)]

    def between(self, low: float, high: float) -> Course:
        """The bins whose middle lies in ``[low, high)``."""
        rows = (self.time_h >= low) & (self.time_h < high)
        return Course(
            self.scene, self.condition, self.replicate, self.time_h[rows], self.values[rows], self.quantities
        )


@runtime_checkable
class CompositionEstimator(Protocol):
    """Says which share of a condition's nuclei is in S_G2M at harvest, from its sequenced cells."""

    def fit(self, courses: Sequence[Course], cells: AnnData, *, harvest_h: float, context: RunContext) -> None:
        """Learn from the scenes of other conditions, whole, and the first hours of the condition's own.

        ``cells`` are the cells of all conditions, ``X`` ln(1 + counts per 10,000); ``obs`` has ``condition``,
        ``phase`` (as the pipeline calls it), ``sorted`` (bool: phase fractions set by sorting) and what else the
        annotation wrote (``assigned_phase``, ``phase_classifier``, ``phase_score``).
        """
        ...

    def estimate(self, cells: AnnData, condition: str, *, context: RunContext) -> FloatArray | float:
        """A value a cell (n_cells,), whose mean is the share, or the share itself where it rests on no cells.

        Means are clipped to [0, 1]. The first are redrawn over cells given this fit, the second are made again
        from redrawn scenes.
        """
        ...


@runtime_checkable
class Forecaster(Protocol):
    """Continues the course of a scene from its start."""

    def fit(self, courses: Sequence[Course], *, context: RunContext) -> None:
        """Learn from every scene that may be seen, as far as it may be seen; the start of the scene itself too."""
        ...

    def forecast(self, start: Course, time_h: FloatArray, *, context: RunContext) -> FloatArray:
        """Values (times, quantities) of the scene at ``time_h``, hours after the last bin of ``start``."""
        ...


@runtime_checkable
class ResponsePredictor(Protocol):
    """Predicts what one modality of a condition does from what the other does: changes from control in both."""

    def fit(
        self,
        features: pd.DataFrame,
        responses: pd.DataFrame,
        genes: Mapping[str, tuple[str, ...]],
        *,
        context: RunContext,
    ) -> None:
        """Learn from conditions in rows, the same in both tables; ``genes``: condition -> genes changed in it.

        Columns are ``<quantity>@<hour>`` for imaging, names of genes and ``score_...`` for expression.
        """
        ...

    def predict(self, features: pd.Series, genes: tuple[str, ...], *, context: RunContext) -> FloatArray:
        """The held-out condition's change (columns of the responses,)."""
        ...


__all__ = ["CompositionEstimator", "Course", "Forecaster", "ResponsePredictor"]
