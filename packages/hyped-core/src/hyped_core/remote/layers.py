"""The code over an environment's libraries: copies of this very hyped-core and of a plugin's packages.

Neither has to be on an index, and either may be installed as a wheel, editable, or not at all (a source folder).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import venv
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from hyped_core.plugins.compatibility import FAMILY
from hyped_core.plugins.discovery import normal_name
from hyped_core.plugins.sources import locate
from hyped_core.spec import ModelSpec

_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", ".*_cache")


@dataclass(frozen=True, slots=True)
class Code:
    """What a layer is made of.

    Attributes
    ----------
    modules : top-level module -> its folder, or file.
    distributions : what registers them (name, version, entry points), written as pip would.
    requirements : what the plugin's distribution asks for beside HYPED's packages.
    """

    modules: dict[str, Path]
    distributions: tuple[metadata.Distribution, ...]
    requirements: tuple[str, ...]


def code_of(spec: ModelSpec | None, distribution: str = "") -> Code:
    """hyped-core, and the packages that a model's target, config and sources are in; none of them is imported.

    Raises
    ------
    PluginError
        A module is not there.
    """
    tops = ["hyped_core"]
    if spec is not None:
        named = [spec.target, spec.config or "", *spec.sources]
        tops += [name.partition(":")[0].partition(".")[0] for name in named if name]
    modules = {top: locate(top) for top in dict.fromkeys(tops)}
    found = [_distribution("hyped-core", modules["hyped_core"].parent)]
    asked: list[str] = []
    if spec is not None and normal_name(distribution) not in ("", "hyped-core"):
        owner = _distribution(distribution, modules[tops[1]].parent)
        found.append(owner)
        for point in owner.entry_points if owner is not None else ():  # its plugin module may be in another package
            top = point.value.partition(":")[0].partition(".")[0]
            if point.group == "hyped" and top not in modules:
                modules[top] = locate(top)
        asked = [] if owner is None else requirements_of(owner)
    return Code(modules, tuple(one for one in found if one is not None), tuple(asked))


def requirements_of(distribution: metadata.Distribution) -> list[str]:
    """What a distribution needs here without extras, HYPED's own packages left out."""
    from packaging.requirements import InvalidRequirement, Requirement

    kept = []
    for line in distribution.requires or []:
        try:
            asked = Requirement(line)
        except InvalidRequirement:
            kept.append(line)  # pip says what is wrong with it
            continue
        if normal_name(asked.name) not in FAMILY and (asked.marker is None or asked.marker.evaluate({"extra": ""})):
            asked.marker = None
            kept.append(str(asked))
    return kept


def layer_hash(code: Code) -> str:
    """Hash of all that is copied: the text of Python files, size and time of others."""
    digest = hashlib.sha256()
    for top, place in sorted(code.modules.items()):
        for path in _files(place):
            name = path.relative_to(place.parent).as_posix()
            state = path.stat()
            content = path.read_bytes() if path.suffix == ".py" else f"{state.st_size} {state.st_mtime_ns}".encode()
            digest.update(f"{top}\0{name}\0{len(content)}\0".encode())
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
    for top, place in code.modules.items():
        if place.is_dir():
            shutil.copytree(place, packages / top, ignore=_LEFT_OUT)
        else:
            shutil.copy2(place, packages / place.name)
    for one in code.distributions:
        name, version = str(one.metadata["Name"]), one.version
        info = packages / f"{re.sub(r'[^A-Za-z0-9.]+', '_', name)}-{version}.dist-info"
        info.mkdir(exist_ok=True)
        for file in ("METADATA", "entry_points.txt"):
            (info / file).write_text(one.read_text(file) or "", encoding="utf-8")
    line = f"import site; site.addsitedir({str(libraries)!r})\n"
    (packages / "hyped_libraries.pth").write_text(line, encoding="utf-8")


def local_state(line: str) -> str:
    """What a requirement that names a local file or folder stands for now: its files' sizes and times, else ""."""
    named = line.rpartition("@")[2].strip().removeprefix("file://")
    place = Path(named.removeprefix("-e ").partition("[")[0].strip()).expanduser()
    if os.sep not in named or not place.exists():
        return ""
    said = [(str(p.relative_to(place.parent)), p.stat().st_size, p.stat().st_mtime_ns) for p in _files(place)]
    return repr(said)


def _distribution(name: str, beside: Path) -> metadata.Distribution | None:
    """The distribution of a name: where its package lies, else as this process knows it; None where neither."""
    for one in metadata.distributions(path=[str(beside)]):
        if normal_name(one.metadata.get("Name") or "") == normal_name(name):
            return one
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def _files(place: Path) -> list[Path]:
    """Files of a package that are copied, sorted; the file itself of a module."""
    if not place.is_dir():
        return [place]
    kept = [
        path
        for path in place.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and "__pycache__" not in path.relative_to(place).parts
    ]
    return sorted(kept)
