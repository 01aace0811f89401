"""Cells of the embedding task: raw counts read once, sorted by name, and grouped by phase and condition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hyped_bench.readers import read_cells
from hyped_bench.tasks.embedding.genes import NAMES, gene_columns
from hyped_bench.tasks.embedding.params import EmbeddingSource
from hyped_bench.tasks.expression.data import condition_labels, obs_column, screen_labels, subsample
from hyped_core.design.model import CONTROL, Perturbation
from hyped_core.errors import InvalidDataError

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_matrix

ALL = "all"
"""Name of the one phase of cells without phases."""

Group = tuple[str, str]
"""(phase, perturbation); the perturbation is ``control`` for control cells."""


@dataclass(slots=True)
class EmbeddingData:
    """Cells of one source, in the order of their names.

    Attributes
    ----------
    counts : (cells, genes) raw counts.
    obs : ``n_counts``, ``phase``, ``pool`` of each cell, indexed by its name.
    groups : (phase, perturbation) -> row numbers, ascending; every phase has its control.
    perturbations : name -> typed perturbation, control left out.
    remarks : what was left out, and why.
    """

    source: EmbeddingSource
    counts: csr_matrix
    obs: pd.DataFrame
    var: pd.DataFrame
    groups: dict[Group, npt.NDArray[np.intp]]
    perturbations: dict[str, Perturbation]
    confounded: bool
    remarks: list[str]

    @property
    def phases(self) -> list[str]:
        """Phases in the order of the source's parameter."""
        return [phase for phase, name in self.groups if name == CONTROL]

    def conditions(self, phase: str) -> list[str]:
        """Perturbations that are scored in a phase."""
        return [name for name in self.perturbations if (phase, name) in self.groups]

    def control_rows(self) -> npt.NDArray[np.intp]:
        """Rows of the control cells of all phases, ascending."""
        return np.sort(np.concatenate([self.groups[phase, CONTROL] for phase in self.phases]))

    def cells(self, rows: npt.NDArray[np.intp], *, perturbation: str | None = None) -> AnnData:
        """A copy of some cells for a model.

        ``obs.perturbation`` is there only where ``perturbation`` is given: which cells are the perturbed ones is the
        truth, and a model that embeds them has no use for it.
        """
        import anndata

        obs = self.obs.iloc[rows].copy()
        if perturbation is not None:
            obs["perturbation"] = perturbation
        return anndata.AnnData(self.counts[rows].copy(), obs=obs, var=self.var.copy())


def load_source(source: EmbeddingSource, rng: np.random.Generator) -> EmbeddingData:
    """Read a source and group its cells.

    Raises
    ------
    InvalidDataError
        No raw counts, no control cells, a perturbed gene of the design that is not among the genes, no group with
        enough cells.
    """
    cells = read_cells(source.cells, "rna")
    keep = np.ones(cells.n_obs, dtype=bool)
    for column, value in source.where.items():
        if column not in cells.obs:
            raise InvalidDataError(f"has no obs column {column!r}", where=source.cells, mend="correct `where`")
        keep &= (cells.obs[column].astype(str) == value).to_numpy()
    if source.kind == "conditions":
        labels, known, kept = condition_labels(cells.obs, source)  # type: ignore[arg-type]
        keep &= kept
    else:
        labels, known = screen_labels(cells, source)  # type: ignore[arg-type]
    for what, names in (("cell", cells.obs_names), ("gene", cells.var_names)):
        if not names.is_unique:
            raise InvalidDataError(f"has duplicate {what} names", where=source.cells, mend="make them unique")
    remarks: list[str] = []
    var = pd.DataFrame(
        {name: cells.var[name].astype(str).to_numpy(dtype=object) for name in NAMES if name in cells.var},
        index=pd.Index(np.asarray(cells.var_names, dtype=object)),
    )
    perturbations = _known(source, known, set(labels[keep]), var, remarks)
    phase = _phases(cells.obs, source, keep)
    keep &= np.isin(labels, (CONTROL, *perturbations)) & (phase != "")
    if not (keep & (labels == CONTROL)).any():
        raise InvalidDataError("has no control cells", where=source.cells, mend="name them 'control'")
    order = np.argsort(np.asarray(cells.obs_names, dtype=str), kind="stable")  # the file's order decides nothing
    joined = np.array([f"{p}\t{n}" for p, n in zip(phase, labels, strict=True)], dtype=object)[order]
    rows = order[subsample(joined, keep[order], source.max_cells, rng)]
    counts = _raw_counts(cells, rows, source)
    pool = obs_column(cells.obs, "pool")[rows]
    obs = pd.DataFrame(
        {"n_counts": _totals(cells.obs, rows, counts), "phase": phase[rows], "pool": pool},
        index=pd.Index(np.asarray(cells.obs_names, dtype=object)[rows]),
    )
    groups = _groups(source, labels[rows], phase[rows], list(perturbations), remarks)
    scored = {name for _, name in groups}
    pool = obs["pool"].to_numpy()
    control = labels[rows] == CONTROL
    return EmbeddingData(
        source=source,
        counts=counts,
        obs=obs,
        var=var,
        groups=groups,
        perturbations={name: value for name, value in perturbations.items() if name in scored},
        confounded=bool((pool != "").any()) and not set(pool[control]) & set(pool[~control]),
        remarks=remarks,
    )


