"""What ``HypedData.select`` restricts: conditions, replicates, phases, hours, in tables and frames."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_core.design import COARSE_PHASES, PHASE_SYSTEMS, Design, coarse_phase
from hyped_core.errors import InvalidDataError

if TYPE_CHECKING:
    import pandas as pd


def _tuple(value: object) -> tuple | None:
    if value is None or isinstance(value, tuple):
        return value
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)


def phase_system_of(table: str) -> str:
    """The phase system a table's ``phase`` column is in."""
    return "fucci" if table in ("nuclei", "tracks") else "rna"


@dataclass(frozen=True, slots=True)
class Selection:
    """A restriction; None leaves a factor free. ``coarse`` reads phases by the map to G1 and S_G2M."""

    condition: tuple[str, ...] | None = None
    replicate: tuple[int, ...] | None = None
    phase: tuple[str, ...] | None = None
    time: tuple[float, float] | None = None
    coarse: bool = False

    @classmethod
    def make(
        cls,
        design: Design,
        condition: object = None,
        replicate: object = None,
        phase: object = None,
        time: tuple[float, float] | None = None,
        coarse: bool = False,
    ) -> Selection:
        """Check the values against the design and the phase systems."""
        conditions, phases = _tuple(condition), _tuple(phase)
        for name in conditions or ():
            design.condition(name)
        known = set(COARSE_PHASES) if coarse else {p for s in PHASE_SYSTEMS.values() for p in s.phases}
        unknown = [p for p in phases or () if p not in known]
        if unknown:
            raise InvalidDataError(
                f"there is no phase {unknown[0]!r}", mend=f"phases: {', '.join(sorted(known))}"
            )
        if time is not None and (len(time) != 2 or not time[0] <= time[1]):
            raise InvalidDataError(f"time must be (lowest, highest) in hours, not {time}")
        return cls(conditions, _tuple(replicate), phases, time, coarse)

    def and_(self, other: Selection) -> Selection:
        """Both restrictions at once."""
        if self.phase is not None and other.phase is not None and self.coarse != other.coarse:
            raise InvalidDataError("phases of a system and coarse phases cannot be combined in one selection")

        def both(a: tuple | None, b: tuple | None) -> tuple | None:
            return b if a is None else a if b is None else tuple(v for v in a if v in b)

        time = other.time if self.time is None else self.time
        if self.time is not None and other.time is not None:
            time = (max(self.time[0], other.time[0]), min(self.time[1], other.time[1]))
        return replace(
            self,
            condition=both(self.condition, other.condition),
            replicate=both(self.replicate, other.replicate),
            phase=both(self.phase, other.phase),
            time=time,
            coarse=self.coarse or other.coarse,
        )

    @property
    def free(self) -> bool:
        """True where nothing is restricted."""
        return self == Selection()

    def scene_ok(self, design: Design, scene: str) -> bool:
        """True where a scene's condition and replicate are selected (a scene the design lacks is not)."""
        if self.condition is None and self.replicate is None:
            return True
        found = next((s for s in design.scenes if s.name == scene), None)
        if found is None:
            return False
        return (self.condition is None or found.condition in self.condition) and (
            self.replicate is None or found.replicate in self.replicate
        )

    def frames(self, time_h: npt.NDArray[np.float64]) -> list[int]:
        """Indices of the frames within the selected hours."""
        if self.time is None:
            return list(range(len(time_h)))
        return np.flatnonzero((time_h >= self.time[0]) & (time_h <= self.time[1])).tolist()

    def rows(self, table: str, obs: pd.DataFrame, harvest_h: float | None) -> npt.NDArray[np.bool_] | str:
        """Mask of selected rows, or why the table has none to offer (a factor it does not know)."""
        mask = np.ones(len(obs), dtype=bool)
        for column, wanted in (("condition", self.condition), ("replicate", self.replicate)):
            if wanted is None:
                continue
            if column not in obs:
                return f"has no {column}"
            mask &= obs[column].isin(wanted).to_numpy()
        if self.phase is not None:
            if "phase" not in obs:
                return "has no phase"
            system = phase_system_of(table)
            if self.coarse:
                mask &= np.isin(coarse_phase(obs["phase"], system).astype(str), self.phase)
            else:
                named = [p for p in self.phase if p in PHASE_SYSTEMS[system].phases]
                if not named:
                    return f"its phases are of the system {system!r}, which has no {' or '.join(self.phase)}"
                mask &= obs["phase"].isin(named).to_numpy()
        if self.time is None:
            return mask
        low, high = self.time
        if "time_h" in obs:
            return mask & obs["time_h"].between(low, high).to_numpy()
        if {"first_h", "last_h"} <= set(obs.columns):
            return mask & ((obs["first_h"] <= high) & (obs["last_h"] >= low)).to_numpy()
        if harvest_h is None:
            return "has no time (the design names no event 'harvest')"
        return mask & (low <= harvest_h <= high)
