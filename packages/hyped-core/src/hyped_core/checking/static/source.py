"""A source folder read for a check: what is wrong in its pyproject.toml is listed, the rest is read as meant."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hyped_core.errors import PluginError, Problem
from hyped_core.plugins.folder import UNKNOWN_VERSION, FolderDistribution, folder_distribution, project_distribution
from hyped_core.plugins.hookspecs import HOOKS, PROJECT

FILE = "pyproject.toml"
_NOT_SOURCE = ("tests", "test", "docs", "build", "dist")


def read_source(folder: Path) -> tuple[FolderDistribution, list[Problem]]:
    """The distribution that a folder would be, and what keeps it from being installed as a plugin.

    Raises
    ------
    PluginError
        So much is wrong that nothing else can be looked at: no pyproject.toml, no TOML, no table ``project``.
    """
    file = Path(folder).expanduser().resolve() / FILE
    content = _content(file)
    problems = list(_mended(content, file)) if isinstance(content.get("project"), dict) else []
    if problems:
        return project_distribution(content, file), problems
    try:
        return folder_distribution(folder), []
    except PluginError as error:
        if not file.is_file():
            error.mend = "name the folder of a plugin's source; hyped plugins new DIR --task TASK writes one"
        raise


def _content(file: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return {}


def _mended(content: dict[str, Any], file: Path) -> Iterator[Problem]:
    """Every problem of the table ``project``, which is changed to what was probably meant."""
    from packaging.version import InvalidVersion, Version

    project = content["project"]
    name = project.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", name):
        better = re.sub(r"[^A-Za-z0-9._]+", "-", str(name or file.parent.name)).strip("-._") or "my-model"
        said = f"is {name!r}, expected letters, digits, '-', '_' and '.'" if "name" in project else "is not there"
        yield Problem(place(file, "name"), said, f'name = "{better}"')
        project["name"] = better
    version = project.get("version")
    try:
        Version(version if isinstance(version, str) else "0")
    except InvalidVersion:
        yield Problem(place(file, "version"), f"{version!r} is no version", 'version = "0.1.0"')
        project["version"] = UNKNOWN_VERSION
    for key in ("dependencies", "dynamic", "classifiers", "license-files"):
        value = project.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            texts = [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)]
            shown = ", ".join(f'"{text}"' for text in texts)
            yield Problem(place(file, key), "is no list of text", f"{key} = [{shown}]")
            project[key] = texts
    for key in ("optional-dependencies", "scripts", "gui-scripts"):
        table = project.setdefault(key, {})
        if not isinstance(table, dict):
            yield Problem(place(file, key), "is no table", f"[project.{key}]")
            table = project[key] = {}
        lists = key == "optional-dependencies"
        for name, value in list(table.items()):
            if lists and not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
                yield Problem(place(file, f"{key}.{name}"), "is no list of text", f'{name} = ["..."]')
                del table[name]
    yield from _mended_points(project, file)
    points = project["entry-points"][PROJECT]
    readable = {name: value if _is_module(value) else "" for name, value in points.items()}
    source = project_distribution({**content, "project": {**project, "entry-points": {PROJECT: readable}}}, file).source
    yield from _mended_modules(points, source, file)


def _is_module(value: str) -> bool:
    """Whether an entry point is written as one has to be: ``package.module`` or ``package.module:object``."""
    return all(part.strip().isidentifier() for part in re.split("[.:]", value))


def _mended_points(project: dict[str, Any], file: Path) -> Iterator[Problem]:
    """What keeps the plugin's entry points from being found; where there are none, those that were meant are put in."""
    groups = project.setdefault("entry-points", {})
    if not isinstance(groups, dict):
        yield Problem(place(file, "entry-points"), "is no table", f"[project.entry-points.{PROJECT}]")
        groups = project["entry-points"] = {}
    for group in [group for group, points in groups.items() if not isinstance(points, dict)]:
        where, value = place(file, f"entry-points.{group}"), groups.pop(group)
        meant = {project["name"]: value} if isinstance(value, str) else {}
        yield Problem(where, f"is {value!r}, expected a table", _lines(meant, group))
        groups[group] = meant
    for group, points in groups.items():
        for name in [name for name, value in points.items() if not isinstance(value, str) or not value.strip()]:
            where = place(file, f"entry-points.{group}.{name}")
            yield Problem(where, f"is {points.pop(name)!r}, expected a module", f'{name} = "my_model.plugin"')
    if groups.get(PROJECT):
        return
    close = difflib.get_close_matches(PROJECT, [group for group in groups if groups[group]], n=1, cutoff=0.5)
    where = place(file, f"entry-points.{close[0] if close else PROJECT}")
    if close:
        meant = groups.pop(close[0])
        mend = f"rename it to [project.entry-points.{PROJECT}]"
        yield Problem(where, f"HYPED looks for the group {PROJECT!r} alone, not {close[0]!r}", mend)
    else:
        source = file.parent / "src" if (file.parent / "src").is_dir() else file.parent
        module = next((name for name, path in _modules(source) if _announces(path)), "")
        meant = {project["name"]: module}
        mend = _lines({project["name"]: module or "my_model.plugin"}, PROJECT)
        if not module:
            mend = f"write a module with a hook (hyped plugins new DIR shows one), and name it:\n{mend}"
        yield Problem(where, f"there is no entry point of the group {PROJECT!r}, so nothing is found", mend)
    groups[PROJECT] = meant


def _mended_modules(points: dict[str, Any], source: Path, file: Path) -> Iterator[Problem]:
    """Modules that are not there, where one with hooks has nearly the name or is the only one."""
    there = dict(_modules(source))
    for name, value in points.items():
        module = value.partition(":")[0].strip()
        if module in there or not module:
            continue
        where = place(file, f"entry-points.{PROJECT}.{name}")
        announcing = [other for other, path in there.items() if _announces(path)]
        close = difflib.get_close_matches(module, announcing, n=1, cutoff=0.7)
        if close := close or (announcing if len(announcing) == 1 else []):
            yield Problem(where, f"there is no module {module}", f'did you mean {name} = "{close[0]}"?')
            points[name] = close[0]
        elif not _is_module(value):
            points[name] = re.sub(r"[^\w.]", "_", module.removesuffix(".py").replace("/", "."))
            yield Problem(where, f"{module!r} is no name of a module", f'{name} = "{points[name]}"')


def _lines(points: dict[str, Any], group: str) -> str:
    named = {name if re.fullmatch(r"[\w-]+", name) else f'"{name}"': value for name, value in points.items()}
    return "\n".join([f"[project.entry-points.{group}]", *(f'{name} = "{value}"' for name, value in named.items())])


def _modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Name and file of each module below a folder that belongs on ``sys.path``."""
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[0] not in _NOT_SOURCE and all(part.isidentifier() for part in parts):
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def _announces(path: Path) -> bool:
    """Whether a file has a function named like a hook, or marked as one."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return False
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return any(f.name in HOOKS or any("hookimpl" in ast.unparse(d) for d in f.decorator_list) for f in functions)


def place(file: Path, key: str) -> str:
    """Where ``key`` of the table ``project`` is written: with its line, where it is there."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    wanted, table = f"project.{key}", ""
    for number, line in enumerate(lines, 1):
        if header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            table = header[1].replace('"', "").replace(" ", "")
            here = table
        elif entry := re.match(r"""\s*["']?([\w.-]+)["']?\s*=""", line):
            here = f"{table}.{entry[1]}"
        else:
            continue
        if here == wanted:
            return f"{FILE}:{number}: {wanted}"
    return f"{FILE}: {wanted}"
