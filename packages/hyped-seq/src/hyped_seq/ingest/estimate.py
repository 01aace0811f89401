"""What a step on h5ad files will take, from their sizes and the shapes they state; no matrix is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyped_core.errors import CorruptFileError, MissingFileError


@dataclass(frozen=True, slots=True)
class Shape:
    """What a file of cells holds: cells, features, values that are stored, and its size in bytes."""

    cells: int
    features: int
    stored: int
    size: int


@dataclass(frozen=True, slots=True)
class Rate:
    """What a step writes and does, measured on one core on simulated data and rounded to the careful side.

    Attributes
    ----------
    bytes_per_byte, bytes_per_cell : written, by the size of what is read and by its cells.
    start_s : seconds it takes in any case.
    cells_per_s, values_per_s : cells and stored values done a second; both times are added.
    """

    bytes_per_byte: float
    bytes_per_cell: float
    start_s: float
    cells_per_s: float
    values_per_s: float


def h5ad_shape(path: str | Path) -> Shape:
    """The shape of an h5ad file, from its header.

    Raises
    ------
    MissingFileError, CorruptFileError
        No such file, or not an AnnData.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise MissingFileError("no such file", where=path, mend="check the path")
    try:
        with h5py.File(path, "r") as file:
            cells, features = _rows(file["obs"]), _rows(file["var"])
            matrix = file.get("X")
            if matrix is None:
                stored = cells * features
            else:
                stored = int(matrix["data"].size if isinstance(matrix, h5py.Group) else matrix.size)
    except (OSError, KeyError, AttributeError, IndexError) as error:
        raise CorruptFileError(
            f"is not a readable h5ad file: {error}", where=path, mend="write the file again"
        ) from error
    return Shape(cells, features, stored, path.stat().st_size)


def _rows(table: Any) -> int:
    """Rows of ``obs`` or ``var``: a group of columns with an index, or (older files) one array of records."""
    import h5py

    if isinstance(table, h5py.Dataset):
        return int(table.shape[0])
    return int(table[table.attrs.get("_index", "_index")].shape[0])


def plan(shapes: dict[str, Shape], outputs: list[str], rate: Rate) -> dict[str, Any]:
    """What a dry run prints: ``cells``, ``features`` by modality, ``outputs``, ``bytes``, ``seconds``, ``rate``.

    ``cells`` are those of the input, before any is filtered.
    """
    cells = max(shape.cells for shape in shapes.values())
    size = sum(shape.size for shape in shapes.values())
    stored = sum(shape.stored for shape in shapes.values())
    return {
        "cells": cells,
        "features": {name: shape.features for name, shape in shapes.items()},
        "outputs": outputs,
        "bytes": round(size * rate.bytes_per_byte + cells * rate.bytes_per_cell),
        "seconds": round(rate.start_s + cells / rate.cells_per_s + stored / rate.values_per_s, 1),
        "rate": f"{rate.start_s:g} s, {rate.cells_per_s:g} cells/s and {rate.values_per_s:g} stored values/s, "
        f"{rate.bytes_per_byte:g} bytes a byte read and {rate.bytes_per_cell:g} a cell; rough, on one core",
    }
