"""Parameters of the step ``phases``."""

from __future__ import annotations

from pydantic import Field

from hyped_core.params import Params


class PhaseParams(Params):
    """How reporter traces become phases. Which channel reports what is the design's to say."""

    on_share: float = Field(0.3, gt=0, lt=1)
    """A reporter counts as on above this share of what bright nuclei of the movie show."""
    bright_quantile: float = Field(0.95, gt=0.5, le=1)
    """Which quantile of the nuclei whose reporter is on is "bright"."""
    window_h: float = Field(0.7, ge=0)
    """Traces are smoothed by the median of what lies within half of this, before and after; gaps are not
    bridged."""
    min_frames: int = Field(3, ge=1)
    """Shorter tracks are called frame by frame, and marked so."""
    mitosis: float = Field(0.7, gt=0)
    """M: ln(nuclear brightness) rises, minus ln(area) falls, by this much against the track's median, in
    sum."""
    mitosis_window_h: float = Field(1.5, ge=0)
    """M is looked for this long before a division, or this long after the S/G2/M reporter was last on."""
    min_signal: float = Field(5.0, ge=0)
    """A reporter whose bright nuclei do not exceed the dark ones by this many times their spread is off
    throughout."""
