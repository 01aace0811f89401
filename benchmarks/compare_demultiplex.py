"""Demultiplexers side by side on captures with genetic truth, and on what can go wrong with such captures.

    HYPED_PUBLIC_DATA=... python benchmarks/compare_demultiplex.py [MODEL ...]

Each capture is also thinned, cut to fewer tags or cells, given a dim or a loud tag, fewer or more doublets, and so on.
Every row is a capture changed in one way; figures are accuracy (`hyped bench run --task demultiplex` gives the rest).
`hashed` runs with what ships. Takes a few minutes.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from calibrate_demultiplex import Capture, read_captures

from hyped_core.context import RunContext
from hyped_core.plugins.registry import get_model
from hyped_seq.demultiplex.calls import DOUBLET, NEGATIVE
from hyped_seq.demultiplex.levels import background_offsets

MODELS = ("hashed", "hashsolo", "gmm", "quantile", "top_tag")


@dataclass
class Cells:
    """Counts (cells, tags), names of the tags and the true calls."""

    counts: np.ndarray
    tags: np.ndarray
    truth: np.ndarray

    def only(self, cells: np.ndarray) -> Cells:
        """Some of the cells."""
        return Cells(self.counts[cells], self.tags, self.truth[cells])

    def above(self) -> np.ndarray:
        """ln(1 + count) above background."""
        logs = np.log1p(self.counts)
        return logs - background_offsets(logs)

    def involve(self, tags: np.ndarray) -> np.ndarray:
        """(cells,) singlets of ``tags``, negatives, and doublets whose highest two tags are among them."""
        inside = np.isin(self.tags, tags)
        two = np.argsort(-self.above(), axis=1)[:, :2]
        doublet = self.truth == DOUBLET
        return np.isin(self.truth, tags) | (self.truth == NEGATIVE) | (doublet & inside[two].all(axis=1))

    def kept(self, tags: np.ndarray, columns: bool = True) -> Cells:
        """As if only ``tags`` had been used: cells of others left out, and their columns unless told otherwise."""
        part = self.only(self.involve(tags))
        inside = np.isin(self.tags, tags)
        return Cells(part.counts[:, inside], self.tags[inside], part.truth) if columns else part


def thinned(counts: np.ndarray, share: float | np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each molecule kept with this chance."""
    return rng.binomial(counts.astype(np.int64), share).astype(float)


