"""The one place where HYPED unpickles: an allow-list that builds plain containers and numpy numbers only.

A pickle is a program. This reader replaces each allowed global by a stand-in of its own that makes data from
checked arguments, so that neither numpy's nor anybody's constructors run on what a file says.
"""

from __future__ import annotations

import collections
import importlib
import io
import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hyped_core.errors import (
    CorruptFileError,
    InvalidDataError,
    MissingDependencyError,
    MissingFileError,
)

Allow = Literal["plain", "numpy-scalars", "torch-state", "torch-tensors"]

MAX_BYTES = 2 << 30
"""Largest pickle that is read, in bytes."""

_DTYPE = re.compile(r"[|<>=]?([?]|[biufc]\d{1,2}|[SU]\d{1,6})")
_MEND = "take the file from its official source, or convert it to JSON or safetensors where it is trusted"


class _Refused(Exception):
    """Something the allow-list does not hold."""


class _Maker:
    """Stand-in for an allowed global: callable, closed to all else that a pickle can do to an object."""

    __slots__ = ("_make",)
    _make: Callable[..., Any]

    def __init__(self, make: Callable[..., Any]) -> None:
        object.__setattr__(self, "_make", make)

    def __call__(self, *args: Any) -> Any:
        return self._make(*args)

    def __setstate__(self, state: object) -> None:
        raise _Refused("a state set on a constructor")

    def __setattr__(self, name: str, value: object) -> None:
        raise _Refused(f"attribute {name!r} set on a constructor")


class _Dtype:
    """A dtype being unpickled: booleans, numbers and strings of fixed length only."""

    __slots__ = ("code", "order")

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise _Refused(f"numpy.dtype({code!r})")
        self.order, self.code = ("=", code) if code[0] not in "|<>=" else (code[0], code[1:])

    def __setstate__(self, state: object) -> None:
        if (
            not isinstance(state, tuple)
            or len(state) != 8
            or state[1] not in ("<", ">", "|", "=")
            or state[2:5] != (None, None, None)
        ):
            raise _Refused("numpy.dtype with fields or metadata")
        self.order = state[1]

    def resolve(self) -> np.dtype:
        return np.dtype(("" if self.order == "|" else self.order) + self.code)


class _Array(np.ndarray):
    """An array being unpickled; turned into a plain ``numpy.ndarray`` at the end."""

    def __setstate__(self, state: object) -> None:  # type: ignore[override]
        if not isinstance(state, tuple) or len(state) != 5:
            raise _Refused("numpy.ndarray with an unknown state")
        _, shape, dtype, fortran, raw = state
        order: Literal["F", "C"] = "F" if fortran is True else "C"
        values = _from_bytes(raw, dtype, shape, order)
        super().__setstate__((1, values.shape, values.dtype, order == "F", values.tobytes(order)))  # type: ignore[arg-type]


def _from_bytes(raw: object, dtype: object, shape: object, order: Literal["F", "C"]) -> np.ndarray:
    if isinstance(raw, pickle.PickleBuffer):
        raw = bytes(raw)
    if (
        not isinstance(raw, bytes | bytearray)
        or not isinstance(dtype, _Dtype)
        or not isinstance(shape, tuple)
    ):
        raise _Refused("numpy.ndarray that does not hold plain numbers")
    kind = dtype.resolve()
    if any(type(n) is not int or n < 0 for n in shape) or math.prod(shape) * kind.itemsize != len(raw):
        raise CorruptFileError(f"an array of shape {shape!r} does not have the bytes it needs")
    return np.frombuffer(bytes(raw), dtype=kind).reshape(shape, order=order)


def _reconstruct(subtype: object, shape: object, code: object) -> _Array:
    if subtype is not _NDARRAY or shape != (0,) or code not in (b"b", "b"):
        raise _Refused("numpy reconstruction of something that is not a plain array")
    return _Array((0,), dtype=np.int8)


def _scalar(dtype: object, raw: object = b"") -> np.generic:
    return _from_bytes(raw.encode("latin1") if isinstance(raw, str) else raw, dtype, (1,), "C")[0]


