"""Which paths hold reads."""

from __future__ import annotations

import re
from pathlib import Path

ILLUMINA_MEND = (
    "give nanopore reads, or count Illumina pairs with CITE-seq-Count, kallisto or Cell Ranger and give the table"
)
"""What to do with reads that `is_illumina_pair` recognises."""

_SUFFIXES = (".fastq", ".fq")
_ILLUMINA_NAME = re.compile(r"_S\d+(_L\d{3})?_[RI][12]_\d{3}\.(fastq|fq)(\.gz)?", re.IGNORECASE)
_MATE = re.compile(r"(?<=[_.])R?([12])(?=(_\d{3})?\.(fastq|fq)(\.gz)?$)", re.IGNORECASE)
_READS_SEEN, _BYTES_SEEN = 200, 1 << 16
_SHORTEST = 60
"""Bases; a nanopore read of a hashtag has adapter, cell barcode, UMI, capture site and tag, together above 80."""


def is_fastq(path: str | Path) -> bool:
    """True for ``.fastq`` and ``.fq``, plain or gzipped, and for folders that hold some (and no count matrix)."""
    path = Path(path)
    if path.is_dir():
        return bool(fastq_files(path)) and not any(path.glob("matrix.mtx*"))
    return _has_suffix(path)


def fastq_files(path: Path) -> list[Path]:
    """The FASTQ files inside a folder, by name; of a file, the file."""
    if path.is_dir():
        return sorted(item for item in path.iterdir() if item.is_file() and _has_suffix(item))
    return [path]


def is_illumina_pair(path: str | Path) -> bool:
    """True for a FASTQ file, or a folder of them, of Illumina: cell barcode and UMI in one read, the tag in its mate.

    Seen from names as bcl2fastq gives them (``x_S1_L001_R1_001.fastq.gz``), from two files called ``R1`` and ``R2``
    whose reads all have one length, or from reads that are too short to hold all parts of a hashtag.

    Raises
    ------
    CorruptFileError
        The first reads are not FASTQ.
    """
    path = Path(path)
    files = fastq_files(path)
    if not is_fastq(path) or not all(file.is_file() for file in files):
        return False
    if any(_ILLUMINA_NAME.search(file.name) for file in files):
        return True
    lengths = _first_lengths(files[0])
    if not lengths:
        return False
    short = sorted(lengths)[len(lengths) // 2] < _SHORTEST
    return short or (len(lengths) > 1 and len(set(lengths)) == 1 and any(map(_has_mate, files)))


def _has_mate(file: Path) -> bool:
    """Whether the other read's file lies beside ``file``."""
    found = _MATE.search(file.name)
    if found is None:
        return False
    other = "2" if found[1] == "1" else "1"
    return file.with_name(file.name[: found.start(1)] + other + file.name[found.end(1) :]).is_file()


def _first_lengths(file: Path) -> list[int]:
    """Bases of the first reads."""
    from hyped_seq.hashtags.fastq import read_blocks

    block = next(read_blocks(file, _BYTES_SEEN), None)
    if block is None:
        return []
    offsets = block.offsets[: _READS_SEEN + 1].tolist()
    return [end - start for start, end in zip(offsets, offsets[1:], strict=False)]


def _has_suffix(path: Path) -> bool:
    return Path(path.name.lower().removesuffix(".gz")).suffix in _SUFFIXES
