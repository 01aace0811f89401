"""Requirements in pip's words: those of a distribution, and what local files and folders named in lines hold now."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from hyped_core.errors import MissingFileError
from hyped_core.plugins.compatibility import FAMILY
from hyped_core.plugins.discovery import normal_name

_FILE = re.compile(r"(?P<option>-[rc]|--requirement|--constraint)(?:\s*=\s*|\s+|(?<=-[rc]))(?P<file>\S.*)")
"""A line that names a file of further lines."""
_COMMENT = re.compile(r"(^|\s+)#.*$")


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


def settled_lines(lines: Sequence[str]) -> list[str]:
    """The lines with the files that they name (``-r``, ``-c``) by absolute path: pip reads them from elsewhere."""
    found = []
    for line in lines:
        option, file = _file_in(line, Path.cwd())
        found.append(line if file is None else f"{option} {shlex.quote(str(file))}")
    return found


def local_state(lines: Sequence[str]) -> list[str]:
    """What lines of a requirements file stand for beyond their text.

    These are sizes and times of local files and folders that they install, and the lines of the files that they name,
    however deep. What an address (``-r https://...``) gives is not looked at.

    Raises
    ------
    MissingFileError
        A file that is named by ``-r`` or ``-c`` is not there.
    """
    return list(_states(lines, Path.cwd(), set()))


def _states(lines: Sequence[str], base: Path, seen: set[Path]) -> Iterator[str]:
    for line in lines:
        option, file = _file_in(line, base)
        if file is None:
            yield from _installed(line)
            continue
        if file in seen:  # they name one another: pip's own affair
            continue
        seen.add(file)
        if not file.is_file():
            raise MissingFileError(
                "there is no such file of requirements",
                where=file,
                mend=f"asked for by {line.strip()!r}: relative names are those of the working folder, or of the file "
                "that names them; write it there, or name it by its whole path",
            )
        text = file.read_bytes().decode(errors="replace").replace("\\\n", " ").replace("\\\r\n", " ")
        inner = [stripped for one in text.splitlines() if (stripped := _COMMENT.sub("", one).strip())]
        yield f"{option}\0" + "\n".join(inner)
        yield from _states(inner, file.parent, seen)


def _file_in(line: str, base: Path) -> tuple[str, Path | None]:
    """The option of a line and the local file that it names; ("", None) of any other line."""
    found = _FILE.match(_COMMENT.sub("", line).strip())
    if found is None:
        return "", None
    try:
        named = shlex.split(found["file"])[0]
    except (ValueError, IndexError):
        named = found["file"]
    named = re.sub(r"\$\{([A-Z0-9_]+)\}", lambda one: os.environ.get(one[1], one[0]), named)  # as pip does
    if "://" in named:
        return "", None
    return found["option"], Path(os.path.normpath(base / Path(named.removeprefix("file:")).expanduser()))


def _installed(line: str) -> Iterator[str]:
    """Sizes and times of the local file or folder that a requirement names."""
    named = line.rpartition("@")[2].strip().removeprefix("file://")
    place = Path(named.removeprefix("-e ").partition("[")[0].strip()).expanduser()
    if os.sep in named and place.exists():
        files = sorted(files_below(place).items())
        yield repr([(name, path.stat().st_size, path.stat().st_mtime_ns) for name, path in files])


def files_below(place: Path) -> dict[str, Path]:
    """Every file of a folder, or a file itself, by its name from the folder above; compiled code and caches left out.

    Linked folders are followed, each once.
    """
    if not place.is_dir():
        return {place.name: place}
    found: dict[str, Path] = {}
    seen: set[str] = set()
    for folder, folders, files in os.walk(place, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = [one for one in folders if one != "__pycache__" and not (one[0] == "." and one.endswith("_cache"))]
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        for file in files:
            path = Path(folder, file)
            if path.suffix != ".pyc" and path.is_file():
                found[path.relative_to(place.parent).as_posix()] = path
    return found
