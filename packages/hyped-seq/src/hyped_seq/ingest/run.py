"""`ingest_pools`: all pools into three AnnData (genes, transcripts, hashtags) over the same cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from hyped_core.design import Design
from hyped_core.errors import InvalidDataError, UsageError
from hyped_core.io.atomic import write_json, write_text
from hyped_seq.ingest.genes import GeneMap, gene_table, merge_features, remap_columns
from hyped_seq.ingest.output import output_files
from hyped_seq.ingest.params import IngestParams
from hyped_seq.ingest.pool import PoolCounts, parse_pool_argument, read_pool
from hyped_seq.readers.h5ad import write_h5ad
from hyped_seq.readers.matrix import CountMatrix

if TYPE_CHECKING:
    from anndata import AnnData

    from hyped_core.context import RunContext

OUTPUTS = ("rna.h5ad", "isoform.h5ad", "hto.h5ad", "unmapped_genes.csv", "ingest.json")


@dataclass
class Ingested:
    """AnnData by modality (``rna``, ``isoform``, ``hto``; absent ones left out) and the record."""

    modalities: dict[str, AnnData]
    unmapped: list[str] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)


def ingest_pools(
    pools: Sequence[str | Path],
    design: Design,
    params: IngestParams,
    gene_map: GeneMap,
    *,
    context: RunContext,
) -> Ingested:
    """Read ``pools`` (``PATH`` or ``NAME=PATH``) and join them.

    ``X`` and ``layers["counts"]`` hold raw counts (CSR int32); ``obs`` has ``pool``, ``barcode``,
    ``n_counts``,
    ``n_genes`` and the workflow's figures; ``obs_names`` are ``<pool>_<barcode>``. Features that share a name
    are summed. A feature that one pool lacks is zero there.
    """
    named = [parse_pool_argument(pool) for pool in pools]
    repeated = {name for name, _ in named if [n for n, _ in named].count(name) > 1}
    if repeated:
        raise UsageError(f"pool {sorted(repeated)[0]!r} is given twice", mend="name them: NAME=PATH")
    read = [
        read_pool(name, path, design, params)
        for name, path in context.progress.track(named, "reading pools", total=len(named))
    ]
    merged: dict[str, int] = {}
    modalities: dict[str, AnnData] = {}
    obs = pd.concat([_obs(pool) for pool in read])
    if any(pool.genes is not None for pool in read):
        _need_all(read, "genes")
        counts, symbols = _join([pool.genes for pool in read], merged)
        _add_totals(obs, counts)
        modalities["rna"] = _anndata(counts, obs, gene_table(symbols, gene_map, _own_ids(read)))
    if any(pool.transcripts is not None for pool in read):
        _need_all(read, "transcripts")
        counts, names = _join([pool.transcripts for pool in read], {})
        modalities["isoform"] = _anndata(counts, obs, _transcript_table(names, read, gene_map))
    if any(pool.hashtags is not None for pool in read):
        _need_all(read, "hashtags")
        counts, names = _join([pool.hashtags for pool in read], {})
        modalities["hto"] = _anndata(counts, obs[["pool", "barcode"]], _tag_table(names, design))
    unmapped = []
    if "rna" in modalities:
        var = modalities["rna"].var
        unmapped = list(var.index[~var["mapped"]])
    record = {
        "cells": {pool.name: len(pool.barcodes) for pool in read},
        "features": {name: int(data.n_vars) for name, data in modalities.items()},
        "hashtags_from": params.hashtags,
        "summed_features": dict(sorted(merged.items())),
        "ambiguous_symbols": sorted(gene_map.ambiguous & set(modalities["rna"].var_names))
        if "rna" in modalities
        else [],
        "unmapped_genes": len(unmapped),
        "pools": {pool.name: pool.report for pool in read},
    }
    return Ingested(modalities, unmapped, record)


def write_ingested(ingested: Ingested, folder: str | Path) -> None:
    """Write the h5ad files, ``unmapped_genes.csv`` and ``ingest.json``, all or none."""
    with output_files(folder, OUTPUTS) as out:
        for name, data in ingested.modalities.items():
            write_h5ad(data, out / f"{name}.h5ad")
        write_text(out / "unmapped_genes.csv", "\n".join(["symbol", *ingested.unmapped]) + "\n")
        write_json(out / "ingest.json", ingested.record)


def _need_all(read: list[PoolCounts], what: str) -> None:
    without = [pool.name for pool in read if getattr(pool, what) is None]
    if without:
        raise InvalidDataError(
            f"pool {without[0]!r} has no {what}, other pools do",
            mend="give pools of one kind, or ingest them apart",
        )


def _obs(pool: PoolCounts) -> pd.DataFrame:
    """Rows named ``<pool>_<barcode>`` with pool, barcode and the workflow's figures."""
    table = (
        pool.figures.reindex(pool.barcodes)
        if len(pool.figures.columns)
        else pd.DataFrame(index=pool.barcodes)
    )
    table.insert(0, "pool", pool.name)
    table.insert(1, "barcode", pool.barcodes)
    table.index = [f"{pool.name}_{barcode}" for barcode in pool.barcodes]
    return table


