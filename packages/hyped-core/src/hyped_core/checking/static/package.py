"""A plugin's package as static checks see it: metadata, files, and, once asked, what it announces."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import Distribution, EntryPoint, distribution
from pathlib import Path

from hyped_core.checking.static.source import FILE, place, read_source
from hyped_core.checking.static.trial import WAIT_S, Trial, tried
from hyped_core.errors import PluginError, Problem
from hyped_core.plugins.acceptance import misspelt_hooks
from hyped_core.plugins.discovery import find_points, normal_name, owner_of
from hyped_core.plugins.folder import FolderDistribution, plugin_folders, put_on_path, use_folder
from hyped_core.plugins.hookspecs import HOOKS, PROJECT
from hyped_core.plugins.host import PluginHost
from hyped_core.plugins.probe import Limits, Verdict, look
from hyped_core.spec import ModelSpec


@dataclass
class Package:
    """A distribution that declares a plugin.

    Attributes
    ----------
    distribution : its metadata.
    problems : what keeps its source folder from being installed as a plugin.
    wait : seconds that an import of its modules may take.
    """

    distribution: Distribution
    problems: list[Problem] = field(default_factory=list)
    wait: float = WAIT_S

    @property
    def name(self) -> str:
        """The distribution's name."""
        return self.distribution.metadata.get("Name") or "unknown"

    @property
    def folder(self) -> Path | None:
        """The source folder, None for an installed package."""
        return self.distribution.folder if isinstance(self.distribution, FolderDistribution) else None

    def place(self, project: str, header: str) -> str:
        """Where a field of the metadata is written: in pyproject.toml, or in the installed METADATA."""
        if self.folder is not None:
            return place(self.folder / FILE, project)
        return f"METADATA of {self.name}: {header}"

    def point_place(self, point: EntryPoint) -> str:
        """Where an entry point is written."""
        where = self.place(f"entry-points.{PROJECT}.{point.name}", "entry_points.txt")
        return f'{where} = "{point.value}"'

    @cached_property
    def points(self) -> list[EntryPoint]:
        """Its entry points of the group ``hyped`` that can be read."""
        found = [point for point in self.distribution.entry_points if point.group == PROJECT]
        return [point for point in found if point.pattern.match(point.value)]

    @cached_property
    def tops(self) -> list[str]:
        """Top-level modules of its own: those that its entry points name, or all of its source folder."""
        named = sorted({point.module.partition(".")[0] for point in self.points})
        if not isinstance(self.distribution, FolderDistribution):
            return named
        source = self.distribution.source
        here = [top for top in named if (source / top).is_dir() or (source / f"{top}.py").is_file()]
        return here or sorted(path.parent.name for path in source.glob("*/__init__.py") if path.parent.name != "tests")

    def trial(self, module: str) -> Trial:
        """How one of its modules does in a process of its own."""
        return tried(module, self.wait)

    @cached_property
    def looks(self) -> list[tuple[EntryPoint, Trial | Verdict]]:
        """What each entry point does in a process of its own: a trial that it ended, or the verdict of a look."""
        trials = [self.trial(point.module) for point in self.points]
        limits = replace(Limits.from_environment(), seconds=self.wait)
        verdicts = iter(look([point for point, trial in zip(self.points, trials) if not trial.fate], limits))
        return [(point, trial if trial.fate else next(verdicts)) for point, trial in zip(self.points, trials)]

    @cached_property
    def others(self) -> PluginHost:
        """Everything installed but this package; to be asked for before this one is imported, which may do harm."""
        points, _ = find_points(folders=plugin_folders())
        mine = normal_name(self.name)
        return PluginHost([p for p in points if normal_name(owner_of(p)[0]) != mine], strict=False, probe=True)

    @cached_property
    def _loaded(self) -> tuple[PluginHost, list[tuple[EntryPoint, BaseException | Trial | Verdict]]]:
        host = PluginHost((), block=(), strict=False)
        failures: list[tuple[EntryPoint, BaseException | Trial | Verdict]] = []
        for point, seen in self.looks:
            if isinstance(seen, Trial) or seen.harm:
                failures.append((point, seen))
                continue
            try:
                module = point.load()
                for name, _ in misspelt_hooks(module):  # `contributions` says so; what it gives is looked at too
                    for hook in difflib.get_close_matches(name, HOOKS, n=1):
                        if not hasattr(module, hook):
                            setattr(module, hook, getattr(module, name))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001  a plugin's code may raise anything
                failures.append((point, error))
            else:
                host.register(module, point.name, self.name, self.distribution.version).module = point.value
        return host, failures

    @property
    def host(self) -> PluginHost:
        """A host that has loaded this plugin, whatever its metadata require, and no other; imports its modules."""
        return self._loaded[0]

    @property
    def failures(self) -> list[tuple[EntryPoint, BaseException | Trial | Verdict]]:
        """Entry points that are not loaded: with the error, the trial that ended its process, or the harm done."""
        return self._loaded[1]

    def models(self) -> list[ModelSpec]:
        """The models that it announces and that can be taken; where some cannot, those too as they were meant."""
        from hyped_core.checking.static.announced import meant

        taken = [item.spec for item in self.host.collect("hyped_models")]
        if any("hyped_models" in plugin.faults for plugin in self.host.plugins):
            keys = {spec.key for spec in taken}
            taken += [spec for spec in meant(self) if spec.key not in keys]
        return taken

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

    @property
    def modules(self) -> Iterable[str]:
        """The dotted names of its files."""
        return [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in self.trees]


def package_of(folder: str | None, name: str | None, limit: float | None = None) -> Package:
    """The package of a source folder, or the installed distribution called ``name``.

    Parameters
    ----------
    limit
        Seconds that a check may take: an import gets less.
    """
    wait = WAIT_S if limit is None else min(WAIT_S, 0.6 * limit)
    if folder is None:
        assert name is not None
        return Package(distribution(name), wait=wait)
    found, problems = read_source(Path(folder))
    if problems:
        put_on_path(found)
        return Package(found, problems, wait)
    return Package(use_folder(found.folder), wait=wait)