def _frombuffer(raw: object, dtype: object, shape: object, order: object, *_: object) -> np.ndarray:
    return _from_bytes(raw, dtype, shape, "F" if order == "F" else "C").copy()


def _encode(text: object, encoding: object = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _Refused(f"_codecs.encode to {encoding!r}")
    return text.encode("latin1")


def _bytes(content: object = b"", encoding: object = "latin1") -> bytes:
    return content if isinstance(content, bytes) else _encode(content, encoding)


def _no_instances(*_: object) -> None:
    raise _Refused("numpy.ndarray called")


_NDARRAY = _Maker(_no_instances)

_PLAIN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _Maker(_encode),
}
for _module in ("builtins", "__builtin__"):
    for _type in (set, frozenset, complex):
        _PLAIN[_module, _type.__name__] = _Maker(_type)
    _PLAIN[_module, "bytes"] = _Maker(_bytes)
    _PLAIN[_module, "bytearray"] = _Maker(lambda *args: bytearray(_bytes(*args)))

_NUMPY: dict[tuple[str, str], Any] = {
    **_PLAIN,
    ("numpy", "dtype"): _Maker(_Dtype),
    ("numpy", "ndarray"): _NDARRAY,
}
for _module in ("numpy.core", "numpy._core"):
    _NUMPY[f"{_module}.multiarray", "scalar"] = _Maker(_scalar)
    _NUMPY[f"{_module}.multiarray", "_reconstruct"] = _Maker(_reconstruct)
    _NUMPY[f"{_module}.numeric", "_frombuffer"] = _Maker(_frombuffer)

_TORCH: dict[tuple[str, str], Any] = {
    **_NUMPY,
    ("torch", "device"): _Maker(lambda kind, *index: ":".join(map(str, (kind, *index)))),
    ("torch.storage", "_load_from_bytes"): _Maker(lambda raw: _torch_storage(raw)),
    ("torch._utils", "_rebuild_tensor_v2"): _Maker(lambda *args: _torch_tensor(*args)),
}

