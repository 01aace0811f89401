"""The container: movies, labels and tables of one experiment in one folder. Names are imported when used."""

from __future__ import annotations

import importlib
from typing import Any

_LAZY = {
    "HypedData": "hyped_core.container.data",
    "assemble": "hyped_core.container.assembly",
    "Labels": "hyped_core.container.labels",
    "LabelsWriter": "hyped_core.container.labels",
    "Movie": "hyped_core.container.movies",
    "MovieWriter": "hyped_core.container.movies",
    "write_movie": "hyped_core.container.movies",
}

__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
