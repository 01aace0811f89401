"""Lineages of cells through the cell cycle: released in G0/G1, desynchronising, perturbed at an onset.

The movie simulator and the counts simulator both draw their cells from :func:`simulate_lineages`, so that
what imaging and sequencing see at the same time has one cause. Expression is in :mod:`.programme`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_core.errors import UsageError
from hyped_core.simulate.params import (
    BiologyParams,
    CycleEffect,
    CycleParams,
    DoseParams,
    ReporterParams,
)
from hyped_core.simulate.readout import (
    POSITION_BOUNDS,
    alive_at,
    cycle_position,
    phase_at,
    reporter_levels,
)

if TYPE_CHECKING:
    import pandas as pd

    from hyped_core.design import Design, GeneChange

FloatArray = npt.NDArray[np.float64]
Cells = dict[str, np.ndarray]

__all__ = [
    "POSITION_BOUNDS",
    "BiologyParams",
    "CycleEffect",
    "CycleParams",
    "DoseParams",
    "ReporterParams",
    "activity",
    "alive_at",
    "cycle_position",
    "dose_genes",
    "phase_at",
    "reporter_levels",
    "simulate_lineages",
]


def dose_genes(design: Design) -> tuple[str, ...]:
    """Genes that any condition of the design changes, sorted: the ``dose_<gene>`` columns of every table."""
    return tuple(sorted({change.gene for c in design.conditions for change in c.perturbation}))


def activity(dose: FloatArray, params: DoseParams) -> FloatArray:
    """Saturating response to a dose: 0 at 0, 1 at dose 1, ``1 + saturation`` at most."""
    return (1.0 + params.saturation) * dose / (dose + params.saturation)


def simulate_lineages(
    design: Design,
    condition: str,
    n_founders: int,
    start_h: float,
    end_h: float,
    params: BiologyParams,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Cells of one condition from release (0 h) on, those alive at some time in ``[start_h, end_h]``.

    ``n_founders`` cells are alive at ``start_h``: the population is always grown from the release at 0 h, and
    where ``start_h`` is later that many of the cells alive then are drawn, with all of their descendants.

    Returns
    -------
    One row a cell, sorted by ``cell_id`` (from 1): ``cell_id, parent_id`` (0: none), ``founder_id``,
    ``birth_h, s_start_h, g2_start_h, m_start_h`` (hours, scheduled; inf for a cell that left the cycle),
    ``end_h`` (division, death or the end of the simulation), ``fate`` (``divides``, ``dies``, ``censored``),
    ``leaves_cycle`` (bool) and ``dose_<gene>`` for every gene of `dose_genes` (0 where none was taken up).

    Raises
    ------
    UsageError
        Times or numbers out of range.
    DesignError
        The design has no such condition.
    """
    if not 0 <= start_h < end_h:
        raise UsageError("needs 0 <= start_h < end_h (hours since release)", where=f"{start_h}, {end_h}")
    if n_founders < 1:
        raise UsageError("needs at least one founder", where=n_founders)
    changes = sorted(design.condition(condition).perturbation, key=lambda c: (c.onset_h, c.gene))
    genes = dose_genes(design)
    n_seeds = n_founders if start_h == 0 else int(np.ceil(1.4 * n_founders)) + 8
    generation = _seed_generation(n_seeds, params.cycle, rng) | {"dose": np.zeros((n_seeds, len(genes)))}
    finished, next_id = [], 1
    while generation["birth"].size:
        count = generation["birth"].size
        generation["id"] = np.arange(next_id, next_id + count)
        next_id += count
        _perturb(generation, changes, genes, params, rng)
        _end(generation, changes, genes, params, end_h, rng)
        finished.append(generation)
        generation = _daughters(generation, params.cycle, rng)
    cells = _table(finished, genes)
    cells = cells[alive_at(cells, start_h) | (cells["birth_h"] > start_h)]
    if start_h > 0:
        cells = _keep_founders(cells, n_founders, start_h, rng)
    return _renumbered(cells)


def _drawn(
    n: int,
    mean: float,
    cv: float,
    rng: np.random.Generator,
    shared: FloatArray | float = 0.0,
    own: float = 1.0,
) -> FloatArray:
    """Lognormal durations; ``shared`` is a normal part common to sisters, ``own`` the weight of the rest."""
    sd = np.sqrt(np.log1p(cv**2))
    return mean * np.exp(sd * (shared + own * rng.standard_normal(n)) - sd**2 / 2)


