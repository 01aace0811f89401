"""What a figure shows, free of any drawing library: drawn as Plotly for the page and as SVG for papers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

PALETTE = ("#0072b2", "#e69f00", "#cc79a7", "#009e73", "#56b4e9", "#d55e00", "#9467bd", "#a6761d")
"""Okabe and Ito's colours (told apart by the colour-blind), on light and on dark ground."""

GREY = "#8c8c8c"
PALE = "#bfc5cc"
"""Of what is not known."""

PHASE_COLOURS = {
    "G1": "#d55e00",
    "G1S": "#e69f00",
    "S": "#56b4e9",
    "S_G2M": "#009e73",
    "G2M": "#0072b2",
    "M": "#cc79a7",
    "dark": "#8c8c8c",
}
"""Colours of phases of both systems: those of the FUCCI probes where there is one."""

Kind = Literal["lines", "bars", "points", "intervals", "heat"]


@dataclass(frozen=True, slots=True)
class Series:
    """Values that share a colour and a name.

    Attributes
    ----------
    x, y : equally long; for ``intervals`` x are values and y names, for ``bars`` x are names.
    low, high : ends of an interval beside each value of y (of x for ``intervals``); None where unknown.
    """

    name: str
    x: Sequence[float | str | None]
    y: Sequence[float | str | None]
    colour: str = PALETTE[0]
    low: Sequence[float | None] | None = None
    high: Sequence[float | None] | None = None
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """A straight reference line at ``value`` of one axis."""

    value: float
    label: str = ""
    axis: Literal["x", "y"] = "x"
    colour: str = GREY


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes. ``matrix`` is (rows, columns) for ``heat``, with the names of both."""

    kind: Kind
    title: str = ""
    x_label: str = ""
    y_label: str = ""
    series: tuple[Series, ...] = ()
    rules: tuple[Rule, ...] = ()
    matrix: tuple[tuple[float | None, ...], ...] = ()
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    y_range: tuple[float, float] | None = None
    colour_label: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure of one or more panels.

    Attributes
    ----------
    caption : said below it. ``alt`` : what it shows, for who cannot see it.
    legend : name and colour of what is shared by the panels.
    height : of each panel on the page, in pixels.
    """

    caption: str
    alt: str
    panels: tuple[Panel, ...]
    legend: tuple[tuple[str, str], ...] = field(default=())
    height: int = 320


def condition_colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each condition, grey for the control."""
    others = [name for name in names if name != "control"]
    found = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(others)}
    return {**found, "control": GREY} if "control" in names else found


def phase_legend(phases: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Names and colours of phases for a legend."""
    return tuple((name, PHASE_COLOURS.get(name, GREY)) for name in phases)
