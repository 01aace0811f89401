"""What a user's file holds, as scenes of the design: a CZI with its scenes, or one movie in other files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyped_core.errors import DesignError, UsageError
from hyped_core.io.hashing import files_below
from hyped_core.process.journal import file_stamps

if TYPE_CHECKING:
    from hyped_core.design import Design
    from hyped_imaging.readers.czi import CziFile


@dataclass(frozen=True, slots=True)
class Found:
    """Scenes to process.

    Attributes
    ----------
    kind : ``czi`` or ``movie``.
    paths : the files.
    scenes : name in the design -> name in the file.
    left_out : scenes of the file that the design does not name.
    absent : scenes of the design that the file does not hold.
    """

    kind: str
    paths: tuple[Path, ...]
    scenes: dict[str, str]
    left_out: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    def identity(self) -> list[list[Any]]:
        """Name, size and time of change of every file: what decides whether work done before still holds."""
        files = [file for path in self.paths for file in (files_below(path) if path.is_dir() else [path])]
        return file_stamps(files)


def find_scenes(
    paths: Sequence[str | Path], design: Design, wanted: Sequence[str] = (), reader: str = "auto"
) -> Found:
    """Match what the files hold with the design's scenes.

    A CZI's scenes are matched by name, or all by ``S<index>`` where no name fits. Any other file (or several,
    one a channel) is one movie: that of ``wanted``, or of the design's only scene.

    Raises
    ------
    UsageError, DesignError
        A scene asked for is not there; the design names none of the file's scenes, or several for one movie.
    """
    files = tuple(Path(path) for path in paths)
    if len(files) == 1 and files[0].suffix.lower() == ".czi":
        return _czi_scenes(files[0], design, wanted, reader)
    if any(path.suffix.lower() == ".czi" for path in files):
        raise UsageError("give one CZI file, or files of one movie", where=files[0])
    names = list(wanted) or [scene.name for scene in design.scenes]
    if len(names) != 1:
        raise UsageError(
            f"these files are one movie, the design {design.name!r} has {len(names)} scenes",
            where=files[0],
            mend=f"name its scene: --scene {names[0] if names else 'NAME'}",
        )
    design.scene(names[0])
    return Found("movie", files, {names[0]: names[0]})


def _czi_scenes(path: Path, design: Design, wanted: Sequence[str], reader: str) -> Found:
    from hyped_imaging.readers.czi import open_czi

    with open_czi(path, reader=reader) as czi:
        matched = match_scenes(czi, design)
        every = [scene.name for scene in czi.scenes]
    unknown = [name for name in wanted if name not in matched]
    if unknown:
        raise UsageError(
            f"--scene {unknown[0]} is not a scene of both the file and the design",
            where=path,
            mend=f"scenes in both: {', '.join(matched) or 'none'}",
        )
    chosen = {name: held for name, held in matched.items() if not wanted or name in wanted}
    left_out = tuple(name for name in every if name not in matched.values())
    if not chosen:
        raise DesignError(
            f"the design {design.name!r} names none of the file's scenes ({', '.join(every)})",
            where=path,
            mend=f"list them in the design; a start: hyped imaging design {path.name} > design.yaml",
        )
    absent = tuple(scene.name for scene in design.scenes if scene.name not in matched)
    return Found("czi", (path,), chosen, left_out, absent)


def match_scenes(czi: CziFile, design: Design) -> dict[str, str]:
    """Name in the design -> name in the file, in the order of the design: by name, or all by ``S<index>``."""
    by_name = {scene.name: scene.name for scene in czi.scenes}
    by_index = {f"S{scene.index}": scene.name for scene in czi.scenes}
    for held in (by_name, by_index):
        matched = {scene.name: held[scene.name] for scene in design.scenes if scene.name in held}
        if matched:
            return matched
    return {}
