"""What has to hold before a package is released: versions, change notes, sibling ranges, and wheels that install.

    python scripts/release_check.py            # between releases (make release-check)
    python scripts/release_check.py hyped-core # is it ready to be released? (make release-check PACKAGE=hyped-core)

Every package is looked at either way, and every problem said at once; the exit code is 1 where there is any. Changes
that no version names yet are a note, and a problem of a package that is to be released. --no-wheels leaves out what
takes minutes.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("hyped-core", "hyped-imaging", "hyped-seq", "hyped-bench")
IMPORTS = "import {module}; import importlib.metadata as m; assert m.version('{package}') == '{version}'"


@dataclass(frozen=True, slots=True)
class Package:
    """A package of this repository.

    Attributes
    ----------
    name : of the distribution, ``hyped-core``.
    folder : its folder.
    project : the table ``project`` of its pyproject.
    towncrier : the table ``tool.towncrier``, empty where there is none.
    """

    name: str
    folder: Path
    project: dict[str, Any]
    towncrier: dict[str, Any]

    @property
    def version(self) -> str:
        """As it is written in pyproject."""
        return str(self.project.get("version", ""))

    @property
    def module(self) -> str:
        """Its import name."""
        return self.name.replace("-", "_")


def read_package(root: Path, name: str) -> Package:
    """The package ``name`` of the repository at ``root``."""
    folder = root / "packages" / name
    content = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    return Package(name, folder, content["project"], content.get("tool", {}).get("towncrier", {}))


def version_problems(package: Package, tags: list[str], *, releasing: bool) -> Iterator[str]:
    """The version is known to packaging and not below what was released; one to be released is of all changes."""
    if not _is_version(package.version):
        yield f"pyproject.toml: version {package.version!r} is no version; write one as in PEP 440 (0.2.0, 0.2.0rc1)"
        return
    own, last = Version(package.version), last_release(package, tags)
    if last and own < last:
        yield f"pyproject.toml: version {own} is below {last}, which is tagged; raise it"
    if releasing and (pending := pending_changes(package, tags)):
        yield f"{pending}; raise the version"


def last_release(package: Package, tags: list[str]) -> Version | None:
    """The highest version that is tagged; tags of no version are none."""
    said = [tag.removeprefix(f"{package.name}-v") for tag in tags if tag.startswith(f"{package.name}-v")]
    return max((Version(text) for text in said if _is_version(text)), default=None)


def pending_changes(package: Package, tags: list[str]) -> str:
    """What is new beside a version that is tagged already, as between two releases; empty where nothing is."""
    new = len(fragments(package))
    if not new or not _is_version(package.version) or Version(package.version) != last_release(package, tags):
        return ""
    return f"version {package.version} is tagged and changes/ holds {new} new change{'s' if new > 1 else ''}"


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def fragments(package: Package) -> list[Path]:
    """The files of changes, of whatever name."""
    folder = package.folder / "changes"
    return sorted(p for p in folder.glob("*") if p.name != "README.md" and p.is_file()) if folder.is_dir() else []


def change_problems(package: Package) -> Iterator[str]:
    """Fragments have a kind that towncrier knows and say something; the changelog has its place for them."""
    kinds = [kind["directory"] for kind in package.towncrier.get("type", [])]
    if not kinds:
        yield "pyproject.toml: no [tool.towncrier] with its kinds of change; without it towncrier writes elsewhere"
        return
    changelog = package.folder / package.towncrier["filename"]
    text = changelog.read_text(encoding="utf-8") if changelog.is_file() else ""
    if package.towncrier["start_string"].strip() not in text:
        yield f"{changelog.name}: lacks the line {package.towncrier['start_string'].strip()!r}"
    for path in fragments(package):
        place = f"changes/{path.name}"
        if not re.fullmatch(rf"\+[a-z0-9-]+\.({'|'.join(kinds)})\.md", path.name):
            yield f"{place}: is not named +<what>.<kind>.md; kinds: {', '.join(kinds)}"
        elif not path.read_text(encoding="utf-8").strip():
            yield f"{place}: is empty; say what users will notice"
    if not fragments(package) and f"## [{package.version}]" not in text:
        yield f"neither changes/ nor {changelog.name} says what is new in {package.version}"


def range_problems(package: Package, siblings: dict[str, Package]) -> Iterator[str]:
    """Siblings are required by a range that takes the version that lies beside, and ends before the next minor one."""
    extras = package.project.get("optional-dependencies", {})
    for text in [*package.project.get("dependencies", []), *(line for extra in extras.values() for line in extra)]:
        requirement = Requirement(text)
        sibling = siblings.get(requirement.name)
        if sibling is None or not _is_version(sibling.version):
            continue
        version = Version(sibling.version)
        following = f"{version.major}.{version.minor + 1}"
        if not requirement.specifier.contains(version, prereleases=True):
            yield f"pyproject.toml: {text} does not take {sibling.name} {version}, which lies beside it"
        if requirement.specifier.contains(following, prereleases=True):
            yield f"pyproject.toml: {text} also takes {following}, whose contracts may differ; end it with <{following}"


def upgrade_problems(root: Path, package: Package) -> Iterator[str]:
    """The upgrade notes have a place for this version, and the citation file knows hyped-core's."""
    version = Version(package.version)
    notes = (root / "docs" / "upgrading.md").read_text(encoding="utf-8")
    heading = f"## {package.name} {version.major}.{version.minor}"
    if heading not in notes.splitlines():
        yield f"docs/upgrading.md: no section {heading!r}; say there what users have to do, or that it is nothing"
    if package.name == "hyped-core" and f"version: {version}" not in (root / "CITATION.cff").read_text():
        yield f"CITATION.cff: its version is not {version}"


