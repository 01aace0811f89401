"""Changes of conditions from control: phenotypes of nuclei over time, and mean expression of cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_bench.tasks.crossmodal.courses import QUANTITIES, SceneSums
from hyped_core.design.model import CONTROL

if TYPE_CHECKING:
    from anndata import AnnData

FloatArray = npt.NDArray[np.float64]


@dataclass(slots=True)
class Changes:
    """Changes from control of all perturbed conditions: (1 + draws, conditions, columns), row 0 as measured."""

    values: FloatArray
    columns: list[str]


def phenotype_changes(
    scenes: list[SceneSums], values: dict[str, FloatArray], units: list[str], quantities: tuple[str, ...]
) -> Changes:
    """Changes from control (rows, units, quantities x windows), each condition the mean of its scenes.

    Growth in the first window is 0 by definition and left out.
    """
    columns = [QUANTITIES.index(q) for q in quantities]
    means = {}
    for name in (*units, CONTROL):
        own = [values[s.scene][..., columns] for s in scenes if s.condition == name]
        means[name] = np.mean(own, axis=0)
    gaps = np.stack([means[name] - means[CONTROL] for name in units], axis=1)
    gaps = np.moveaxis(gaps, -1, -2)
    names = [(q, i, f"{q}@{t:g}") for q in quantities for i, t in enumerate(scenes[0].time_h)]
    kept = np.array([not (q == "growth" and i == 0) for q, i, _ in names])
    flat = gaps.reshape(*gaps.shape[:2], -1)[..., kept]
    return Changes(np.nan_to_num(flat), [text for (_, _, text), k in zip(names, kept, strict=True) if k])


def expression_changes(
    cells: AnnData, weights: dict[str, npt.NDArray], units: list[str], detected: float, *, scores: bool
) -> Changes:
    """Changes from control (rows, units, genes), cells of each condition weighted by ``weights`` (rows, cells)."""
    condition = cells.obs["condition"].astype(str).to_numpy()
    parts = {name: cells.X[np.flatnonzero(condition == name)] for name in weights}
    share = np.max([np.asarray((part > 0).mean(axis=0)).ravel() for part in parts.values()], axis=0)
    kept = np.flatnonzero(share >= max(detected, 1e-12))
    means = {name: np.asarray(weights[name] @ part[:, kept], dtype=float) for name, part in parts.items()}
    columns = [str(n) for n in cells.var_names[kept]]
    extra = [c for c in ("score_S", "score_G2M") if scores and c in cells.obs and np.isfinite(cells.obs[c]).all()]
    for name in weights if extra else ():
        table = cells.obs[extra].to_numpy(float)[condition == name]
        means[name] = np.concatenate([means[name], weights[name] @ table], axis=1)
    return Changes(np.stack([means[n] - means[CONTROL] for n in units], axis=1), columns + extra)
