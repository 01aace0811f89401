"""Shares of phases over time, by condition and replicate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyped_core.design import COARSE_PHASES, PHASE_SYSTEMS, coarse_phase

if TYPE_CHECKING:
    import pandas as pd

KEYS = ["condition", "replicate", "frame", "time_h"]


def phase_fractions(table: pd.DataFrame) -> pd.DataFrame:
    """Share of each phase among the nuclei with a phase, by condition, replicate and frame.

    Columns ``condition, replicate, frame, time_h, system`` (``fucci`` or ``coarse``), ``phase, n, n_total,
    fraction``; phases that no nucleus is in have rows too.
    """
    import pandas as pd

    called = table[table["phase"] != ""]
    parts = []
    for system, phases, values in (
        ("fucci", PHASE_SYSTEMS["fucci"].phases, called["phase"]),
        ("coarse", COARSE_PHASES, pd.Series(coarse_phase(called["phase"], "fucci"), index=called.index)),
    ):
        counted = pd.DataFrame({phase: (values == phase).astype(int) for phase in phases}, index=called.index)
        counts = pd.concat([called[KEYS], counted], axis=1).groupby(KEYS, as_index=False, sort=True).sum()
        counts["n_total"] = counts[list(phases)].sum(axis=1)
        long = counts.melt(id_vars=[*KEYS, "n_total"], var_name="phase", value_name="n")
        long["system"] = system
        long["fraction"] = (long["n"] / long["n_total"]).round(6)
        parts.append(long)
    columns = [*KEYS, "system", "phase", "n", "n_total", "fraction"]
    return pd.concat(parts, ignore_index=True)[columns].sort_values(
        ["condition", "replicate", "system", "frame", "phase"], ignore_index=True
    )
