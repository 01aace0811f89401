"""Checks that look at a package without putting its models to work: metadata, code, what is announced, configs."""

from __future__ import annotations

from functools import cache

from hyped_core.checking.static.records import ModelCheck, PackageCheck


@cache
def all_static() -> tuple[PackageCheck | ModelCheck, ...]:
    """Every static check in the order in which they run: those that import nothing of the plugin's come first."""
    from hyped_core.checking.static import code, contributions, imports, metadata, models

    return (*metadata.CHECKS, *code.CHECKS, *imports.CHECKS, *contributions.CHECKS, *models.CHECKS)
