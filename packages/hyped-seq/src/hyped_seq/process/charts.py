"""Small charts as inline SVG: knees, histograms, stacked shares, bars, and maps of cells as pictures."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hyped_core.process.page import LINES, data_uri, indexed_png

GREY = "#c4cad1"
INK = "#5a6572"
PALETTE = (*LINES, "#000000", "#f0e442")
"""Colours that colour-blind readers tell apart, as many as there are (Okabe and Ito 2008)."""
PHASE_COLOURS = {"G1": LINES[0], "S": LINES[1], "G2M": LINES[3], "": GREY}
MAP_PX = 960
"""Side of a map's picture; shown at half of it."""


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour a name, in order; "" is grey. Beyond `PALETTE` they repeat."""
    named = [name for name in names if name]
    return {**{name: PALETTE[k % len(PALETTE)] for k, name in enumerate(named)}, "": GREY}


@dataclass(frozen=True, slots=True)
class Frame:
    """The part of a picture that holds the data: its size in pixels, and the ranges of x and y (log10 where so)."""

    width: int
    height: int
    x: tuple[float, float]
    y: tuple[float, float]
    left: int = 44
    bottom: int = 34
    top: int = 20
    right: int = 18

    def at_x(self, value: float) -> float:
        """Pixel of ``value``."""
        span = max(self.x[1] - self.x[0], 1e-9)
        return self.left + (value - self.x[0]) / span * (self.width - self.left - self.right)

    def at_y(self, value: float) -> float:
        """Pixel of ``value``."""
        span = max(self.y[1] - self.y[0], 1e-9)
        return self.height - self.bottom - (value - self.y[0]) / span * (self.height - self.bottom - self.top)

    def svg(self, title: str, parts: Sequence[str]) -> str:
        """The picture, ``title`` above the data."""
        axes = (
            f'<path d="M{self.left} {self.top}V{self.height - self.bottom}H{self.width - self.right}" '
            f'fill="none" stroke="#9aa4af"/>'
        )
        head = text(self.left, 12, title, 12, "start", "#1c2430")
        return (
            f'<svg width="{self.width}" height="{self.height}" viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-label="{html.escape(title)}">{head}{axes}{"".join(parts)}</svg>'
        )

    def ticks(self, xs: Mapping[float, str], ys: Mapping[float, str], label: str = "") -> list[str]:
        """Labels of places on both axes, and what x is."""
        low = self.height - self.bottom
        parts = [text(self.at_x(v), low + 13, name, 10, "middle") for v, name in xs.items()]
        parts += [text(self.left - 4, self.at_y(v) + 3, name, 10, "end") for v, name in ys.items()]
        return [*parts, text((self.left + self.width - self.right) / 2, low + 27, label, 10, "middle")]


def text(x: float, y: float, said: str, size: int, anchor: str, fill: str = INK) -> str:
    """Words in a picture."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{fill}">'
        f"{html.escape(said)}</text>"
    )


def decades(low: float, high: float) -> dict[float, str]:
    """Powers of ten between two log10 values."""
    return {float(k): short(10.0**k) for k in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)}


