"""Values of a release's matrices, read once in blocks of rows: counts, X against them, transcripts against genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_core.container.cells_matrix import StoredMatrix, row_blocks
from hyped_core.container.cells_schema import ISOFORM_COUNTS
from hyped_core.errors import Problem

if TYPE_CHECKING:
    import pandas as pd

    from hyped_core.container.cells_file import CellsFile

X, COUNTS, ISOFORMS = "X", "layers/counts", f"obsm/{ISOFORM_COUNTS}"
RAW = "put the raw counts there, not normalised ones"
_NORMALISE = "normalise the counts again"
_SAMPLE_ROWS = 256
_TOLERANCE = 1e-4
"""Of X against ln(1 + CP10k): float32 holds seven digits."""


class ReleaseValues:
    """What reading ``X``, ``layers/counts`` and ``obsm/isoform_counts`` once shows.

    Parameters
    ----------
    cells
        The opened release.
    matrices
        Those of the three places that are there and whole.
    isoforms
        ``uns["isoform"]``; its ``gene_id`` says whose transcript a column of the isoforms is.
    """

    def __init__(self, cells: CellsFile, matrices: dict[str, StoredMatrix], isoforms: pd.DataFrame | None) -> None:
        self._cells, self._matrices = cells, dict(matrices)
        log1p = cells.uns.get("log1p")
        self._target = float(log1p.get("target_sum", 1e4)) if isinstance(log1p, dict) else 1e4
        n = len(cells.obs)
        rows = np.linspace(0, max(n - 1, 0), min(_SAMPLE_ROWS, n)).round()
        self._sample: npt.NDArray[np.int64] = np.unique(rows.astype(np.int64))
        self._to_gene = _genes_of(cells.var, isoforms) if {COUNTS, ISOFORMS} <= set(matrices) else None
        self._found: dict[tuple[str, str], Problem] = {}
        self._off = self._excess = self._excess_cells = 0
        self._first_off = self._first_excess = ""

    def read(self) -> None:
        """Read every row once."""
        for start, stop in row_blocks(list(self._matrices.values())):
            block = {}
            for place, matrix in list(self._matrices.items()):
                try:
                    block[place] = matrix.rows(start, stop)
                except (OSError, ValueError) as error:
                    self._say(place, f"cannot be read in rows {start} to {stop - 1}: {error}", "write the file again")
                    del self._matrices[place]  # what follows it may be damaged as well
            for place, rows in block.items():
                self._check(place, rows.data, start, stop)
            if X in block and COUNTS in block:
                self._compare(block[X], block[COUNTS], start, stop)
            if ISOFORMS in block and COUNTS in block and self._to_gene is not None:
                self._sum_up(block[ISOFORMS] @ self._to_gene - block[COUNTS], start)

    def problems(self) -> list[Problem]:
        """What is wrong."""
        found = list(self._found.values())
        if self._off and not {X, COUNTS} & {problem.where for problem in found}:
            said = f"is not ln(1 + counts per {self._target:g}) of layers/counts in {self._off} of {len(self._sample)}"
            mend = f"{_NORMALISE}, or say the sum in uns/log1p/target_sum"
            found.append(Problem(X, f"{said} cells looked at (first: {self._first_off})", mend))
        return found

    def warnings(self) -> list[Problem]:
        """What is odd."""
        if not self._excess:
            return []
        said = f"a gene's transcripts sum to more than the gene {self._excess} times in {self._excess_cells} cells"
        mend = "usage of isoforms is relative to the sum over transcripts, not to the gene's counts"
        return [Problem(ISOFORMS, f"{said} (first: {self._first_excess})", mend)]

    def _say(self, place: str, what: str, mend: str, more: str = "") -> None:
        self._found.setdefault((place, what), Problem(place, what + more, mend))

    def _check(self, place: str, values: Any, start: int, stop: int) -> None:
        """Values that are not finite or negative; counts that are no whole numbers. Each is told once."""
        if not values.size:
            return
        mend, more = _NORMALISE if place == X else RAW, f" (first in rows {start} to {stop - 1})"
        real = values.dtype.kind == "f"
        if real and not np.isfinite(values).all():
            self._say(place, "holds NaN or infinite values", mend, more)
            values = values[np.isfinite(values)]
        if values.size and values.dtype.kind in "if" and values.min() < 0:
            self._say(place, "holds negative values", mend, more)
        if real and place != X and (values != np.rint(values)).any():
            self._say(place, "holds counts that are not whole numbers", mend, more)

    def _compare(self, x: Any, counts: Any, start: int, stop: int) -> None:
        """X against ln(1 + counts / total * target) in the sampled rows of the block."""
        rows = self._sample[(self._sample >= start) & (self._sample < stop)]
        found, raw = (matrix[rows - start].toarray().astype(float) for matrix in (x, counts))
        expected = np.log1p(np.maximum(raw / np.maximum(raw.sum(axis=1, keepdims=True), 1) * self._target, 0))
        off = ~(np.abs(found - expected) <= _TOLERANCE * (1 + expected))
        self._off += int(off.any(axis=1).sum())
        if off.any() and not self._first_off:
            i, gene = np.argwhere(off)[0]
            cell = self._cells.obs.index[rows[i]]
            self._first_off = (
                f"{self._cells.var.index[gene]!r} of {cell!r} is {found[i, gene]:.4g}, "
                f"its counts give {expected[i, gene]:.4g}"
            )

    def _sum_up(self, more: Any, start: int) -> None:
        """Count where transcripts are ``more`` (cells, genes) than their gene."""
        over = np.flatnonzero(more.data > 0)
        if not over.size:
            return
        rows = np.searchsorted(more.indptr, over, side="right") - 1
        self._excess += len(over)
        self._excess_cells += len(np.unique(rows))
        if not self._first_excess:
            gene, cell = self._cells.var.index[more.indices[over[0]]], self._cells.obs.index[start + rows[0]]
            self._first_excess = f"{gene!r} of {cell!r} by {int(more.data[over[0]])}"


def _genes_of(var: pd.DataFrame, isoforms: pd.DataFrame | None) -> Any:
    """(transcripts, genes) matrix with a one where a transcript is the gene's; None where ids are not known."""
    import scipy.sparse as sp

    if isoforms is None or "gene_id" not in var or "gene_id" not in isoforms:
        return None
    ids = var["gene_id"].astype(str).reset_index(drop=True)
    ids = ids[(ids != "") & ~ids.duplicated(keep=False)]
    gene = isoforms["gene_id"].astype(str).map({name: i for i, name in ids.items()}).to_numpy(float)
    known = np.flatnonzero(~np.isnan(gene))
    places = (known, gene[known].astype(np.int64))
    return sp.csr_matrix((np.ones(len(known), np.int64), places), shape=(len(gene), len(var)))
