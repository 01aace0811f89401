"""What the steps left on disk, read back for the summary: tables and embeddings, no large matrix."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata.io import read_elem

from hyped_core.design import Design
from hyped_seq.process.layout import Layout

_CHUNK = 200_000
_KEYS = ["contrast", "phase"]
FIGURES = ("n_counts", "n_genes", "mito_pct")
_MAPS = ("X_tsne", "X_umap", "X_pca")


@dataclass(frozen=True)
class Held:
    """The results of all steps.

    Attributes
    ----------
    captured : ``obs`` of every cell that was ingested.
    cells : ``obs`` of the cells that were kept.
    calls : a row a cell, kept or not.
    tags : (cells, tags) hashtag counts, rows as ``captured``; None where there are none.
    embedding : name and (cells, 2) places of the kept cells; None where there is none.
    removed, top, isoforms, dose : tables of `hyped seq annotate`; ``top`` holds the first genes of each contrast.
    ingest, annotate : the steps' records.
    """

    captured: pd.DataFrame
    cells: pd.DataFrame
    calls: pd.DataFrame
    tags: pd.DataFrame | None
    embedding: tuple[str, npt.NDArray[np.float32]] | None
    removed: pd.DataFrame
    top: pd.DataFrame
    isoforms: pd.DataFrame
    dose: pd.DataFrame
    ingest: dict[str, Any]
    annotate: dict[str, Any]

    def figures(self) -> pd.DataFrame:
        """`FIGURES` of every captured cell, with what annotating found of kept and of removed ones."""
        table = self.captured[[name for name in FIGURES if name in self.captured]].astype(float)
        removed = self.removed.set_index("cell") if "cell" in self.removed else self.removed
        for name in FIGURES:
            for source in (self.cells, removed):
                if name in source and len(source):
                    found = source[name].astype(float).reindex(table.index)
                    table[name] = table[name].fillna(found) if name in table else found
        return table


def read_held(layout: Layout, design: Design, top_genes: int) -> Held:
    """Read what the summary needs; ``top_genes`` first genes a contrast.

    Cells of a pool without hashtags are called as `hyped seq annotate` calls them: singlets where it has one condition.
    """
    from hyped_seq.annotate.cells import match_calls
    from hyped_seq.demultiplex.run import read_calls

    main = "rna" if (layout.cells / "rna.h5ad").is_file() else "hto"
    captured, _ = _read(layout.ingest / f"{main}.h5ad")
    cells, maps = _read(layout.cells / f"{main}.h5ad")
    hto = layout.ingest / "hto.h5ad"
    return Held(
        captured, cells, match_calls(read_calls(layout.calls), captured, design, layout.calls),
        _tags(hto) if hto.is_file() else None, maps, _table(layout.cells / "removed.csv"),
        _first(layout.cells / "de.csv", top_genes), _first(layout.cells / "isoform_usage.csv", top_genes),
        _table(layout.cells / "dose.csv"), _json(layout.ingest / "ingest.json"), _json(layout.cells / "annotate.json"),
    )  # fmt: skip


def _read(path: Path) -> tuple[pd.DataFrame, tuple[str, npt.NDArray[np.float32]] | None]:
    """``obs``, and the first map of the cells there is; one axis alone (two cells) is drawn as a line."""
    with h5py.File(path) as file:
        obs = read_elem(file["obs"])
        for name in _MAPS:
            if name in file.get("obsm", ()):
                places = np.asarray(read_elem(file["obsm"][name]), dtype=np.float32)[:, :2]
                if places.shape[1]:
                    return obs, (name, np.pad(places, ((0, 0), (0, 2 - places.shape[1]))))
    return obs, None


def _tags(path: Path) -> pd.DataFrame:
    with h5py.File(path) as file:
        counts = read_elem(file["X"])
        names = [str(name) for name in read_elem(file["var"]).index]
        index = read_elem(file["obs"]).index
    dense = counts.toarray() if hasattr(counts, "toarray") else np.asarray(counts)
    return pd.DataFrame(dense, index=index, columns=names)


def _table(path: Path) -> pd.DataFrame:
    """A table, empty where there is none."""
    try:
        return pd.read_csv(path, low_memory=False, keep_default_na=False, na_values=["", "nan"])
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return pd.DataFrame()


def _first(path: Path, rank: int) -> pd.DataFrame:
    """Rows of a table of contrasts up to ``rank``; ``significant`` counts all rows of the contrast below 5 % FDR."""
    firsts, counts = [], []
    try:
        for part in pd.read_csv(path, chunksize=_CHUNK, low_memory=False, keep_default_na=False, na_values=["", "nan"]):
            if "rank" not in part or part.empty:
                continue
            part["phase"] = part["phase"].fillna("all") if "phase" in part else "all"
            firsts.append(part[part["rank"] <= rank])
            counts.append((part["p_adjusted"] < 0.05).groupby([part[key] for key in _KEYS]).sum())
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return pd.DataFrame()
    if not firsts:
        return pd.DataFrame()
    significant = pd.concat(counts).groupby(level=[0, 1]).sum().rename("significant").reset_index()
    first = pd.concat(firsts).merge(significant, on=_KEYS, how="left")
    return first.fillna({name: "" for name in first.columns if first[name].dtype == object})


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
