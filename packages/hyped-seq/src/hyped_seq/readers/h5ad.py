"""h5ad files: typed errors on reading, equal bytes for equal data on writing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import scipy.sparse as sp

from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError
from hyped_seq.readers.h5_sparse import write_sparse
from hyped_seq.readers.matrix import CountMatrix, are_counts, checked

if TYPE_CHECKING:
    from anndata import AnnData


_IDS = ("gene_id", "gene_ids", "ensembl_id")
_NAMES = ("symbol", "gene_name", "gene_symbol", "gene_symbols", "feature_name")
_KIND = "feature_types"
"""Columns of ``var`` that hold ids, names and (as scanpy calls it) the kind of a 10x feature."""


def read_h5ad(path: str | Path) -> AnnData:
    """Read an h5ad file.

    Raises
    ------
    MissingFileError, CorruptFileError
        No such file, or not a readable AnnData.
    """
    import anndata

    with _reading_h5ad(path) as path:
        return anndata.read_h5ad(path)


def read_counts_only(path: str | Path) -> AnnData:
    """Read ``obs``, ``var``, ``uns`` and ``layers["counts"]`` of an h5ad file, without ``X``, which follows from them.

    A file that has no such layer is read whole.

    Raises
    ------
    MissingFileError, CorruptFileError
        As `read_h5ad`.
    """
    import h5py
    from anndata import AnnData
    from anndata.io import read_elem

    with _reading_h5ad(path) as path, h5py.File(path) as store:
        if "layers/counts" in store:
            parts: dict[str, Any] = {key: read_elem(store[key]) for key in ("obs", "var", "uns") if key in store}
            return AnnData(layers={"counts": read_elem(store["layers/counts"])}, **parts)
    return read_h5ad(path)


@contextmanager
def _reading_h5ad(path: str | Path) -> Iterator[Path]:
    """Turn what goes wrong while ``path`` is read into one typed error that names it."""
    path = Path(path)
    if not path.is_file():
        raise MissingFileError("no such file", where=path, mend="check the path")
    try:
        with warnings.catch_warnings():  # repeated names: each reader refuses, sums or keeps them
            warnings.filterwarnings("ignore", message=".*names are not unique", category=UserWarning)
            yield path
    except Exception as error:  # anndata and h5py raise many kinds, some of them private
        raise CorruptFileError(
            f"is not a readable h5ad file: {error}",
            where=path,
            mend="write the file again; `hyped seq ingest NAME=FILE` makes one of a table of counts (CSV, MEX, 10x h5)",
        ) from error


def read_h5ad_counts(path: str | Path) -> CountMatrix:
    """Raw counts of an h5ad: the first of ``layers["counts"]``, ``raw.X`` and ``X`` that holds counts.

    Features have columns ``id``, ``name`` and, where scanpy kept it of a 10x file, ``kind``.

    Raises
    ------
    InvalidDataError
        There is no matrix, or none of counts; what is wrong with the first is said.
    """
    cells = read_h5ad(path)
    places = {
        "layers/counts": (cells.layers.get("counts"), cells.var),
        "raw/X": (None, cells.var) if cells.raw is None else (cells.raw.X, cells.raw.var),
        "X": (cells.X, cells.var),
    }
    there = [place for place, (matrix, _) in places.items() if matrix is not None]
    if not there:
        raise InvalidDataError("holds no matrix", where=path, mend="write X or layers['counts']")
    # without counts the first is taken and refused, with what is wrong with it
    place = next((place for place in there if are_counts(places[place][0])), there[0])
    counts, var = places[place]
    columns = {"id": _column(var, _IDS), "name": _column(var, _NAMES)}
    if _KIND in var:
        columns["kind"] = list(map(str, var[_KIND]))
    features = pd.DataFrame(columns)
    return checked(counts, list(map(str, cells.obs_names)), features, f"{path}/{place}")


def _column(var: pd.DataFrame, names: tuple[str, ...]) -> list[str]:
    """The first of these columns that is there, else the index, as text."""
    found = next((name for name in names if name in var), None)
    return list(map(str, var.index if found is None else var[found]))


def write_h5ad(cells: AnnData, path: Path) -> None:
    """Write ``cells`` as AnnData does, gzip level 1; equal data give equal bytes (no times are stored).

    Sparse matrices are deflated on all cores. One that occurs at several places (``X`` and ``layers["counts"]``)
    is written once and linked (an HDF5 hard link: every reader sees two matrices). Text columns of ``obs`` and
    ``var`` become categories, as with `AnnData.write_h5ad`.
    """
    import h5py
    from anndata.experimental import write_dispatched

    cells.strings_to_categoricals()
    places: dict[tuple[Any, ...], str] = {}

    def write(write_elem: Any, group: Any, name: str, elem: Any, *, dataset_kwargs: Any, iospec: Any) -> None:
        """Sparse matrices by `write_sparse` or as a link, all else as AnnData would; nothing for None."""
        if elem is None:  # an encoding of its own, which anndata before 0.11 cannot read
            return
        if not (sp.issparse(elem) and elem.format in ("csr", "csc")):
            write_elem(group, name, elem, dataset_kwargs=dataset_kwargs)
            return
        where = tuple((array.ctypes.data, array.size, array.dtype) for array in (elem.data, elem.indices, elem.indptr))
        if where in places:
            group[name] = group.file[places[where]]
        else:
            write_sparse(group.require_group(name), elem)
            places[where] = group[name].name

    with h5py.File(path, "w") as file:
        write_dispatched(file, "/", cells, write, dataset_kwargs={"compression": "gzip", "compression_opts": 1})
