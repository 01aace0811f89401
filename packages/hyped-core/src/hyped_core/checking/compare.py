"""Copies and differences of what models take and give: arrays, sparse matrices, tables, AnnData, and dicts of these."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

SHOWN = 3
"""Names listed in a message before it says how many there are."""


def copy_of(value: Any) -> Any:
    """A copy that shares no memory with ``value``: dicts, lists, arrays, sparse matrices, tables and AnnData."""
    if isinstance(value, Mapping):
        return {key: copy_of(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(copy_of(item) for item in value)
    if isinstance(value, np.ndarray):
        return copy.deepcopy(value) if value.dtype.hasobject else np.array(value)
    if _is_cells(value):
        copied = value.copy()
        copied.uns = copy.deepcopy(dict(value.uns))
        return copied
    if _is_frame(value) or _is_series(value):
        return value.copy(deep=True)
    return copy.deepcopy(value)


def dense(matrix: Any) -> np.ndarray:
    """``matrix`` as an array; a sparse one is filled, an array is returned as it is."""
    return matrix.toarray() if sp.issparse(matrix) else np.asarray(matrix)


def difference(a: Any, b: Any, rtol: float = 0.0, atol: float = 0.0, *, forms: bool = True) -> str | None:
    """Where two values differ first, in words; None where they do not.

    Floating numbers are equal within ``atol + rtol * |b|``, NaN equals NaN; whole numbers, text and truth values have
    to be the same. Dicts are compared key by key whatever their order, tables and AnnData part by part.

    Parameters
    ----------
    forms : whether form counts too: dtypes, sparse or dense, categories. Without it a sparse matrix equals the dense
        one of its values, and float32 the float64 of its values.
    """
    return _difference(a, b, "", rtol, atol, forms)


def _difference(a: Any, b: Any, at: str, rtol: float, atol: float, forms: bool) -> str | None:
    how = (rtol, atol, forms)
    if a is b and not isinstance(a, np.ndarray):
        return None
    if _is_cells(a) and _is_cells(b):
        return _cells(a, b, at, *how)
    if _is_frame(a) and _is_frame(b):
        return _frames(a, b, at, *how)
    if _is_series(a) and _is_series(b):
        return _columns(a.index, b.index, _join(at, "index"), *how) or _columns(a, b, at, *how)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return _names(a, b, at, "key") or _first(_difference(a[k], b[k], _join(at, k), *how) for k in a)
    if _is_list(a) and _is_list(b):
        if len(a) != len(b):
            return _say(at, f"{len(a)} items and {len(b)}")
        return _first(_difference(x, y, f"{at}[{i}]", *how) for i, (x, y) in enumerate(zip(a, b, strict=True)))
    if _is_matrix(a) and _is_matrix(b):
        return _matrices(a, b, at, *how)
    if hasattr(a, "model_dump") and hasattr(b, "model_dump"):
        return _difference(a.model_dump(), b.model_dump(), at, *how)
    if _is_scalar(a) and _is_scalar(b):
        return _matrices(np.asarray(a), np.asarray(b), at, rtol, atol, False)
    if type(a) is not type(b):
        return _say(at, f"{_kind(a)} and {_kind(b)}")
    return None if a == b else _say(at, f"{a!r} and {b!r}")


def _cells(a: Any, b: Any, at: str, rtol: float, atol: float, forms: bool) -> str | None:
    """AnnData part by part: names first, then values."""
    how = (rtol, atol, forms)
    if found := _frames(a.obs, b.obs, _join(at, "obs"), *how) or _frames(a.var, b.var, _join(at, "var"), *how):
        return found
    if (a.X is None) != (b.X is None):
        return _say(_join(at, "X"), f"{_kind(a.X)} and {_kind(b.X)}")
    if a.X is not None and (found := _matrices(a.X, b.X, _join(at, "X"), *how)):
        return found
    for part in ("layers", "obsm", "varm", "obsp", "varp"):
        # by item, since listing the parts of a view copies it
        ours, theirs = ({k: getattr(one, part)[k] for k in getattr(one, part)} for one in (a, b))
        if found := _difference(ours, theirs, _join(at, part), *how):
            return found
    if (a.raw is None) != (b.raw is None):
        return _say(_join(at, "raw"), "is in one of the two only")
    if a.raw is not None and (found := _matrices(a.raw.X, b.raw.X, _join(at, "raw/X"), *how)):
        return found
    return _difference(dict(a.uns), dict(b.uns), _join(at, "uns"), *how)


def _frames(a: Any, b: Any, at: str, rtol: float, atol: float, forms: bool) -> str | None:
    how = (rtol, atol, forms)
    if found := _names(list(a.columns), list(b.columns), at, "column"):
        return found
    if forms and list(a.columns) != list(b.columns):
        return _say(at, f"columns in the order {list(a.columns)} and {list(b.columns)}")
    if found := _columns(a.index, b.index, _join(at, "index"), *how):
        return found
    if list(a.columns) == list(b.columns):  # by place: a name may be there twice
        pairs = ((name, a.iloc[:, i], b.iloc[:, i]) for i, name in enumerate(a.columns))
    else:
        pairs = ((name, a[name], b[name]) for name in a.columns)
    return _first(_columns(ours, theirs, _join(at, name), *how) for name, ours, theirs in pairs)


def _columns(a: Any, b: Any, at: str, rtol: float, atol: float, forms: bool) -> str | None:
    """Columns or indexes: text by text, numbers as numbers, categories by what they stand for."""
    if forms and a.dtype != b.dtype:
        return _say(at, f"of type {a.dtype} and {b.dtype}")
    return _matrices(np.asarray(a), np.asarray(b), at, rtol, atol, forms)


def _matrices(a: Any, b: Any, at: str, rtol: float, atol: float, forms: bool) -> str | None:
    if a.shape != b.shape:
        return _say(at, f"of shape {tuple(a.shape)} and {tuple(b.shape)}")
    if forms and sp.issparse(a) != sp.issparse(b):
        return _say(at, f"{_kind(a)} and {_kind(b)}")
    if forms and a.dtype != b.dtype:
        return _say(at, f"of type {a.dtype} and {b.dtype}")
    a, b = dense(a), dense(b)
    wrong = _unequal(a, b, rtol, atol)
    if not wrong.any():
        return None
    if wrong.ndim == 0:
        return _say(at, f"{_shown(a[()])} and {_shown(b[()])}")
    worst = _worst(a, b, wrong)
    place = worst[0] if len(worst) == 1 else tuple(int(i) for i in worst)
    count = int(wrong.sum())
    first = "" if count == 1 else ", the most"
    shown = f"{_shown(a[worst])} and {_shown(b[worst])}"
    return _say(at, f"{count} of {wrong.size} values differ{first} at {place}: {shown}")


def _unequal(a: np.ndarray, b: np.ndarray, rtol: float, atol: float) -> np.ndarray:
    """Where two arrays of one shape differ."""
    numbers = all(np.issubdtype(x.dtype, np.number) for x in (a, b))
    if numbers and any(np.issubdtype(x.dtype, np.inexact) for x in (a, b)):
        x, y = (np.asarray(v, dtype=np.result_type(v, np.float64)) for v in (a, b))
        both = np.isnan(x) & np.isnan(y)
        with np.errstate(invalid="ignore"):
            near = np.isfinite(y) & (np.abs(x - y) <= atol + rtol * np.abs(y))
        return ~((x == y) | both | near)
    if numbers or a.dtype == b.dtype and not a.dtype.hasobject:
        unequal = a != b
        if a.dtype.kind in "mM":  # times that are not there
            unequal &= ~(np.isnat(a) & np.isnat(b))
        return np.asarray(unequal)
    pairs = zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)
    return np.array([not _same(x, y, rtol, atol) for x, y in pairs], dtype=bool).reshape(a.shape)


def _same(x: Any, y: Any, rtol: float, atol: float) -> bool:
    """Items of arrays of objects."""
    if x is y or _is_absent(x) and _is_absent(y):
        return True
    if isinstance(x, str) or isinstance(y, str):
        return isinstance(x, str) and isinstance(y, str) and x == y
    return _difference(x, y, "", rtol, atol, False) is None


def _worst(a: np.ndarray, b: np.ndarray, wrong: np.ndarray) -> tuple[Any, ...]:
    """Place of the largest difference of numbers, of the first of others."""
    if all(np.issubdtype(x.dtype, np.number) for x in (a, b)):
        with np.errstate(invalid="ignore", over="ignore"):
            size = np.abs(np.asarray(a, dtype=np.complex128) - np.asarray(b, dtype=np.complex128))
        size = np.where(np.isfinite(size), size, np.inf)
        return np.unravel_index(int(np.argmax(np.where(wrong, size, -1.0))), wrong.shape)
    return np.unravel_index(int(np.argmax(wrong)), wrong.shape)


def _names(a: Any, b: Any, at: str, kind: str) -> str | None:
    """Names that one of two mappings or lists has alone."""
    for here, there, which in ((a, b, "second"), (b, a, "first")):
        if lacking := [name for name in here if name not in there]:
            more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
            listed = ", ".join(repr(name) for name in lacking[:SHOWN])
            return _say(at, f"{kind} {listed}{more} not in the {which}")
    return None


def _first(found: Iterable[str | None]) -> str | None:
    return next((one for one in found if one), None)


def _join(at: str, name: Any) -> str:
    return f"{at}/{name}" if at else str(name)


def _say(at: str, what: str) -> str:
    return f"{at}: {what}" if at else what


def _shown(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        return f"{value:.7g}"
    return repr(value.item() if isinstance(value, np.generic) else value)


def _kind(value: Any) -> str:
    if sp.issparse(value):
        return f"a sparse {value.format} matrix"
    return "an array" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def _is_absent(value: Any) -> bool:
    if isinstance(value, float):
        return bool(np.isnan(value))
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (bool, int, float, complex, np.generic))


def _is_matrix(value: Any) -> bool:
    return isinstance(value, np.ndarray) or sp.issparse(value) or _is(value, "pandas", "Index")


def _is_cells(value: Any) -> bool:
    return _is(value, "anndata", "AnnData")


def _is_frame(value: Any) -> bool:
    return _is(value, "pandas", "DataFrame")


def _is_series(value: Any) -> bool:
    return _is(value, "pandas", "Series")


def _is(value: Any, package: str, name: str) -> bool:
    """By name, so that asking imports neither library."""
    return any(c.__name__ == name and c.__module__.partition(".")[0] == package for c in type(value).__mro__)
