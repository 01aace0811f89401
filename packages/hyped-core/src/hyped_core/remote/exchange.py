"""Values of the contracts as JSON and files: arrays as npy, AnnData as h5ad, tables column by column as npy and JSON.

Nothing is pickled, and what is read back equals what was written to the bit: numbers are never turned into text
outside JSON, whose floats Python reads back exactly. Needs no more than hyped-core's own dependencies.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyped_core.contracts import ImageMeta
from hyped_core.errors import PluginError

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

_KIND = "__hyped__"
_FORMATS = ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")
_numbers = itertools.count()


def encode(value: Any, folder: Path) -> Any:
    """``value`` as JSON-able data; what is large goes to new files in ``folder``.

    Raises
    ------
    PluginError
        A value of a kind that no contract has (a function, an object of a library, an array of objects).
    """
    if value is None or isinstance(value, (bool, int, float, str)) and type(value).__module__ == "builtins":
        return value
    if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
        return _array_out(value, folder)
    if isinstance(value, np.generic):
        return {_KIND: "scalar", "value": encode(np.asarray(value), folder)}
    if isinstance(value, Path):
        return {_KIND: "path", "value": str(value)}
    if isinstance(value, ImageMeta):
        fields = {name: getattr(value, name) for name in ImageMeta.__slots__}
        return {_KIND: "meta", "value": {k: encode(v, folder) for k, v in fields.items()}}
    if isinstance(value, (list, tuple, set, frozenset)):
        kind = next(k for k in (list, tuple, set, frozenset) if isinstance(value, k)).__name__
        items = [encode(v, folder) for v in (sorted(value) if kind.endswith("set") else value)]
        return items if kind == "list" else {_KIND: kind, "value": items}
    if isinstance(value, dict) or hasattr(value, "items") and hasattr(value, "keys") and not hasattr(value, "iloc"):
        return {_KIND: "dict", "value": [[encode(k, folder), encode(v, folder)] for k, v in value.items()]}
    if hasattr(value, "changes") and hasattr(value, "model_dump"):
        return {_KIND: "perturbation", "value": value.model_dump(mode="json")}
    if _is(value, "anndata", "AnnData"):
        return _cells_out(value, folder)
    if _is(value, "pandas", "DataFrame"):
        return _table_out(value, folder)
    if _is(value, "pandas", "Series"):
        return {_KIND: "series", "value": _table_out(value.to_frame(), folder), "named": value.name is not None}
    if hasattr(value, "tocsr") and hasattr(value, "nnz"):
        return _sparse_out(value, folder)
    raise PluginError(
        f"a value of type {type(value).__name__} cannot go to or from a process of its own",
        mend="the contracts have numbers, text, arrays, tables and AnnData (hyped_core.contracts)",
    )


def decode(value: Any, folder: Path) -> Any:
    """What `encode` was given; files are read from ``folder``."""
    if isinstance(value, list):
        return [decode(v, folder) for v in value]
    if not isinstance(value, dict):
        return value
    reader = _READERS.get(value.get(_KIND, ""))
    if reader is None:
        raise PluginError("not a value of this protocol", where=str(value.get(_KIND)))
    return reader(value, folder)


def _is(value: Any, package: str, name: str) -> bool:
    return any(c.__name__ == name and c.__module__.partition(".")[0] == package for c in type(value).__mro__)


def _new(folder: Path, suffix: str) -> Path:
    return folder / f"{next(_numbers):06d}{suffix}"


def _inside(folder: Path, name: str) -> Path:
    """The file ``name`` in ``folder``; a name that leads out of it is refused."""
    if Path(name).name != name:
        raise PluginError("names a file outside the folder of exchange", where=name)
    return folder / name


def _array_out(value: np.ndarray, folder: Path) -> dict[str, Any]:
    if value.dtype.hasobject:
        return {_KIND: "objects", "shape": list(value.shape), "value": [encode(v, folder) for v in value.ravel()]}
    path = _new(folder, ".npy")
    np.save(path, value, allow_pickle=False)
    return {_KIND: "array", "file": path.name}


def _array_in(value: dict[str, Any], folder: Path) -> np.ndarray:
    return np.load(_inside(folder, value["file"]), allow_pickle=False)


def _objects_in(value: dict[str, Any], folder: Path) -> np.ndarray:
    made = np.empty(len(value["value"]), dtype=object)
    for i, item in enumerate(value["value"]):
        made[i] = decode(item, folder)
    return made.reshape(value["shape"])


def _sparse_kind(value: Any) -> str:
    """scipy's name of a sparse matrix or array, also of a view that anndata made of one."""
    return next(c.__name__ for c in type(value).__mro__ if c.__module__.startswith("scipy.sparse"))


