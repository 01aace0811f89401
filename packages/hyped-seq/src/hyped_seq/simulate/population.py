"""Which cells end up behind which barcode: drawn from the lineages at harvest, sorted, paired, tagged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from hyped_core.context import RunContext
from hyped_core.design import Design
from hyped_core.design.model import CONTROL
from hyped_core.errors import DesignError
from hyped_core.simulate.biology import activity, cycle_position, dose_genes, phase_at, simulate_lineages
from hyped_core.simulate.programme import effect_keys
from hyped_seq.simulate.params import SeqSimulationParams

PHASES = ("G1", "S", "G2M")
BASES = np.frombuffer(b"ACGT", dtype=np.uint8)


@dataclass
class PoolCells:
    """The barcodes of one pool and the cells behind them.

    Attributes
    ----------
    table : one row a barcode: the truth (`truth_columns`), and ``depth``.
    cells : one row a source cell: ``condition, phase, position, tag`` (index into ``tags``, -1 untagged),
        ``dose_<gene>``.
    activities : effect key -> (cells,) activity of that change.
    first, second : (barcodes,) rows of ``cells``; second is -1 where there is one cell.
    tags : names of the pool's hashtags.
    in_control_pool : the pool carries the pool effect.
    """

    name: str
    table: pd.DataFrame
    cells: pd.DataFrame
    activities: dict[str, npt.NDArray[np.float64]]
    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    tags: tuple[str, ...]
    in_control_pool: bool


def harvest_hours(design: Design, params: SeqSimulationParams) -> float:
    """When cells are taken for sequencing, hours since release."""
    if params.harvest_h is not None:
        return params.harvest_h
    return design.timeline.time_of("harvest") or 48.0


def harvested(design: Design, condition: str, n: int, params: SeqSimulationParams, context: RunContext) -> pd.DataFrame:
    """All cells of ``condition`` alive at harvest: ``condition, phase, position, dose_<gene>``.

    At least 1,000 founders are grown, whatever ``n`` is, so that the fractions are those of the condition.
    """
    time_h = harvest_hours(design, params)
    rng = context.rng("harvest", condition)
    lineages = simulate_lineages(design, condition, max(1000, n), 0.0, time_h, params.biology, rng)
    alive = lineages[(lineages["birth_h"] <= time_h) & (lineages["fate"] == "censored")]
    columns = {
        "condition": condition,
        "phase": phase_at(alive, time_h, "rna"),
        "position": cycle_position(alive, time_h),
    }
    columns |= {f"dose_{gene}": alive[f"dose_{gene}"].to_numpy() for gene in dose_genes(design)}
    return pd.DataFrame(columns)


def phase_fractions(cells: pd.DataFrame) -> dict[str, float]:
    """Share of each phase."""
    return {phase: float((cells["phase"] == phase).mean()) for phase in PHASES}


def draw_pool(
    design: Design, pool: str, n: int, params: SeqSimulationParams, context: RunContext
) -> tuple[PoolCells, dict[str, pd.DataFrame]]:
    """``n`` barcodes of ``pool``, and the populations they were drawn from by condition.

    Raises
    ------
    DesignError
        The pool has no hashtags, so nothing says which cells are in it.
    """
    hashtags = design.pool_hashtags(pool)
    if not hashtags:
        raise DesignError("has no hashtags", where=f"pools/{pool}", mend="list the pool's hashtags in the design")
    rng = context.rng("pool", pool)
    n_doublets = int(round(params.capture.doublets * n))
    weights = np.array([params.sorter.get(tag.phase, 0.0) if tag.phase else 1.0 for tag in hashtags])
    counts = rng.multinomial(n + n_doublets, weights / weights.sum())
    populations: dict[str, pd.DataFrame] = {}
    parts = []
    for index, (tag, count) in enumerate(zip(hashtags, counts, strict=True)):
        if tag.condition not in populations:
            populations[tag.condition] = harvested(design, tag.condition, n, params, context)
        chosen = _draw(populations[tag.condition], int(count), tag.phase, params.sorter_impurity, rng)
        parts.append(chosen.assign(tag=index))
    cells = pd.concat(parts, ignore_index=True)
    cells = cells.iloc[rng.permutation(len(cells))].reset_index(drop=True)
    cells.loc[rng.random(len(cells)) < params.hashtags.untagged, "tag"] = -1
    second = np.full(n, -1, np.int64)
    second[rng.permutation(n)[:n_doublets]] = np.arange(n, n + n_doublets)
    names = tuple(tag.tag for tag in hashtags)
    table = _truth(pool, cells, second, names, design, params, rng)
    pool_record = next(item for item in design.pools if item.name == pool)
    in_control = CONTROL in pool_record.conditions or any(tag.condition == CONTROL for tag in hashtags)
    activities = cell_activities(design, cells, params)
    drawn = PoolCells(pool, table, cells, activities, np.arange(n), second, names, in_control)
    return drawn, populations


def cell_activities(
    design: Design, cells: pd.DataFrame, params: SeqSimulationParams
) -> dict[str, npt.NDArray[np.float64]]:
    """Effect key -> (cells,) activity, from each cell's condition and doses."""
    result: dict[str, npt.NDArray[np.float64]] = {}
    for condition in design.conditions:
        perturbation = design.perturbation(condition.name)
        inside = (cells["condition"] == condition.name).to_numpy()
        for key, change in zip(effect_keys(perturbation), perturbation.changes, strict=True):
            dose = cells[f"dose_{change.gene}"].to_numpy()
            values = activity(dose, params.biology.dose_of(change.agent))
            result[key] = np.where(inside, values, result.get(key, np.zeros(len(cells))))
    return result


