"""What ingesting will take, from file sizes alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hyped_core.errors import MissingFileError

_OUT_PER_IN = 2.5
"""Bytes of h5ad per byte of gzipped input matrices (X and layers["counts"], gzip 1)."""
_BYTES_PER_SECOND = 5e6
"""Compressed input read, checked and written a second on one core, cautiously."""


def estimate(paths: Sequence[Path]) -> dict[str, float]:
    """``input_mb``, ``disk_mb`` and ``seconds`` for these pools.

    Raises
    ------
    MissingFileError
        A pool does not exist.
    """
    size = 0
    for path in paths:
        if not path.exists():
            raise MissingFileError("no such pool", where=path, mend="check the path")
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        size += sum(file.stat().st_size for file in files if "processed" not in str(file))
    return {
        "input_mb": round(size / 1e6, 3),
        "disk_mb": round(size * _OUT_PER_IN / 1e6, 3),
        "seconds": round(2 + size / _BYTES_PER_SECOND, 0),
    }