_TABLES = {"plain": _PLAIN, "numpy-scalars": _NUMPY, "torch-tensors": _TORCH}
ALLOWED = {name: frozenset(table) for name, table in _TABLES.items()}
"""(module, name) of every global each list lets a pickle mention."""


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, table: dict[tuple[str, str], Any]) -> None:
        super().__init__(stream)
        self._table = table

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._table[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("a persistent id")


def safe_load(source: str | Path | bytes, allow: Allow = "numpy-scalars") -> Any:
    """Load a pickle that holds data only.

    Parameters
    ----------
    source
        A file, or the pickle's bytes.
    allow
        ``"plain"``: dict, list, tuple, set, str, bytes, numbers, bool, None. ``"numpy-scalars"`` (default):
        also numpy numbers, arrays of numbers and fixed-length strings. ``"torch-state"``: a state dict, by
        ``torch.load(weights_only=True)`` on the CPU (torch 2.6 or newer). ``"torch-tensors"``: a plain pickle
        (written by ``pickle.dump``) that holds torch tensors beside what ``"numpy-scalars"`` allows; the tensors come
        back on the CPU, wherever they were, devices as strings.

    Raises
    ------
    InvalidDataError
        The pickle mentions anything else; the message names the global that was refused. Nothing of it ran.
    MissingFileError, CorruptFileError
        No such file; truncated, too large or no pickle at all.
    """
    where = "pickle" if isinstance(source, bytes) else Path(source)
    if isinstance(where, Path) and not where.is_file():
        raise MissingFileError("there is no such file", where=where, mend="check the path, or fetch the file")
    if allow == "torch-state":
        return _torch_state(source, where)
    if allow == "torch-tensors":
        _torch(where)
    if allow not in ALLOWED:
        raise InvalidDataError(
            f"there is no allow-list {allow!r}", mend=f"lists: {', '.join(ALLOWED)}, torch-state"
        )
    size = where.stat().st_size if isinstance(where, Path) else len(source)  # type: ignore[arg-type]
    if size > MAX_BYTES:
        raise CorruptFileError(f"has {size} bytes, more than the {MAX_BYTES} that are read", where=where)
    raw = where.read_bytes() if isinstance(where, Path) else bytes(source)  # type: ignore[arg-type]
    try:
        value = _Unpickler(io.BytesIO(raw), _TABLES[allow]).load()
        return _finish(value, {})
    except _Refused as refused:
        raise InvalidDataError(
            f"refused to unpickle {refused}: only {allow} data is allowed", where=where, mend=_MEND
        ) from None
    except Exception as error:
        raise CorruptFileError(
            f"is no readable pickle: {type(error).__name__}: {str(error)[:200]}", where=where, mend=_MEND
        ) from error


def _finish(value: Any, seen: dict[int, Any]) -> Any:
    """Replace the readers' own array type in containers; anything left that is not data is refused."""
    if isinstance(value, _Array):
        return value.view(np.ndarray).copy()
    if isinstance(value, _Maker | _Dtype | _Storage):
        raise _Refused("a constructor in the place of data")
    if id(value) in seen:
        return seen[id(value)]
    if isinstance(value, dict):
        seen[id(value)] = value
        for key in list(value):
            if isinstance(key, _Maker | _Dtype | _Storage | tuple):
                _finish(key, seen)
            value[key] = _finish(value[key], seen)
    elif isinstance(value, list):
        seen[id(value)] = value
        value[:] = [_finish(item, seen) for item in value]
    elif isinstance(value, tuple):
        return tuple(_finish(item, seen) for item in value)
    elif isinstance(value, set | frozenset):
        for item in value:
            _finish(item, seen)
    return value


class _Storage:
    """Numbers of tensors being unpickled, as a flat tensor."""

    __slots__ = ("values",)

    def __init__(self, values: Any) -> None:
        self.values = values


def _torch_storage(raw: object) -> _Storage:
    if not isinstance(raw, bytes):
        raise _Refused("a torch storage that is not bytes")
    torch = _torch("pickle")
    try:
        # the inner file is a pickle of its own: torch's reader for weights lets storages through and nothing that runs
        storage = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise _Refused(found.group(1) if found else "a torch storage that is none") from None
    if not isinstance(storage, torch.storage.TypedStorage):
        raise _Refused(f"a torch storage that is a {type(storage).__name__}")
    return _Storage(torch.empty(0, dtype=storage.dtype).set_(storage._untyped_storage))


def _torch_tensor(storage: object, offset: object, size: object, stride: object, *_: object) -> Any:
    if not isinstance(storage, _Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise _Refused("a torch tensor without plain storage")
    if len(size) != len(stride) or any(type(n) is not int or n < 0 for n in (offset, *size, *stride)):
        raise CorruptFileError(f"a tensor has shape {size!r}, stride {stride!r} and offset {offset!r}")
    held = storage.values.numel()
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))  # type: ignore[operator]
    if math.prod(size) > held or (math.prod(size) and last >= held):
        raise CorruptFileError(f"a tensor of shape {size!r} does not have the numbers it needs")
    if not math.prod(size):
        return storage.values[:0].reshape(size).clone()
    return storage.values.as_strided(size, stride, offset).clone()


def _torch(where: object) -> Any:
    try:
        torch = importlib.import_module("torch")  # optional: nothing of the core needs it
    except ImportError as error:
        raise MissingDependencyError(
            "reading torch's files needs torch", where=where, mend="pip install 'torch>=2.6'"
        ) from error
    from packaging.version import Version

    if Version(torch.__version__) < Version("2.6"):
        raise MissingDependencyError(
            f"torch {torch.__version__} cannot read untrusted files safely",
            where=where,
            mend="pip install 'torch>=2.6'",
        )
    return torch


def _torch_state(source: str | Path | bytes, where: object) -> Any:
    torch = _torch(where)
    stream = io.BytesIO(source) if isinstance(source, bytes) else str(source)
    try:
        return torch.load(stream, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        named = found.group(1) if found else "something that is not a tensor"
        raise InvalidDataError(
            f"refused to unpickle {named}: only tensors are allowed", where=where, mend=_MEND
        ) from error
    except Exception as error:
        raise CorruptFileError(
            f"is no readable torch state: {type(error).__name__}: {str(error)[:200]}", where=where, mend=_MEND
        ) from error
