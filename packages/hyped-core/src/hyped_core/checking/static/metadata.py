"""What a package says of itself: name, version, Python, licence, and which hyped-core it is for."""

from __future__ import annotations

from collections.abc import Iterator

from hyped_core.checking.records import CheckSkipped
from hyped_core.checking.static.package import Package
from hyped_core.checking.static.records import PackageCheck
from hyped_core.errors import Problem
from hyped_core.plugins.discovery import normal_name


def metadata(package: Package) -> Iterator[Problem]:
    """Version, summary, Python and requirements can be read and say something."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion, Version

    meta = package.distribution.metadata
    where = package.place("version", "Version")
    try:
        if Version(meta.get("Version") or "") == Version("0"):
            yield Problem(where, "has no version", 'version = "0.1.0"')
    except InvalidVersion:
        yield Problem(where, f"{meta['Version']!r} is no version", 'version = "0.1.0"')
    if not (meta.get("Summary") or "").strip():
        where = package.place("description", "Summary")
        yield Problem(where, "is empty", "say in one line what the model does")
    where, wanted = package.place("requires-python", "Requires-Python"), meta.get("Requires-Python")
    if not wanted:
        yield Problem(where, "is not stated", 'requires-python = ">=3.11"')
    else:
        try:
            SpecifierSet(wanted)
        except InvalidSpecifier:
            yield Problem(where, f"{wanted!r} is no range of versions", 'requires-python = ">=3.11"')
    where = package.place("dependencies", "Requires-Dist")
    for text in meta.get_all("Requires-Dist") or []:
        try:
            Requirement(text)
        except InvalidRequirement as error:
            yield Problem(where, f"{text!r} cannot be read: {str(error).splitlines()[0]}", "write it as pip takes it")
    if package.folder is not None and not any(package.folder.glob("README*")):
        yield Problem("README.md", "there is no README", "say what the model does, on what data, and how to cite it")


def licence(package: Package) -> Iterator[Problem]:
    """The package says under which licence it may be used."""
    meta = package.distribution.metadata
    classified = [c for c in meta.get_all("Classifier") or [] if c.startswith("License ::")]
    if not (meta.get("License-Expression") or meta.get("License") or classified):
        where = package.place("license", "License-Expression")
        yield Problem(where, "no licence is stated", 'license = "BSD-3-Clause" (an SPDX expression)')


def core_requirement(package: Package) -> Iterator[Problem]:
    """The package requires hyped-core, within bounds that hold here."""
    from packaging.requirements import InvalidRequirement, Requirement

    from hyped_core import __version__
    from hyped_core.plugins.compatibility import requirement_refusals

    if normal_name(package.name) == "hyped-core":
        raise CheckSkipped("this is hyped-core")
    where = package.place("dependencies", "Requires-Dist")
    major, minor = (*__version__.split("."), "0")[:2]
    upper = f"{major}.{int(minor) + 1}" if major == "0" else str(int(major) + 1)
    mend = f'dependencies = ["hyped-core>={major}.{minor},<{upper}"]'
    found = []
    for text in package.distribution.metadata.get_all("Requires-Dist") or []:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue  # `metadata` says so
        if normal_name(requirement.name) == "hyped-core" and "extra" not in str(requirement.marker or ""):
            found.append(requirement)
    if not found:
        yield Problem(where, "hyped-core is not required", mend)
    for requirement in found:
        operators = {clause.operator for clause in requirement.specifier}
        if not operators & {">=", ">", "==", "~=", "==="}:
            yield Problem(where, f"'{requirement}' has no lower bound", mend)
        if not operators & {"<", "<=", "==", "~=", "==="}:
            yield Problem(where, f"'{requirement}' has no upper bound: a later hyped-core may break it", mend)
    for refusal in requirement_refusals(package.distribution):
        yield Problem(where, refusal.reason, refusal.mend)


CHECKS = (
    PackageCheck("metadata", "Installers, listings and readers know a package by its metadata.", metadata),
    PackageCheck("licence", "Without a licence nobody may use the model or publish with it.", licence),
    PackageCheck(
        "core_requirement",
        "Without bounds the package is installed with a hyped-core whose contracts it does not fit.",
        core_requirement,
    ),
)
