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
    min_signal: float = Field(5.0, ge=0)
    """A reporter whose bright nuclei do not exceed the dark ones by this many times their spread is off
    throughout."""
    window_h: float = Field(0.7, ge=0)
    """Traces are smoothed by the median of what lies within half of this, before and after; gaps are not
    bridged."""
    min_frames: int = Field(3, ge=1)
    """Shorter tracks are called frame by frame, and marked so."""
    mitosis_light: float = Field(0.3, ge=0)
    """M: ln(nuclear brightness) is at least this much above what the track showed some hours before."""
    mitosis_change: float = Field(0.5, gt=0)
    """M without a division in sight: rise of ln(brightness) and fall of ln(area) in sum."""
    mitosis_near: float = Field(0.35, gt=0)
    """The same where a division follows within ``mitosis_window_h``."""
    mitosis_window_h: float = Field(1.5, ge=0)
    """How long before a division that is."""
    mitosis_since_h: float = Field(0.4, ge=0)
    """M without a division in sight: the S/G2/M reporter was last on at most this long before."""
    mitosis_division_h: float = Field(0.9, ge=0)
    """This long before a division a cell whose S/G2/M reporter is on is in M with little other evidence."""
    mitosis_onset: float = 0.05
    """Namely this much of a rise of ln(brightness)."""
    mitosis_reference_h: float = Field(5.0, gt=1)
    """Size and brightness are held against the track's median from this long until one hour before."""
    max_gap_h: float = Field(1.0, gt=0)
    """A change of phase between two frames farther apart than this has no known time."""
    backward_frames: float = Field(3.0, gt=0)
    """A phase that the cycle forbids after the last one is believed if more frames than this say so."""
    position_bounds: tuple[float, float] = (0.45, 0.95)
    """Where S and M begin on the scale of ``cycle_position``, which runs from 0 (birth) to 1 (division)."""
    usual_h: tuple[float, float, float] = (10.0, 11.0, 0.7)
    """Hours of G1, of S to division, and of M, where the table does not show enough whole ones to tell."""
    usual_from: int = Field(10, ge=1)
    """Whole ones from which the table's own median is taken."""
    interval: float = Field(0.95, gt=0.5, lt=1)
    """Level of the confidence intervals of fractions and durations."""
    draws: int = Field(500, ge=50)
    """Draws of the bootstrap over lineages."""
    seed: int = Field(0, ge=0)
    """Of the bootstrap: same seed, same intervals."""
