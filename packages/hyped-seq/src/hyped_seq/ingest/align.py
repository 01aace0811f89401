"""Lining the rows of one matrix up with the cells of another."""

from __future__ import annotations

import numpy as np

from hyped_seq.readers.matrix import CountMatrix
from hyped_seq.readers.rows import take_rows


def align_cells(matrix: CountMatrix, barcodes: list[str]) -> tuple[CountMatrix, int, int]:
    """Rows in the order of ``barcodes``, zeros for cells it lacks; how many it lacks and has too many."""
    if matrix.barcodes == barcodes:
        return matrix, 0, 0
    position = {barcode: row for row, barcode in enumerate(matrix.barcodes)}
    rows = np.array([position.get(barcode, -1) for barcode in barcodes], dtype=np.int64)
    present = int((rows >= 0).sum())
    aligned = CountMatrix(take_rows(matrix.counts, rows), barcodes, matrix.features)
    return aligned, len(barcodes) - present, len(position) - present
