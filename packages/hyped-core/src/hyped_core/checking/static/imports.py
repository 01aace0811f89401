"""How long the plugin's module takes to import, and what it brings along: every ``hyped`` command pays for it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from typing import Any

from hyped_core.checking.records import CheckSkipped
from hyped_core.checking.static.package import Package
from hyped_core.checking.static.records import PackageCheck
from hyped_core.errors import Problem
from hyped_core.plugins.record import SLOW_IMPORT_S

HEAVY = (
    "anndata", "cellpose", "cupy", "cv2", "dask", "jax", "keras", "lightning", "matplotlib", "mudata", "numba",
    "pandas", "plotly", "pytorch_lightning", "scanpy", "scipy", "scvi", "seaborn", "skimage", "sklearn", "spatialdata",
    "tensorflow", "torch", "torchvision", "transformers", "xarray", "zarr",
)  # fmt: skip
"""Libraries that take tenths of seconds and more, and that no listing of models needs."""
TRIES = 3
WAIT_S, ENOUGH_S = 15, 4
"""Seconds after which a try is ended, and after which there is no other."""

_CODE = """
import json, sys, time
sys.path[:] = json.loads(sys.argv[2])
import hyped_core.cli.main, hyped_core.plugins.registry, hyped_core.plugins.hookspecs
before, wall, work = set(sys.modules), time.perf_counter(), time.process_time()
__import__(sys.argv[1])
spent = min(time.perf_counter() - wall, time.process_time() - work)
tops = sorted({name.partition('.')[0] for name in set(sys.modules) - before})
out = {"work": spent, "tops": tops}
open(sys.argv[3], "w").write(json.dumps(out))
"""


@cache
def measured(module: str) -> dict[str, Any]:
    """Seconds that the import of a module takes in a fresh process which has what ``hyped`` itself imports, and what
    top-level modules it adds; empty where it fails, which `entry_point` reports."""
    best: dict[str, Any] = {}
    started = time.monotonic()
    for _ in range(TRIES):
        with tempfile.NamedTemporaryFile("r", suffix=".json") as file:
            command = [sys.executable, "-c", _CODE, module, json.dumps(sys.path), file.name]
            try:
                subprocess.run(
                    command, stdin=subprocess.DEVNULL, capture_output=True, timeout=WAIT_S, check=True
                )
            except subprocess.TimeoutExpired:
                return best or {"work": float(WAIT_S), "tops": [], "ended": True}
            except (subprocess.SubprocessError, OSError):
                return best
            text = file.read()
        found = json.loads(text) if text else {}
        if found and (not best or found["work"] < best["work"]):
            best = found
        if best and best["work"] <= SLOW_IMPORT_S or time.monotonic() - started > ENOUGH_S:
            break
    return best


def import_time(package: Package) -> Iterator[Problem]:
    """The module of each entry point is imported within 0.3 s (the best of three tries)."""
    for point in package.points:
        found = _measured(point.module)
        spent = found.get("work", 0.0)
        if found.get("ended"):
            said = f"its import did not end within {WAIT_S} s"
            yield Problem(point.module, said, "take out what loops or waits where the module is imported")
        elif spent > SLOW_IMPORT_S:
            yield Problem(
                point.module,
                f"takes {spent:.2f} s to import, more than {SLOW_IMPORT_S} s",
                "import libraries in the model's module, not in the one the entry point names",
            )


def import_light(package: Package) -> Iterator[Problem]:
    """The module of each entry point brings no heavy library along."""
    for point in package.points:
        heavy = [top for top in _measured(point.module).get("tops", ()) if top in HEAVY]
        if heavy:
            yield Problem(
                point.module,
                f"imports {', '.join(heavy)}",
                "import libraries in the model's module, and name models by import strings",
            )


def _measured(module: str) -> dict[str, Any]:
    found = measured(module)
    if not found:
        raise CheckSkipped(f"{module} cannot be imported: see the check 'entry_point'")
    return found


CHECKS = (
    PackageCheck("import_time", "Every hyped command imports the module, also those about other models.", import_time),
    PackageCheck("import_light", "A listing of models would load gigabytes of libraries.", import_light),
)
