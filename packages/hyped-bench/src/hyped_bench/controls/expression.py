"""Expression controls: every one moves the control cells by a shift that training data gives.

``no_change``, ``train_mean``, ``matching_mean``, ``additive``, ``nearest`` and ``pool_effect`` are here,
``bilinear`` is in `hyped_bench.controls.bilinear`. Where a control has nothing to go by for a perturbation it
predicts the training mean and says so in ``uns["fallback"]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_core.context import RunContext
from hyped_core.design.model import CONTROL, Perturbation
from hyped_core.errors import InvalidDataError, UsageError

if TYPE_CHECKING:
    from anndata import AnnData

Vector = npt.NDArray[np.float64]


def means_by(labels: npt.NDArray, matrix: object) -> dict[str, Vector]:
    """Mean expression (genes,) of the cells of each label."""
    found = {}
    for name in sorted(set(labels)):
        part = matrix[np.flatnonzero(labels == name)]  # type: ignore[index]
        found[str(name)] = np.asarray(part.mean(axis=0), dtype=np.float64).ravel()
    return found


class ShiftModel:
    """Control cells plus a shift (genes,); subclasses say which shift."""

    def __init__(self) -> None:
        self.genes: list[str] = []
        self.control: Vector = np.zeros(0)
        self.shifts: dict[str, Vector] = {}
        self.members: dict[str, tuple[str, ...]] = {}

    def fit(self, train: AnnData, validation: AnnData | None = None, *, context: RunContext) -> None:
        """Means of control and of every training perturbation."""
        labels = train.obs["perturbation"].astype(str).to_numpy()
        means = means_by(labels, train.X)
        if CONTROL not in means:
            raise InvalidDataError("the training cells hold no control", where="obs.perturbation")
        if not all(np.isfinite(mean).all() for mean in means.values()):
            raise InvalidDataError("the training cells hold values that are not finite", where="X", mend="fill them in")
        self.genes = list(train.var_names)
        self.control = means.pop(CONTROL)
        self.shifts = {name: mean - self.control for name, mean in means.items()}
        self.members = {name: tuple(name.split("+")) for name in self.shifts}
        self.learn(train)

    def learn(self, train: AnnData) -> None:
        """More to learn than the means; nothing by default."""

    def predict(self, control: AnnData, perturbation: Perturbation, *, context: RunContext) -> AnnData:
        """Control cells, each moved by the shift; unmoved where the perturbation changes no gene.

        Raises
        ------
        UsageError
            Nothing was learned yet.
        InvalidDataError
            The cells have a gene that the training cells did not have.
        """
        import anndata
        import pandas as pd

        if not self.genes:
            raise UsageError("has learned nothing yet", mend="call fit with training cells first")
        columns = pd.Index(self.genes).get_indexer(control.var_names)
        if (columns < 0).any():
            unknown = ", ".join(control.var_names[columns < 0][:3])
            raise InvalidDataError(f"genes that the training cells did not have: {unknown}", where="var_names")
        shift, reason = self.shift(perturbation) if perturbation.genes else (np.zeros_like(self.control), "")
        shift = shift[columns]
        cells = np.asarray(
            control.X.toarray() if hasattr(control.X, "toarray") else control.X, dtype=np.float32
        )
        result = anndata.AnnData(
            (cells + shift.astype(np.float32)), obs=control.obs[[]].copy(), var=control.var[[]].copy()
        )
        if reason:
            result.uns["fallback"] = reason
        return result

    def shift(self, perturbation: Perturbation) -> tuple[Vector, str]:
        """The shift and, where the model had nothing to go by, why it fell back."""
        return np.zeros_like(self.control), ""

    def mean_shift(self) -> Vector:
        """Mean shift of the training perturbations, each counted once."""
        return np.mean([self.shifts[name] for name in sorted(self.shifts)], axis=0)

    def fallback(self, why: str) -> tuple[Vector, str]:
        """The training mean, and why."""
        return self.mean_shift(), f"{why}: predicted the training mean"


class NoChange(ShiftModel):
    """Predicts the control cells unchanged."""


class TrainMean(ShiftModel):
    """Predicts the mean shift of all training perturbations."""

    def shift(self, perturbation: Perturbation) -> tuple[Vector, str]:
        """The training mean."""
        return self.mean_shift(), ""


class MatchingMean(ShiftModel):
    """Mean of the training perturbations that share a gene: the single ones where there are any (Systema)."""

    def shift(self, perturbation: Perturbation) -> tuple[Vector, str]:
        """Mean over the constituents, else over everything that shares a gene."""
        genes = set(perturbation.genes)
        sharing = [name for name in sorted(self.shifts) if genes & set(self.members[name])]
        single = [name for name in sharing if len(self.members[name]) == 1]
        if not sharing:
            return self.fallback("no training perturbation shares a gene")
        return np.mean([self.shifts[name] for name in single or sharing], axis=0), ""


class Additive(ShiftModel):
    """Sum of the shifts of the single perturbations of a combination (Ahlmann-Eltze et al. 2025)."""

    def shift(self, perturbation: Perturbation) -> tuple[Vector, str]:
        """Sum of the known singles; the training mean where none is known."""
        known = [gene for gene in perturbation.genes if gene in self.shifts]
        missing = [gene for gene in perturbation.genes if gene not in self.shifts]
        if not known:
            return self.fallback(f"never saw {' or '.join(missing)} alone")
        reason = f"never saw {' or '.join(missing)} alone: left out of the sum" if missing else ""
        return np.sum([self.shifts[gene] for gene in known], axis=0), reason


class Nearest(ShiftModel):
    """The training perturbation that shares most genes (Jaccard); ties go to similar genes, then to the name.

    Genes are similar where their expression goes together over the training means.
    """

    def shift(self, perturbation: Perturbation) -> tuple[Vector, str]:
        """The shift of the nearest perturbation."""
        genes = set(perturbation.genes)
        if not self.shifts:
            return np.zeros_like(self.control), "no training perturbation: predicted no change"

        def distance(name: str) -> tuple[float, float, str]:
            other = set(self.members[name])
            return (
                -len(genes & other) / len(genes | other),
                -self._similar(genes - other, other - genes),
                name,
            )

        best = min(self.shifts, key=distance)
        shares = bool(genes & set(self.members[best])) or self._similar(genes, set(self.members[best])) != 0.0
        reason = "" if shares else f"nothing says which perturbation is near: took {best}"
        return self.shifts[best], reason

    def _similar(self, first: set[str], second: set[str]) -> float:
        """Mean correlation of two sets of genes over the training shifts; 0 for genes outside the panel."""
        table = np.array([self.shifts[name] for name in sorted(self.shifts)])
        rows = [[self.genes.index(g) for g in sorted(group) if g in self.genes] for group in (first, second)]
        if not rows[0] or not rows[1] or len(table) < 3:
            return 0.0
        values = [_correlation(table[:, i], table[:, j]) for i in rows[0] for j in rows[1]]
        return float(np.mean(values))


def _correlation(first: Vector, second: Vector) -> float:
    a, b = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b / norm) if norm > 0 else 0.0


class PoolEffect(ShiftModel):
    """What all other conditions share, where condition and capture pool cannot be told apart.

    A gene's shared shift is the median over three or more training perturbations; of two it is the smaller
    one if both go the same way, else 0. It stands for batch, sorting and staining; a model that
    does not beat it has learned nothing of a perturbation. Where some pool holds control and perturbed cells,
    pool is not confounded and the training mean is predicted.
    """

    def learn(self, train: AnnData) -> None:
        """Whether any pool holds both."""
        control = (train.obs["perturbation"].astype(str) == CONTROL).to_numpy()
        pool = train.obs["pool"].astype(str).to_numpy() if "pool" in train.obs else np.full(len(control), "")
        self.confounded = not set(pool[control]) & set(pool[~control])

    def shift(self, perturbation: Perturbation) -> tuple[Vector, str]:
        """The shared shift."""
        if not self.confounded:
            return self.fallback("pool and perturbation are not confounded")
        table = np.array([self.shifts[name] for name in sorted(self.shifts)])
        if len(table) > 2:
            return np.median(table, axis=0), ""
        same = (table > 0).all(axis=0) | (table < 0).all(axis=0)
        return np.where(same, np.sign(table[0]) * np.abs(table).min(axis=0), 0.0), ""
