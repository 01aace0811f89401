"""Which conditions are held against which, what each contrast cannot say, and adjusted p-values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from hyped_core.design import Design
from hyped_core.design.model import CONTROL

REST = "rest"
"""Reference of a contrast with all other perturbed conditions together."""

ALL_PHASES = "all"
"""Value of the column ``phase`` where cells of every phase (and of none) are taken."""

INFERENCE = "cells as units, not replicates"
POOLED = "cells as units: wells were pooled, no replicates"


@dataclass(frozen=True, slots=True)
class Contrast:
    """Cells of the condition ``group`` against cells of the conditions ``members``."""

    group: str
    members: tuple[str, ...]
    warning: str = ""

    @property
    def reference(self) -> str:
        """The one condition it is held against, or ``rest``."""
        return self.members[0] if len(self.members) == 1 else REST

    @property
    def name(self) -> str:
        """``<group>_vs_<reference>``."""
        return f"{self.group}_vs_{self.reference}"


@dataclass(frozen=True)
class Stratum:
    """The cells that are compared with one another, and the contrasts among them.

    Attributes
    ----------
    phase : `ALL_PHASES` or the phase of the cells.
    condition : (cells,) condition of each cell that takes part, "" for the others.
    contrasts : what is compared.
    left_out : conditions with too few cells here, and how many they have.
    """

    phase: str
    condition: npt.NDArray[np.object_]
    contrasts: tuple[Contrast, ...]
    left_out: dict[str, int]


def plan_strata(
    condition: pd.Series,
    phase: pd.Series,
    pool: pd.Series,
    design: Design,
    *,
    phases: Iterable[str],
    min_group: int,
    pairwise: bool = True,
) -> list[Stratum]:
    """All cells together, then the cells of each phase: both sides of a contrast hold that phase alone.

    ``condition`` is "" for cells that are not to be tested. A phase in which nothing can be compared still has
    its stratum, without contrasts, so that its ``left_out`` says why.
    """
    strata = []
    known = sorted(set(condition) - {""})
    for name in (ALL_PHASES, *phases):
        here = condition if name == ALL_PHASES else condition.where(phase == name, "")
        plans = plan_contrasts(here, pool, design, min_group, pairwise=pairwise, within_phase=name != ALL_PHASES)
        sizes = {k: int((here == k).sum()) for k in known}
        used = {name for plan in plans for name in (plan.group, *plan.members)}
        strata.append(
            Stratum(
                name,
                here.where(here.isin(used), "").to_numpy(dtype=object),
                tuple(plans),
                {k: n for k, n in sizes.items() if n < min_group},
            )
        )
    return strata


def plan_contrasts(
    condition: pd.Series,
    pool: pd.Series,
    design: Design,
    min_group: int,
    *,
    pairwise: bool = True,
    within_phase: bool = False,
) -> list[Contrast]:
    """Each perturbed condition against control, against the other perturbed ones together, and pairs of these.

    Conditions are in the order of the design; of a pair the later is the group. Of two perturbed conditions the
    pair is all there is. A contrast whose two sides share no pool carries a warning: what it shows may be the
    pool. So does one with a condition whose phases were set by sorting, unless both sides hold one phase alone.
    """
    counts = condition[condition != ""].value_counts()
    order = [item.name for item in design.conditions]
    names = sorted(
        (name for name in counts.index if counts[name] >= min_group),
        key=lambda n: (order.index(n) if n in order else len(order), n),
    )
    perturbed = [name for name in names if name != CONTROL]
    pools = {name: set(pool[condition == name]) for name in names}
    sides: list[tuple[str, tuple[str, ...]]] = []
    if CONTROL in names:
        sides += [(name, (CONTROL,)) for name in perturbed]
    if len(perturbed) > 2:
        sides += [(name, tuple(n for n in perturbed if n != name)) for name in perturbed]
    if pairwise or len(perturbed) == 2:
        sides += [(later, (earlier,)) for i, earlier in enumerate(perturbed) for later in perturbed[i + 1 :]]
    return [Contrast(group, members, _warning(group, members, pools, design, within_phase)) for group, members in sides]


def _warning(
    group: str, members: tuple[str, ...], pools: dict[str, set[str]], design: Design, within_phase: bool
) -> str:
    notes = []
    if not pools[group] & set().union(*(pools[name] for name in members)):
        notes.append("confounded with pool")
    of_sorted = {group, *members} & set(design.sorted_conditions())
    if of_sorted and not within_phase:
        notes.append(f"phase composition of {'+'.join(sorted(of_sorted))} set by sorting")
    elif of_sorted and not {group, *members} <= of_sorted:
        notes.append(f"phases of {'+'.join(sorted(of_sorted))} by sorting and of the others from expression")
    return "; ".join(notes)


def inference_note(design: Design) -> str:
    """What stands beside every p-value: cells are the units, not replicates."""
    return POOLED if design.flags.pooled_wells else INFERENCE


def benjamini_hochberg(p_values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Adjusted p-values (Benjamini and Hochberg 1995) along the last axis; NaN counts as 1."""
    p = np.nan_to_num(np.asarray(p_values, dtype=float), nan=1.0)
    count = p.shape[-1]
    order = np.argsort(p, axis=-1, kind="stable")
    ranked = np.take_along_axis(p, order, axis=-1) * count / np.arange(1, count + 1)
    lowest = np.minimum(np.minimum.accumulate(ranked[..., ::-1], axis=-1)[..., ::-1], 1)
    adjusted = np.empty_like(lowest)
    np.put_along_axis(adjusted, order, lowest, axis=-1)
    return adjusted
