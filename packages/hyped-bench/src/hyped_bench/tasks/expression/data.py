"""Cells of the expression task: read once, brought to one form, and cut into what a model may see."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hyped_bench.readers import dense, read_cells
from hyped_bench.splits import Fold, genes_of, make_folds, split_record
from hyped_bench.tasks.expression.params import RELABELLED, ExpressionSource
from hyped_core.design.model import CONTROL, Perturbation
from hyped_core.errors import InvalidDataError

if TYPE_CHECKING:
    from anndata import AnnData

LOG_LIMIT = 12.0
"""ln(1 + 10,000) is 9.2: values above this cannot be log-normalised."""


@dataclass(slots=True)
class ExpressionData:
    """Cells of one source in one form.

    Attributes
    ----------
    x : (cells, genes) float32, ln(1 + counts per 10,000).
    labels : perturbation of each cell, ``control`` for control.
    perturbations : name -> typed perturbation.
    remarks : what cannot be scored, and why.
    """

    source: ExpressionSource
    x: npt.NDArray[np.float32]
    labels: npt.NDArray[np.object_]
    phase: npt.NDArray[np.object_]
    pool: npt.NDArray[np.object_]
    obs_names: npt.NDArray[np.object_]
    genes: npt.NDArray[np.object_]
    perturbations: dict[str, Perturbation]
    folds: list[Fold] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def relabelled(self) -> bool:
        """True where models see control cells only, labelled as every condition."""
        return self.source.protocol == RELABELLED

    @property
    def confounded(self) -> bool:
        """True where no pool holds both control and perturbed cells (and pools of both are known)."""
        control = self.labels == CONTROL
        ours, theirs = (set(self.pool[rows]) - {""} for rows in (control, ~control))
        return bool(ours and theirs) and not ours & theirs

    def rows(self, name: str) -> npt.NDArray[np.intp]:
        """Row numbers of a perturbation's cells."""
        return np.flatnonzero(self.labels == name)

    def mean(self, name: str) -> npt.NDArray[np.float64]:
        """Mean expression of a perturbation's cells."""
        return self.x[self.rows(name)].mean(axis=0, dtype=np.float64)

    def trained_mean(self, fold: Fold) -> npt.NDArray[np.float64]:
        """Mean over the training perturbations as a model sees them: of relabelled control cells, control's own."""
        return np.mean([self.mean(name) for name in fold.train or (CONTROL,)], axis=0)

    def visible(self, fold: Fold) -> AnnData:
        """What a model may see in a fold, as copies: control cells, and those of its training perturbations.

        Under ``relabelled_control`` control cells alone: as they are, and once more for every scored condition
        with that condition's label (named ``CONDITION/CELL``).
        """
        if not self.relabelled:
            return self._anndata(self.seen(fold), (CONTROL, *fold.train))
        control = self.rows(CONTROL)
        names = (CONTROL, *fold.test)
        rows = np.tile(control, len(names))
        prefix = np.repeat(np.array(["", *(f"{name}/" for name in fold.test)], dtype=object), len(control))
        labels = np.repeat(np.array(names, dtype=object), len(control))
        return self._anndata(rows, names, labels, prefix + self.obs_names[rows])

    def seen(self, fold: Fold) -> npt.NDArray[np.intp]:
        """Row numbers of the cells a model learns from."""
        return np.flatnonzero(np.isin(self.labels, (CONTROL, *fold.train)))

    def validation(self, fold: Fold) -> AnnData | None:
        """Copies of control cells and of the fold's validation perturbations; None where it has none."""
        if not fold.validation:
            return None
        names = (CONTROL, *fold.validation)
        return self._anndata(np.flatnonzero(np.isin(self.labels, names)), names)

    def split_record(self) -> dict[str, Any]:
        """The split as saved."""
        return split_record(self.folds, self.source.held_out, RELABELLED if self.relabelled else None)

    def control(self) -> AnnData:
        """The control cells a model starts from (a copy)."""
        return self._anndata(self.rows(CONTROL), (CONTROL,))

    def asked_genes(self) -> list[str]:
        """Every gene that some perturbation of the source changes, held-out ones included: names, nothing measured."""
        return sorted({gene for name in set(self.labels) for gene in self.perturbations[name].genes})

    def _anndata(
        self,
        rows: npt.NDArray[np.intp],
        names: tuple[str, ...],
        labels: npt.NDArray[np.object_] | None = None,
        obs_names: npt.NDArray[np.object_] | None = None,
    ) -> AnnData:
        """Copies of cells, under their own labels and names where no others are given."""
        import anndata

        obs = pd.DataFrame(
            {
                "perturbation": self.labels[rows] if labels is None else labels,
                "phase": self.phase[rows],
                "pool": self.pool[rows],
            },
            index=self.obs_names[rows] if obs_names is None else obs_names,
        )
        known = {n: self.perturbations[n].model_dump(mode="json") for n in sorted(names)}
        return anndata.AnnData(
            self.x[rows].copy(),
            obs=obs,
            var=pd.DataFrame(index=self.genes.copy()),
            uns={"perturbations": known, "asked_genes": self.asked_genes()},
        )


