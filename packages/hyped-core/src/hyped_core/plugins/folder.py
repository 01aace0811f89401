"""A plugin's source folder as a distribution: what its pyproject.toml says, read as if pip had installed it.

The folders named in ``HYPED_PLUGIN_FOLDERS`` count as installed, before a distribution of the same name.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

from hyped_core.errors import PluginError
from hyped_core.plugins.finder import announce
from hyped_core.plugins.hookspecs import PROJECT

FOLDERS_VARIABLE = "HYPED_PLUGIN_FOLDERS"
UNKNOWN_VERSION = "0+unknown"
"""Of a folder whose version is dynamic and cannot be read from its code."""

_NAME = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")
_LICENCE_FILES = ("LICEN[CS]E*", "COPYING*")
"""What builds take along where nothing is named."""
_ENTRY = f'[project.entry-points.{PROJECT}]\nmy-model = "my_model.plugin"'


class FolderDistribution(Distribution):
    """What `folder_distribution` read.

    Attributes
    ----------
    folder : the folder with ``pyproject.toml``.
    source : the folder below it that belongs on ``sys.path``: ``src``, or the folder itself.
    """

    def __init__(self, folder: Path, source: Path, texts: Mapping[str, str]) -> None:
        self.folder = folder
        self.source = source
        self._texts = dict(texts)

    def read_text(self, filename: Any) -> str | None:
        """``METADATA`` or ``entry_points.txt`` as a build would write them; None for any other file."""
        return self._texts.get(str(filename))

    def locate_file(self, path: Any) -> Path:
        """Where a file of the distribution is."""
        return self.source / path


def folder_distribution(folder: Path) -> FolderDistribution:
    """The distribution that a source folder would be installed as; nothing of it is imported.

    Name, version, required Python, dependencies and entry points come from the table ``project`` of its
    ``pyproject.toml``; a dynamic version from ``__version__`` in its code where it stands there as text.

    Raises
    ------
    PluginError
        There is no ``pyproject.toml``, it cannot be read, or it declares no plugin (entry-point group ``hyped``).
    """
    import tomllib

    folder = Path(folder).expanduser().resolve()
    file = folder / "pyproject.toml"
    if not file.is_file():
        said = "is not there" if folder.is_dir() else "is not there, nor is the folder"
        raise PluginError(f"pyproject.toml {said}", where=folder, mend="name the folder of a plugin's source")
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PluginError(f"cannot be read: {error}", where=file, mend="write it as TOML in UTF-8") from error
    return project_distribution(content, file)


def project_distribution(content: Mapping[str, Any], file: Path) -> FolderDistribution:
    """What `folder_distribution` gives for the ``content`` of the pyproject.toml ``file``; raises as it does."""
    folder = file.parent
    project = _table(content, "project", file)
    name = project.get("name")
    if not isinstance(name, str) or not _NAME.match(name):
        raise PluginError(
            f"project.name is {name!r}, expected letters, digits, '-', '_' and '.'",
            where=file,
            mend='[project]\nname = "my-model"',
        )
    groups = {group: _table(named, "", file) for group, named in _table(project, "entry-points", file).items()}
    points = groups.get(PROJECT, {})
    if not points or not all(isinstance(value, str) for value in points.values()):
        raise PluginError(f"declares no entry point of the group {PROJECT!r}", where=file, mend=f"add {_ENTRY}")
    for group, key in (("console_scripts", "scripts"), ("gui_scripts", "gui-scripts")):
        if key in project:
            groups[group] = _table(project, key, file)
    tops = [value.partition(":")[0].partition(".")[0].strip() for value in points.values()]
    source = _source(folder, content, tops)
    version = project.get("version")
    if not isinstance(version, str):
        version = _version_in_code(source, tops) if "version" in _texts(project, "dynamic", file) else "0"
    _check_version(version, file)
    return FolderDistribution(
        folder,
        source,
        {"METADATA": _metadata(project, name, version, file), "entry_points.txt": _entry_points(groups)},
    )


def plugin_folders() -> list[Path]:
    """The folders named in ``HYPED_PLUGIN_FOLDERS``, each once, in their order."""
    named = os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep)
    return list(dict.fromkeys(Path(name).expanduser().resolve() for name in named if name.strip()))


def put_on_path(distribution: FolderDistribution) -> None:
    """Make a folder's code importable, before any installed code, and its metadata readable by its name.

    Modules of the same names that were imported from elsewhere are forgotten.
    """
    source = str(distribution.source)
    if source not in sys.path:
        sys.path.insert(0, source)
    announce(distribution)
    tops = {re.split("[.:]", point.value)[0].strip() for point in distribution.entry_points if point.group == PROJECT}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in tops:
            continue
        file = getattr(module, "__file__", None)
        if file and distribution.source not in Path(file).resolve().parents:
            del sys.modules[name]
    importlib.invalidate_caches()


def use_folder(folder: Path) -> FolderDistribution:
    """Let a source folder count as installed in this process and in those it starts.

    Sets ``HYPED_PLUGIN_FOLDERS``, puts the code on ``sys.path`` and forgets the host of this process.

    Raises
    ------
    PluginError
        It is not the source folder of a plugin (see `folder_distribution`); then nothing has changed.
    """
    from hyped_core.plugins.host import default_host

    distribution = folder_distribution(folder)
    folders = [distribution.folder, *(known for known in plugin_folders() if known != distribution.folder)]
    os.environ[FOLDERS_VARIABLE] = os.pathsep.join(map(str, folders))
    put_on_path(distribution)
    default_host.cache_clear()
    return distribution


def _table(content: Any, key: str, file: Path) -> dict[str, Any]:
    """The table ``key`` of a table (the table itself without a key), empty where absent."""
    value = (content.get(key, {}) if isinstance(content, dict) else None) if key else content
    if not isinstance(value, dict):
        raise PluginError(f"{key or 'an entry-point group'} is {type(value).__name__}, expected a table", where=file)
    if key == "project" and not value:
        raise PluginError("has no table 'project'", where=file, mend="state name, version and entry points there")
    return value


def _texts(project: dict[str, Any], key: str, file: Path) -> list[str]:
    value = project.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise PluginError(f"project.{key} must be a list of text", where=file)
    return value


def _source(folder: Path, content: Mapping[str, Any], tops: list[str]) -> Path:
    """The folder that belongs on ``sys.path``: where the entry points' packages lie."""
    tool = content.get("tool", {}).get("setuptools", {}) if isinstance(content.get("tool", {}), dict) else {}
    where = tool.get("package-dir", {}).get("", "") if isinstance(tool.get("package-dir", {}), dict) else ""
    places = [folder / name for name in ("src", where) if isinstance(name, str) and name]
    for place in [*places, folder]:
        if any((place / top).is_dir() or (place / f"{top}.py").is_file() for top in tops if top):
            return place.resolve()
    return (folder / "src" if (folder / "src").is_dir() else folder).resolve()


