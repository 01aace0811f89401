"""Expression control: the linear model that deep models did not beat (Ahlmann-Eltze et al. 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from hyped_bench.controls.expression import ShiftModel, Vector
from hyped_core.design.model import Perturbation
from hyped_core.params import Params

if TYPE_CHECKING:
    from anndata import AnnData


class BilinearConfig(Params):
    """Size and stiffness of the model."""

    components: int = Field(10, ge=1)
    """Principal components of the genes."""
    ridge: float = Field(0.1, ge=0)
    """On both sides, as published."""


class Bilinear(ShiftModel):
    """Y = G W P' + b in closed form.

    Y are the changes of the training means from control (genes x perturbations, control's zeros included), b their row
    means. G are the principal components of the genes: each gene is an observation whose values are its training means
    (control included), columns are centred, and the scores of the top components are its row; so the first component
    is about how much a gene is expressed. P are the rows of G of the perturbed genes (summed for combinations, zero
    for control). Genes outside the panel have no row; a perturbation without any known gene is a fallback.
    """

    def __init__(self, config: BilinearConfig | None = None) -> None:
        super().__init__()
        self.config = config or BilinearConfig()

    def learn(self, train: AnnData) -> None:
        """Solve for W."""
        names = [name for name in sorted(self.shifts) if any(g in self.genes for g in self.members[name])]
        table = np.column_stack([np.zeros_like(self.control), *(self.shifts[n] for n in sorted(self.shifts))])
        self.offset = table.mean(axis=1)
        means = table + self.control[:, None]
        left, size, _ = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)
        k = min(self.config.components, int((size > 1e-10).sum()))
        flips = np.sign(left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])])
        self.axes = (left * flips * size)[:, :k]
        self.row = {gene: i for i, gene in enumerate(self.genes)}
        told = np.array([np.zeros(k), *(self._place(self.members[n]) for n in names)])
        target = (
            np.column_stack([np.zeros_like(self.control), *(self.shifts[n] for n in names)])
            - self.offset[:, None]
        )
        ridge = self.config.ridge * np.eye(k)
        self.weights = (
            np.linalg.solve(self.axes.T @ self.axes + ridge, self.axes.T @ target @ told)
            @ np.linalg.inv(told.T @ told + ridge)
            if k
            else np.zeros((0, 0))
        )

    def _place(self, genes: tuple[str, ...]) -> Vector:
        return np.sum([self.axes[self.row[g]] for g in genes if g in self.row], axis=0)

    def shift(self, perturbation: Perturbation) -> tuple[Vector, str]:
        """G W p + b as a change from control."""
        known = tuple(gene for gene in perturbation.genes if gene in self.row)
        if not self.axes.size:
            return self.fallback("the training means do not differ")
        if not known:
            return self.fallback("none of its genes is in the panel")
        missing = [gene for gene in perturbation.genes if gene not in self.row]
        reason = f"{', '.join(missing)} is not in the panel and was left out" if missing else ""
        return self.axes @ (self.weights @ self._place(known)) + self.offset, reason
