"""A perturb-seq screen on the same gene programme: activated factors alone and in pairs, and its truth."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from hyped_core.context import RunContext
from hyped_core.design import GeneChange, Perturbation
from hyped_core.design.model import CONTROL
from hyped_core.simulate.biology import POSITION_BOUNDS, DoseParams, activity
from hyped_core.simulate.programme import GeneProgramme, effect_keys, factors, read_table
from hyped_seq.simulate.counts import negative_binomial
from hyped_seq.simulate.params import ScreenParams

if TYPE_CHECKING:
    from anndata import AnnData

FloatArray = npt.NDArray[np.float64]
POOLS = ("screen_1", "screen_2")


def screen_perturbations(params: ScreenParams, context: RunContext) -> list[Perturbation]:
    """Single activations of known factors, then pairs of these: half of the pairs share a module."""
    module = {row["symbol"]: row["module"] for row in read_table("genes.csv") if row["role"] == "tf"}
    names = list(factors())
    rng = context.rng("screen", "which")
    chosen = sorted(rng.permutation(names)[: params.singles].tolist())
    pairs = [(a, b) for i, a in enumerate(chosen) for b in chosen[i + 1 :]]
    same = [pair for pair in pairs if module[pair[0]] == module[pair[1]]]
    other = [pair for pair in pairs if module[pair[0]] != module[pair[1]]]
    n_same = min(params.doubles // 2, len(same))
    picked = [same[i] for i in rng.permutation(len(same))[:n_same]]
    picked += [other[i] for i in rng.permutation(len(other))[: params.doubles - n_same]]
    return [_activated(name) for name in chosen] + [_activated(*pair) for pair in sorted(picked)]


def simulate_screen(
    programme: GeneProgramme,
    perturbations: list[Perturbation],
    params: ScreenParams,
    context: RunContext,
) -> tuple[AnnData, AnnData]:
    """The screen and its truth.

    Returns
    -------
    screen : cells x genes. ``X`` ln(1 + counts per 10,000) float32, layer ``counts`` int32 CSR; ``obs``:
        ``perturbation, phase, pool, n_counts``; ``uns["perturbations_json"]``: name -> Perturbation.
    truth : perturbations (control first) x genes. ``X`` the expected mean of the screen's ``X`` (over
        ``truth_cells`` simulated cells a perturbation), layer ``latent`` the mean ln(1 + CP10k) of the
        noise-free profiles, layer ``log2fc`` what was planted at activity 1.
    """
    import anndata as ad

    rng = context.rng("screen", "cells")
    truth_rng = context.rng("screen", "truth")
    everything = [Perturbation(name=CONTROL), *perturbations]
    shift = np.log(2.0) * params.pool_sd * rng.standard_normal(programme.n_genes)
    counts, rows, expected, latent = [], [], [], []
    for perturbation in everything:
        n = params.controls
        if not perturbation.is_control:
            n = int(rng.integers(params.cells_min, max(params.cells_max, params.cells_min) + 1))
        drawn, obs = _cells(programme, perturbation, n, params, shift, rng)
        counts.append(sp.csr_matrix(_counts(programme, drawn, params, rng)))
        rows.append(obs)
        mean, noise_free = _expected(programme, perturbation, params, shift, truth_rng)
        expected.append(mean)
        latent.append(noise_free)
    obs = pd.concat(rows, ignore_index=True)
    matrix = sp.csr_matrix(sp.vstack(counts), dtype=np.int32)
    order = context.rng("screen", "order").permutation(len(obs))
    obs, matrix = obs.iloc[order].reset_index(drop=True), matrix[order]
    obs["n_counts"] = np.asarray(matrix.sum(axis=1)).ravel().astype(np.int64)
    obs.index = pd.Index([f"screen_{i:06d}" for i in range(len(obs))], dtype=object)
    for column, values in (("perturbation", None), ("phase", ["G1", "S", "G2M"]), ("pool", list(POOLS))):
        obs[column] = pd.Categorical(obs[column], values or [p.name for p in everything])
    total = np.maximum(obs["n_counts"].to_numpy(), 1)
    normalised = sp.csr_matrix(sp.diags(1e4 / total) @ matrix, dtype=np.float32)
    normalised.data = np.log1p(normalised.data)
    normalised.sort_indices()
    var = pd.DataFrame(
        {"gene_id": programme.ensembl, "made_up_id": ~programme.known, "role": programme.role},
        index=pd.Index(programme.symbols, dtype=object),
    )
    names = json.dumps({p.name: p.model_dump(mode="json") for p in everything}, sort_keys=True)
    screen = ad.AnnData(normalised, obs=obs, var=var, layers={"counts": matrix}, uns={"perturbations_json": names})
    index = pd.Index([p.name for p in everything], dtype=object)
    truth = ad.AnnData(
        np.array(expected, dtype=np.float32),
        obs=pd.DataFrame({"n_cells": obs["perturbation"].value_counts().reindex(index).to_numpy()}, index=index),
        var=var.assign(module=programme.module),
        layers={
            "latent": np.array(latent, dtype=np.float32),
            "log2fc": np.array([programme.fold_change(p) for p in everything], dtype=np.float32),
        },
        uns={"perturbations_json": names},
    )
    return screen, truth


def _activated(*genes: str) -> Perturbation:
    changes = tuple(GeneChange(gene=gene, direction="activation", agent="CRISPRa") for gene in genes)
    return Perturbation(name="+".join(genes), changes=changes)


def _cells(
    programme: GeneProgramme,
    perturbation: Perturbation,
    n: int,
    params: ScreenParams,
    shift: FloatArray,
    rng: np.random.Generator,
) -> tuple[FloatArray, pd.DataFrame]:
    """(n, G) mean profiles of cells of one perturbation, and their ``obs``."""
    phase, position = _phases(programme, perturbation, n, params, rng)
    pool = rng.integers(0, 2, n)
    dose = DoseParams(without=params.not_perturbed, log_sd=0.3)
    working = rng.random(n) >= dose.without
    activities = {}
    for key in effect_keys(perturbation):
        amount = np.exp(dose.log_sd * rng.standard_normal(n) - dose.log_sd**2 / 2)
        activities[key] = activity(np.where(working, amount, 0.0), dose)
    log_mean = programme.log_mean(position, activities) + pool[:, None] * shift
    obs = pd.DataFrame({"perturbation": perturbation.name, "phase": phase, "pool": np.array(POOLS)[pool]})
    return np.exp(log_mean), obs


def _expected(
    programme: GeneProgramme,
    perturbation: Perturbation,
    params: ScreenParams,
    shift: FloatArray,
    rng: np.random.Generator,
) -> tuple[FloatArray, FloatArray]:
    """(G,) mean ln(1 + CP10k) of ``truth_cells`` cells, as counted and noise-free; 200 cells at a time."""
    noisy, clean = np.zeros(programme.n_genes), np.zeros(programme.n_genes)
    for start in range(0, params.truth_cells, 200):
        n = min(200, params.truth_cells - start)
        profiles, _ = _cells(programme, perturbation, n, params, shift, rng)
        noisy += _log_normalised(_counts(programme, profiles, params, rng)).sum(axis=0)
        clean += _log_normalised(profiles).sum(axis=0)
    return noisy / params.truth_cells, clean / params.truth_cells


def _phases(
    programme: GeneProgramme,
    perturbation: Perturbation,
    n: int,
    params: ScreenParams,
    rng: np.random.Generator,
) -> tuple[np.ndarray, FloatArray]:
    """Phases and positions; each factor of the stress module doubles the odds of G1."""
    module = dict(zip(programme.symbols, programme.module, strict=True))
    odds = 2.0 ** sum(module.get(gene) == "stress" for gene in perturbation.genes)
    names = ["G1", "S", "G2M"]
    shares = np.array([params.phase_shares.get(name, 0.0) for name in names]) * [odds, 1.0, 1.0]
    index = rng.choice(3, n, p=shares / shares.sum())
    low, high = np.array(POSITION_BOUNDS[:3]), np.array([*POSITION_BOUNDS[1:3], POSITION_BOUNDS[4]])
    return np.array(names, dtype=object)[index], low[index] + (high - low)[index] * rng.random(n)


def _counts(
    programme: GeneProgramme, profiles: FloatArray, params: ScreenParams, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    depth = params.depth * np.exp(params.depth_sd * rng.standard_normal(len(profiles)) - params.depth_sd**2 / 2)
    return negative_binomial(profiles * depth[:, None], programme.dispersion, rng)


def _log_normalised(values: npt.NDArray) -> FloatArray:
    total = np.maximum(values.sum(axis=1, keepdims=True), 1e-12)
    return np.log1p(1e4 * values / total)