def changed(cells: Cells) -> Iterator[tuple[str, Cells]]:
    """The capture as it is and changed in one way at a time."""
    rng = np.random.default_rng(0)
    n, k = cells.counts.shape
    yield "as it is", cells
    for number in (2, 3, 4, 6):
        if number < k:
            yield f"{number} tags of {k}", cells.kept(cells.tags[:number])
            if k > 3:
                yield f"{number} tags of {k}, the last ones", cells.kept(cells.tags[-number:])
    for number in (500, 2000):
        yield f"{number} cells", cells.only(rng.permutation(n)[:number])
    for share in (0.3, 0.1):
        yield f"depth x{share}", Cells(thinned(cells.counts, share, rng), cells.tags, cells.truth)
    for tag in (0, k - 1):
        share = np.where(np.arange(k) == tag, 0.3, 1.0)
        name = cells.tags[tag]
        yield f"tag {name} dim (x0.3)", Cells(thinned(cells.counts, share, rng), cells.tags, cells.truth)
        yield f"tag {name} carried by nobody", cells.kept(cells.tags[cells.tags != name], columns=False)
        loud = cells.counts.copy()
        loud[:, tag] += rng.poisson(3 * np.median(loud[:, tag]), n)
        yield f"tag {name} with 4x background", Cells(loud, cells.tags, cells.truth)
    rare = rng.random(n) < np.where(np.isin(cells.truth, cells.tags[: k // 2]), 0.1, 1.0)
    yield "half of the tags rare (x0.1)", cells.only(rare)
    first = rng.random(n) < np.where(cells.truth == cells.tags[0], 1.0, 0.05)
    yield f"most cells carry {cells.tags[0]}", cells.only(first)
    yield "no doublets", cells.only(cells.truth != DOUBLET)
    yield "doublets as sums, 25 %", _more_doublets(cells, 0.25, rng)


def _more_doublets(cells: Cells, share: float, rng: np.random.Generator) -> Cells:
    """True doublets replaced by the sums of two singlets of different tags, as many as make ``share``."""
    singlet = np.flatnonzero(np.isin(cells.truth, cells.tags))
    number = int(share * len(singlet))
    mixed = rng.permutation(singlet)
    one, two, rest = mixed[:number], mixed[number : 2 * number], mixed[number:]
    differ = cells.truth[one] != cells.truth[two]
    counts = np.vstack([cells.counts[one[differ]] + cells.counts[two[differ]], cells.counts[rest]])
    return Cells(counts, cells.tags, np.append(np.repeat(DOUBLET, differ.sum()), cells.truth[rest]))


def merged(first: Cells, second: Cells) -> Cells:
    """One capture with the tags of two: the other's tags get background drawn from cells in
    which they are not among the highest two."""
    rng = np.random.default_rng(1)
    parts = []
    for own, other in ((first, second), (second, first)):
        two = np.argsort(-other.above(), axis=1)[:, :2]
        drawn = [rng.choice(other.counts[(two != j).all(axis=1), j], len(own.counts)) for j in range(len(other.tags))]
        parts.append((own.counts, np.column_stack(drawn)))
    counts = np.vstack([np.hstack(parts[0]), np.hstack(parts[1][::-1])])
    return Cells(counts, np.append(first.tags, second.tags), np.append(first.truth, second.truth))


def as_cells(capture: Capture) -> Cells:
    """A capture as arrays."""
    tags = np.asarray(capture.counts.columns).astype(str)
    return Cells(capture.counts.to_numpy(dtype=float), tags, capture.truth.to_numpy().astype(str))


def scored(name: str, cells: Cells) -> float:
    """Accuracy of a model; NaN where it refuses."""
    hto = anndata.AnnData(
        cells.counts.astype(np.float32),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(len(cells.counts))]),
        var=pd.DataFrame(index=list(cells.tags)),
    )
    from hyped_core.errors import InvalidDataError

    try:
        calls = get_model("demultiplex", name).create().assign(hto, context=RunContext())
    except InvalidDataError:
        return float("nan")
    return float((calls["call"].to_numpy().astype(str) == cells.truth).mean())


def main() -> None:
    """Print the table as it is made."""
    folder = Path(os.environ.get("HYPED_PUBLIC_DATA", ""))
    if not (folder / "manifest.csv").is_file():
        sys.exit("HYPED_PUBLIC_DATA names no folder with the public files")
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    models = tuple(sys.argv[1:]) or MODELS
    captures = {capture.name: as_cells(capture) for capture in read_captures(folder)}
    cases = [(name, what, cells) for name, whole in captures.items() for what, cells in changed(whole)]
    both = merged(captures["batch1_c1"], captures["batch2_c1"])
    cases.append(("batch1+2", f"{len(both.tags)} tags", both))
    sys.stdout.write("| capture | changed | cells | " + " | ".join(models) + " |\n")
    sys.stdout.write("| --- " * (3 + len(models)) + "|\n")
    table = []
    for name, what, cells in cases:
        found = [scored(model, cells) for model in models]
        table.append(found)
        figures = " | ".join("refuses" if np.isnan(v) else f"{v:.3f}" for v in found)
        sys.stdout.write(f"| {name} | {what} | {len(cells.counts):,} | {figures} |\n")
        sys.stdout.flush()
    figures = " | ".join(f"{v:.3f}" for v in np.nanmean(table, axis=0))
    sys.stdout.write(f"| mean of what is called | | | {figures} |\n")


if __name__ == "__main__":
    main()
