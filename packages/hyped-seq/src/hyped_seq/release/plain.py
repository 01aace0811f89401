"""Names and values that every AnnData since 0.10 reads: plain text, no slashes in names, nothing that is None."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from hyped_core.errors import InvalidDataError

_RESERVED = ("_index", "__categories")


def file_names(names: Iterable[object], where: str) -> dict[str, str]:
    """Name -> its name in the file, where ``/`` is ``_``: HDF5 takes a slash for a group.

    >>> file_names(["CD3/CD28", "phase"], "obs")
    {'CD3/CD28': 'CD3_CD28', 'phase': 'phase'}

    Raises
    ------
    InvalidDataError
        A name that a file cannot hold, or two that become one.
    """
    found: dict[str, str] = {}
    for name in map(str, names):
        given = "_" if name in ("", ".") else name.replace("/", "_")
        if given in _RESERVED or "\0" in given or not _encodes(given):
            raise InvalidDataError(
                f"{name!r} cannot be a name in an h5ad file", where=where, mend="give it another name"
            )
        if given in found.values() or name in found:
            other = next(key for key, value in found.items() if value == given or key == name)
            raise InvalidDataError(
                f"{other!r} and {name!r} have one name in the file, {given!r}", where=where, mend="rename one"
            )
        found[name] = given
    return found


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def plain_table(table: pd.DataFrame, where: str, names: Mapping[str, str] | None = None) -> pd.DataFrame:
    """``table`` with text as object or categories of object, missing text as "", columns by ``names``.

    Raises
    ------
    InvalidDataError
        A column cannot be in an h5ad file.
    """
    names = file_names(table.columns, where) if names is None else names
    index = pd.Index([str(name) for name in table.index], dtype=object)
    plain = pd.DataFrame(index=index)
    columns = {names[str(name)]: _plain_column(table[name], f"{where}/{name}") for name in table.columns}
    for name, values in columns.items():
        text = isinstance(values, np.ndarray) and values.dtype.kind == "O"
        kind = object if text else None  # newer versions of pandas would make it a type of their own
        plain[name] = pd.Series(values, index=index, dtype=kind)
    return plain


def _plain_column(column: pd.Series, where: str) -> Any:
    """The values of a column: numbers, truth values and categories as they are, everything else as text."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        values = dtype.categories
        if pd.api.types.is_numeric_dtype(values.dtype):
            return pd.Categorical(column)
        text = pd.Index(_texts(values, where), dtype=object)
        if not text.is_unique:
            return pd.Categorical(_texts(column, where))
        return pd.Categorical.from_codes(column.cat.codes, categories=text, ordered=dtype.ordered)
    if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype):
        return column.array if pd.api.types.is_extension_array_dtype(dtype) else column.to_numpy()
    return np.array(_texts(column, where), dtype=object)


def _texts(values: Iterable[Any], where: str) -> list[str]:
    found = ["" if pd.api.types.is_scalar(value) and pd.isna(value) else str(value) for value in values]
    for text in found:
        if "\0" in text or not _encodes(text):
            raise InvalidDataError(
                f"holds {text!r}, which cannot be in an h5ad file", where=where, mend="remove what is no text"
            )
    return found


def plain_record(value: Any, where: str) -> Any:
    """``value`` of ``uns`` with None left out, texts as arrays of object and tables plain."""
    if isinstance(value, Mapping):
        names = file_names(value, where)
        kept = {names[str(key)]: plain_record(item, f"{where}/{key}") for key, item in value.items()}
        return {key: item for key, item in kept.items() if item is not None}
    if isinstance(value, pd.DataFrame):
        return plain_table(value, where)
    if isinstance(value, (list, tuple)):
        if any(isinstance(item, (Mapping, list, tuple)) for item in value):
            raise InvalidDataError(
                "holds a list of records, which an h5ad file cannot", where=where, mend="store it as JSON text"
            )
        text = any(isinstance(item, str) or item is None for item in value)
        value = np.array(_texts(value, where), dtype=object) if text else np.array(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "OU":
        return np.array(_texts(value.ravel(), where), dtype=object).reshape(value.shape)
    return value