def random_barcodes(n: int, length: int, rng: np.random.Generator) -> list[str]:
    """``n`` different DNA words."""
    found: dict[str, None] = {}
    while len(found) < n:
        words = BASES[rng.integers(0, 4, (n, length))]
        found.update(dict.fromkeys(word.tobytes().decode() for word in words))
    return list(found)[:n]


def _draw(
    population: pd.DataFrame, n: int, phase: str | None, impurity: float, rng: np.random.Generator
) -> pd.DataFrame:
    """``n`` rows: at random, or through a sorter's gate for ``phase`` that lets some others pass."""
    if phase is None:
        return population.iloc[rng.choice(len(population), n, replace=n > len(population))]
    inside = (population["phase"] == phase).to_numpy()
    if not inside.any():
        raise DesignError(f"no cell is in {phase} at harvest, nothing to sort", where="harvest_h")
    wrong = int(rng.binomial(n, impurity)) if (~inside).any() else 0
    rows = []
    for mask, count in ((inside, n - wrong), (~inside, wrong)):
        candidates = np.flatnonzero(mask)
        rows.append(rng.choice(candidates, count, replace=count > candidates.size) if count else candidates[:0])
    return population.iloc[np.concatenate(rows)]


def _truth(
    pool: str,
    cells: pd.DataFrame,
    second: npt.NDArray[np.int64],
    names: tuple[str, ...],
    design: Design,
    params: SeqSimulationParams,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """The truth of every barcode. A pair with one tag between them counts as a singlet for the hashtags."""
    n = second.size
    a = cells.iloc[:n].reset_index(drop=True)
    pair = second >= 0
    b = cells.iloc[np.where(pair, second, 0)].reset_index(drop=True)
    tags, kinds = [], []
    for one, other, two in zip(a["tag"], b["tag"], pair, strict=True):
        carried = sorted({t for t in ((one, other) if two else (one,)) if t >= 0})
        tags.append("+".join(names[t] for t in carried))
        kinds.append(("negative", "singlet", "doublet")[len(carried)])
    capture = params.capture
    depth = np.exp(capture.depth_sd * rng.standard_normal(n) - capture.depth_sd**2 / 2)
    mean = capture.ambient
    ambient = rng.beta(4.0, 4.0 * (1 - mean) / mean, n) if mean > 0 else np.zeros(n)
    low = rng.random(n) < capture.low_quality
    table = {
        "barcode": random_barcodes(n, 16, rng),
        "pool": pool,
        "condition": _joined(a["condition"], b["condition"], pair),
        "phase": _joined(a["phase"], b["phase"], pair),
        "kind": kinds,
        "tags": tags,
        "multiplet": pair,
        "ambient_share": ambient,
        "low_quality": low,
        "position": np.where(pair, np.nan, a["position"]),
    }
    for gene in dose_genes(design):
        own, other = a[f"dose_{gene}"].to_numpy(), b[f"dose_{gene}"].to_numpy()
        table[f"dose_{gene}"] = np.where(pair, (own + other) / 2, own)
    table["depth"] = capture.depth * depth * np.where(low, 0.2, 1.0)
    return pd.DataFrame(table)


def _joined(first: pd.Series, second: pd.Series, pair: npt.NDArray[np.bool_]) -> list[str]:
    """The value of the one cell, or both cells' values joined with ``+`` where they differ."""
    return [f"{min(a, b)}+{max(a, b)}" if two and a != b else a for a, b, two in zip(first, second, pair, strict=True)]
