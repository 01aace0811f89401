"""Molecule counts: negative-binomial genes over a cell's means plus soup, split into transcripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from hyped_core.simulate.isoforms import Isoforms
from hyped_core.simulate.programme import GeneProgramme
from hyped_seq.simulate.population import PoolCells

FloatArray = npt.NDArray[np.float64]

LOW_QUALITY_MITO = 8.0
"""How many times the mitochondrial share a dying cell has."""


def cell_profiles(programme: GeneProgramme, pool: PoolCells, rows: npt.NDArray[np.int64]) -> FloatArray:
    """(rows, G) means of source cells as shares of a control cell's molecules; cells grow along the cycle."""
    activities = {key: values[rows] for key, values in pool.activities.items()}
    position = pool.cells["position"].to_numpy()[rows]
    profiles = np.exp(programme.log_mean(position, activities, pool.in_control_pool))
    return profiles * (0.8 + 0.4 * position)[:, None]


def ambient_profile(programme: GeneProgramme, pool: PoolCells, n_cells: int = 400) -> FloatArray:
    """(G,) composition of the soup: the mean over the pool's cells (the first ``n_cells`` of them), sum 1."""
    rows = np.arange(min(n_cells, len(pool.cells)))
    profile = cell_profiles(programme, pool, rows).mean(axis=0)
    return profile / profile.sum()


def negative_binomial(mean: FloatArray, dispersion: FloatArray, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Counts with this mean and variance ``mean + dispersion * mean**2`` (gamma-Poisson)."""
    shape = 1.0 / np.asarray(dispersion)
    return rng.poisson(mean * rng.standard_gamma(np.broadcast_to(shape, mean.shape)) / shape)


def pool_counts(
    programme: GeneProgramme, pool: PoolCells, mito_sd: float, chunk: int, rng: np.random.Generator
) -> Iterator[tuple[sp.csr_matrix, sp.csr_matrix]]:
    """Gene and transcript counts of ``chunk`` barcodes at a time, CSR int32; memory is that of a chunk."""
    soup = ambient_profile(programme, pool)
    mito = programme.role == "mito"
    depth = pool.table["depth"].to_numpy()
    share = pool.table["ambient_share"].to_numpy()
    low = pool.table["low_quality"].to_numpy()
    for start in range(0, depth.size, chunk):
        rows = np.arange(start, min(start + chunk, depth.size))
        first, second = pool.first[rows], pool.second[rows]
        mean = cell_profiles(programme, pool, first)
        paired = np.flatnonzero(second >= 0)
        if paired.size:
            mean[paired] += cell_profiles(programme, pool, second[paired])
        factor = np.exp(mito_sd * rng.standard_normal(rows.size)) * np.where(low[rows], LOW_QUALITY_MITO, 1.0)
        mean[:, mito] *= factor[:, None]
        mean *= (depth[rows] * (1.0 - share[rows]))[:, None]
        counts = negative_binomial(mean, programme.dispersion, rng)
        counts += rng.poisson((depth[rows] * share[rows])[:, None] * soup)
        genes = sp.csr_matrix(counts.astype(np.int32))
        activities = {key: values[first] for key, values in pool.activities.items()}
        yield genes, split_transcripts(genes, programme.isoforms, activities, rng)


def split_transcripts(
    genes: sp.csr_matrix, isoforms: Isoforms, activities: Mapping[str, FloatArray], rng: np.random.Generator
) -> sp.csr_matrix:
    """(cells, T) counts that add up to ``genes``: each gene's molecules drawn over its transcripts.

    Work and memory grow with the non-zero entries, not with cells times transcripts.
    """
    genes = sp.csr_matrix(genes)
    cell = np.repeat(np.arange(genes.shape[0]), np.diff(genes.indptr))
    gene = genes.indices.astype(np.int64)
    left = genes.data.astype(np.int64)
    width = int(isoforms.count.max())
    slot = isoforms.first[:, None] + np.arange(width)
    valid = np.arange(width) < isoforms.count[:, None]
    slot = np.where(valid, slot, 0)
    weight = np.exp(np.where(valid, isoforms.logits[slot], -np.inf))[gene]
    for key, shift in isoforms.switches.items():
        if key in activities:
            touched = np.flatnonzero(np.isin(gene, isoforms.switched(key)))
            change = np.where(valid, shift[slot], 0.0)[gene[touched]]
            weight[touched] *= np.exp(np.asarray(activities[key])[cell[touched]][:, None] * change)
    remaining = weight.sum(axis=1)
    rows, columns, values = [], [], []
    for k in range(width):
        here = np.flatnonzero((left > 0) & (k < isoforms.count[gene]))
        if not here.size:
            break
        last = isoforms.count[gene[here]] == k + 1
        chance = np.clip(weight[here, k] / np.maximum(remaining[here], 1e-300), 0.0, 1.0)
        taken = np.where(last, left[here], rng.binomial(left[here], chance))
        left[here] -= taken
        remaining[here] -= weight[here, k]
        some = taken > 0
        rows.append(cell[here[some]])
        columns.append(slot[gene[here[some]], k])
        values.append(taken[some])
    shape = (genes.shape[0], len(isoforms.ids))
    if not rows:
        return sp.csr_matrix(shape, dtype=np.int32)
    data = (np.concatenate(values).astype(np.int32), (np.concatenate(rows), np.concatenate(columns)))
    result = sp.csr_matrix(data, shape=shape)
    result.sort_indices()
    return result
