"""Finding the plugins of an environment by their entry points, damaged metadata and all; imports none."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points
from pathlib import Path

from hyped_core.plugins.finder import stand_in
from hyped_core.plugins.hookspecs import PROJECT

DAMAGED_VARIABLE = "HYPED_DAMAGED_METADATA"
"""Set once a damaged distribution was met: ``import hyped_core`` then hides it, in the processes of this one too."""


def find_points(
    path: list[str] | None = None, folders: Sequence[Path] = ()
) -> tuple[list[EntryPoint], list[tuple[str, Exception]]]:
    """The group's entry points, and the distributions whose entry points cannot be read, with the error.

    One malformed ``entry_points.txt`` makes `importlib.metadata.entry_points` fail for all: then, and where
    ``path`` is given, each distribution is read on its own, and the damaged ones are hidden from other libraries
    of this process, which fail on them too (`hyped_core.plugins.finder`). The source folders in ``folders`` come
    first, are put on ``sys.path``, and stand for an installed distribution of the same name.
    """
    first: list[EntryPoint] = []
    unreadable: list[tuple[str, Exception]] = []
    replaced: set[str] = set()
    for folder in folders:
        from hyped_core.plugins.folder import folder_distribution, put_on_path

        try:
            distribution = folder_distribution(folder)
            own = [point for point in distribution.entry_points if point.group == PROJECT]
        except Exception as error:  # noqa: BLE001  a folder named in the environment may hold anything
            unreadable.append((str(folder), error))
            continue
        if normal_name(distribution.name) not in replaced:
            replaced.add(normal_name(distribution.name))
            put_on_path(distribution)
            first += own
    points, damaged = _installed_points(path)
    points = [point for point in points if normal_name(owner_of(point)[0]) not in replaced] if replaced else points
    return first + points, unreadable + [item for item in damaged if item[0] not in replaced]


def _installed_points(path: list[str] | None) -> tuple[list[EntryPoint], list[tuple[str, Exception]]]:
    whole = path is None
    if path is None:
        try:
            return list(entry_points(group=PROJECT)), []
        except Exception:  # noqa: BLE001  whatever damaged metadata makes of it
            path = sys.path
    points: list[EntryPoint] = []
    unreadable: list[tuple[str, Exception]] = []
    seen: set[str] = set()
    for distribution in distributions(path=path):
        name = normal_name(_folder_name(distribution))
        if name in seen:
            continue
        seen.add(name)
        try:
            points += [point for point in distribution.entry_points if point.group == PROJECT]
        except Exception as error:  # noqa: BLE001  as above
            if whole:
                stand_in(_folder_name(distribution), distribution)
                os.environ[DAMAGED_VARIABLE] = "1"
            if _may_be_plugin(distribution):
                unreadable.append((name, error))
    return points, unreadable


def _may_be_plugin(distribution: Distribution) -> bool:
    """Whether entry points that cannot be read name the group at all."""
    try:
        place = getattr(distribution, "_path", None)
        raw = (place / "entry_points.txt").read_bytes() if place is not None else b""
    except Exception:  # noqa: BLE001  as above
        return True
    return re.search(rb"\[\s*" + PROJECT.encode() + rb"\s*\]", raw) is not None


def _folder_name(distribution: Distribution) -> str:
    """A distribution's name; where its metadata is damaged, that of its folder."""
    try:
        if distribution.name:
            return distribution.name
    except Exception:  # noqa: BLE001  as above
        pass
    return str(getattr(distribution, "_path", "unknown")).rpartition("/")[2].partition("-")[0] or "unknown"


def normal_name(name: str) -> str:
    """A distribution's or plugin's name as packaging compares them."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def precedence(point: EntryPoint) -> tuple[str, bool, str]:
    """By name; of two with one name the plugin named after its own distribution is the rightful one."""
    distribution = owner_of(point)[0]
    return point.name, normal_name(distribution) != normal_name(point.name), distribution


def owner_of(point: EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution that declares an entry point, as far as they can be read."""
    if point.dist is None:
        return "unknown", "0"
    try:
        version = point.dist.version or "0"
    except Exception:  # noqa: BLE001  as above
        version = "0"
    return _folder_name(point.dist), version