def _sparse_out(value: Any, folder: Path) -> dict[str, Any]:
    rows = value if value.format in ("csr", "csc") else value.tocsr()
    parts = {name: _array_out(np.asarray(getattr(rows, name)), folder) for name in ("data", "indices", "indptr")}
    said = {"format": rows.format, "class": _sparse_kind(value), "shape": list(rows.shape)}
    return {_KIND: "sparse", **said, "value": parts}


def _sparse_in(value: dict[str, Any], folder: Path) -> Any:
    import scipy.sparse as sp

    parts = [decode(value["value"][name], folder) for name in ("data", "indices", "indptr")]
    made = {"csr": sp.csr_matrix, "csc": sp.csc_matrix}[value["format"]]
    return _as_kind(made(tuple(parts), shape=tuple(value["shape"])), value["class"])


def _as_kind(value: Any, kind: str) -> Any:
    """A sparse matrix as scipy's class of this name."""
    import scipy.sparse as sp

    if kind.partition("_")[0] not in _FORMATS or kind.partition("_")[2] not in ("array", "matrix"):
        raise PluginError("is no kind of sparse matrix", where=kind)
    return value if _sparse_kind(value) == kind else getattr(sp, kind)(value)


def _column_out(column: Any, folder: Path) -> dict[str, Any]:
    """One column or index: type by name, and its values."""
    dtype = column.dtype
    if _is(dtype, "pandas", "CategoricalDtype"):
        codes = column.codes if hasattr(column, "codes") else column.cat.codes
        categories = _column_out(dtype.categories, folder)
        values = _array_out(np.asarray(codes), folder)
        return {"categories": categories, "ordered": bool(dtype.ordered), "value": values}
    if isinstance(dtype, np.dtype) and not dtype.hasobject:
        return {"dtype": dtype.str, "value": _array_out(column.to_numpy(), folder)}
    gone = np.asarray(column.isna()).tolist() if str(dtype) != "object" else [False] * len(column)
    values = [None if absent else encode(v, folder) for v, absent in zip(column.tolist(), gone, strict=True)]
    return {"dtype": str(dtype), "value": values}


def _column_in(value: dict[str, Any], folder: Path) -> Any:
    import pandas as pd

    if "categories" in value:
        return pd.Categorical.from_codes(
            decode(value["value"], folder), _column_in(value["categories"], folder), ordered=value["ordered"]
        )
    decoded = decode(value["value"], folder)
    if isinstance(decoded, np.ndarray):
        return decoded
    if value["dtype"] == "object":
        return _objects_in({"value": value["value"], "shape": [len(decoded)]}, folder)
    return pd.array([pd.NA if v is None else v for v in decoded], dtype=value["dtype"])


def _table_out(table: pd.DataFrame, folder: Path) -> dict[str, Any]:
    return {
        _KIND: "table",
        "index": _column_out(table.index, folder),
        "range": bool(_is(table.index, "pandas", "RangeIndex") and table.index.start == 0 and table.index.step == 1),
        "index_name": encode(table.index.name, folder),
        "names": [encode(name, folder) for name in table.columns],
        "columns": [_column_out(table.iloc[:, i], folder) for i in range(table.shape[1])],
    }


def _table_in(value: dict[str, Any], folder: Path) -> pd.DataFrame:
    import pandas as pd

    raw = _column_in(value["index"], folder)
    index = pd.RangeIndex(len(raw)) if value["range"] else pd.Index(raw)
    index.name = decode(value["index_name"], folder)
    names = [decode(name, folder) for name in value["names"]]
    columns = [pd.Series(_column_in(column, folder), index=index) for column in value["columns"]]
    table = pd.concat(columns, axis=1) if columns else pd.DataFrame(index=index)
    table.columns = pd.Index(names)
    return table


