"""Which plugins fit this hyped-core: the contracts' version they were written for, and what their metadata require."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from importlib.metadata import Distribution, PackageNotFoundError, version

from hyped_core import __version__
from hyped_core.plugins.discovery import normal_name
from hyped_core.spec import API_VERSION

FAMILY = ("hyped-core", "hyped-imaging", "hyped-seq", "hyped-bench")
"""HYPED's own distributions: what they bring is neither probed nor displaced by a stranger's."""


MONTHS = 6
"""At least so many pass between the release that notes something and the one that refuses it."""


@dataclass(frozen=True, slots=True)
class Deprecation:
    """Something that still works and will not for ever.

    Attributes
    ----------
    since : the hyped-core that first noted it.
    noted : the day of that release, ``2027-01-31``.
    removed_in : the hyped-core that refuses it: two minor versions later at least, and from 1.0 on a major one.
    instead : what a plugin's author does about it.
    """

    since: str
    noted: str
    removed_in: str
    instead: str

    def __post_init__(self) -> None:
        (major, minor), (last, end) = _release(self.since), _release(self.removed_in)
        later = last > major and end == 0 or major == last == 0 and end >= minor + 2
        if not later:
            raise ValueError(f"noted in {self.since}, refused in {self.removed_in}: too early, or no major version")
        date.fromisoformat(self.noted)

    @property
    def not_before(self) -> date:
        """The first day on which a release may refuse it, six months after it was noted."""
        from calendar import monthrange

        noted = date.fromisoformat(self.noted)
        years, month = divmod(noted.month - 1 + MONTHS, 12)
        year, month = noted.year + years, month + 1
        return date(year, month, min(noted.day, monthrange(year, month)[1]))

    def __str__(self) -> str:
        when = f"refused from {self.removed_in} on, not before {self.not_before}"
        return f"deprecated since hyped-core {self.since}, {when}: {self.instead}"


def _release(version: str) -> tuple[int, int]:
    """Major and minor version."""
    major, minor, *_ = (int(part) for part in version.split("."))
    return major, minor


SUPPORTED_API_VERSIONS: tuple[int, ...] = (API_VERSION,)
"""Values of ``ModelSpec.api_version`` that this hyped-core takes, deprecated ones among them."""

DEPRECATED_API_VERSIONS: Mapping[int, Deprecation] = {}
"""Supported versions that will go, and when."""

DEPRECATED_HOOKS: Mapping[str, Deprecation] = {}
"""Hooks that are still asked and will not be for ever."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something is not taken, and the command that changes it."""

    reason: str
    mend: str


def api_refusal(api_version: int, distribution: str) -> Refusal | None:
    """Why a model written for ``api_version`` cannot be taken, or None where it can."""
    if api_version in SUPPORTED_API_VERSIONS:
        return None
    offered = ", ".join(map(str, SUPPORTED_API_VERSIONS))
    reason = f"was written for api_version {api_version}, this hyped-core {__version__} offers {offered}"
    late = api_version > max(SUPPORTED_API_VERSIONS)
    return Refusal(reason, f"pip install --upgrade {'hyped-core' if late else distribution}")


def api_note(api_version: int) -> str:
    """What is worth saying of a version that is taken; empty for the current one."""
    told = DEPRECATED_API_VERSIONS.get(api_version)
    return f"api_version {api_version} is {told}" if told else ""


def hook_note(hook: str) -> str:
    """What is worth saying of a hook that a plugin implements; empty where nothing is."""
    told = DEPRECATED_HOOKS.get(hook)
    return f"the hook {hook} is {told}" if told else ""


def requirement_refusals(
    distribution: Distribution, *, python: str | None = None, installed: Mapping[str, str] | None = None
) -> list[Refusal]:
    """Everything in a plugin's metadata that this environment's Python and HYPED packages do not meet.

    Only ``Requires-Python`` and requirements of HYPED's own packages are looked at; those of extras, and those
    whose marker does not hold here, do not count. A pre-release that lies within the bounds is taken.

    Parameters
    ----------
    python : version of the interpreter (this one's).
    installed : normalised name of a distribution -> its version (those of the environment).
    """
    import platform

    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    here = python or platform.python_version()
    name = distribution.metadata.get("Name") or "the plugin"
    refusals = []
    wanted = distribution.metadata.get("Requires-Python")  # [...] raises under importlib_metadata
    if wanted:
        try:
            fits = SpecifierSet(wanted).contains(here, prereleases=True)
        except InvalidSpecifier:
            refusals.append(_unreadable(f"Requires-Python: {wanted}", name))
        else:
            if not fits:
                mend = f"install HYPED and {name} in an environment of a Python {wanted}"
                refusals.append(Refusal(f"requires Python {wanted}, this is {here}", mend))
    for text in distribution.metadata.get_all("Requires-Dist") or []:
        if not normal_name(text).startswith("hyped-"):
            continue
        try:
            requirement = Requirement(text)
            holds = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        except (InvalidRequirement, ValueError, KeyError):  # a marker may compare what cannot be compared
            refusals.append(_unreadable(f"Requires-Dist: {text}", name))
            continue
        own = normal_name(requirement.name)
        if own not in FAMILY or not holds:
            continue
        found = _installed(own, installed)
        if found is None:
            mend = f"pip install '{own}{requirement.specifier}'"
            refusals.append(Refusal(f"requires {own}, which is not installed", mend))
        elif not requirement.specifier.contains(found, prereleases=True):
            refusals.append(
                Refusal(
                    f"requires {own} {requirement.specifier}, installed is {found}",
                    f"pip install --upgrade {name}, or pip install '{own}{requirement.specifier}'",
                )
            )
    return refusals


def _unreadable(field: str, name: str) -> Refusal:
    return Refusal(f"its metadata cannot be read: {field!r}", f"pip install --force-reinstall {name}")


def _installed(name: str, installed: Mapping[str, str] | None) -> str | None:
    if installed is not None:
        return installed.get(name)
    if name == "hyped-core":
        return __version__  # of the code that runs, whatever a folder beside it says
    try:
        return version(name)
    except PackageNotFoundError:
        return None
