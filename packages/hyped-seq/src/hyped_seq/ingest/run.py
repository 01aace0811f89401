"""`ingest_pools`: all pools into three AnnData (genes, transcripts, hashtags) over the same cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from hyped_core.design import Design
from hyped_core.errors import InvalidDataError, UsageError
from hyped_core.io.atomic import write_json
from hyped_seq.ingest.features import FeaturePlan, plan_features
from hyped_seq.ingest.genes import EMPTY, GeneMap, gene_table, unmapped_genes
from hyped_seq.ingest.output import output_files
from hyped_seq.ingest.params import IngestParams
from hyped_seq.ingest.pool import PoolCounts, parse_pool_argument, read_pool
from hyped_seq.readers.h5ad import write_h5ad
from hyped_seq.readers.matrix import CountMatrix
from hyped_seq.readers.rows import stack

if TYPE_CHECKING:
    from anndata import AnnData

    from hyped_core.context import RunContext

OUTPUTS = ("rna.h5ad", "isoform.h5ad", "hto.h5ad", "unmapped_genes.csv", "ingest.json")


@dataclass
class Ingested:
    """What `ingest_pools` gives.

    Attributes
    ----------
    modalities : AnnData by name (``rna``, ``isoform``, ``hto``; absent ones left out), all over the same cells.
    unmapped : genes without an Ensembl id; columns ``symbol`` and ``reason``.
    record : what was read, filled, dropped, renamed and summed; can be written as JSON.
    """

    modalities: dict[str, AnnData]
    unmapped: pd.DataFrame
    record: dict[str, Any] = field(default_factory=dict)


def ingest_pools(
    pools: Sequence[str | Path],
    design: Design,
    params: IngestParams,
    gene_map: GeneMap,
    *,
    hashtags: Mapping[str, Path] | None = None,
    context: RunContext,
) -> Ingested:
    """Read ``pools`` (``PATH`` or ``NAME=PATH``) and join them.

    ``X`` and ``layers["counts"]`` hold raw counts (CSR int32) and are one object: copy before you change either.
    ``obs`` has ``pool``, ``barcode``, ``n_counts``, ``n_genes`` and the workflow's figures; ``obs_names`` are
    ``<pool>_<barcode>``. Genes are renamed by the map's aliases; features that then share a name are summed, or kept
    apart as ``params.duplicate_symbols`` says; ``var["source_name"]`` has what the files call them. A feature that
    one pool lacks is zero there. Transcripts are left out where a pool has none (10x matrices hold genes alone); the
    record names such pools under ``isoform_left_out``.

    Parameters
    ----------
    hashtags : hashing library by pool: count table, MEX folder or reads. A pool that is not in it takes the library
        inside its own folder.

    Raises
    ------
    UsageError
        A pool is given twice, or ``hashtags`` names one that is not given.
    HypedError
        What `hyped_seq.ingest.pool.read_pool` raises.
    """
    named = [parse_pool_argument(pool) for pool in pools]
    names = [name for name, _ in named]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise UsageError(f"pool {sorted(repeated)[0]!r} is given twice", mend="name them: NAME=PATH")
    libraries = dict(hashtags or {})
    for name in libraries:
        if name not in names:
            raise UsageError(
                f"hashtags are given for pool {name!r}, the pools are {', '.join(names)}",
                mend="give POOL=PATH with the name of a pool",
            )
    read = [
        read_pool(name, path, design, params, hashtags=libraries.get(name))
        for name, path in context.progress.track(named, "reading pools", total=len(named))
    ]
    record: dict[str, Any] = {
        "cells": {pool.name: len(pool.barcodes) for pool in read},
        "pools": {pool.name: pool.report for pool in read},
    }
    modalities: dict[str, AnnData] = {}
    unmapped = pd.DataFrame({"symbol": [], "reason": []}, dtype=object)
    obs = pd.concat([_obs(pool) for pool in read])
    if any(pool.genes is not None for pool in read):
        counts, plan = _join(read, "genes", gene_map, params)
        _add_totals(obs, counts)
        var = gene_table(plan.names, plan.symbols, gene_map, plan.own_ids).assign(source_name=plan.sources)
        modalities["rna"] = _anndata(counts, obs, var)
        unmapped = unmapped_genes(var, gene_map)
        record.update(_names_record(plan, var, gene_map, params))
    without = [pool.name for pool in read if pool.transcripts is None]
    if 0 < len(without) < len(read):
        record["isoform_left_out"] = without
        for pool in read:
            pool.transcripts = None
    elif not without:
        counts, plan = _join(read, "transcripts", EMPTY, params)
        modalities["isoform"] = _anndata(counts, obs, _transcript_table(plan.names, read, gene_map))
    if any(pool.hashtags is not None for pool in read):
        _fill_unhashed(read, design)
        counts, plan = _join(read, "hashtags", EMPTY, params)
        modalities["hto"] = _anndata(counts, obs[["pool", "barcode"]], _tag_table(plan.names, design))
    record["features"] = {name: int(data.n_vars) for name, data in modalities.items()}
    record["stored_counts"] = {name: int(data.X.nnz) for name, data in modalities.items()}
    return Ingested(modalities, unmapped, record)


def write_ingested(ingested: Ingested, folder: str | Path) -> None:
    """Write the h5ad files, ``unmapped_genes.csv`` and ``ingest.json``, all or none."""
    with output_files(folder, OUTPUTS) as out:
        for name, data in ingested.modalities.items():
            write_h5ad(data, out / f"{name}.h5ad")
        ingested.unmapped.to_csv(out / "unmapped_genes.csv", index=False, lineterminator="\n")
        write_json(out / "ingest.json", ingested.record)


def _fill_unhashed(read: list[PoolCounts], design: Design) -> None:
    """Give pools that have no hashtags by the design counts of no tag, so that all pools have a table."""
    known = {item.name for item in design.pools}
    for pool in read:
        if pool.hashtags is None and pool.name in known and not design.pool_hashtags(pool.name):
            nothing = sp.csr_matrix((len(pool.barcodes), 0), dtype=np.int32)
            features = pd.DataFrame({"id": [], "name": []}, dtype=object)
            pool.hashtags = CountMatrix(nothing, pool.barcodes, features)


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


def _join(
    read: list[PoolCounts], what: str, gene_map: GeneMap, params: IngestParams
) -> tuple[sp.csr_matrix, FeaturePlan]:
    """One kind of counts of all pools, stacked over the union of their features; the pools give theirs up."""
    _need_all(read, what)
    plan = plan_features([getattr(pool, what).features for pool in read], gene_map, params.duplicate_symbols)
    parts = [getattr(pool, what).counts for pool in read]
    for pool in read:
        setattr(pool, what, None)
    return stack(parts, plan.targets, len(plan.names)), plan


def _names_record(plan: FeaturePlan, var: pd.DataFrame, gene_map: GeneMap, params: IngestParams) -> dict[str, Any]:
    """What became of the genes' names."""
    repeated = dict(sorted(plan.repeated.items()))
    return {
        "summed_features": repeated if params.duplicate_symbols == "sum" else {},
        "kept_apart": repeated if params.duplicate_symbols == "keep" else {},
        "renamed": dict(sorted(plan.renamed.items())),
        "ambiguous_aliases": dict(sorted(plan.ambiguous.items())),
        "ambiguous_symbols": sorted(gene_map.ambiguous & set(plan.symbols)),
        "unmapped_genes": int((~var["mapped"]).sum()),
    }


def _anndata(counts: sp.csr_matrix, obs: pd.DataFrame, var: pd.DataFrame) -> AnnData:
    from anndata import AnnData

    table = obs.copy()
    table["pool"] = pd.Categorical(table["pool"], categories=list(dict.fromkeys(table["pool"])))
    return AnnData(X=counts, obs=table, var=var, layers={"counts": counts})


def _transcript_table(names: list[str], read: list[PoolCounts], gene_map: GeneMap) -> pd.DataFrame:
    """``var`` of the transcript matrix; the gene comes from the GTF, else from the reads."""
    genes: dict[str, str] = {}
    for pool in reversed(read):
        genes.update(pool.transcript_gene)
    symbols = [gene_map.gene_of(name) or gene_map.current(genes.get(name, "")) for name in names]
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
