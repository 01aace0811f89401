"""A plugin's package as static checks see it: metadata, files, and, once asked, what it announces."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import Distribution, EntryPoint, distribution
from pathlib import Path

from hyped_core.errors import PluginError
from hyped_core.plugins.discovery import normal_name
from hyped_core.plugins.folder import FolderDistribution, use_folder
from hyped_core.plugins.hookspecs import PROJECT
from hyped_core.plugins.host import PluginHost
from hyped_core.spec import ModelSpec


@dataclass
class Package:
    """A distribution that declares a plugin.

    Attributes
    ----------
    distribution : its metadata.
    """

    distribution: Distribution
    _files: dict[str, tuple[Path, ast.Module | SyntaxError]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The distribution's name."""
        return self.distribution.metadata.get("Name") or "unknown"

    @property
    def own(self) -> bool:
        """Whether it is one of HYPED's own."""
        from hyped_core.plugins.compatibility import FAMILY

        return normal_name(self.name) in FAMILY

    @property
    def folder(self) -> Path | None:
        """The source folder, None for an installed package."""
        return self.distribution.folder if isinstance(self.distribution, FolderDistribution) else None

    def place(self, project: str, header: str) -> str:
        """Where a field of the metadata is written: in pyproject.toml, or in the installed METADATA."""
        if self.folder is not None:
            return f"pyproject.toml: project.{project}"
        return f"METADATA of {self.name}: {header}"

    @cached_property
    def points(self) -> list[EntryPoint]:
        """Its entry points of the group ``hyped``."""
        return [point for point in self.distribution.entry_points if point.group == PROJECT]

    @cached_property
    def tops(self) -> list[str]:
        """Top-level modules of its own: those that its entry points name."""
        return sorted({point.module.partition(".")[0] for point in self.points})

    @cached_property
    def host(self) -> PluginHost:
        """A host that has loaded this plugin and no other; imports its module."""
        return PluginHost(self.points, block=(), strict=False)

    def models(self) -> list[ModelSpec]:
        """The models that it announces and that can be taken."""
        return [item.spec for item in self.host.collect("hyped_models")]

    @cached_property
    def trees(self) -> dict[str, tuple[Path, ast.Module | SyntaxError]]:
        """Name of each Python file (``package/module.py``) -> its path and its syntax tree."""
        from hyped_core.plugins.sources import source_files

        found = {}
        for top in self.tops:
            try:
                files = source_files(top)
            except PluginError:  # `entry_point` says so
                continue
            for name, path in sorted(files.items()):
                try:
                    found[name] = (path, ast.parse(path.read_bytes(), filename=str(path)))
                except (SyntaxError, ValueError) as error:
                    found[name] = (path, error if isinstance(error, SyntaxError) else SyntaxError(str(error)))
        return found


def package_of(folder: str | None, name: str | None) -> Package:
    """The package of a source folder, or the installed distribution called ``name``."""
    if folder is not None:
        return Package(use_folder(Path(folder)))
    assert name is not None
    return Package(distribution(name))
