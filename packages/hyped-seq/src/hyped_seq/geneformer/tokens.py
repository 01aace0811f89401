"""Ragged arrays of tokens: one row of integers a cell, all rows in one flat array."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class TokenSets:
    """Token sequences of cells.

    Attributes
    ----------
    tokens : (sum of lengths,) int32 (or a memory map of it), sequences one after another, special tokens included.
    offsets : (sequences + 1,) int64; sequence i is ``tokens[offsets[i]:offsets[i + 1]]``.
    rows : (sequences,) int64, ascending; row of the input each one came from (cells without known genes have none).
    n_cells : cells in the input.
    n_genes : (sequences,) int32, known expressed genes of the cell before the sequence was cut.
    """

    tokens: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    n_cells: int
    n_genes: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> npt.NDArray[np.int32]:
        if not -len(self) <= i < len(self):
            raise IndexError(f"sequence {i} of {len(self)}")
        i %= len(self)
        return self.tokens[self.offsets[i] : self.offsets[i + 1]]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(sequences,) tokens of each sequence."""
        return np.diff(self.offsets)

    @property
    def n_dropped(self) -> int:
        """Cells of the input that have no sequence, since no gene of the dictionary is expressed in them."""
        return self.n_cells - len(self)
