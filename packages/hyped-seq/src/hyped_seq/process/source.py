"""What there is to process: pools, their hashing libraries, and which files of them count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyped_core.errors import MissingFileError, UsageError
from hyped_core.io.hashing import files_below
from hyped_core.process.journal import file_stamps
from hyped_seq.hashtags.files import fastq_files
from hyped_seq.ingest.params import IngestParams
from hyped_seq.ingest.pool import parse_hashtag_arguments, parse_pool_argument
from hyped_seq.readers.mex import is_mex
from hyped_seq.readers.wf_single_cell import GENES, TRANSCRIPTS, is_wf_folder

_TABLES = (".csv", ".tsv", ".txt")
_MEX = ("matrix.mtx", "barcodes.tsv", "features.tsv", "genes.tsv")
_WF_FILES = ("whitelist.tsv", "gene_expression_mito_per_cell.tsv", "read_summary.tsv")


@dataclass(frozen=True, slots=True)
class Source:
    """Pools by name, and the hashing library of each that has one.

    Attributes
    ----------
    pools : name -> folder or file, in the order given.
    hashtags : name -> count table, MEX folder or FASTQ; the pool itself where it holds hashtags alone.
    given : names of pools whose library the user named.
    """

    pools: dict[str, Path]
    hashtags: dict[str, Path]
    given: tuple[str, ...] = ()

    def identity(self) -> dict[str, Any]:
        """Name, size and time of change of every file that is read, by pool."""
        return {
            name: [file_stamps(pool_files(path)), file_stamps(library_files(self.hashtags.get(name)))]
            for name, path in self.pools.items()
        }

    def n_bytes(self) -> int:
        """Size of all files that are read."""
        files = {file for path in self.pools.values() for file in pool_files(path)}
        files |= {file for path in self.hashtags.values() for file in library_files(path)}
        return sum(file.stat().st_size for file in files)


def find_source(pools: Sequence[str | Path], hashtags: Sequence[str], params: IngestParams) -> Source:
    """Pools (``PATH`` or ``NAME=PATH``) and libraries (``POOL=PATH``, or ``PATH`` of the only pool).

    A pool without a library of its own here has that inside its folder, where there is one: ``params.counts_file``
    or ``params.reads_file`` in ``params.hashtag_folder``, the kind of ``params.hashtags`` first, none for ``none``.

    Raises
    ------
    UsageError, MissingFileError
        A pool is given twice or is not there, or a library is of no pool or of an unknown one, or not there.
    """
    named: dict[str, Path] = {}
    for argument in pools:
        name, path = parse_pool_argument(argument)
        if name in named:
            raise UsageError(f"pool {name!r} is given twice", where=path, mend="name them: NAME=PATH")
        if not path.exists():
            raise MissingFileError("no such pool", where=path, mend="check the path")
        named[name] = path
    libraries = parse_hashtag_arguments(hashtags, list(named))
    for path in libraries.values():
        if not path.exists():
            raise MissingFileError("no such hashing library", where=path, mend="check the path")
    given = tuple(libraries)
    for name, path in named.items():
        found = None if name in libraries else _inside(path, params)
        if found is not None:
            libraries[name] = found
    return Source(named, {name: libraries[name] for name in named if name in libraries}, given)


def is_hashtag_table(path: Path) -> bool:
    """Whether a pool is a table of hashtag counts and nothing else."""
    return path.is_file() and any(suffix in _TABLES for suffix in path.suffixes)


def _inside(path: Path, params: IngestParams) -> Path | None:
    """The library that a pool brings along."""
    if is_hashtag_table(path):
        return path
    if params.hashtags == "none":
        return None
    folder = (path if path.is_dir() else path.parent) / params.hashtag_folder
    names = [params.counts_file, params.reads_file]
    if params.hashtags == "reads":
        names.reverse()
    return next((folder / name for name in names if (folder / name).exists()), None)


def pool_files(path: Path) -> list[Path]:
    """The files of a pool that are read, leaving its library out."""
    if path.is_file():
        return [path]
    if is_mex(path):
        return sorted(file for file in path.iterdir() if file.name.removesuffix(".gz") in _MEX)
    if not is_wf_folder(path):
        return []
    found = [file for kind in (GENES, TRANSCRIPTS) for folder in sorted(path.glob(f"*.{kind}"))
             for file in files_below(folder)]  # fmt: skip
    return found + [file for name in _WF_FILES for file in sorted(path.glob(f"*.{name}"))]


def library_files(path: Path | None) -> list[Path]:
    """The files of a hashing library."""
    if path is None:
        return []
    return pool_files(path) if is_mex(path) else fastq_files(path)
