"""h5ad files: typed errors on reading, equal bytes for equal data on writing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError
from hyped_seq.readers.matrix import CountMatrix, checked

if TYPE_CHECKING:
    from anndata import AnnData


def read_h5ad(path: str | Path) -> AnnData:
    """Read an h5ad file.

    Raises
    ------
    MissingFileError, CorruptFileError
        No such file, or not a readable AnnData.
    """
    import anndata

    path = Path(path)
    if not path.is_file():
        raise MissingFileError("no such file", where=path, mend="check the path")
    try:
        return anndata.read_h5ad(path)
    except Exception as error:  # anndata and h5py raise many kinds, some of them private
        raise CorruptFileError(
            f"is not a readable h5ad file: {error}",
            where=path,
            mend="write the file again; `hyped seq ingest NAME=FILE` makes one of a table of counts (CSV, MEX, 10x h5)",
        ) from error


def read_h5ad_counts(path: str | Path) -> CountMatrix:
    """Raw counts of an h5ad: ``layers["counts"]``, else ``raw.X``, else ``X``.

    Raises
    ------
    InvalidDataError
        What is found there are no counts.
    """
    cells = read_h5ad(path)
    if "counts" in cells.layers:
        counts, var, place = cells.layers["counts"], cells.var, "layers/counts"
    elif cells.raw is not None:
        counts, var, place = cells.raw.X, cells.raw.var, "raw/X"
    else:
        counts, var, place = cells.X, cells.var, "X"
    if counts is None:
        raise InvalidDataError("holds no matrix", where=path, mend="write X or layers['counts']")
    names = var["symbol"] if "symbol" in var else var.index
    ids = var["gene_id"] if "gene_id" in var else var.index
    features = pd.DataFrame({"id": list(map(str, ids)), "name": list(map(str, names))})
    return checked(counts, list(map(str, cells.obs_names)), features, f"{path}/{place}")


def write_h5ad(cells: AnnData, path: Path) -> None:
    """Write ``cells``, gzip level 1; equal data give equal bytes (no times are stored)."""
    cells.write_h5ad(path, compression="gzip", compression_opts=1)
