"""Counts of cells as the network takes them: checked, genes by name, perturbed in silico."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from anndata import AnnData
from scipy import sparse

from hyped_core import Perturbation
from hyped_core.errors import InvalidDataError

NAMES = ("gene_id", "symbol")
"""Columns of ``var`` that name genes too."""


def counts_of(cells: AnnData, genes: Sequence[str] | None = None) -> sparse.csr_matrix:
    """(cells, genes) float32 in the order of ``genes`` (sorted names where None); genes that are absent count 0.

    Raises
    ------
    InvalidDataError
        A value is negative, not whole or NaN, or a gene is named twice.
    """
    values = sparse.csr_matrix(cells.X, dtype=np.float64)
    if not np.isfinite(values.data).all() or (values.data < 0).any() or (values.data != np.rint(values.data)).any():
        raise InvalidDataError("holds values that are no counts", where="X", mend="give raw counts")
    place = {str(name): i for i, name in enumerate(cells.var_names)}
    if len(place) < cells.n_vars:
        raise InvalidDataError("names a gene twice", where="var_names", mend="cells.var_names_make_unique()")
    asked = sorted(place) if genes is None else genes
    there = [i for i, gene in enumerate(asked) if gene in place]
    known = values[:, [place[asked[i]] for i in there]].astype(np.float32)
    if len(there) == len(asked):
        return sparse.csr_matrix(known)
    wider = sparse.csr_matrix((np.ones(len(there), np.float32), (range(len(there)), there)), (len(there), len(asked)))
    return sparse.csr_matrix(known @ wider)


def columns_of(cells: AnnData, perturbation: Perturbation, genes: Sequence[str]) -> list[tuple[int, str]]:
    """Column and direction of each change; a gene may be called by its name, ``gene_id`` or ``symbol``.

    Raises
    ------
    InvalidDataError
        The cells do not have a gene, or the network did not learn it.
    """
    called = {str(name): str(name) for name in cells.var_names}
    for column in NAMES:
        if column in cells.var:
            for other, name in zip(cells.var[column].astype(str), cells.var_names, strict=True):
                called.setdefault(other, str(name))
    place = {gene: i for i, gene in enumerate(genes)}
    found = []
    for change in perturbation.changes:
        name = called.get(change.gene, "")
        if name not in place:
            said = "is not among the genes of these cells" if not name else "was not among the genes learned from"
            raise InvalidDataError(f"{change.gene} {said}", where=perturbation.name, mend="leave this perturbation out")
        found.append((place[name], change.direction))
    return found


def perturbed(
    counts: sparse.csr_matrix, changes: Sequence[tuple[int, str]], high: npt.NDArray[np.float32]
) -> sparse.csr_matrix:
    """``counts`` with activated genes at ``high`` (genes,) where they are lower, and suppressed ones at 0."""
    made = counts.tolil(copy=True)
    for column, direction in changes:
        own = counts[:, [column]].toarray().ravel()
        made[:, column] = (np.maximum(own, high[column]) if direction == "activation" else 0 * own)[:, None]
    return sparse.csr_matrix(made)


def high_counts(counts: sparse.csr_matrix, quantile: float) -> npt.NDArray[np.float32]:
    """(genes,) the quantile of each gene over cells, 1 at least."""
    return np.maximum(1.0, np.quantile(counts.toarray(), quantile, axis=0)).astype(np.float32)
