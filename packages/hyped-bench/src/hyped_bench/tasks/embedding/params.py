"""Parameters of the task `embedding` and of its sources."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hyped_bench.tasks.base import TaskParams
from hyped_core.params import Params


class EmbeddingSource(Params):
    """Perturbed and control cells with raw counts."""

    name: str
    cells: str
    """Container (table ``rna``) or .h5ad; raw counts in ``layers["counts"]``, else in ``raw`` (of the same genes),
    else in ``X``."""
    kind: Literal["screen", "conditions"] = "conditions"
    """``conditions``: ``obs.condition`` of the experiment, named after the genes the design gives it."""
    perturbation: str = "perturbation"
    """``obs`` column of a screen that names ``control``, ``GENE`` or ``GENE1+GENE2`` (``ctrl`` too)."""
    where: dict[str, str] = Field(default_factory=dict)
    """Keep cells with these values in these ``obs`` columns."""
    direction: Literal["activation", "suppression"] = "activation"
    """Of perturbations the file says nothing about."""
    design: str | None = None
    """Design file for ``conditions``; HYPED's own where None."""
    phases: tuple[str, ...] = ("G1", "S", "G2M")
    """Phases of ``obs.phase`` scored one by one; where no cell has one of them, all cells make one phase ``all``."""
    max_cells: int = Field(500, ge=10)
    """Cells of a condition in a phase (and of control in it) used, drawn with the seed."""
    min_cells: int = Field(10, ge=4)
    """A condition with fewer cells in a phase is left out of it: the smallest group sets the size of all."""
    suffix: bool = True
    """Whether metrics also get this source's name; primary ones are averaged into the plain keys."""
    primary: bool = True


class EmbeddingParams(TaskParams):
    """Parameters of the task."""

    sources: tuple[EmbeddingSource, ...]
    null_draws: int = Field(19, ge=1)
    """Draws of random genes in place of the real ones; the smallest p-value is 1 / (draws + 1), 0.05 for 19."""
    null_cells: int = Field(40, ge=4)
    """Control cells of each phase that the null (and what it is compared with) is computed on."""
    half_draws: int = Field(20, ge=1)
    """Random splits in halves that the ceiling is averaged over."""