def _version_in_code(source: Path, tops: list[str]) -> str:
    for top in tops:
        for place in (f"{top}.py", f"{top}/__init__.py", f"{top}/_version.py", f"{top}/__about__.py"):
            try:
                text = (source / place).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                continue
            found = re.search(r"^(?:__version__|version)\s*(?::\s*str\s*)?=\s*['\"]([^'\"]+)['\"]", text, re.M)
            if found:
                return found[1]
    return UNKNOWN_VERSION


def _check_version(version: str, file: Path) -> None:
    from packaging.version import InvalidVersion, Version

    try:
        Version(version)
    except InvalidVersion as error:
        raise PluginError(
            f"project.version {version!r} is no version", where=file, mend='version = "0.1.0"'
        ) from error


def _metadata(project: dict[str, Any], name: str, version: str, file: Path) -> str:
    def lines() -> Iterator[tuple[str, Any]]:
        yield "Metadata-Version", "2.4"
        yield "Name", name
        yield "Version", version
        yield "Summary", project.get("description", "")
        yield from _licence(project, file.parent)
        yield "Requires-Python", project.get("requires-python", "")
        for requirement in _texts(project, "dependencies", file):
            yield "Requires-Dist", requirement
        extras = _table(project, "optional-dependencies", file)
        for extra in extras:
            yield "Provides-Extra", extra
            for requirement in _texts(extras, extra, file):
                bare, _, marker = (part.strip() for part in requirement.partition(";"))
                own = f'extra == "{extra}"'
                yield "Requires-Dist", f"{bare}; ({marker}) and {own}" if marker else f"{bare}; {own}"

    said = ((key, " ".join(str(value).split())) for key, value in lines())
    return "".join(f"{key}: {value}\n" for key, value in said if value)


def _licence(project: dict[str, Any], folder: Path) -> Iterator[tuple[str, str]]:
    """What is said of the licence; a file that is named and is not there by its name as well."""

    def texts(key: str) -> list[str]:
        value = project.get(key)
        return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []

    stated = project.get("license", "")
    named = [pattern for pattern in texts("license-files") if pattern]
    if isinstance(stated, dict):
        yield "License", str(stated.get("text") or stated.get("file") or "")
        named += [str(stated["file"])] if stated.get("file") else []
    else:
        yield "License-Expression", str(stated)
    yield from (("Classifier", text) for text in texts("classifiers"))
    yield from (("Dynamic", key) for key in texts("dynamic") if key in ("license", "classifiers"))
    for pattern in named or ([] if "license-files" in project else _LICENCE_FILES):
        try:
            there = sorted(path.relative_to(folder).as_posix() for path in folder.glob(pattern) if path.is_file())
        except (ValueError, NotImplementedError):  # no pattern, or one of places outside the folder
            there = []
        yield from (("License-File", name) for name in there or ([pattern] if pattern in named else []))


def _entry_points(groups: dict[str, dict[str, Any]]) -> str:
    parts = []
    for group, points in groups.items():
        parts += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items()), ""]
    return "\n".join(parts)