def load_source(source: ExpressionSource, rng: np.random.Generator) -> ExpressionData:
    """Read a source, choose genes and cells, and make its folds."""
    cells = read_cells(source.cells, "rna")
    keep = np.ones(cells.n_obs, dtype=bool)
    for column, value in source.where.items():
        if column not in cells.obs:
            raise InvalidDataError(
                f"has no obs column {column!r}", where=source.cells, mend="correct `where`"
            )
        keep &= (cells.obs[column].astype(str) == value).to_numpy()
    if source.kind == "conditions":
        labels, known, kept = condition_labels(cells.obs, source)
        keep &= kept
    else:
        labels, known = screen_labels(cells, source)
    rows = subsample(labels, keep, source.max_cells, rng)
    x = dense(cells.X[rows])
    _check_scale(x, source)
    names = np.asarray(cells.var_names, dtype=object)
    if len(set(names)) != len(names):
        raise InvalidDataError("has duplicate gene names", where=source.cells, mend="make var_names unique")
    chosen = _genes(x, names, labels[rows], known, source)
    data = ExpressionData(
        source=source,
        x=np.ascontiguousarray(x[:, chosen]),
        labels=labels[rows],
        phase=obs_column(cells.obs, "phase")[rows],
        pool=obs_column(cells.obs, "pool")[rows],
        obs_names=np.asarray(cells.obs_names, dtype=object)[rows],
        genes=names[chosen],
        perturbations=known,
    )
    if CONTROL not in set(data.labels):
        raise InvalidDataError("has no control cells", where=source.cells, mend="name them 'control'")
    present = sorted(set(data.labels))
    if source.kind == "conditions" and (without := sorted(set(known) - set(present))):
        data.remarks.append(f"{source.name}: no cells of {', '.join(without)}: neither learned from nor scored")
    data.folds = [_relabelled_fold(present, source)] if data.relabelled else make_folds(present, source.held_out)
    return data


def _relabelled_fold(names: list[str], source: ExpressionSource) -> Fold:
    scored = tuple(name for name in names if name != CONTROL)
    if not scored:
        raise InvalidDataError("has no perturbed cells to score", where=source.cells)
    return Fold(RELABELLED, (), scored)


def obs_column(obs: pd.DataFrame, name: str) -> npt.NDArray[np.object_]:
    """A column of ``obs`` as text; empty text where it, or a cell's value in it, is absent."""
    if name not in obs:
        return np.full(len(obs), "", dtype=object)
    text = obs[name].astype(str).to_numpy(dtype=object, copy=True)
    text[obs[name].isna().to_numpy()] = ""
    return text


