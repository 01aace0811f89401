"""The experiment's design: what was done to which cells, when, and what the design cannot show."""

from hyped_core.design.model import (
    Channel,
    Condition,
    Design,
    DesignFlags,
    Event,
    GeneChange,
    Hashtag,
    Perturbation,
    Pool,
    Scene,
    Timeline,
    default_design,
    read_design,
)
from hyped_core.design.phases import COARSE_PHASES, PHASE_SYSTEMS, PhaseSystem, coarse_phase

__all__ = [
    "COARSE_PHASES",
    "PHASE_SYSTEMS",
    "Channel",
    "Condition",
    "Design",
    "DesignFlags",
    "Event",
    "GeneChange",
    "Hashtag",
    "Perturbation",
    "PhaseSystem",
    "Pool",
    "Scene",
    "Timeline",
    "coarse_phase",
    "default_design",
    "read_design",
]
