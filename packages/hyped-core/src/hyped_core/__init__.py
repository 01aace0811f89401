"""The core of HYPED: design, container, contracts and plugin host.

Names are imported when they are first used, so that ``import hyped_core`` costs next to nothing.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "API_VERSION": "hyped_core.spec",
    "CommandSpec": "hyped_core.spec",
    "DatasetSpec": "hyped_core.spec",
    "HealthCheckSpec": "hyped_core.spec",
    "HealthResult": "hyped_core.spec",
    "MetricSpec": "hyped_core.spec",
    "ModelSpec": "hyped_core.spec",
    "Needs": "hyped_core.spec",
    "ReaderSpec": "hyped_core.spec",
    "ReportSectionSpec": "hyped_core.spec",
    "TaskSpec": "hyped_core.spec",
    "hookimpl": "hyped_core.plugins.hookspecs",
    "RunContext": "hyped_core.context",
    "ImageMeta": "hyped_core.contracts",
    "Params": "hyped_core.params",
    "HypedError": "hyped_core.errors",
    "Design": "hyped_core.design",
    "Perturbation": "hyped_core.design",
    "HypedData": "hyped_core.container",
}

__all__ = ["__version__", *sorted(_LAZY)]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


if os.environ.get("HYPED_DAMAGED_METADATA"):  # set by a process that met some and started this one
    importlib.import_module("hyped_core.plugins.discovery").find_points()
