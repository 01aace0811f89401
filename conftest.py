"""What holds for the tests of every folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Two workers share two cores; and a pool of OpenMP threads in each stands in the other's way, or, on a machine that
# shows more cores than it gives, in its own for minutes. Before any test imports a library that reads it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SLOW_SECONDS = 2700
WHOLE = Path(__file__).parent / "tests"
"""Its modules run a pipeline or a page of docs once for all of their tests: one worker takes a module whole."""


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests more time before they count as hanging, and each module of ``tests/`` to one worker."""
    for item in items:
        if WHOLE in item.path.parents:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))
