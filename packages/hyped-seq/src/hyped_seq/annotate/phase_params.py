"""Parameters of the phases in `hyped seq annotate`."""

from __future__ import annotations

from pydantic import Field

from hyped_core.params import Params


class PhaseParams(Params):
    """How phases of cells that were not sorted are told."""

    classifier: str | None = None
    """A ``phase_classifier.json`` of another experiment, for one whose own sorted cells are too few to train one."""
    adapt_composition: bool = True
    """Whether the share of phases among unsorted cells is estimated per pool and condition and taken as the prior
    there. The sorter set the shares that the classifier is trained on, so they say nothing about other cells.
    Without it all phases are equally likely beforehand."""
    folds: int = Field(5, ge=2)
    """Folds of the held-out figures and of the uncertainty that training adds to the shares."""
    min_genes: int = Field(6, ge=2)
    """With fewer cycle genes in the matrix no phase is told from expression."""
    min_cells: int = Field(10, ge=2)
    """With fewer sorted cells in a phase no classifier is trained."""
    max_cells: int = Field(3000, ge=100)
    """Cells from which the curves of the genes, and the shift of a pool, are learned: a random draw where there
    are more. All cells are called."""
    places: int = Field(72, ge=12)
    """Places round the cycle at which a gene's mean is held."""
    smoothing: float = Field(0.06, gt=0, lt=0.5)
    """Standard deviation, as a share of the cycle, of the kernel that smooths the genes' curves."""
    shift_sd: float = Field(0.2, ge=0)
    """Spread (natural log) expected of the genes' shifts between sorted cells and a pool of unsorted ones."""
    place_cells: float = Field(50.0, gt=0)
    """What the places of sorted cells within a phase weigh in another pool, as a number of cells of that phase:
    the more, the less cells are taken to be earlier or later in their phase than the sorted ones."""
