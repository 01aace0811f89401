"""What a figure shows, free of any drawing library: drawn as Plotly for the page and as SVG for papers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    """A straight reference line at ``value`` of one axis.

    Attributes
    ----------
    tier : how many lines of text above the axes its label stands, so that labels do not cover one another.
    anchor : which end of the label is at the line.
    """

    value: float
    label: str = ""
    axis: Literal["x", "y"] = "x"
    colour: str = GREY
    dash: Literal["solid", "dash", "dot"] = "dash"
    width: float = 1
    tier: int = 0
    anchor: Literal["left", "center", "right"] = "center"


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes.

    Attributes
    ----------
    matrix : (rows, columns) for ``heat``, with the names of both.
    names : for ``intervals``, every row from top to bottom, those without a value too.
    words : for ``intervals``, row -> what is written there in place of a value (``failed``).
    muted : why this panel tells nothing; it is drawn in grey. "" where it tells.
    """

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
    x_range: tuple[float, float] | None = None
    colour_label: str = ""
    names: tuple[str, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    muted: str = ""

    @property
    def tiers(self) -> int:
        """Lines of labels above the axes."""
        return max((rule.tier + 1 for rule in self.rules if rule.label and rule.axis == "x"), default=0)


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


NARROW = 250
"""Width in pixels of the axes on a phone: labels that fit there fit everywhere."""
LETTER = 5.6
"""Width of a letter of a label, in pixels."""
NEAR = 0.006
"""Lines closer than this share of the axis are one line with all their names."""


def spread(rules: Sequence[Rule], ends: tuple[float, float]) -> tuple[Rule, ...]:
    """Vertical rules with their labels placed in lines above the axes, so that none covers another.

    Rules at (nearly) the same value become one that bears their names; of a group the first one's look is kept.
    """
    span = (ends[1] - ends[0]) or 1.0
    merged: list[Rule] = []
    for rule in sorted(rules, key=lambda r: (r.value, -r.width)):
        last = merged[-1] if merged else None
        if last is not None and (rule.value - last.value) / span < NEAR and rule.dash == last.dash:
            label = ", ".join(filter(None, (last.label, rule.label)))
            merged[-1] = replace(last, label=label, width=max(last.width, rule.width))
        else:
            merged.append(rule)
    taken: list[list[tuple[float, float]]] = []
    placed = []
    for rule in merged:
        place, wide = (rule.value - ends[0]) / span * NARROW, len(rule.label) * LETTER + 6
        anchor: Literal["left", "center", "right"] = "center"
        start = place - wide / 2
        if start < -20:
            anchor, start = "left", place
        elif start + wide > NARROW + 10:
            anchor, start = "right", place - wide
        tier = 0
        while tier < len(taken) and any(start < right and left < start + wide for left, right in taken[tier]):
            tier += 1
        if tier == len(taken):
            taken.append([])
        taken[tier].append((start, start + wide))
        placed.append(replace(rule, tier=tier, anchor=anchor))
    return tuple(placed)
