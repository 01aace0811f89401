"""How long the plugin's module takes to import, and what it brings along: every ``hyped`` command pays for it."""

from __future__ import annotations

from collections.abc import Iterator

from hyped_core.checking.records import CheckSkipped
from hyped_core.checking.static.package import Package
from hyped_core.checking.static.places import import_place, module_place
from hyped_core.checking.static.records import PackageCheck
from hyped_core.checking.static.trial import Trial
from hyped_core.errors import Problem
from hyped_core.plugins.record import SLOW_IMPORT_S

HEAVY = (
    "anndata", "cellpose", "cupy", "cv2", "dask", "jax", "keras", "lightning", "matplotlib", "mudata", "numba",
    "pandas", "plotly", "pytorch_lightning", "scanpy", "scipy", "scvi", "seaborn", "skimage", "sklearn", "spatialdata",
    "tensorflow", "torch", "torchvision", "transformers", "xarray", "zarr",
)  # fmt: skip
"""Libraries that take tenths of seconds and more, and that no listing of models needs."""


def import_time(package: Package) -> Iterator[Problem]:
    """The module of each entry point is imported within 0.3 s (the best of three tries)."""
    for point in package.points:
        spent = _trial(package, point.module).seconds
        if spent > SLOW_IMPORT_S:
            yield Problem(
                module_place(package, point.module),
                f"takes {spent:.2f} s to import, more than {SLOW_IMPORT_S} s",
                "import libraries in the model's module, not in the one the entry point names",
            )


def import_light(package: Package) -> Iterator[Problem]:
    """The module of each entry point brings no heavy library along."""
    for point in package.points:
        heavy = [top for top in _trial(package, point.module).tops if top in HEAVY]
        if heavy:
            yield Problem(
                import_place(package, point.module, heavy),
                f"imports {', '.join(heavy)}",
                "import libraries in the model's module, and name models by import strings",
            )


def _trial(package: Package, module: str) -> Trial:
    found = package.trial(module)
    if found.raised or found.fate and not found.hook:
        raise CheckSkipped(f"{module} cannot be imported: see the check 'entry_point'")
    return found


CHECKS = (
    PackageCheck("import_time", "Every hyped command imports the module, also those about other models.", import_time),
    PackageCheck("import_light", "A listing of models would load gigabytes of libraries.", import_light),
)
