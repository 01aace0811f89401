"""What a number was made on, for its record: versions, processor, threads, BLAS, GPU and the flags of determinism."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from hyped_core.provenance import environment_record
from hyped_core.remote.determinism import determinism_record

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
"""Variables that say how many threads libraries take."""


def run_environment(threads: int) -> dict[str, Any]:
    """`environment_record` without the commit, and processor, ``threads`` given to models, BLAS, determinism.

    The same every time in one process on one machine; no path, user or host name.
    """
    return {
        **environment_record(commit=False),
        "cpu": cpu_model(),
        "threads": {"given": threads, **{name: os.environ[name] for name in THREADS if name in os.environ}},
        "blas": blas(),
        "determinism": determinism_record(),
    }


def cpu_model() -> str:
    """The processor's name as the system gives it; its architecture where it gives none."""
    try:
        for text in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if text.startswith("model name"):
                return text.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def blas() -> dict[str, str]:
    """Name and version of the BLAS that numpy was built with."""
    import numpy as np

    config = np.show_config(mode="dicts")
    found = config.get("Build Dependencies", {}).get("blas", {}) if isinstance(config, dict) else {}
    return {key: str(found[key]) for key in ("name", "version") if key in found}
