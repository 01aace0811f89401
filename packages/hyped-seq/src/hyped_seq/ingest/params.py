"""Parameters of `hyped seq ingest` and `hyped seq import-cells`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hyped_core.params import Params
from hyped_seq.hashtags.params import ReadParams


class IngestParams(Params):
    """How pools are read."""

    hashtags: Literal["counts", "reads", "none"] = "counts"
    """Where hashtag counts come from: ``hashtags/counts.csv``, ``hashtags/reads.fastq.gz``, or nowhere."""
    hashtag_folder: str = "hashtags"
    """Folder of the hashing library inside each pool's folder."""
    counts_file: str = "counts.csv"
    """Count table inside `hashtag_folder`; tags in rows or in columns."""
    reads_file: str = "reads.fastq.gz"
    """Reads inside `hashtag_folder`."""
    unlisted_tags: Literal["error", "drop", "keep"] = "error"
    """What a tag in the matrix gets that the design does not name for its pool."""
    absent_tags: Literal["error", "zero"] = "error"
    """What a tag in the design gets that the matrix does not have, or has no count of."""
    min_cell_overlap: float = Field(0.5, ge=0, le=1)
    """Least share of the pool's cells that hashtags, transcripts, whitelist and figures have to know, else they are of
    another run."""
    empty_droplets: Literal["auto", "keep", "error"] = "auto"
    """What a matrix gets that was never filtered, so that most barcodes have the molecules of empty droplets: ``auto``
    leaves them out and counts them (and refuses the matrix where no clear step parts them from cells), ``keep`` takes
    every barcode for a cell, ``error`` refuses it."""
    duplicate_symbols: Literal["sum", "keep"] = "sum"
    """What features that share a symbol (after renaming) become: one gene, their counts summed; or genes of their own
    under unique names (``TBCE``, ``TBCE-1``)."""
    genome: str | None = None
    """Which matrix of a 10x h5 of Cell Ranger 2 to take, where it holds those of several genomes."""
    reads: ReadParams = ReadParams()
    """How the reads of a hashing library are taken apart."""


class ImportCellsParams(Params):
    """Which columns of a finished h5ad hold what."""

    perturbation_column: str | None = None
    """``obs`` column with the perturbation; None: the first of ``assigned_condition``, ``perturbation``,
    ``condition`` that is there."""
    condition_column: str | None = None
    """``obs`` column with the condition; None: the perturbation's."""
    phase_column: str | None = None
    """``obs`` column with the phase; None: ``assigned_phase`` or ``phase`` where there is one."""
    pool_column: str | None = None
    """``obs`` column with the capture; None: ``pool`` or ``batch``, else every cell is of ``pool_name``."""
    pool_name: str | None = None
    """Pool where no column says it (None: ``all``; for hashtags alone the design's only pool)."""
    control_names: tuple[str, ...] = ("control", "ctrl", "non-targeting", "NT", "unperturbed")
    """Values that mean unperturbed."""
    separators: tuple[str, ...] = ("+", "_", ",")
    """What parts two genes in a name; ``_`` and ``,`` only where every part is a gene known by itself."""
    genes: tuple[str, ...] = ()
    """Genes that are perturbed but neither measured nor perturbed alone: where ``A_B`` would not be parted else."""
    number_column: str | None = None
    """``obs`` column with the number of perturbed genes, to be held against the names; None: ``nperts`` where there is
    one."""
    without_perturbation: Literal["refuse", "leave_out"] = "refuse"
    """Cells whose perturbation is missing (NaN, ``nan``, ``None``): never taken as control."""
    direction: Literal["activation", "suppression"] | None = None
    """What the perturbation does to its genes, where `direction_column` does not say it; None: what
    ``perturbation_type`` says where there is one, else activation."""
    direction_column: str | None = None
    """``obs`` column with CRISPRa / CRISPRi, activation / suppression."""
    agent: str = ""
    """What was given (``CRISPRa``), where `direction_column` does not say it."""
    filter: dict[str, str | list[str]] = {}
    """``obs`` column -> value or values to keep."""
    counts_layer: str | None = None
    """Layer with raw counts; None: ``counts``, else ``raw.X``, else ``X`` where it holds counts."""
    target_sum: float = Field(1e4, gt=0)
    """Counts per cell after normalisation."""
    min_cells: int = Field(1, ge=1)
    """Perturbations with fewer cells are left out and listed."""
