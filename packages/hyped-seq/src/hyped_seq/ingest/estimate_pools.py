"""What ingesting pools will take, from the sizes and the headers of their files; no matrix is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hyped_core.errors import CorruptFileError, MissingFileError
from hyped_seq.ingest.estimate import h5ad_shape
from hyped_seq.ingest.params import IngestParams
from hyped_seq.ingest.pool_hashtags import is_fastq
from hyped_seq.readers.matrix_market import read_header
from hyped_seq.readers.wf_single_cell import GENES, TRANSCRIPTS, is_wf_folder, open_wf_folder

_START_S, _COUNTS_PER_S = 3.0, 5e6
"""Seconds that ingest takes in any case, and counts read, joined and written a second on two busy cores."""
_BYTES_PER_COUNT, _MEMORY_PER_COUNT, _MEMORY_MB = 2.0, 14.0, 400.0
"""Bytes of h5ad and of memory for a stored count (8 are its place and value), and what the libraries take."""
_SUMMARY_PER_S, _READS_PER_S, _TABLE_PER_S = 6e7, 2.5e6, 1e7
"""Bytes a second of a read summary, of gzipped hashtag reads, and of a count table."""


def estimate_pools(
    pools: Mapping[str, Path], params: IngestParams, hashtags: Mapping[str, Path] | None = None
) -> dict[str, float]:
    """``input_mb``, ``counts``, ``disk_mb``, ``memory_mb`` and ``seconds`` for ingesting these pools.

    The number of counts is what the matrices' headers say; ``hashtags`` are libraries beside the pools.

    Raises
    ------
    MissingFileError, CorruptFileError
        A pool or a library does not exist, or a matrix has no header.
    """
    counts, size, seconds = 0, 0, _START_S
    for name, path in pools.items():
        if not path.exists():
            raise MissingFileError("no such pool", where=path, mend="check the path")
        library = (hashtags or {}).get(name)
        if library is None and params.hashtags != "none":
            inside = (path if path.is_dir() else path.parent) / params.hashtag_folder
            found = inside / (params.counts_file if params.hashtags == "counts" else params.reads_file)
            library = found if found.exists() else None
        elif library is not None and not library.exists():
            raise MissingFileError(f"no such hashtags of pool {name!r}", where=library, mend="check the path")
        for file in [*_files_of(path), *(_files_of(library) if library is not None else ())]:
            bytes_ = file.stat().st_size
            size += bytes_
            plain = file.name.removesuffix(".gz")
            if plain.endswith(".mtx"):
                counts += read_header(file).entries
            elif plain.endswith((".h5ad", ".h5", ".hdf5")):
                counts += _h5_counts(file)
            elif plain.endswith("read_summary.tsv"):
                seconds += bytes_ / _SUMMARY_PER_S
            elif is_fastq(file):
                seconds += bytes_ / _READS_PER_S / (1 if file.suffix == ".gz" else 4)
            else:
                seconds += bytes_ / _TABLE_PER_S
    return {
        "input_mb": round(size / 1e6, 3),
        "counts": counts,
        "disk_mb": round(max(counts * _BYTES_PER_COUNT, 1e4) / 1e6, 3),
        "memory_mb": round(_MEMORY_MB + counts * _MEMORY_PER_COUNT / 1e6),
        "seconds": round(seconds + counts / _COUNTS_PER_S),
    }


def _files_of(path: Path) -> list[Path]:
    """The files of a pool or library that ingest reads."""
    if path.is_file():
        return [path]
    if not is_wf_folder(path):
        return sorted(file for file in path.iterdir() if file.is_file())
    wf = open_wf_folder(path)
    folders = [wf.path(GENES), wf.path(TRANSCRIPTS)]
    names = ("whitelist.tsv", "gene_expression_mito_per_cell.tsv", "read_summary.tsv")
    files = [wf.path(name) for name in names if wf.path(name).is_file()]
    return files + [file for folder in folders if folder.is_dir() for file in sorted(folder.iterdir())]


def _h5_counts(path: Path) -> int:
    """Stored counts of a 10x h5 (all its matrices) or an h5ad."""
    import h5py

    if path.suffix == ".h5ad":
        return h5ad_shape(path).stored
    try:
        with h5py.File(path, "r") as file:
            groups = [group for group in file.values() if isinstance(group, h5py.Group) and "data" in group]
            return sum(int(group["data"].size) for group in groups)
    except OSError as error:
        raise CorruptFileError(
            f"is not a readable h5 file: {error}", where=path, mend="copy the file again"
        ) from error
