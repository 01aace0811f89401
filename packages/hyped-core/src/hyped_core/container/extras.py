"""The libraries of ``hyped-core[container]``: imported when needed, asked for by name when they lack."""

from __future__ import annotations

import importlib
from typing import Any

from hyped_core.errors import MissingDependencyError

INSTALL = "pip install 'hyped-core[container]'"


def need(module: str, what: str) -> Any:
    """Import ``module``; `MissingDependencyError` with the install command where it is not there."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{what} needs {module}, which is not installed", mend=INSTALL
        ) from error