def _add_totals(obs: pd.DataFrame, counts: sp.csr_matrix) -> None:
    obs.insert(2, "n_counts", np.asarray(counts.sum(axis=1)).ravel().astype(np.int64))
    obs.insert(3, "n_genes", np.diff(counts.indptr).astype(np.int64))


def _join(matrices: list[CountMatrix | None], merged: dict[str, int]) -> tuple[sp.csr_matrix, list[str]]:
    """Stack pools over the union of their feature names, in order of first occurrence."""
    columns: dict[str, int] = {}
    parts = []
    for matrix in matrices:
        if matrix is None:
            continue
        counts, names, repeated = merge_features(matrix.counts, list(matrix.features["name"]))
        merged.update(repeated)
        for name in names:
            columns.setdefault(name, len(columns))
        parts.append((counts, [columns[name] for name in names]))
    stacked = [
        remap_columns(counts, np.asarray(target, dtype=np.int64), len(columns)) for counts, target in parts
    ]
    return sp.csr_matrix(sp.vstack(stacked, format="csr"), dtype=np.int32), list(columns)


def _anndata(counts: sp.csr_matrix, obs: pd.DataFrame, var: pd.DataFrame) -> AnnData:
    from anndata import AnnData

    table = obs.copy()
    table["pool"] = pd.Categorical(table["pool"], categories=list(dict.fromkeys(table["pool"])))
    return AnnData(X=counts, obs=table, var=var, layers={"counts": counts.copy()})


def _own_ids(read: list[PoolCounts]) -> dict[str, str]:
    """Symbol -> feature id as the matrices have it, the first pool's first."""
    ids: dict[str, str] = {}
    for pool in read:
        if pool.genes is not None:
            for identifier, name in zip(pool.genes.features["id"], pool.genes.features["name"], strict=True):
                ids.setdefault(name, identifier)
    return ids


def _transcript_table(names: list[str], read: list[PoolCounts], gene_map: GeneMap) -> pd.DataFrame:
    """``var`` of the transcript matrix; the gene comes from the GTF, else from the reads."""
    genes: dict[str, str] = {}
    for pool in reversed(read):
        genes.update(pool.transcript_gene)
    genes.update(gene_map.transcript_gene)
    symbols = [genes.get(name, "") for name in names]
    return pd.DataFrame(
        {
            "transcript_id": names,
            "gene_id": [gene_map.ids.get(symbol, "") for symbol in symbols],
            "symbol": symbols,
        },
        index=pd.Index(names, dtype=object),
    )


def _tag_table(names: list[str], design: Design) -> pd.DataFrame:
    """``var`` of the hashtag matrix; what a tag stands for depends on the pool, so that is not here."""
    barcodes: dict[str, set[str]] = {}
    for hashtag in design.hashtags:
        barcodes.setdefault(hashtag.tag, set()).add(hashtag.barcode)
    return pd.DataFrame(
        {"hashtag": names, "tag_barcode": ["+".join(sorted(barcodes.get(name, ()))) for name in names]},
        index=pd.Index(names, dtype=object),
    )
