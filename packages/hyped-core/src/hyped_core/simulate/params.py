"""Parameters of the simulated cell cycle and of the RNA doses; the gene programme has its own module."""

from __future__ import annotations

from pydantic import Field

from hyped_core.params import Params


class CycleEffect(Params):
    """What changing one gene does to the cycle at dose 1; `CycleParams.effects` names gene and direction."""

    g1_factor: float = Field(1.0, gt=0)
    """What is left of G1 is stretched by this factor (to the power of the activity)."""
    leave: float = Field(0.0, ge=0, le=1)
    """Probability that a cell in G1 leaves the cycle for good instead of entering S."""
    death_factor: float = Field(1.0, ge=0)
    """Death rate times this (to the power of the activity)."""


class DoseParams(Params):
    """How much of an agent a cell takes up: nothing, or a lognormal amount of mean 1."""

    without: float = Field(0.2, ge=0, le=1)
    """Share of cells that take up none."""
    log_sd: float = Field(0.45, ge=0)
    """Standard deviation of the natural log of the dose among those that do."""
    saturation: float = Field(0.5, gt=0)
    """Half-saturating dose of the response; activity is ``(1 + k) d / (d + k)``, 1 at dose 1."""


class CycleParams(Params):
    """Durations (hours) of the phases, how cells start at release and what perturbations do to them."""

    g1_h: float = Field(10.0, gt=0)
    s_h: float = Field(7.0, gt=0)
    g2_h: float = Field(3.5, gt=0)
    m_h: float = Field(0.8, gt=0)
    cv: float = Field(0.2, ge=0, lt=1)
    """Coefficient of variation of each duration."""
    sister_correlation: float = Field(0.5, ge=0, le=1)
    """Correlation of the durations of two sisters, on the log scale."""
    minimum_g1_h: float = Field(3.5, gt=0)
    """No G1 is shorter; has to exceed `ReporterParams.dark_h`."""
    arrested: float = Field(0.88, ge=0, le=1)
    """Share of the cells that starvation brought into G0/G1; the others are anywhere in the cycle at 0 h."""
    release_lag_h: float = Field(11.0, gt=0)
    """Mean hours from release to S entry of an arrested cell."""
    release_cv: float = Field(0.35, ge=0, lt=1)
    quiescent: float = Field(0.1, ge=0, le=1)
    """Share of the arrested cells that never enter the cycle."""
    death_per_h: float = Field(0.0012, ge=0)
    effects: dict[str, CycleEffect] = {
        "MYOD1:activation": CycleEffect(g1_factor=1.8, leave=0.5, death_factor=1.5),
        "PRRX1:suppression": CycleEffect(g1_factor=1.08, leave=0.05, death_factor=1.1),
    }
    """``"GENE:direction"`` -> effect. What is not listed has none."""
    interactions: dict[str, CycleEffect] = {
        "MYOD1:activation+PRRX1:suppression": CycleEffect(g1_factor=1.2, leave=0.15),
    }
    """Two keys of ``effects``, alphabetical, joined by ``+`` -> what both together do beyond each alone."""


class ReporterParams(Params):
    """When a FUCCI reporter counts as on. The levels cross ``threshold`` exactly at the phase boundaries."""

    dark_h: float = Field(2.0, gt=0)
    """Hours after division in which both reporters are off."""
    g1s_h: float = Field(1.2, gt=0)
    """Hours after S entry in which both are on."""
    threshold: float = Field(0.3, gt=0, lt=0.5)
    sg2m_rise_h: float = Field(0.5, gt=0)
    """Time scale of the rise of the S/G2/M reporter at S entry."""


class BiologyParams(Params):
    """All parameters of the latent biology of cells; one section shared by both simulators."""

    cycle: CycleParams = CycleParams()
    reporters: ReporterParams = ReporterParams()
    dose: DoseParams = DoseParams()
    """Dose heterogeneity where ``doses`` has no entry for the agent."""
    doses: dict[str, DoseParams] = {
        "siRNA": DoseParams(without=0.1, log_sd=0.35),
        "mmRNA": DoseParams(without=0.2, log_sd=0.5),
    }
    """Agent -> dose heterogeneity."""

    def dose_of(self, agent: str) -> DoseParams:
        """Dose heterogeneity of ``agent``."""
        return self.doses.get(agent, self.dose)
