"""What holds for the tests of every folder."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Two workers share two cores; and a pool of OpenMP threads in each stands in the other's way, or, on a machine that
# shows more cores than it gives, in its own for minutes. Before any test imports a library that reads it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run: a failure is one that anybody sees again. HYPED_HYPOTHESIS=default draws new ones.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile(os.environ.get("HYPED_HYPOTHESIS", "repeatable"))

# Tests interrupt what they start, also where a shell that started them in the background ignores interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SLOW_SECONDS = 2700


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests more time than the others before they count as hanging."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))


@pytest.fixture(autouse=True)
def plugin_folders_of_a_test_stay_its_own() -> Iterator[None]:
    """What a test took in as a plugin's source folder is gone for the next."""
    before, path = os.environ.get("HYPED_PLUGIN_FOLDERS"), list(sys.path)
    yield
    if os.environ.get("HYPED_PLUGIN_FOLDERS") != before:
        os.environ.pop("HYPED_PLUGIN_FOLDERS", None)
        if before is not None:
            os.environ["HYPED_PLUGIN_FOLDERS"] = before
        sys.path[:] = path
        sys.modules["hyped_core.plugins.host"].default_host.cache_clear()


@pytest.fixture(scope="session")
def gone() -> Callable[[int], bool]:
    """``gone(pid)``: whether a process ends within five seconds; one that nobody waited for counts as ended."""

    def ends(pid: int) -> bool:
        for _ in range(100):
            try:
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    return True
            except OSError:
                return True
            time.sleep(0.05)
        return False

    return ends