def build_wheels(root: Path, names: list[str], folder: Path) -> dict[str, Path]:
    """A wheel of each package, in ``folder``."""
    made = {}
    for name in names:
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
        subprocess.run([*command, str(root / "packages" / name)], check=True, capture_output=True, text=True)
        made[name] = next(folder.glob(f"{name.replace('-', '_')}-*.whl"))
    return made


def wheel_problems(package: Package, wheel: Path) -> Iterator[str]:
    """The wheel names its version and licence, holds every module of the source tree and nothing of tests."""
    source = package.folder / "src"
    wanted = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".pyc", ".nbi", ".nbc")
    }
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        metadata = next(name for name in held if name.endswith(".dist-info/METADATA"))
        said = Parser().parsestr(archive.read(metadata).decode())
    if said["Version"] != package.version:
        yield f"{wheel.name}: says version {said['Version']}, pyproject {package.version}"
    if not any(name.endswith("LICENSE") for name in held):
        yield f"{wheel.name}: has no LICENSE"
    lacking = sorted(wanted - held)
    if lacking:
        yield f"{wheel.name}: lacks {', '.join(lacking[:5])}{' and more' if len(lacking) > 5 else ''}"
    odd = sorted(name for name in held if not name.startswith((f"{package.module}/", f"{package.module}-")))
    if odd:
        yield f"{wheel.name}: also holds {', '.join(odd[:5])}"


def install_problems(wheels: dict[str, Path], packages: list[Package], constraints: Path) -> Iterator[str]:
    """All wheels install together into an empty environment, import, and show their plugins as active."""
    with tempfile.TemporaryDirectory() as place:
        python = Path(place) / "venv" / "bin" / "python"
        _run([sys.executable, "-m", "venv", str(python.parents[1])])
        files = [str(wheel) for wheel in wheels.values()]
        options = ["--quiet", "--disable-pip-version-check", "-c", str(constraints)]
        siblings = ["--find-links", str(next(iter(wheels.values())).parent)]
        done = _run([str(python), "-m", "pip", "install", *options, *siblings, *files])
        if done.returncode:
            yield f"the wheels do not install: {done.stderr.strip().splitlines()[-1]}"
            return
        done = _run([str(python), "-m", "pip", "check"])
        if done.returncode:
            yield f"pip check: {done.stdout.strip()}"
        for package in packages:
            code = IMPORTS.format(module=package.module, package=package.name, version=package.version)
            done = _run([str(python), "-c", code])
            if done.returncode:
                yield f"{package.name}: does not import where only its wheel is: {done.stderr.strip().splitlines()[-1]}"
        done = _run([str(python.parent / "hyped"), "plugins", "list"])
        if done.returncode or "broken" in done.stdout:
            yield f"hyped plugins list, from the wheels: {(done.stdout + done.stderr).strip()}"


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, cwd=tempfile.gettempdir())


def problems(root: Path, *, releasing: list[str], wheels: bool, tags: list[str]) -> dict[str, list[str]]:
    """Package -> what is wrong with it; every check is done, and of ``releasing`` what else a release asks."""
    siblings = {name: read_package(root, name) for name in PACKAGES}
    found: dict[str, list[str]] = {}
    for name, package in siblings.items():
        found[name] = [*version_problems(package, tags, releasing=name in releasing), *change_problems(package)]
        found[name] += range_problems(package, siblings)
        if _is_version(package.version):
            found[name] += upgrade_problems(root, package)
    if wheels:
        with tempfile.TemporaryDirectory() as place:
            made = build_wheels(root, list(PACKAGES), Path(place))
            for name, package in siblings.items():
                found[name] += wheel_problems(package, made[name])
            found["together"] = list(install_problems(made, list(siblings.values()), root / "constraints.txt"))
    return found


def main() -> int:
    """Say what is wrong, a line a problem; 1 where there is any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", nargs="*", choices=[[], *PACKAGES], help="packages that are to be released")
    parser.add_argument("--no-wheels", action="store_true", help="leave out building and installing")
    options = parser.parse_args()
    listed = subprocess.run(["git", "tag"], capture_output=True, text=True, cwd=ROOT)
    tags = listed.stdout.split()
    found = problems(ROOT, releasing=options.packages, wheels=not options.no_wheels, tags=tags)
    for name, said in found.items():
        for problem in said:
            sys.stdout.write(f"{name}: {problem}\n")
        if not said:
            pending = pending_changes(read_package(ROOT, name), tags) if name in PACKAGES else ""
            sys.stdout.write(f"{name}: {f'in order; {pending}' if pending else 'ready'}\n")
    return 1 if any(found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
