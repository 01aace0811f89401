"""The manifest of a container: its schema, its parts with their hashes, and how to read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from pydantic import ValidationError as PydanticError

from hyped_core.design import Design
from hyped_core.design.model import parse_design
from hyped_core.errors import CorruptFileError, MissingFileError, UnsupportedDataError
from hyped_core.io.atomic import write_json
from hyped_core.io.hashing import digest
from hyped_core.params import Params, problems_of

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
SPATIAL = "spatial.zarr"
SUFFIX = ".zarr"
TABLES = ("rna", "isoform", "hto", "nuclei", "tracks")
CELL_TABLES = ("rna", "isoform", "hto")
REMAKE = "write it again with `hyped data assemble`, or fetch it again (`dvc checkout`, `hyped data fetch`)"

Kind = Literal["movie", "labels", "spatialdata"]


class Part(Params):
    """One part of a container."""

    path: str
    """Relative to the container, with forward slashes."""
    kind: Kind
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    n_bytes: int = Field(ge=0)
    n_files: int = Field(ge=0)

    @property
    def scene(self) -> str:
        """The scene of a movie or of labels."""
        return Path(self.path).stem


class TableInfo(Params):
    """Size of a table, so that a summary reads no table."""

    n_obs: int
    n_vars: int
    layers: tuple[str, ...] = ()


class Manifest(Params):
    """What ``manifest.json`` holds. It is written last: a container without one was never finished."""

    schema_version: int = SCHEMA_VERSION
    format: Literal["hyped"] = "hyped"
    name: str
    design: Design
    provenance: dict[str, Any] = {}
    parts: tuple[Part, ...] = ()
    tables: dict[str, TableInfo] = {}
    key_frames: dict[str, tuple[int, ...]] = {}
    """Scene -> frames kept as images and labels in ``spatial.zarr``."""

    def of_kind(self, kind: Kind) -> dict[str, Part]:
        """Scene -> part, for movies or labels, sorted by scene."""
        return {part.scene: part for part in sorted(self.parts, key=lambda p: p.path) if part.kind == kind}

    @property
    def has_spatial(self) -> bool:
        """True where there is a SpatialData store."""
        return any(part.kind == "spatialdata" for part in self.parts)


def make_part(root: Path, relative: str, kind: Kind) -> Part:
    """Hash the file or folder ``root/relative``."""
    found = digest(root / relative)
    return Part(path=relative, kind=kind, sha256=found.sha256, n_bytes=found.n_bytes, n_files=found.n_files)


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` atomically: from now on the container counts as finished."""
    write_json(root / MANIFEST, manifest.model_dump(mode="json"))


def read_manifest(root: str | Path) -> Manifest:
    """Read a container's manifest.

    Raises
    ------
    MissingFileError
        There is no such folder.
    CorruptFileError
        It is no container, was never finished, or its manifest is damaged.
    UnsupportedDataError
        A newer HYPED wrote it.
    ValidationError
        The design in it contradicts itself.
    """
    root = Path(root)
    file = root / MANIFEST
    if not root.exists():
        raise MissingFileError(
            "there is no such container",
            where=root,
            mend="check the path, or assemble it with `hyped data assemble`",
        )
    if not file.is_file():
        if root.is_dir() and any((root / part).exists() for part in ("movies", "labels", SPATIAL)):
            raise CorruptFileError(
                "the container was never finished: its parts are there, manifest.json is not",
                where=root,
                mend=f"finish it with `hyped data assemble {root.name}` (see --help for its inputs)",
            )
        raise CorruptFileError(
            "is not a HYPED container (no manifest.json in it)",
            where=root,
            mend="give the <name>.hyped folder",
        )
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CorruptFileError(f"is damaged: {error}", where=file, mend=REMAKE) from error
    if not isinstance(values, dict) or values.get("format") != "hyped":
        raise CorruptFileError("is not the manifest of a HYPED container", where=file, mend=REMAKE)
    version = values.get("schema_version")
    if not isinstance(version, int) or version < 1:
        raise CorruptFileError(f"has no valid schema_version: {version!r}", where=file, mend=REMAKE)
    if version > SCHEMA_VERSION:
        raise UnsupportedDataError(
            f"has schema version {version}, this HYPED knows up to {SCHEMA_VERSION}",
            where=file,
            mend="pip install --upgrade 'hyped-core[container]'",
        )
    design = parse_design(values.get("design"), where=f"{file}/design")
    try:
        return Manifest.model_validate({**values, "design": design})
    except PydanticError as error:
        listing = "; ".join(str(problem) for problem in problems_of(error, Manifest))
        raise CorruptFileError(f"is damaged: {listing}", where=file, mend=REMAKE) from error
