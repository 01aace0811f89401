"""Finding the plugins of an environment by their entry points, damaged metadata and all; imports none."""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points

from hyped_core.plugins.hookspecs import PROJECT


def find_points(path: list[str] | None = None) -> tuple[list[EntryPoint], list[tuple[str, Exception]]]:
    """The group's entry points, and the distributions whose entry points cannot be read, with the error.

    One malformed ``entry_points.txt`` makes `importlib.metadata.entry_points` fail for all: then, and where
    ``path`` is given, each distribution is read on its own.
    """
    if path is None:
        try:
            return list(entry_points(group=PROJECT)), []
        except Exception:  # noqa: BLE001  whatever damaged metadata makes of it
            path = sys.path
    points: list[EntryPoint] = []
    unreadable: list[tuple[str, Exception]] = []
    seen: set[str] = set()
    for distribution in distributions(path=path):
        name = _folder_name(distribution)
        if name in seen:
            continue
        seen.add(name)
        try:
            points += [point for point in distribution.entry_points if point.group == PROJECT]
        except Exception as error:  # noqa: BLE001  as above
            if f"[{PROJECT}]" in (distribution.read_text("entry_points.txt") or ""):
                unreadable.append((name, error))
    return points, unreadable


def _folder_name(distribution: Distribution) -> str:
    """A distribution's name; where its metadata is damaged, that of its folder."""
    try:
        if distribution.name:
            return normal_name(distribution.name)
    except Exception:  # noqa: BLE001  as above
        return normal_name(
            str(getattr(distribution, "_path", "unknown")).rpartition("/")[2].partition("-")[0]
        )
    return "unknown"


def normal_name(name: str) -> str:
    """A distribution's or plugin's name as packaging compares them."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def precedence(point: EntryPoint) -> tuple[str, bool, str]:
    """By name; of two with one name the plugin named after its own distribution is the rightful one."""
    distribution = owner_of(point)[0]
    return point.name, normal_name(distribution) != normal_name(point.name), distribution


def owner_of(point: EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution that declares an entry point, as far as they can be read."""
    try:
        return point.dist.name or "unknown", point.dist.version or "0"
    except Exception:  # noqa: BLE001  as above
        return "unknown", "0"