def _seed_generation(n: int, cycle: CycleParams, rng: np.random.Generator) -> Cells:
    """Cells at release: most waiting in G0/G1, some of those for ever, the others anywhere in the cycle."""
    g1 = np.maximum(_drawn(n, cycle.g1_h, cycle.cv, rng), cycle.minimum_g1_h)
    s_h, g2_h, m_h = (_drawn(n, mean, cycle.cv, rng) for mean in (cycle.s_h, cycle.g2_h, cycle.m_h))
    arrested = rng.random(n) < cycle.arrested
    lag = _drawn(n, cycle.release_lag_h, cycle.release_cv, rng)
    waited = rng.uniform(24.0, 40.0, n)
    position = rng.random(n) * (g1 + s_h + g2_h + m_h)
    birth = np.where(arrested, -waited, -position)
    s = np.where(arrested, lag, birth + g1)
    leaves = arrested & (rng.random(n) < cycle.quiescent)
    return _schedule(birth, s, s_h, g2_h, m_h, leaves) | {
        "parent": np.zeros(n, np.int64),
        "founder": np.arange(1, n + 1),
    }


def _schedule(
    birth: FloatArray, s: FloatArray, s_h: FloatArray, g2_h: FloatArray, m_h: FloatArray, leaves: np.ndarray
) -> Cells:
    """A generation's columns: birth and S entry (hours), lengths of S, G2 and M, and who leaves the cycle."""
    return {"birth": birth, "s": s, "s_h": s_h, "g2_h": g2_h, "m_h": m_h, "leaves": leaves}


def _perturb(
    cells: Cells,
    changes: list[GeneChange],
    genes: tuple[str, ...],
    params: BiologyParams,
    rng: np.random.Generator,
) -> None:
    """Let cells alive at an onset take up a dose, and let every dose act on what is left of G1."""
    cycle = params.cycle
    activities: list[tuple[str, FloatArray]] = []
    for change in changes:
        column = genes.index(change.gene)
        dose_params = params.dose_of(change.agent)
        n = cells["birth"].size
        normal_end = cells["s"] + cells["s_h"] + cells["g2_h"] + cells["m_h"]
        exposed = (cells["birth"] <= change.onset_h) & (cells["leaves"] | (change.onset_h < normal_end))
        amount = np.exp(dose_params.log_sd * rng.standard_normal(n) - dose_params.log_sd**2 / 2)
        amount = amount * (change.dose if change.dose is not None and not change.dose_unit else 1.0)
        taken = np.where(rng.random(n) < dose_params.without, 0.0, amount)
        cells["dose"][:, column] = np.where(exposed, taken, cells["dose"][:, column])
        key = f"{change.gene}:{change.direction}"
        active = activity(cells["dose"][:, column], dose_params)
        effect = cycle.effects.get(key, CycleEffect())
        log_factor = active * np.log(effect.g1_factor)
        leave = np.clip(active * effect.leave, 0, 1)
        for other, other_active in activities:
            both = cycle.interactions.get("+".join(sorted((key, other))), CycleEffect())
            log_factor = log_factor + active * other_active * np.log(both.g1_factor)
            leave = np.clip(leave + active * other_active * both.leave, 0, 1)
        activities.append((key, active))
        since = np.maximum(cells["birth"], change.onset_h)
        in_g1 = cells["s"] > since
        stretched = since + (cells["s"] - since) * np.exp(log_factor)
        cells["s"] = np.where(in_g1, stretched, cells["s"])
        cells["leaves"] = cells["leaves"] | (in_g1 & (rng.random(n) < leave))


def _end(
    cells: Cells,
    changes: list[GeneChange],
    genes: tuple[str, ...],
    params: BiologyParams,
    end_h: float,
    rng: np.random.Generator,
) -> None:
    """Decide when and how each cell ends: it divides, dies, or the simulation stops first.

    The death rate is the base rate until an onset and is multiplied by the effect from then on.
    """
    cells["s"] = np.where(cells["leaves"], np.inf, cells["s"])
    cells["g2"] = cells["s"] + cells["s_h"]
    cells["m"] = cells["g2"] + cells["g2_h"]
    division = cells["m"] + cells["m_h"]
    rate = np.full(division.size, max(params.cycle.death_per_h, 1e-12))
    left = rng.standard_exponential(division.size)
    since = np.maximum(cells["birth"], 0.0)
    death = np.full(division.size, np.inf)
    for change in changes:
        until = np.maximum(since, change.onset_h)
        used = rate * (until - since)
        death = np.where(np.isinf(death) & (left < used), since + left / rate, death)
        left, since = left - used, until
        effect = params.cycle.effects.get(f"{change.gene}:{change.direction}", CycleEffect())
        active = activity(cells["dose"][:, genes.index(change.gene)], params.dose_of(change.agent))
        rate = rate * np.maximum(effect.death_factor, 1e-6) ** active
    death = np.where(np.isinf(death), since + left / rate, death)
    cells["end"] = np.minimum(np.minimum(division, death), end_h)
    cells["fate"] = np.select([end_h <= np.minimum(division, death), death < division], [2, 1], 0)
    for change in changes:
        column = genes.index(change.gene)
        cells["dose"][:, column] = np.where(cells["end"] <= change.onset_h, 0.0, cells["dose"][:, column])


