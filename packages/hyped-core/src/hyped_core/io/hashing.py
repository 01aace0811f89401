"""Content hashes of files and folders: sha256, independent of times, owners and the order of a listing."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hyped_core.errors import MissingFileError

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Digest:
    """Hash of a file or a folder.

    Attributes
    ----------
    sha256 : hex digest. Of a folder: over the sorted lines ``<sha256 of file>  <relative path>``.
    n_bytes, n_files : what was hashed.
    """

    sha256: str
    n_bytes: int
    n_files: int


def sha256_file(path: str | Path) -> str:
    """Hex sha256 of a file's bytes."""
    path = Path(path)
    if not path.is_file():
        raise MissingFileError("there is no such file to hash", where=path)
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def files_below(folder: str | Path) -> list[Path]:
    """Every file below a folder, sorted by its relative path in POSIX form: the order of hashing."""
    root = Path(folder)
    found = [Path(top, name) for top, _, names in os.walk(root, followlinks=True) for name in names]
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def digest(path: str | Path, *, threads: int = 2) -> Digest:
    """Hash of a file or of a whole folder.

    Raises
    ------
    MissingFileError
        There is nothing at ``path``.
    """
    path = Path(path)
    if path.is_file():
        return Digest(sha256_file(path), path.stat().st_size, 1)
    if not path.is_dir():
        raise MissingFileError("there is no such file or folder to hash", where=path)
    files = files_below(path)
    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        hashes = list(pool.map(sha256_file, files))
    lines = [f"{h}  {f.relative_to(path).as_posix()}\n" for h, f in zip(hashes, files, strict=True)]
    whole = hashlib.sha256("".join(lines).encode()).hexdigest()
    return Digest(whole, sum(f.stat().st_size for f in files), len(files))
