"""Raw counts of cells in chunks of rows, from an h5ad file that need not fit into memory or from an AnnData.

Counts are ``layers["counts"]`` where there is such a layer, else ``raw.X`` where it holds counts, else ``X``. CSR and
dense matrices are read chunk by chunk; CSC, which has no rows to read, is turned to CSR in memory up to
`CSC_BYTES` and refused above.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError, UnsupportedDataError
from hyped_seq.readers.matrix import are_counts, as_counts

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

CHUNK_CELLS = 8192
"""Cells read at a time."""
CHUNK_ENTRIES = 1 << 24
"""Stored counts read at a time, whatever the number of cells (one cell at least)."""
CSC_BYTES = 1 << 30
"""Largest CSC matrix in a file that is turned to CSR in memory."""
IDS = ("gene_id", "gene_ids", "ensembl_id")
"""Columns of ``var`` that hold gene ids; the index where there is none."""
NAMES = ("symbol", "gene_name", "gene_symbol", "gene_symbols", "feature_name")
"""Columns of ``var`` that hold names; the index where there is none."""
PLACES = ("layers/counts", "raw/X", "X")
_AGAIN = "copy or write the file again"


@dataclass(frozen=True, slots=True)
class CellChunk:
    """Rows ``start`` to ``start + counts.shape[0]`` of the cells.

    Attributes
    ----------
    counts : (cells, genes) CSR of any number type; duplicate entries of a place are meant to be summed.
    n_counts : (cells,) float64, counts of each cell over all genes, those of no interest included.
    """

    start: int
    counts: sp.csr_matrix
    n_counts: np.ndarray


class CellSource:
    """Cells whose counts are read in chunks; see `open_cells`.

    Attributes
    ----------
    where : file and place of the counts, for messages; ``place`` alone is as in `PLACES`.
    gene_ids, symbols : (genes,) object arrays of text; empty text where there is none.
    held : where the gene ids are, as one writes it behind ``cells.``.
    n_counts : (cells,) float64 of ``obs``, or None where it has no such column: counts are then summed.
    """

    def __init__(self, matrix: Any, obs: Any, var: Any, where: str, place: str) -> None:
        self._matrix, self._obs = matrix, obs
        self.where, self.place = where, place
        self.shape: tuple[int, int] = matrix.shape
        self.gene_ids = _text(var, IDS)
        self.held = next((f'var["{name}"]' for name in IDS if name in var.columns), "var_names")
        self.symbols = _text(var, NAMES)
        if len(self.gene_ids) != self.shape[1]:
            raise InvalidDataError(
                f"the matrix has {self.shape[1]} genes but var has {len(self.gene_ids)}", where=where, mend=_AGAIN
            )
        self.n_counts: np.ndarray | None = None
        if "n_counts" in obs.columns:
            self.n_counts = checked_totals(obs.column("n_counts"), self.shape[0], f"{where}: obs n_counts")

    @property
    def n_cells(self) -> int:
        """How many cells there are."""
        return self.shape[0]

    @property
    def cell_names(self) -> np.ndarray:
        """(cells,) names of the cells."""
        return np.asarray(self._obs.index, dtype=object)

    @property
    def obs_columns(self) -> list[str]:
        """Names of the columns of ``obs``."""
        return list(self._obs.columns)

    def obs(self, columns: Sequence[str]) -> pd.DataFrame:
        """These columns of ``obs``, in order, with cell names as index.

        Raises
        ------
        InvalidDataError
            ``obs`` has no such column.
        """
        import pandas as pd

        for name in columns:
            if name not in self._obs.columns:
                raise InvalidDataError(
                    f"obs has no column {name!r}",
                    where=self.where,
                    mend=f"columns there: {', '.join(map(str, self._obs.columns)) or 'none'}",
                )
        return pd.DataFrame({name: self._obs.column(name) for name in columns}, index=self._obs.index)

    def stored(self, most: int) -> int:
        """How many counts are stored, at most ``most`` a cell taken; of a dense matrix zeros too."""
        pointers = self._matrix.indptr
        if pointers is None:
            return self.n_cells * min(most, self.shape[1])
        return int(np.minimum(np.diff(pointers), most).sum())

    def matrix(self) -> sp.csr_matrix:
        """All counts, unchecked; those of an AnnData are not copied where they are CSR."""
        return self._matrix.rows(0, self.shape[0])

    def chunks(self, cells: int = CHUNK_CELLS, *, check: bool = True) -> Iterator[CellChunk]:
        """Chunks of at most ``cells`` cells and about `CHUNK_ENTRIES` stored counts, in order.

        ``check=False`` leaves it to the caller to find values that are no counts.

        Raises
        ------
        InvalidDataError
            A value is negative, no whole number or not finite, or a column lies outside the matrix.
        CorruptFileError
            The file cannot be read there.
        """
        for start, stop in self._matrix.bounds(cells):
            counts = self._matrix.rows(start, stop)
            if check:
                check_counts(counts, self.where)
            totals = row_sums(counts) if self.n_counts is None else self.n_counts[start:stop]
            yield CellChunk(start, counts, totals)


def check_counts(counts: sp.csr_matrix, where: object) -> None:
    """Raise `InvalidDataError` where ``counts`` holds what is no count, or a column that is not there."""
    inside = not counts.indices.size or 0 <= counts.indices.min() <= counts.indices.max() < counts.shape[1]
    if not inside or not are_counts(counts):
        as_counts(counts, where)  # says what is wrong


def row_sums(counts: sp.csr_matrix) -> np.ndarray:
    """(rows,) float64 sums of the stored values (an own loop over rows: scipy multiplies by a vector of ones)."""
    sums = np.zeros(counts.shape[0])
    filled = np.flatnonzero(np.diff(counts.indptr))
    if len(filled):
        sums[filled] = np.add.reduceat(counts.data, counts.indptr[filled].astype(np.int64), dtype=np.float64)
    return sums


def checked_totals(n_counts: object, n_cells: int, where: object) -> np.ndarray:
    """``n_counts`` as float64 of length ``n_cells``.

    Raises
    ------
    InvalidDataError
        It has another length, or a value is missing, negative or infinite.
    """
    try:
        totals = np.asarray(n_counts, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidDataError("is no column of numbers", where=where, mend="give each cell's sum of counts") from error
    if totals.shape != (n_cells,):
        raise InvalidDataError(f"has shape {totals.shape} for {n_cells} cells", where=where, mend="one number a cell")
    bad = np.flatnonzero(~(np.isfinite(totals) & (totals >= 0)))
    if len(bad):
        raise InvalidDataError(
            f"is {totals[bad[0]]:g} in cell {bad[0]} (from 0), and unusable in {len(bad)} of {n_cells} cells",
            where=where,
            mend="give each cell's sum of counts, or leave the column out: it is then summed",
        )
    return totals


@contextmanager
def open_cells(
    cells: AnnData | str | Path, *, layer: str | None = None, where: object = "cells"
) -> Iterator[CellSource]:
    """Open an h5ad file, a container (its table ``rna``) or an AnnData for reading its raw counts in chunks.

    The matrix of an AnnData that is backed by a file is read as that of the file: CSR and dense by chunks, CSC whole.

    Parameters
    ----------
    layer : the layer with the counts (``"X"`` for ``X``); by default the first of `PLACES`, of which ``raw.X`` has to
        hold counts.
    where : what messages call an AnnData.

    Raises
    ------
    MissingFileError, CorruptFileError
        No such file, or not a readable h5ad.
    InvalidDataError
        No matrix, no such layer, or ``n_counts`` that are unusable.
    UnsupportedDataError
        A CSC matrix above `CSC_BYTES`.
    """
    if not isinstance(cells, str | Path):
        yield _of_anndata(cells, layer, where)
        return
    path = Path(cells)
    if path.is_dir() and path.suffix == ".hyped":
        from hyped_core.container import HypedData

        yield _of_anndata(HypedData.read(path).table("rna"), layer, path)
        return
    if not path.is_file():
        raise MissingFileError("no such file", where=path, mend="check the path")
    import h5py

    try:
        store = h5py.File(path, "r")
    except OSError as error:
        raise CorruptFileError(f"is not a readable h5ad file: {error}", where=path, mend=_AGAIN) from error
    with store:
        yield _of_store(store, path, layer)


def _of_anndata(cells: AnnData, layer: str | None, where: object) -> CellSource:
    places: dict[str, Any] = {f"layers/{name}": (matrix, cells.var) for name, matrix in cells.layers.items()}
    if cells.raw is not None:
        places["raw/X"] = (cells.raw.X, cells.raw.var)
    if cells.X is not None:
        places["X"] = (cells.X, cells.var)
    place = _choose(list(places), layer, where, lambda place: are_counts(_in_memory(places[place][0])))
    matrix, var = places[place]
    stored = cells.isbacked and not sp.issparse(matrix) and not isinstance(matrix, np.ndarray)
    held = _matrix(getattr(matrix, "group", matrix), f"{where}/{place}") if stored else _Held(_in_memory(matrix))
    return CellSource(held, _Table(cells.obs), _Table(var), f"{where}/{place}", place)


def _in_memory(matrix: Any) -> Any:
    """A matrix of an AnnData as scipy's or numpy's; one that is backed by a file is read."""
    matrix = matrix.to_memory() if hasattr(matrix, "to_memory") else matrix
    return matrix if sp.issparse(matrix) else np.asarray(matrix)


def _of_store(store: Any, path: Path, layer: str | None) -> CellSource:
    layers = [f"layers/{name}" for name in store["layers"]] if "layers" in store else []
    places = layers + [place for place in PLACES[1:] if place in store]
    matrices: dict[str, Any] = {}

    def holds_counts(place: str) -> bool:
        matrices[place] = _matrix(store[place], f"{path}/{place}")
        start, stop = next(iter(matrices[place].bounds(512)), (0, 0))
        return are_counts(matrices[place].rows(start, stop))

    place = _choose(places, layer, path, holds_counts)
    matrix = matrices.get(place) or _matrix(store[place], f"{path}/{place}")
    with _reading(f"{path}/obs"):
        obs = _StoredTable(store["obs"])
        var = _StoredTable(store["raw/var" if place == "raw/X" else "var"])
        if len(obs.index) != matrix.shape[0]:
            raise ValueError(f"{len(obs.index)} cells for a matrix of {matrix.shape[0]}")
        return CellSource(matrix, obs, var, f"{path}/{place}", place)


def _choose(places: list[str], layer: str | None, where: object, holds_counts: Any) -> str:
    """Which of the matrices to read."""
    if layer is not None:
        wanted = layer if layer in ("X", "raw/X") else f"layers/{layer}"
        if wanted not in places:
            raise InvalidDataError(
                f"has no matrix {wanted}", where=where, mend=f"matrices there: {', '.join(places) or 'none'}"
            )
        return wanted
    if PLACES[0] in places:
        return PLACES[0]
    if "raw/X" in places and ("X" not in places or holds_counts("raw/X")):
        return "raw/X"
    if "X" not in places:
        raise InvalidDataError("holds no matrix of counts", where=where, mend='write X or layers["counts"]')
    return "X"


@contextmanager
def _reading(where: object) -> Iterator[None]:
    """Turn what h5py and anndata raise into one typed error."""
    try:
        yield
    except (MissingFileError, InvalidDataError):
        raise
    except Exception as error:  # anndata and h5py raise many kinds, some of them private
        raise CorruptFileError(f"cannot be read: {error}", where=where, mend=_AGAIN) from error


class _Table:
    """``obs`` or ``var`` of an AnnData."""

    def __init__(self, table: pd.DataFrame) -> None:
        self._table = table
        self.index = np.asarray(table.index, dtype=object)
        self.columns = list(table.columns)

    def column(self, name: str) -> Any:
        return self._table[name].array


class _StoredTable:
    """``obs`` or ``var`` of a file: columns are read when they are asked for."""

    def __init__(self, group: Any) -> None:
        from anndata.io import read_elem

        if not hasattr(group, "keys"):
            raise UnsupportedDataError(
                "is a table of an AnnData older than 0.7", where=group.name, mend="read and write it with anndata"
            )
        self._group, self._read = group, read_elem
        self.index = np.asarray(read_elem(group[_name(group.attrs["_index"])]), dtype=object)
        self.columns = [_name(name) for name in group.attrs["column-order"]]

    def column(self, name: str) -> Any:
        with _reading(f"{self._group.file.filename}{self._group.name}/{name}"):
            return self._read(self._group[name])


def _name(text: Any) -> str:
    return text.decode() if isinstance(text, bytes) else str(text)


def _text(var: Any, names: Sequence[str]) -> np.ndarray:
    """The first of these columns, else the index, as text; what is missing becomes empty."""
    import pandas as pd

    found = next((name for name in names if name in var.columns), None)
    values = np.asarray(var.index if found is None else var.column(found), dtype=object)
    return np.array(["" if value is None or pd.isna(value) else str(value) for value in values], dtype=object)


def _bounds(n_rows: int, cells: int, indptr: np.ndarray | None) -> Iterator[tuple[int, int]]:
    """Ranges of at most ``cells`` rows; with ``indptr`` of at most `CHUNK_ENTRIES` values too, one row at least."""
    start = 0
    while start < n_rows:
        stop = min(start + max(1, cells), n_rows)
        if indptr is not None:
            most = int(np.searchsorted(indptr, int(indptr[start]) + CHUNK_ENTRIES, side="right")) - 1
            stop = max(start + 1, min(stop, most))
        yield start, stop
        start = stop


class _Held:
    """A matrix in memory; a CSR one is read without a copy."""

    def __init__(self, matrix: Any) -> None:
        self._matrix = matrix if isinstance(matrix, np.ndarray) else matrix.tocsr()
        self.shape = self._matrix.shape
        self.indptr = getattr(self._matrix, "indptr", None)

    def bounds(self, cells: int) -> Iterator[tuple[int, int]]:
        return _bounds(self.shape[0], cells, self.indptr)

    def rows(self, start: int, stop: int) -> sp.csr_matrix:
        if isinstance(self._matrix, np.ndarray):
            return sp.csr_matrix(self._matrix[start:stop])
        first, last = self._matrix.indptr[start], self._matrix.indptr[stop]
        parts = (self._matrix.data[first:last], self._matrix.indices[first:last])
        return sp.csr_matrix(
            (*parts, self._matrix.indptr[start : stop + 1] - first), shape=(stop - start, self.shape[1]), copy=False
        )


def _matrix(element: Any, where: str) -> Any:
    """A matrix in a file, by how it is stored."""
    with _reading(where):
        if not hasattr(element, "keys"):
            return _StoredDense(element, where)
        kind = _name(element.attrs.get("encoding-type", element.attrs.get("h5sparse_format", "")))
        kind = kind.removesuffix("_matrix")
        shape = element.attrs["shape"] if "shape" in element.attrs else element.attrs["h5sparse_shape"]
        shape = (int(shape[0]), int(shape[1]))
        if kind == "csr":
            return _StoredRows(element, shape, where)
        if kind != "csc":
            raise UnsupportedDataError(f"is a matrix of kind {kind!r}", where=where, mend="write it as CSR")
        size = sum(element[name].dtype.itemsize * element[name].size for name in ("data", "indices"))
        if size > CSC_BYTES:
            raise UnsupportedDataError(
                f"is stored by columns (CSC, {size / 1e9:.1f} GB), which cannot be read by cells without loading it",
                where=where,
                mend="write it by rows: cells.X = cells.X.tocsr(), on a machine that holds it",
            )
        return _Held(sp.csc_matrix(tuple(element[name][()] for name in ("data", "indices", "indptr")), shape=shape))


class _StoredDense:
    """A dense matrix in a file."""

    indptr = None

    def __init__(self, dataset: Any, where: str) -> None:
        self._dataset, self._where = dataset, where
        self.shape = dataset.shape
        if len(self.shape) != 2:
            raise UnsupportedDataError(f"has {len(self.shape)} dimensions", where=where, mend=_AGAIN)

    def bounds(self, cells: int) -> Iterator[tuple[int, int]]:
        return _bounds(self.shape[0], min(cells, max(1, CHUNK_ENTRIES // max(1, self.shape[1]))), None)

    def rows(self, start: int, stop: int) -> sp.csr_matrix:
        with _reading(self._where):
            return sp.csr_matrix(self._dataset[start:stop])


class _StoredRows:
    """A CSR matrix in a file; only its row pointers stay in memory."""

    def __init__(self, group: Any, shape: tuple[int, int], where: str) -> None:
        self._group, self._where, self.shape = group, where, shape
        self.indptr = group["indptr"][()].astype(np.int64)
        stored = min(group["data"].size, group["indices"].size)
        if len(self.indptr) != shape[0] + 1 or (np.diff(self.indptr) < 0).any() or self.indptr[-1] > stored:
            raise CorruptFileError("its row pointers do not fit its values", where=where, mend=_AGAIN)

    def bounds(self, cells: int) -> Iterator[tuple[int, int]]:
        return _bounds(self.shape[0], cells, self.indptr)

    def rows(self, start: int, stop: int) -> sp.csr_matrix:
        first, last = int(self.indptr[start]), int(self.indptr[stop])
        with _reading(self._where):
            data, indices = self._group["data"][first:last], self._group["indices"][first:last]
        pointers = self.indptr[start : stop + 1] - first
        return sp.csr_matrix((data, indices, pointers), shape=(stop - start, self.shape[1]), copy=False)
