"""The release: annotated modalities as one documented ``.h5ad`` that needs no HYPED to be read."""

from __future__ import annotations

import importlib
from typing import Any

_LAZY = {
    "build_release": "hyped_seq.release.build",
    "read_cells": "hyped_seq.release.cells",
    "write_release": "hyped_seq.release.write",
}

__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