def short(value: float) -> str:
    """A number in five letters at most.

    >>> [short(v) for v in (0, 0.0625, 7.125, 165, 1650, 16500, 123456, 2.5e6)]
    ['0', '0.062', '7.1', '165', '1.6k', '16k', '123k', '2.5M']
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:
            return f"{_plain(value / size)}{letter}"
    return _plain(value)


def _plain(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 9.95 else f"{value:.1f}".removesuffix(".0") if abs(value) >= 1 else (
        f"{value:.3f}".rstrip("0").rstrip(".") or "0")  # fmt: skip


def knee(counts: Mapping[str, npt.NDArray], bounds: Mapping[str, float]) -> str:
    """Molecules of the cells of each pool by rank, both on a log scale; the least that is kept is dashed."""
    ordered = {name: np.log10(np.maximum(np.sort(values)[::-1], 1)) for name, values in counts.items()}
    ranks = max(len(values) for values in ordered.values())
    top = max(float(values[0]) for values in ordered.values())
    low = min(float(values[-1]) for values in ordered.values())
    floor = math.floor(low)
    frame = Frame(520, 260, (0.0, max(math.log10(ranks), 0.3)), (floor, max(math.ceil(top), floor + 1)))
    parts = frame.ticks(decades(*frame.x), decades(*frame.y), "cells, richest first")
    shades = colours(list(ordered))
    for k, (name, values) in enumerate(ordered.items()):
        picked = np.unique(np.geomspace(1, len(values), 160).astype(int))
        points = " ".join(f"{frame.at_x(math.log10(r)):.1f},{frame.at_y(values[r - 1]):.1f}" for r in picked)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{shades[name]}" stroke-width="2"/>')
        parts.append(text(frame.left + 12, frame.height - frame.bottom - 10 - 15 * k, name, 12, "start", shades[name]))
        if bounds.get(name, 0) >= 1:
            y = frame.at_y(math.log10(bounds[name]))
            parts.append(f'<path d="M{frame.left} {y:.1f}H{frame.width - frame.right}" stroke="{shades[name]}" '
                         'stroke-dasharray="4 3"/>')  # fmt: skip
    return frame.svg("molecules a cell", parts)


def histograms(
    title: str, groups: Mapping[str, tuple[npt.NDArray, str]], *, log: bool, marks: Sequence[float] = (),
    label: str = "", bins: int = 40, share: bool = False,
) -> str:  # fmt: skip
    """Outlined histograms over one another.

    Parameters
    ----------
    groups : name -> (values, colour). ``share``: each is scaled to its own highest bin.
    log : whether x is log10(1 + value).
    marks : values at which a dashed line stands.
    """
    scaled = {name: (np.log10(1 + np.asarray(values, float)) if log else np.asarray(values, float), colour)
              for name, (values, colour) in groups.items() if len(values)}  # fmt: skip
    together = np.concatenate([values for values, _ in scaled.values()]) if scaled else np.zeros(1)
    together = together[np.isfinite(together)] if np.isfinite(together).any() else np.zeros(1)
    low, high = float(together.min()), float(together.max())
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    heights = {name: np.histogram(values[np.isfinite(values)], edges)[0].astype(float)
               for name, (values, _) in scaled.items()}  # fmt: skip
    if share:
        heights = {name: found / max(found.max(), 1) for name, found in heights.items()}
    top = max((float(found.max()) for found in heights.values()), default=1.0)
    frame = Frame(250, 150, (edges[0], edges[-1]), (0, max(top, 1e-9)), left=34 if not share else 12)
    places = {math.log10(1 + v): short(v) for v in (0, 10, 100, 1000, 1e4, 1e5)} if log else _even(low, high)
    shown = {v: name for v, name in places.items() if edges[0] - 1e-9 <= v <= edges[-1] + 1e-9}
    if log and len(shown) < 2:
        shown = {v: short(10**v - 1) for v in (edges[0], edges[-1])}
    parts = frame.ticks(shown, {} if share else {0: "0", top: short(top)}, label)
    for name, (_, colour) in scaled.items():
        steps = zip(edges[:-1], heights[name], strict=True)
        ups = " ".join(f"H{frame.at_x(b):.1f}V{frame.at_y(h):.1f}" for b, h in steps)
        base = frame.height - frame.bottom
        parts.append(f'<path d="M{frame.left} {base}{ups}H{frame.at_x(edges[-1]):.1f}V{base}Z" fill="{colour}" '
                     f'fill-opacity=".45" stroke="{colour}"/>')  # fmt: skip
    for mark in marks:
        x = frame.at_x(math.log10(1 + mark) if log else mark)
        if frame.left - 1 <= x <= frame.width:
            parts.append(f'<path d="M{x:.1f} {frame.top}V{frame.height - frame.bottom}" stroke="#1c2430" '
                         'stroke-dasharray="4 3"/>')  # fmt: skip
    return frame.svg(title, parts)


def _even(low: float, high: float) -> dict[float, str]:
    return {value: short(value) for value in (low, (low + high) / 2, high)}


def stacked(rows: Mapping[str, Mapping[str, float]], shades: Mapping[str, str], notes: Mapping[str, str]) -> str:
    """Shares that add up to one, a bar a row, with what ``notes`` say of a row behind it."""
    left, bar, width = 170, 420, 760
    parts = []
    for k, (name, shares) in enumerate(rows.items()):
        y, x = 8 + 26 * k, float(left)
        parts.append(text(left - 8, y + 14, name, 12, "end", "#1c2430"))
        for part, share in shares.items():
            wide = share * bar
            parts.append(f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="20" fill="{shades.get(part, GREY)}"/>')
            said = f"{part} {100 * share:.0f} %"
            if wide > 7 * len(said):
                parts.append(text(x + wide / 2, y + 14, said, 11, "middle", "#ffffff"))
            x += wide
        parts.append(text(left + bar + 8, y + 14, notes.get(name, ""), 11, "start"))
    height = 16 + 26 * len(rows)
    return f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">{"".join(parts)}</svg>'


def bars(title: str, rows: Sequence[tuple[str, float, str]]) -> str:
    """Signed bars from a middle line: (name, value, what stands behind), up blue, down orange.

    ``title`` is for readers that see no picture; it is not drawn.
    """
    height, width, middle, reach = 24 + 18 * len(rows), 345, 160, 55
    most = max((abs(value) for _, value, _ in rows), default=1.0) or 1.0
    parts = [text(middle, 13, "log2 fold change", 9, "middle")]
    for k, (name, value, behind) in enumerate(rows):
        y, wide = 18 + 18 * k, abs(value) / most * reach
        x = middle if value >= 0 else middle - wide
        parts.append(f'<rect x="{x:.1f}" y="{y}" width="{max(wide, 0.5):.1f}" height="13" '
                     f'fill="{LINES[0] if value >= 0 else LINES[1]}"/>')  # fmt: skip
        parts.append(text(middle - reach - 6, y + 11, name, 11, "end", "#1c2430"))
        parts.append(text(middle + reach + 6, y + 11, f"{value:+.2f}{behind}", 10, "start"))
    parts.append(f'<path d="M{middle} 16V{height - 4}" stroke="#9aa4af"/>')
    return (
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{html.escape(title)}">{"".join(parts)}</svg>'
    )


def cell_map(places: npt.NDArray, labels: Sequence[str], shades: Mapping[str, str], title: str) -> str:
    """Cells as dots in the colour of their label, with a legend: a picture of indices, small whatever their number.

    Dots are painted in an order that no label decides, so that none lies on top of all others.
    """
    present = [name for name in shades if name in set(labels)]
    palette = ["#ffffff", *(shades[name] for name in present)]
    index = {name: k for k, name in enumerate(present, start=1)}
    canvas = np.zeros((MAP_PX, MAP_PX), np.uint8)
    low, high = places.min(axis=0), places.max(axis=0)
    spread = np.where(high > low, high - low, 1)
    radius = int(np.clip(round(170 / math.sqrt(max(len(places), 1))), 2, 7))
    pixels = np.rint((places - low) / spread * (MAP_PX - 1 - 2 * radius)).astype(int) + radius
    order = np.random.default_rng(0).permutation(len(places))
    column, row = pixels[order, 0], MAP_PX - 1 - pixels[order, 1]
    value = np.array([index.get(name, 0) for name in labels], np.uint8)[order]
    reach = np.arange(-radius, radius + 1)
    across, down = np.meshgrid(reach, reach)
    inside = across**2 + down**2 <= radius**2
    dx, dy = across[inside], down[inside]
    flat = ((row[:, None] + dy[None, :]) * MAP_PX + column[:, None] + dx[None, :]).ravel()
    canvas.ravel()[flat] = np.repeat(value, len(dx))
    legend = "".join(
        f'<span class=key><i style="background:{shades[name]}"></i>{html.escape(name or "not called")}</span>'
        for name in present
    )
    return (
        f'<figure style="max-width:{MAP_PX // 2}px"><figcaption>{html.escape(title)}</figcaption>'
        f'<img src="{data_uri(indexed_png(canvas, palette), "image/png")}" width={MAP_PX // 2} '
        f'alt="{html.escape(title)}"><figcaption>{legend}</figcaption></figure>'
    )