def screen_labels(cells: Any, source: ExpressionSource) -> tuple[npt.NDArray[np.object_], dict[str, Perturbation]]:
    """Perturbation of each cell of a screen, and what each name stands for."""
    if source.perturbation not in cells.obs:
        raise InvalidDataError(
            f"has no obs column {source.perturbation!r}",
            where=source.cells,
            mend=f"columns there: {', '.join(map(str, cells.obs.columns))}",
        )
    raw = cells.obs[source.perturbation].astype(str).to_numpy(dtype=object)
    canonical = {name: "+".join(genes_of(name)) or CONTROL for name in set(raw)}
    stored = json.loads(cells.uns["perturbations_json"]) if "perturbations_json" in cells.uns else {}
    known = {}
    for original, name in canonical.items():
        given = stored.get(original) or stored.get(name)
        if given:
            known[name] = Perturbation.model_validate(given)
        else:
            known[name] = Perturbation.from_name(name, source.direction)
    known.setdefault(CONTROL, Perturbation(name=CONTROL))
    return np.array([canonical[name] for name in raw], dtype=object), known


def condition_labels(
    obs: pd.DataFrame, source: ExpressionSource
) -> tuple[npt.NDArray[np.object_], dict[str, Perturbation], npt.NDArray[np.bool_]]:
    """Conditions as perturbations; doublets, negatives and cells without a condition are left out."""
    from hyped_core.design import read_design

    column = next((c for c in ("assigned_condition", "condition") if c in obs), None)
    if column is None:
        raise InvalidDataError(
            "has no obs column condition", where=source.cells, mend="run `hyped seq annotate`"
        )
    names = {}
    known = {CONTROL: Perturbation(name=CONTROL)}
    for condition in read_design(source.design).conditions:
        name = "+".join(change.gene for change in condition.perturbation) or CONTROL
        names[condition.name] = name
        known[name] = Perturbation(name=name, changes=condition.perturbation)
    labels = obs[column].astype(str).map(lambda value: names.get(value, "")).to_numpy(dtype=object)
    keep = labels != ""
    if "hashtag_kind" in obs:
        keep &= (obs["hashtag_kind"].astype(str) == "singlet").to_numpy()
    if not keep.any():
        raise InvalidDataError(
            "no cell has a condition of the design", where=source.cells, mend="check the design"
        )
    return labels, known, keep


def subsample(
    labels: npt.NDArray, keep: npt.NDArray, limit: int, rng: np.random.Generator
) -> npt.NDArray[np.intp]:
    """Rows with ``keep``, at most ``limit`` of each label, drawn without replacement, ascending."""
    rows = []
    for name in sorted(set(labels[keep])):
        members = np.flatnonzero(keep & (labels == name))
        if len(members) > limit:
            members = np.sort(rng.choice(members, limit, replace=False))
        rows.append(members)
    return np.sort(np.concatenate(rows)) if rows else np.zeros(0, dtype=np.intp)


def _genes(
    x: npt.NDArray,
    names: npt.NDArray,
    labels: npt.NDArray,
    known: Mapping[str, Perturbation],
    source: ExpressionSource,
) -> npt.NDArray[np.intp]:
    """Genes kept: all, or the most variable among control cells together with every perturbed gene."""
    if source.n_genes is None or source.n_genes >= len(names):
        return np.arange(len(names))
    variance = x[labels == CONTROL].var(axis=0)
    perturbed = np.isin(names, sorted({gene for label in set(labels) for gene in known[label].genes}))
    order = np.lexsort((np.arange(len(names)), -variance, ~perturbed))
    return np.sort(order[: max(source.n_genes, int(perturbed.sum()))])


def _check_scale(x: npt.NDArray, source: ExpressionSource) -> None:
    if x.size and (x.max() > LOG_LIMIT or x.min() < 0):
        raise InvalidDataError(
            f"X runs from {x.min():g} to {x.max():g}: that is not ln(1 + counts per 10,000)",
            where=source.cells,
            mend="normalise it, for example with `hyped seq import-cells`",
        )