def _daughters(cells: Cells, cycle: CycleParams, rng: np.random.Generator) -> Cells:
    """Two daughters of every cell that divides: they inherit its doses and share part of their timing."""
    mothers = np.flatnonzero(cells["fate"] == 0)
    n = 2 * mothers.size
    birth = np.repeat(cells["end"][mothers], 2)
    common = np.sqrt(cycle.sister_correlation) * np.repeat(rng.standard_normal(mothers.size), 2)
    own = np.sqrt(1 - cycle.sister_correlation)
    means = (cycle.g1_h, cycle.s_h, cycle.g2_h, cycle.m_h)
    g1, s_h, g2_h, m_h = (_drawn(n, mean, cycle.cv, rng, common, own) for mean in means)
    entry = birth + np.maximum(g1, cycle.minimum_g1_h)
    schedule = _schedule(birth, entry, s_h, g2_h, m_h, np.zeros(n, bool))
    return schedule | {
        "parent": np.repeat(cells["id"][mothers], 2),
        "founder": np.repeat(cells["founder"][mothers], 2),
        "dose": np.repeat(cells["dose"][mothers], 2, axis=0),
    }


def _table(generations: list[Cells], genes: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    joined = {key: np.concatenate([g[key] for g in generations]) for key in generations[0]}
    columns = {
        "cell_id": joined["id"].astype(np.int64),
        "parent_id": joined["parent"].astype(np.int64),
        "founder_id": joined["founder"].astype(np.int64),
        "birth_h": joined["birth"],
        "s_start_h": joined["s"],
        "g2_start_h": joined["g2"],
        "m_start_h": joined["m"],
        "m_length_h": joined["m_h"],
        "end_h": joined["end"],
        "fate": np.array(["divides", "dies", "censored"], dtype=object)[joined["fate"]],
        "leaves_cycle": joined["leaves"],
    }
    columns |= {f"dose_{gene}": joined["dose"][:, i] for i, gene in enumerate(genes)}
    return pd.DataFrame(columns)


def _keep_founders(
    cells: pd.DataFrame, n_founders: int, start_h: float, rng: np.random.Generator
) -> pd.DataFrame:
    """Draw ``n_founders`` of the cells alive at ``start_h`` and keep them and their descendants."""
    alive = cells["cell_id"].to_numpy()[alive_at(cells, start_h)]
    if alive.size < n_founders:
        raise UsageError(
            f"only {alive.size} cells live at {start_h} h, {n_founders} were asked for",
            mend="lower death_per_h or start earlier",
        )
    chosen = set(rng.choice(alive, n_founders, replace=False).tolist())
    founder: dict[int, int] = {}
    for cell, parent in zip(cells["cell_id"], cells["parent_id"], strict=True):
        if cell in chosen:
            founder[cell] = cell
        elif parent in founder:
            founder[cell] = founder[parent]
    kept = cells[cells["cell_id"].isin(founder)].copy()
    kept["founder_id"] = [founder[cell] for cell in kept["cell_id"]]
    kept.loc[kept["cell_id"].isin(chosen), "parent_id"] = 0
    return kept


def _renumbered(cells: pd.DataFrame) -> pd.DataFrame:
    """Ids from 1 without gaps, in order of birth within the generations."""
    old = cells["cell_id"].to_numpy()
    new = np.zeros(int(old.max()) + 1 if old.size else 1, np.int64)
    new[old] = np.arange(1, old.size + 1)
    cells = cells.copy()
    for column in ("cell_id", "parent_id", "founder_id"):
        cells[column] = new[cells[column].to_numpy()]
    return cells.reset_index(drop=True)