def _series_in(value: dict[str, Any], folder: Path) -> pd.Series:
    made = _table_in(value["value"], folder).iloc[:, 0]
    return made if value["named"] else made.rename(None)


_PARTS = ("layers", "obsm", "varm", "obsp", "varp")


def _in_h5ad(value: Any) -> bool:
    """Whether h5ad keeps a matrix as it is; the others go by themselves."""
    kept = isinstance(value, np.ndarray) or getattr(value, "format", "") in ("csr", "csc")
    return kept and value.ndim == 2 and value.dtype.kind in "biuf" and value.dtype.itemsize <= 8


def _matrix_out(value: Any, into: Any, name: str, folder: Path) -> dict[str, Any]:
    """A matrix of cells: under a name that h5ad can have in ``into``, or by itself."""
    if not _in_h5ad(value):
        return {"value": encode(value, folder)}
    into[name] = value
    return {"name": name, "class": "" if isinstance(value, np.ndarray) else _sparse_kind(value)}


def _matrix_in(said: dict[str, Any], held: Any, folder: Path) -> Any:
    if "value" in said:
        return decode(said["value"], folder)
    value = held[said["name"]]
    return _as_kind(value, said["class"]) if said["class"] else value


def _cells_out(cells: AnnData, folder: Path) -> dict[str, Any]:
    """Matrices as h5ad under numbers for names; tables and ``uns`` apart, of which h5ad does not keep all."""
    import anndata

    cells = cells.to_memory() if cells.isbacked else cells
    path = _new(folder, ".h5ad")
    plain = anndata.AnnData(obs=cells.obs[[]], var=cells.var[[]])
    said: dict[str, Any] = {"X": None if cells.X is None else _matrix_out(cells.X, plain.layers, "X", folder)}
    for part in _PARTS:
        named = enumerate(getattr(cells, part).items())
        into = getattr(plain, part)
        said[part] = [[encode(key, folder), _matrix_out(value, into, str(i), folder)] for i, (key, value) in named]
    plain.write_h5ad(path)
    raw = cells.raw
    if raw is not None:
        apart = anndata.AnnData(raw.X, obs=cells.obs[[]], var=raw.var, varm=dict(raw.varm))
        said["raw"] = encode(apart, folder)
    return {
        _KIND: "cells",
        "file": path.name,
        "uns": encode(dict(cells.uns), folder),
        "obs": _table_out(cells.obs, folder),
        "var": _table_out(cells.var, folder),
        **said,
    }


def _cells_in(value: dict[str, Any], folder: Path) -> AnnData:
    import anndata

    held = anndata.read_h5ad(_inside(folder, value["file"]))
    cells = anndata.AnnData(obs=_table_in(value["obs"], folder), var=_table_in(value["var"], folder))
    if value["X"] is not None:
        cells.X = _matrix_in(value["X"], held.layers, folder)
    for part in _PARTS:
        for key, said in value[part]:
            getattr(cells, part)[decode(key, folder)] = _matrix_in(said, getattr(held, part), folder)
    cells.uns.update(decode(value["uns"], folder))
    if "raw" in value:
        cells.raw = decode(value["raw"], folder)
    return cells


def _meta_in(value: dict[str, Any], folder: Path) -> ImageMeta:
    return ImageMeta(**{k: decode(v, folder) for k, v in value["value"].items()})


def _perturbation_in(value: dict[str, Any], folder: Path) -> Any:
    from hyped_core.design import Perturbation

    return Perturbation.model_validate(value["value"])


_READERS: dict[str, Callable[[dict[str, Any], Path], Any]] = {
    "array": _array_in,
    "objects": _objects_in,
    "scalar": lambda v, f: decode(v["value"], f)[()],
    "path": lambda v, f: Path(v["value"]),
    "meta": _meta_in,
    "tuple": lambda v, f: tuple(decode(v["value"], f)),
    "set": lambda v, f: set(decode(v["value"], f)),
    "frozenset": lambda v, f: frozenset(decode(v["value"], f)),
    "dict": lambda v, f: {decode(k, f): decode(x, f) for k, x in v["value"]},
    "perturbation": _perturbation_in,
    "cells": _cells_in,
    "table": _table_in,
    "series": _series_in,
    "sparse": _sparse_in,
}


def line(message: dict[str, Any]) -> bytes:
    """A message as one line of JSON."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"
