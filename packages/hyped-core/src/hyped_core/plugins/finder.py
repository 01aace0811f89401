"""Distributions that ``importlib.metadata`` finds before those on ``sys.path``: source folders, and stand-ins.

A damaged ``entry_points.txt`` makes ``importlib.metadata.entry_points`` fail for every library of the environment that
looks for plugins of its own. A stand-in of the same name without entry points takes the damaged one's place, in this
process alone.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from importlib.abc import MetaPathFinder
from importlib.metadata import Distribution, DistributionFinder
from pathlib import Path
from typing import Any


class _StandIn(Distribution):
    """A distribution of a name, without entry points; its other files are those of the damaged one."""

    def __init__(self, name: str, damaged: Distribution) -> None:
        self._name = name
        self._damaged = damaged

    @property
    def name(self) -> str:
        """The damaged distribution's name, or that of its folder."""
        return self._name

    @property
    def _normalized_name(self) -> str:  # what importlib.metadata tells distributions apart by
        return _normal(self._name).replace("-", "_")

    def read_text(self, filename: Any) -> str | None:
        """A file of the damaged one, none where it cannot be read or is its entry points."""
        if str(filename) == "entry_points.txt":
            return None
        try:
            return self._damaged.read_text(filename)
        except (OSError, ValueError):
            return f"Metadata-Version: 2.1\nName: {self._name}\n" if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Path:
        """Where a file of the damaged one is."""
        return Path(str(self._damaged.locate_file(path)))


class _Finder(DistributionFinder, MetaPathFinder):
    def __init__(self) -> None:
        self._known: dict[str, Distribution] = {}

    def add(self, name: str, distribution: Distribution) -> None:
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        self._known[_normal(name)] = distribution

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        """Finds no module: ``sys.path`` does."""
        return None

    def find_distributions(self, context: Any = None) -> Iterable[Distribution]:
        """The known distributions of a name, or all; none where folders to look in were given."""
        if context is not None and "path" in vars(context):
            return
        name = getattr(context, "name", None)
        if name is None:
            yield from list(self._known.values())
        elif _normal(name) in self._known:
            yield self._known[_normal(name)]


_FINDER = _Finder()


def announce(distribution: Distribution) -> None:
    """Let ``importlib.metadata`` find ``distribution`` before any installed one of its name."""
    _FINDER.add(distribution.metadata["Name"], distribution)


def stand_in(name: str, damaged: Distribution) -> None:
    """Let ``importlib.metadata`` find a distribution ``name`` without entry points in place of a damaged one."""
    _FINDER.add(name, _StandIn(name, damaged))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
