"""What processing will take: disk, memory and time, from what is to be read. Nothing is written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyped_core.design.model import CONTROL
from hyped_seq.hashtags.files import is_fastq
from hyped_seq.process.check import check_design, unhashed
from hyped_seq.process.source import is_hashtag_table, library_files, pool_files
from hyped_seq.readers.matrix import find_file, read_lines
from hyped_seq.readers.wf_single_cell import TRANSCRIPTS

if TYPE_CHECKING:
    from hyped_seq.process.run import Job

_WRITTEN_PER_READ = 3.0
"""Bytes of h5ad written (ingest, cells and result) for a byte of matrices, which are gzipped text."""
_ROW_BYTES = 340
"""Of a gene in one contrast within one phase, in the tables of expression and isoforms together."""
_GENES = 36_000
"""Where the number of genes is not to be had cheaply."""
_MATRIX_BYTES_S = 2e6
"""Bytes of matrices taken through all steps a second, embeddings and tests included; one core, the careful side."""
_READ_BYTES_S = 3e6
"""Bytes of gzipped hashtag reads a second."""
_START_S = 15.0
_BASE_MIB = 600
_MEMORY_PER_READ = 10.0
"""Bytes of memory at the peak for a byte of gzipped matrices."""


def estimate(job: Job) -> dict[str, Any]:
    """Input and disk (MiB), memory (MiB) and seconds, roughly; also what is free where the result goes.

    Raises
    ------
    ValidationError
        The design does not fit pools and tags.
    """
    look = check_design(job.source, job.design, job.params.ingest, job.design_file)
    reads = _size([file for path in job.source.hashtags.values() if is_fastq(path) for file in library_files(path)])
    matrices = job.source.n_bytes() - reads
    summaries = _size([file for path in job.source.pools.values() for file in pool_files(path)
                       if file.name.endswith("read_summary.tsv")])  # fmt: skip
    counts = matrices - summaries
    return {
        "out": str(job.layout.out),
        "pools": {name: str(path) for name, path in job.source.pools.items()},
        "hashtags": _hashtags(job),
        "input_mib": _mib(matrices + reads),
        "disk_mib": _mib(counts * _WRITTEN_PER_READ + _table_bytes(job)),
        "free_mib": _mib(_free(job.layout.out)),
        "memory_mib": round(_BASE_MIB + counts * _MEMORY_PER_READ / 2**20, 1),
        "seconds": round(_START_S + counts / _MATRIX_BYTES_S + (reads + summaries / 20) / _READ_BYTES_S, 1),
        "look": look,
    }


def _hashtags(job: Job) -> dict[str, str]:
    """Where the hashtags of each pool are: its library, else the pool's own matrix."""
    hashed = {tag.pool for tag in job.design.hashtags}
    return {name: str(job.source.hashtags.get(name, path)) for name, path in job.source.pools.items() if name in hashed}


def _table_bytes(job: Job) -> int:
    """Size of the tables of contrasts."""
    if all(map(is_hashtag_table, job.source.pools.values())):
        return 0
    changes = job.params.annotate.changes
    here = {tag.condition for tag in job.design.hashtags if tag.pool in job.source.pools}
    here |= set(unhashed(job.design, job.source.pools).values())
    n = len(here - {CONTROL})
    pairs = n * (n - 1) // 2 if changes.pairwise else 0
    contrasts = (n if CONTROL in here else 0) + (n + pairs if n > 1 else 0)
    files = [file for path in job.source.pools.values() for file in pool_files(path)]
    folders = [file.parent for file in files if file.name.startswith("matrix.mtx") and TRANSCRIPTS not in str(file)]
    tables = [find_file(folder, "features.tsv", "genes.tsv") for folder in folders]
    genes = max((len(read_lines(table)) for table in tables), default=_GENES)
    return genes * contrasts * (1 + len(changes.strata)) * _ROW_BYTES


def _size(files: list[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def _mib(n_bytes: float) -> float:
    return round(n_bytes / 2**20, 1)


def _free(path: Path) -> int:
    """Bytes free where ``path`` will be."""
    there = next(parent for parent in path.absolute().parents if parent.exists())
    return shutil.disk_usage(there).free
