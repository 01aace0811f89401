"""What GEARS refuses to train on or predict from, each with a typed error that names the field and the mend."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from hyped_core.design import Perturbation
from hyped_core.design.model import CONTROL
from hyped_core.errors import InvalidDataError

if TYPE_CHECKING:
    from anndata import AnnData

HIGHEST_LOG = math.log1p(1e4)
"""ln(1 + counts per 10,000) of a cell that has one gene only."""
_SHOWN = 5


class UnknownPerturbation(InvalidDataError):
    """A perturbed gene has no node in the perturbation graph."""


def log_matrix(cells: AnnData, where: str) -> sp.csr_matrix:
    """``X`` as (cells, genes) float32 rows, once it holds values of ln(1 + counts per 10,000).

    Raises
    ------
    InvalidDataError
        No cells or genes, a gene named twice, values that are NaN, infinite or negative, all zero, whole numbers
        throughout (counts), or above ln(1 + 10,000).
    """
    if not cells.n_obs or not cells.n_vars:
        raise InvalidDataError(f"holds {cells.n_obs} cells and {cells.n_vars} genes", where=where, mend="give cells")
    names, times = np.unique(np.asarray(cells.var_names, dtype=str), return_counts=True)
    if (times > 1).any():
        raise InvalidDataError(
            f"{int((times > 1).sum())} genes are named more than once: {examples(names[times > 1])}",
            where=f"{where}/var_names",
            mend="add up or drop the columns of the same gene, or name genes by their ids",
        )
    x = sp.csr_matrix(cells.X, dtype=np.float32)  # a copy only where the type or the layout differs
    if not x.has_canonical_format:
        x = x.copy()
        x.sum_duplicates()
    values = x.data
    bad = f"{where}/X"
    mend = "give ln(1 + counts per 10,000), as `hyped seq process` writes it"
    finite = np.isfinite(values)
    if not finite.all():
        raise InvalidDataError(f"{int((~finite).sum())} values are NaN or infinite", where=bad, mend=mend)
    if values.size and values.min() < 0:
        raise InvalidDataError(
            f"{int((values < 0).sum())} values are negative, the lowest {float(values.min()):g}", where=bad, mend=mend
        )
    highest = float(values.max()) if values.size else 0.0
    if highest == 0:
        raise InvalidDataError("every value is zero", where=bad, mend=mend)
    if highest > HIGHEST_LOG + 1e-3:
        raise InvalidDataError(
            f"values reach {highest:g}, above ln(1 + 10,000) = {HIGHEST_LOG:.2f}: these are no log values", where=bad,
            mend=mend,
        )
    if (values == np.rint(values)).all():
        raise InvalidDataError("every value is a whole number: these are counts", where=bad, mend=mend)
    return x


def labels_of(cells: AnnData, where: str) -> np.ndarray:
    """(cells,) perturbation names from ``obs["perturbation"]``.

    Raises
    ------
    InvalidDataError
        No such column, or cells without a name.
    """
    if "perturbation" not in cells.obs:
        raise InvalidDataError("obs has no column 'perturbation'", where=where, mend="add it: 'control', 'A', 'A+B'")
    column = cells.obs["perturbation"]
    missing = column.isna().to_numpy() | (column.astype(str) == "").to_numpy()
    if missing.any():
        raise InvalidDataError(
            f"{int(missing.sum())} cells have no perturbation", where=f"{where}/obs/perturbation",
            mend="leave cells out whose perturbation is not known",
        )
    return column.astype(str).to_numpy().astype(object)


def records_of(cells: AnnData) -> dict[str, Mapping]:
    """``uns["perturbations"]``: what each name stands for, as plain data."""
    records = cells.uns.get("perturbations")
    if records is None and "perturbations_json" in cells.uns:
        records = json.loads(str(cells.uns["perturbations_json"]))
    return dict(records or {})


def perturbation_of(name: str, records: Mapping[str, Mapping], where: str) -> Perturbation:
    """The perturbation a label stands for.

    A label without a record is read as genes joined with ``+`` (all activated) where there are no records at all;
    among records, one that is missing is an error, since a condition's name need not be its genes'.
    """
    if name == CONTROL:
        return Perturbation(name=CONTROL)
    if not records:
        found = Perturbation.from_name(name)
    elif name in records:
        found = Perturbation.model_validate(records[name])
    else:
        raise InvalidDataError(
            f"cells are labelled {name!r}, which uns['perturbations'] has no record of ({examples(list(records))})",
            where=f"{where}/obs/perturbation", mend="add the record, or correct the label",
        )
    if len(set(found.genes)) < len(found.genes):
        raise InvalidDataError(
            f"{name!r} names a gene twice", where=f"{where}/uns/perturbations", mend="name each gene once"
        )
    if found.is_control:
        raise InvalidDataError(
            f"{name!r} changes no gene", where=f"{where}/uns/perturbations",
            mend=f"name control cells {CONTROL!r}, or say which genes are changed",
        )
    return found


def conditions_of(
    labels: np.ndarray, records: Mapping[str, Mapping], where: str
) -> tuple[np.ndarray, dict[str, Perturbation]]:
    """One name for every condition: labels whose genes and directions are the same become the first of them (sorted).

    Returns
    -------
    (cells,) labels, and what each stands for: ``A+ctrl`` is ``A``, ``B+A`` is ``A+B``.

    Raises
    ------
    InvalidDataError
        See `perturbation_of`.
    """
    first: dict[frozenset[tuple[str, str]], str] = {frozenset(): CONTROL}
    alias: dict[str, str] = {}
    found: dict[str, Perturbation] = {}
    for name in sorted(set(labels), key=lambda name: (name != CONTROL, name)):
        perturbation = perturbation_of(name, records, where)
        alias[name] = first.setdefault(frozenset((c.gene, c.direction) for c in perturbation.changes), name)
        found.setdefault(alias[name], perturbation)
    return np.array([alias[label] for label in labels], dtype=object), found


def check_known(genes: Sequence[str], known: Mapping[str, int] | Sequence[str], *, where: object = None) -> None:
    """Refuse perturbed genes that have no node in the perturbation graph; near names are told.

    Raises
    ------
    UnknownPerturbation
    """
    missing = [gene for gene in genes if gene not in known]
    if not missing:
        return
    folded: dict[str, str] = {}
    for name in known:
        folded.setdefault(name.casefold(), name)
    near = [folded[n] for gene in missing for n in difflib.get_close_matches(gene.casefold(), list(folded), 3, 0.6)]
    text = f"; near names: {', '.join(dict.fromkeys(near))}" if near else ""
    plural = "is no gene" if len(missing) == 1 else "are no genes"
    raise UnknownPerturbation(
        f"{', '.join(missing)} {plural} of the perturbation graph ({len(known)} genes){text}",
        where=where,
        mend=f"name a gene of the graph, or train with parameter perturbed: [{', '.join(missing)}]",
    )


def check_panel(genes: Sequence[str], expected: Sequence[str], *, where: object = "genes") -> None:
    """Refuse another gene panel than ``expected``; says what is missing, what is more, or that the order differs.

    Raises
    ------
    InvalidDataError
    """
    genes, expected = list(map(str, genes)), list(expected)
    if genes == expected:
        return
    here, there = set(genes), set(expected)
    missing = [gene for gene in expected if gene not in here]
    more = [gene for gene in genes if gene not in there]
    parts = []
    if missing:
        parts.append(f"{len(missing)} of its {len(expected)} genes are missing ({examples(missing)})")
    if more:
        parts.append(f"{len(more)} genes are not among them ({examples(more)})")
    if parts:
        mend = "give the genes the model was trained on, or map the model to this panel (transfer)"
    elif len(genes) != len(expected):
        parts, mend = ["genes are named more than once"], "keep one column a gene"
    else:
        first = next(i for i, (a, b) in enumerate(zip(genes, expected, strict=True)) if a != b)
        parts.append(f"the genes are the model's in another order (column {first} is {genes[first]}, not "
                     f"{expected[first]})")
        mend = "sort the columns as the model has them: cells[:, checkpoint.genes]"
    raise InvalidDataError("; ".join(parts), where=where, mend=mend)


def examples(names: Sequence[str] | np.ndarray) -> str:
    """The first few of many names."""
    shown = ", ".join(map(str, list(names)[:_SHOWN]))
    return shown + (", ..." if len(names) > _SHOWN else "")
