"""Parameters of the tracker ``lap``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from hyped_core.params import Params

if TYPE_CHECKING:
    from hyped_core.design import Design


class LapConfig(Params):
    """How far nuclei go, how long they may be missed, and what a division looks like."""

    max_speed_um_h: float = Field(40.0, gt=0)
    """Fastest nucleus to follow, micrometres an hour."""
    slack_um: float = Field(5.0, ge=0)
    """Added to every gate: error of the centroid and of the stage."""
    persistence_h: float = Field(1.0, gt=0)
    """Time over which a nucleus keeps its direction: gates grow with time before, with its square root
    after."""
    velocity_memory: float = Field(0.3, ge=0, le=1)
    """Share of the last displacement that the next one is expected to repeat (per the same time)."""
    area_weight: float = Field(0.25, ge=0)
    """Weight of the change of ln(area) in the cost of a link."""
    intensity: str | None = "Cy5"
    """Channel whose ``integrated_<channel>`` tells nuclei and divisions apart, where the table has it."""
    intensity_weight: float = Field(0.25, ge=0)
    """Weight of the change of ln(integrated intensity) in the cost of a link."""
    reporters: tuple[str, ...] = ()
    """Channels whose ``mean_<channel>`` tells nuclei apart, such as FUCCI's, where the table has them."""
    reporter_weight: float = Field(0.1, ge=0)
    """Weight of the change of a reporter in the cost of a link."""
    appearance_cost: float = Field(0.75, ge=0)
    """What a track costs that begins after the first frame. A link is made where it costs less than an end
    and a beginning: its squared distance over the squared gate, plus the weighted changes."""
    disappearance_cost: float = Field(0.75, ge=0)
    """What a track costs that ends before the last frame."""
    edge_um: float = Field(10.0, ge=0)
    """Nuclei nearer to the edge of the field than this come and go easily."""
    edge_share: float = Field(0.9, ge=0)
    """Share of the costs of appearance and disappearance that holds there."""
    max_gap_h: float = Field(1.5, ge=0)
    """Longest time a nucleus may be missed; one missed frame is always bridged."""
    gap_penalty: float = Field(0.1, ge=0)
    """Added for each missed frame."""
    divisions: bool = True
    """Look for divisions."""
    max_division_um: float = Field(36.0, gt=0)
    """Farthest two new daughters may lie apart; half of it is how far their middle may lie from the
    mother."""
    division_cost: float = Field(2.3, gt=0)
    """A division is made where it costs less (see `hyped_imaging.track.divisions.division_costs`)."""
    condensation: float = Field(0.4, gt=0)
    """Rise of ln mean intensity that a nucleus about to divide shows against its own past."""
    condensation_weight: float = Field(1.6, ge=0)
    """What a mother that shows none of it adds to the cost of a division."""
    max_daughter_delay_h: float = Field(1.0, ge=0)
    """How much later than the first the second daughter may be seen."""
    min_daughter_frames: int = Field(3, ge=1)
    """Daughters that vanish sooner are segmentation errors, not daughters (unless the movie ends)."""
    min_cycle_h: float = Field(6.0, ge=0)
    """Shortest time between two divisions of one lineage."""
    time_limit_s: float | None = Field(None, gt=0)
    """Seconds after which the tracker stops; what it has by then is the answer: frames that it did not reach
    are unassigned, gaps and divisions may be missing. None: no limit."""
    min_frames: int = Field(1, ge=1)
    """Tracks with fewer objects, without parent and daughters, are left unassigned."""

    @classmethod
    def for_design(cls, values: dict[str, Any], design: Design) -> dict[str, Any]:
        """``values`` with the design's nuclear channel as ``intensity`` where the user named none."""
        return {"intensity": design.nuclear_channel(), **values}

    def reach_um(self, hours: Any) -> Any:
        """Gate in micrometres after ``hours`` (number or array)."""
        import numpy as np

        hours = np.asarray(hours, dtype=np.float64)
        effective = np.sqrt(hours * np.minimum(hours, self.persistence_h))
        return self.slack_um + self.max_speed_um_h * effective
