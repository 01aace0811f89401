"""What a package says of itself: name, version, Python, licence, and which hyped-core it is for."""

from __future__ import annotations

from collections.abc import Iterator

from hyped_core.checking.records import CheckSkipped
from hyped_core.checking.static.package import Package
from hyped_core.checking.static.records import PackageCheck
from hyped_core.checking.static.source import FILE
from hyped_core.errors import Problem
from hyped_core.plugins.discovery import normal_name


def metadata(package: Package) -> Iterator[Problem]:
    """Version, summary, Python and requirements can be read and say something."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion, Version

    yield from (problem for problem in package.problems if "entry-points" not in problem.where)
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
    """The package says under which licence it may be used, in a way that can be read, and its files of it hold text."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    meta, where = package.distribution.metadata, package.place("license", "License-Expression")
    mend = 'license = "BSD-3-Clause" (an SPDX expression, https://spdx.org/licenses)'
    classified = [c for c in meta.get_all("Classifier") or [] if c.startswith("License ::")]
    if expression := meta.get("License-Expression"):
        try:
            canonicalize_license_expression(expression)
        except InvalidLicenseExpression:
            yield Problem(where, f"{expression!r} is no SPDX expression", mend)
    elif not (meta.get("License") or classified):
        if package.folder is not None and meta.get_all("Dynamic"):
            raise CheckSkipped("the build fills in the licence (project.dynamic)")
        yield Problem(where, "no licence is stated", mend)
    for name in meta.get_all("License-File") or [] if package.folder is not None else ():
        file, mend = package.folder / name, "write the licence's text into it, as hyped plugins new does"
        if not file.is_file():
            yield Problem(name, f"is not there, and {FILE} names it", mend)
        elif not file.read_bytes().strip():
            yield Problem(name, "is empty", mend)


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
    mend = f'write "hyped-core>={major}.{minor},<{upper}" in dependencies'
    said = False
    for text in package.distribution.metadata.get_all("Requires-Dist") or []:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            said = said or normal_name(text).startswith("hyped-core")  # `metadata` says that it cannot be read
            continue
        if normal_name(requirement.name) != "hyped-core" or "extra" in str(requirement.marker or ""):
            continue
        said = True
        operators = {clause.operator for clause in requirement.specifier}
        missing = [] if operators & {">=", ">", "==", "~=", "==="} else ["no lower bound"]
        missing += [] if operators & {"<", "<=", "==", "~=", "==="} else ["no upper bound: a later one may break it"]
        if not requirement.specifier.contains(__version__, prereleases=True):
            yield Problem(where, f"'{requirement}' leaves out hyped-core {__version__}, which is installed", mend)
        elif missing:
            yield Problem(where, f"'{requirement}' has {' and '.join(missing)}", mend)
    if not said:
        yield Problem(where, "hyped-core is not required", mend)
    for refusal in requirement_refusals(package.distribution):
        if refusal.reason.startswith("requires Python"):
            mend = "state the Pythons it is for, and check it in one of them"
            yield Problem(package.place("requires-python", "Requires-Python"), refusal.reason, mend)
        elif refusal.reason.startswith("requires ") and not refusal.reason.startswith("requires hyped-core "):
            yield Problem(where, refusal.reason, "take it out: a plugin needs hyped-core alone")


CHECKS = (
    PackageCheck("metadata", "Installers, listings and readers know a package by its metadata.", metadata),
    PackageCheck("licence", "Without a licence nobody may use the model or publish with it.", licence),
    PackageCheck(
        "core_requirement",
        "Without bounds the package is installed with a hyped-core whose contracts it does not fit.",
        core_requirement,
    ),
)
