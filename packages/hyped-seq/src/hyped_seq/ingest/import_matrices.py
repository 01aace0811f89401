"""Expression, raw counts and genes of a finished h5ad, wherever its maker put them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from hyped_core.errors import InvalidDataError
from hyped_seq.annotate.normalise import log_normalised
from hyped_seq.ingest.genes import ensembl_id, merge_features
from hyped_seq.ingest.params import ImportCellsParams
from hyped_seq.readers.matrix import as_counts

if TYPE_CHECKING:
    from anndata import AnnData

_HIGHEST_LOG = 14.0
"""ln(1 + 1,000,000): no log-normalised value is above it."""
_NAMES = ("symbol", "gene_name", "gene_symbol", "gene_symbols", "gene_short_name", "feature_name")
_IDS = ("gene_id", "gene_ids", "ensembl_id", "ensemble_id", "ensembl")
"""Columns of ``var`` that hold names and ids of genes."""


def matrices(
    cells: AnnData, params: ImportCellsParams, path: str | Path
) -> tuple[sp.csr_matrix, sp.csr_matrix | None, pd.DataFrame, dict[str, Any]]:
    """X, counts (or None), var, and the record of where they came from."""
    raw, raw_var, place = _raw_counts(cells, params, path)
    if raw is not None:
        symbols = gene_symbols(raw_var)
        counts, names, repeated = merge_features(as_counts(raw, f"{path}/{place}"), symbols)
        logs = log_normalised(counts, params.target_sum)
        record = {"counts": f"raw counts from {place}", "summed_features": dict(sorted(repeated.items()))}
        return logs, counts, _var(raw_var, symbols, names), record
    logs, note = _log_normalised_x(cells, path)
    symbols = gene_symbols(cells.var)
    logs, names, repeated = _merged_logs(logs, symbols)
    record = {"counts": f"absent: {note}", "summed_features": dict(sorted(repeated.items()))}
    return logs, None, _var(cells.var, symbols, names), record


def _merged_logs(logs: sp.csr_matrix, names: list[str]) -> tuple[sp.csr_matrix, list[str], dict[str, int]]:
    """Genes that share a name as one, ln(1 + the sum of what was normalised); the others keep their bytes."""
    codes, unique = pd.factorize(np.asarray(names, dtype=object))
    times = np.bincount(codes, minlength=len(unique))
    if (times == 1).all():
        return logs, names, {}
    plain = logs.astype(np.float64)
    plain.data = np.expm1(plain.data)
    genes, places = len(names), np.flatnonzero(times > 1)
    several = times[codes] > 1
    into = sp.csr_matrix((np.ones(genes), (np.arange(genes), codes)), shape=(genes, len(unique)))
    once = sp.diags((~several).astype(np.float32)) @ into.astype(np.float32)
    summed = sp.csr_matrix(plain @ sp.diags(several.astype(float)) @ into)
    summed.data = np.log1p(summed.data)
    merged = sp.csr_matrix(logs @ once + summed, dtype=np.float32)
    merged.eliminate_zeros()
    merged.sort_indices()
    return merged, [str(name) for name in unique], {str(unique[i]): int(times[i]) for i in places}


def _raw_counts(cells: AnnData, params: ImportCellsParams, path: str | Path) -> tuple[Any, pd.DataFrame, str]:
    """The raw counts, their genes and their place; None where there are none."""
    if params.counts_layer is not None and params.counts_layer not in cells.layers:
        raise InvalidDataError(
            f"has no layer {params.counts_layer!r}; layers: {', '.join(cells.layers) or 'none'}",
            where=path,
            mend="correct counts_layer",
        )
    layer = params.counts_layer or "counts"
    if layer in cells.layers:
        return cells.layers[layer], cells.var, f"layers/{layer}"
    if cells.raw is not None and looks_like_counts(cells.raw.X):
        return cells.raw.X, cells.raw.var, "raw/X"
    if cells.X is not None and looks_like_counts(cells.X):
        return cells.X, cells.var, "X"
    return None, cells.var, ""


def looks_like_counts(matrix: Any) -> bool:
    """True where every value is a whole number of at least zero and some value is above one."""
    values = matrix.data if sp.issparse(matrix) else np.asarray(matrix)
    return bool(
        values.size
        and np.isfinite(values).all()
        and values.min() >= 0
        and (values == np.rint(values)).all()
        and values.max() > 1
    )


def _log_normalised_x(cells: AnnData, path: str | Path) -> tuple[sp.csr_matrix, str]:
    """``X`` as natural-log-normalised CSR float32 after checking that it can be that."""
    if cells.X is None:
        raise InvalidDataError("holds no matrix", where=path, mend="give an h5ad with X or layers['counts']")
    logs = sp.csr_matrix(cells.X, dtype=np.float32)
    base = cells.uns.get("log1p", {}).get("base") if isinstance(cells.uns.get("log1p"), dict) else None
    if base is not None:
        logs.data *= np.float32(np.log(float(base)))
    if not np.isfinite(logs.data).all():
        raise InvalidDataError(
            f"{int((~np.isfinite(logs.data)).sum())} values of X are NaN or infinite",
            where=f"{path}/X",
            mend="give raw counts in layers['counts'], or remove these cells or genes",
        )
    if logs.data.size and (logs.data.min() < 0 or logs.data.max() > _HIGHEST_LOG):
        low, high = float(logs.data.min()), float(logs.data.max())
        raise InvalidDataError(
            f"X is neither raw counts nor log-normalised (values from {low:.4g} to {high:.4g})",
            where=f"{path}/X",
            mend="give raw counts in layers['counts'] or ln(1 + counts per 10,000) in X",
        )
    logs.eliminate_zeros()
    logs.sort_indices()
    total = np.bincount(
        np.repeat(np.arange(logs.shape[0]), np.diff(logs.indptr)),
        weights=np.expm1(logs.data.astype(float)),
        minlength=logs.shape[0],
    )
    note = (
        f"X is taken as log-normalised; undone, cells sum to {np.median(total):.6g} (median) "
        f"over {logs.shape[1]} genes"
    )
    return logs, note


def gene_symbols(var: pd.DataFrame) -> list[str]:
    """Gene names: a column that says so, else (and where it says nothing) the index."""
    index = [str(name) for name in var.index]
    column = next((name for name in _NAMES if name in var), None)
    if column is None:
        return index
    named = ["" if pd.isna(name) else str(name).strip() for name in var[column]]
    return [name or own for name, own in zip(named, index, strict=True)]


def _var(var: pd.DataFrame, symbols: list[str], names: list[str]) -> pd.DataFrame:
    """``gene_id`` and ``symbol`` of the kept names."""
    column = next((name for name in _IDS if name in var), None)
    given = [str(value) for value in (var[column] if column else var.index)]
    ids: dict[str, str] = {}
    for symbol, identifier in zip(symbols, given, strict=True):
        ids.setdefault(symbol, ensembl_id(identifier))
    return pd.DataFrame(
        {"gene_id": [ids[name] for name in names], "symbol": names}, index=pd.Index(names, dtype=object)
    )