def _known(
    source: EmbeddingSource,
    known: dict[str, Perturbation],
    there: set[str],
    var: pd.DataFrame,
    remarks: list[str],
) -> dict[str, Perturbation]:
    """Perturbations with cells and with genes among the data's: in the design's order, a screen's by name."""
    names = [n for n in (known if source.kind == "conditions" else sorted(known)) if n in there and n != CONTROL]
    absent = {n: [g for g in known[n].genes if not len(gene_columns(var, g))] for n in names}
    lacking = sorted({gene for genes in absent.values() for gene in genes})
    if lacking and (source.kind == "conditions" or all(absent.values())):
        raise InvalidDataError(
            f"perturbed genes are not among the {len(var)} genes of the cells: {', '.join(lacking[:5])}",
            where=source.cells,
            mend="keep every perturbed gene in the matrix, named in var_names, var.symbol or var.gene_id",
        )
    if lacking:
        remarks.append(
            f"{source.name}: {sum(map(bool, absent.values()))} perturbations are left out, their genes are not among "
            f"those of the cells: {', '.join(lacking[:5])}"
        )
    return {name: known[name] for name in names if not absent[name]}


def _phases(obs: pd.DataFrame, source: EmbeddingSource, keep: npt.NDArray) -> npt.NDArray[np.object_]:
    """Phase of each cell, "" for cells of no wanted phase."""
    phase = obs_column(obs, "phase")
    wanted = np.isin(phase, source.phases)
    if not (wanted & keep).any():
        return np.full(len(obs), ALL, dtype=object)
    return np.where(wanted, phase, "")


def _raw_counts(cells: Any, rows: npt.NDArray[np.intp], source: EmbeddingSource) -> csr_matrix:
    from scipy.sparse import csr_matrix

    place, matrix = "X", cells.X
    if "counts" in cells.layers:
        place, matrix = "layers[counts]", cells.layers["counts"]
    elif cells.raw is not None and list(cells.raw.var_names) == list(cells.var_names):
        place, matrix = "raw", cells.raw.X
    counts = csr_matrix(matrix[rows])
    counts.sum_duplicates()
    values = counts.data
    if values.size and not (np.isfinite(values).all() and (values >= 0).all() and (values == np.rint(values)).all()):
        raise InvalidDataError(
            f"{place} holds values that are no counts (negative or not whole)",
            where=source.cells,
            mend="put the raw counts into layers['counts'], not normalised ones",
        )
    counts.eliminate_zeros()
    return counts


def _totals(obs: pd.DataFrame, rows: npt.NDArray[np.intp], counts: csr_matrix) -> npt.NDArray[np.float64]:
    """Counts of each cell over all genes it was measured with: ``obs.n_counts``, else the sum of its row."""
    if "n_counts" in obs:
        return obs["n_counts"].to_numpy(dtype=np.float64)[rows]
    return np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()


def _groups(
    source: EmbeddingSource, labels: npt.NDArray, phase: npt.NDArray, names: list[str], remarks: list[str]
) -> dict[Group, npt.NDArray[np.intp]]:
    groups: dict[Group, npt.NDArray[np.intp]] = {}
    for part in [p for p in (*source.phases, ALL) if (phase == p).any()]:
        found = {n: np.flatnonzero((phase == part) & (labels == n)) for n in (CONTROL, *names)}
        few = {n: len(rows) for n, rows in found.items() if len(rows) < source.min_cells}
        if few:
            said = ", ".join(f"{n} ({count})" for n, count in list(few.items())[:5])
            remarks.append(f"{source.name}/{part}: fewer than {source.min_cells} cells, left out: {said}")
        if CONTROL not in few and len(few) < len(names):
            groups.update({(part, n): rows for n, rows in found.items() if n not in few})
    if not groups:
        raise InvalidDataError(
            f"no phase has {source.min_cells} control cells and {source.min_cells} cells of a perturbation",
            where=source.cells,
            mend="lower min_cells, or give more cells",
        )
    return groups
