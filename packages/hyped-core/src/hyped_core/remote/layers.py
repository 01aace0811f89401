"""The code over an environment's libraries: copies of this very hyped-core and of all code of a plugin's distribution.

Neither has to be on an index, and either may be installed as a wheel, editable, or not at all (a source folder).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import venv
from dataclasses import dataclass
from importlib import metadata
from inspect import getmodulename
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse
from urllib.request import url2pathname

from hyped_core.plugins.discovery import normal_name
from hyped_core.plugins.folder import FolderDistribution
from hyped_core.plugins.sources import locate
from hyped_core.remote.locks import IN_USE
from hyped_core.remote.requirements import files_below, requirements_of
from hyped_core.spec import ModelSpec

_BESIDE = ("setup", "conftest", "noxfile", "test", "tests", "docs", "examples", "build", "dist")
"""What lies beside a package in a project's own folder and belongs to no distribution."""


@dataclass(frozen=True, slots=True)
class Code:
    """What a layer is made of.

    Attributes
    ----------
    files : place among the installed packages -> the file here.
    distributions : what registers them (name, version, entry points), written as pip would.
    requirements : what the plugin's distribution asks for beside HYPED's packages.
    """

    files: dict[str, Path]
    distributions: tuple[metadata.Distribution, ...]
    requirements: tuple[str, ...]


def code_of(spec: ModelSpec | None, distribution: str = "") -> Code:
    """hyped-core, and all code of a model's distribution; nothing of it is imported.

    Where nobody says what the distribution has (its folder lies on the path, and is neither a source folder nor has
    a list of its files), it is the packages that the model's target, config, sources and entry points are in.

    Raises
    ------
    PluginError
        A module is not there.
    """
    core = locate("hyped_core")
    files = files_below(core)
    found = [_distribution("hyped-core", core.parent)]
    asked: list[str] = []
    if spec is not None:
        tops = [_top(name) for name in (spec.target, spec.config or "", *spec.sources) if name]
        if normal_name(distribution) not in ("", "hyped-core"):
            place = locate(tops[0])
            owner = _distribution(distribution, place.parent)
            if owner is not None:
                found.append(owner)
                asked = requirements_of(owner)
                files |= _own_files(owner, place)
                tops += [_top(point.value) for point in owner.entry_points if point.group == "hyped"]
        for top in dict.fromkeys(tops):
            if top not in {_top(name) for name in files}:
                files |= files_below(locate(top))
    return Code(files, tuple(one for one in found if one is not None), tuple(asked))


def _top(name: str) -> str:
    """The top-level module of an import string, a module or a file."""
    return re.split(r"[.:/]", name, maxsplit=1)[0]


def _own_files(owner: metadata.Distribution, place: Path) -> dict[str, Path]:
    """All code of a distribution, of which ``place`` is a top-level module; {} where it cannot be told."""
    if isinstance(owner, FolderDistribution):
        return _project_files(owner.source, owner.folder)
    listed = _listed_files(owner)
    if any(name.partition("/")[0] == place.name for name in listed) and place.samefile(owner.locate_file(place.name)):
        return listed
    root, folder = place.parent.resolve(), _editable_folder(owner)
    if folder is not None and (root == folder or folder in root.parents):
        return _project_files(root, folder)
    return {}


def _listed_files(owner: metadata.Distribution) -> dict[str, Path]:
    """What an installed distribution's list names; its own packages with all that lies in them now."""
    if not owner.read_text("RECORD"):
        return {}
    found: dict[str, Path] = {}
    for file in owner.files or ():
        path = Path(os.path.normpath(owner.locate_file(file)))
        odd = ".." in file.parts or file.is_absolute() or "__pycache__" in file.parts or file.suffix in (".pyc", ".pth")
        if not odd and not file.parts[0].endswith((".dist-info", ".data")) and path.is_file():
            found[PurePosixPath(file).as_posix()] = path
    for name in [name for name in found if name.endswith("/__init__.py") and name.count("/") == 1]:
        found |= files_below(found[name].parent)
    return found


def _editable_folder(owner: metadata.Distribution) -> Path | None:
    """The source folder of a distribution that was installed editable."""
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
        said = json.loads(owner.read_text("direct_url.json") or "{}")
        if said["dir_info"]["editable"]:
            return Path(url2pathname(urlparse(said["url"]).path)).resolve()
    return None


def _project_files(root: Path, folder: Path) -> dict[str, Path]:
    """The top-level modules and packages of a source folder's ``root``, the folder that belongs on ``sys.path``.

    Where that is the project's own ``folder``, only folders with an ``__init__.py`` are packages.
    """
    flat = root.resolve() == folder.resolve()
    found: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        name = path.name if path.is_dir() else getmodulename(path.name) or ""
        if not name.isidentifier() or path.suffix == ".pyc" or (flat and name in _BESIDE):
            continue
        if path.is_file() or (path / "__init__.py").is_file() or (not flat and next(path.rglob("*.py"), None)):
            found |= files_below(path)
    return found


def layer_hash(code: Code) -> str:
    """Hash of all that is copied: the text of Python files, size and time of others."""
    digest = hashlib.sha256()
    for name, path in sorted(code.files.items()):
        state = path.stat()
        content = path.read_bytes() if path.suffix == ".py" else f"{state.st_size} {state.st_mtime_ns}".encode()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    for one in code.distributions:
        digest.update(repr((one.metadata["Name"], one.version, sorted(map(str, one.entry_points)))).encode())
    return digest.hexdigest()[:16]


def write_layer(folder: Path, code: Code, libraries: Path) -> None:
    """A virtual environment in ``folder`` that has the code, and finds all else in ``libraries``."""
    import sysconfig

    venv.EnvBuilder(symlinks=os.name != "nt", with_pip=False).create(folder)
    base = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", "venv", vars=base))
    for name, path in code.files.items():
        target = packages / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    for one in code.distributions:
        name, version = str(one.metadata["Name"]), one.version
        info = packages / f"{re.sub(r'[^A-Za-z0-9.]+', '_', name)}-{version}.dist-info"
        info.mkdir(exist_ok=True)
        told = one.read_text("METADATA") or one.read_text("PKG-INFO") or ""
        (info / "METADATA").write_text(told, encoding="utf-8")
        (info / "entry_points.txt").write_text(one.read_text("entry_points.txt") or "", encoding="utf-8")
    line = f"import site; site.addsitedir({str(libraries)!r})\n"
    (packages / "hyped_libraries.pth").write_text(line, encoding="utf-8")
    (folder / IN_USE).touch()


def _distribution(name: str, beside: Path) -> metadata.Distribution | None:
    """The distribution of a name: a source folder in use, else beside its package, else as this process knows it."""
    known = list(metadata.distributions(name=name))
    found = [one for one in known if isinstance(one, FolderDistribution)]
    found += [*metadata.distributions(name=name, path=[str(beside)]), *known]
    whole = [one for one in found if one.read_text("METADATA")]  # a build's .egg-info beside the source has none
    return next(iter(whole or found), None)
