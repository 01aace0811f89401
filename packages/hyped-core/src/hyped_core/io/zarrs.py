"""Zarr folders from anywhere, opened for reading: one that names a codec which unpickles is refused undecoded."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyped_core.errors import CorruptFileError

if TYPE_CHECKING:
    import zarr

_METADATA = (".zarray", ".zmetadata", "zarr.json")
_CODEC_KEYS = ("filters", "compressor", "codecs", "index_codecs")


def open_zarr(path: str | Path) -> zarr.Group:
    """The group in a zarr folder, to be read; what it holds is looked through by `refuse_pickles` first."""
    import zarr

    refuse_pickles(path)
    return zarr.open_group(Path(path), mode="r")


def refuse_pickles(path: str | Path, arrays: Iterable[str] | None = None) -> None:
    """Raise where metadata in a zarr folder name a codec that unpickles: to decode its chunks would run their code.

    Nothing is decoded for it, whatever version of zarr and numcodecs is installed.

    Parameters
    ----------
    path
        The folder that is opened.
    arrays
        Paths inside of what alone will be read; everything below ``path`` where None.

    Raises
    ------
    CorruptFileError
    """
    path = Path(path)
    parts = None if arrays is None else [[p for p in a.replace("\\", "/").split("/") if p] for a in arrays]
    for folder in _below(path) if parts is None else [path, *(path.joinpath(*p) for p in parts)]:
        for name in _METADATA:
            try:
                said = json.loads((folder / name).read_bytes())
            except (OSError, ValueError, RecursionError):
                continue  # not there, or nothing that zarr can read either
            if codec := next(_picklers(said), None):
                raise CorruptFileError(
                    f"an array is packed with the codec {codec!r}, which runs what the file holds: nothing was read",
                    where=folder / name,
                    mend="do not read this file with anything else either; ask its author for one without pickles",
                )


def _below(path: Path) -> Iterator[Path]:
    """``path`` and each folder below it, links followed, each once."""
    waiting, seen = [str(path)], set()
    while waiting:
        folder = waiting.pop()
        if (real := os.path.realpath(folder)) in seen:
            continue
        seen.add(real)
        yield Path(folder)
        try:
            with os.scandir(folder) as entries:
                waiting += [entry.path for entry in entries if entry.is_dir()]
        except OSError:
            continue  # zarr cannot read it either


def _picklers(metadata: Any) -> Iterator[str]:
    """Names of codecs that unpickle, wherever they stand in metadata."""
    waiting: list[tuple[Any, bool]] = [(metadata, False)]
    while waiting:
        value, codec = waiting.pop()
        if isinstance(value, dict):
            names = [value.get("id"), value.get("name")] if codec else []
            waiting += [(item, codec or key in _CODEC_KEYS) for key, item in value.items()]
        else:
            names = [value] if codec else []
            waiting += [(item, codec) for item in value] if isinstance(value, list) else []
        yield from (name for name in names if isinstance(name, str) and "pickle" in name.lower())
