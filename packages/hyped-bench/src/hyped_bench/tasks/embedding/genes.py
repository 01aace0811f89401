"""Genes by name in a table of cells: which columns a name means, and the name that means one column only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

NAMES = ("symbol", "gene_id")
"""Columns of ``var`` that name genes, beside its index."""


def gene_columns(var: pd.DataFrame, gene: str) -> npt.NDArray[np.intp]:
    """Columns of a gene: by ``var_names``, else by ``var.symbol``, else by ``var.gene_id``; empty if unknown."""
    for names in (var.index, *(var[name] for name in NAMES if name in var)):
        found = np.flatnonzero(np.asarray(names, dtype=object) == gene)
        if len(found):
            return found
    return np.zeros(0, dtype=np.intp)


def gene_names(var: pd.DataFrame) -> npt.NDArray[np.object_]:
    """A name for each column that `gene_columns` reads back as this column: the symbol where it is clear."""
    index = np.asarray(var.index, dtype=object)
    if "symbol" not in var:
        return index
    symbols = var["symbol"].astype(str).to_numpy(dtype=object)
    values, counts = np.unique(symbols.astype(str), return_counts=True)
    once = np.isin(symbols.astype(str), values[(counts == 1) & (values != "") & (values != "nan")])
    taken = np.isin(symbols.astype(str), index.astype(str)) & (symbols != index)
    return np.where(once & ~taken, symbols, index)
