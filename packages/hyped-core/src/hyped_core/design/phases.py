"""Named systems of cell-cycle phases and the one coarse map that lets them be compared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hyped_core.errors import InvalidDataError

COARSE_PHASES = ("G1", "S_G2M")
"""The only two phases that imaging and sequencing both can tell apart."""


@dataclass(frozen=True, slots=True)
class PhaseSystem:
    """A set of phase names and where each lies on the coarse map (None: nowhere)."""

    name: str
    phases: tuple[str, ...]
    coarse: dict[str, str | None]


PHASE_SYSTEMS: dict[str, PhaseSystem] = {
    "fucci": PhaseSystem(
        "fucci",
        ("G1", "G1S", "S_G2M", "dark", "M"),
        {"G1": "G1", "G1S": "S_G2M", "S_G2M": "S_G2M", "dark": "G1", "M": "S_G2M"},
    ),
    "rna": PhaseSystem("rna", ("G1", "S", "G2M"), {"G1": "G1", "S": "S_G2M", "G2M": "S_G2M"}),
}
"""``fucci``: G1 (Cdt1 reporter on), G1S (both on), S_G2M (Geminin reporter on), dark (both off: early G1), M.
``rna``: what expression and DNA content tell. Cells dark in both reporters have just divided and count as G1."""


def coarse_phase(phases: Iterable[object], system: str) -> npt.NDArray[np.object_]:
    """Map phases of ``system`` to ``COARSE_PHASES``; unknown or missing phases become None.

    >>> list(coarse_phase(["dark", "G1S", ""], "fucci"))
    ['G1', 'S_G2M', None]
    """
    if system not in PHASE_SYSTEMS:
        raise InvalidDataError(
            f"there is no phase system {system!r}", mend=f"systems: {', '.join(PHASE_SYSTEMS)}"
        )
    table = PHASE_SYSTEMS[system].coarse
    return np.array([table.get(str(phase)) for phase in phases], dtype=object)
