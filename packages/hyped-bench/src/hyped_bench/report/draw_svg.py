"""Charts as static SVG and PNG by Matplotlib: equal charts give equal bytes, text stays text."""

from __future__ import annotations

import io
import math
from typing import Any

from hyped_bench.report.charts import GREY, Chart, Panel
from hyped_bench.report.draw_plotly import row_names

RASTER_FROM = 2000
"""Scatter plots of more points than this are drawn as an image inside the SVG."""

_STYLE = {
    "svg.hashsalt": "hyped",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "figure.facecolor": "white",
}


def svg_text(chart: Chart) -> str:
    """The chart as an SVG document on white ground."""
    return _drawn(chart, "svg")[0].decode("utf-8")


def svg_and_png(chart: Chart) -> tuple[bytes, bytes]:
    """The chart as an SVG document and as a PNG image of 150 dots an inch, on white ground."""
    svg, png = _drawn(chart, "svg", "png")
    return svg, png


def _drawn(chart: Chart, *kinds: str) -> list[bytes]:
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    columns = min(len(chart.panels), 2 if chart.panels[0].tiers else 4)
    rows = math.ceil(len(chart.panels) / columns)
    with matplotlib.rc_context(_STYLE):
        width = (4.6 if chart.panels[0].kind == "heat" else 3.3) * columns
        figure = Figure(figsize=(width, chart.height / 110 * rows + 0.4), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
        for axis, panel in zip(axes.flat, chart.panels, strict=False):
            _DRAW[panel.kind](figure, axis, panel)
            axis.set_title(panel.title, pad=6 + 8 * panel.tiers, color=GREY if panel.muted else "black")
            axis.set_xlabel(panel.x_label)
            axis.set_ylabel(panel.y_label)
            if panel.y_range is not None:
                axis.set_ylim(*panel.y_range)
            if panel.x_range is not None:
                axis.set_xlim(*panel.x_range)
            _rules(axis, panel)
        for axis in list(axes.flat)[len(chart.panels) :]:
            axis.set_visible(False)
        if chart.legend:
            handles = [Patch(color=colour, label=name) for name, colour in chart.legend]
            figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6), frameon=False)
        found = []
        for kind in kinds:
            buffer = io.BytesIO()
            own = {"Date": None, "Creator": None, "Title": chart.alt} if kind == "svg" else {"Software": None}
            figure.savefig(buffer, format=kind, dpi=150, metadata=own)
            found.append(buffer.getvalue())
    return found


def _rules(axis: Any, panel: Panel) -> None:
    styles = {"solid": "-", "dash": "--", "dot": ":"}
    for rule in sorted(panel.rules, key=lambda r: -r.tier):
        draw = axis.axvline if rule.axis == "x" else axis.axhline
        draw(rule.value, color=rule.colour, linestyle=styles[rule.dash], linewidth=0.8 * rule.width, zorder=0)
        if rule.label and rule.axis == "x":
            axis.annotate(
                rule.label,
                (rule.value, 1),
                xytext=(0, 2 + 8 * rule.tier),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                fontsize=6,
                ha=rule.anchor,
                va="bottom",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4},
                arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": rule.colour, "shrinkA": 0, "shrinkB": 0,
                            "relpos": ({"left": 0.0, "center": 0.5, "right": 1.0}[rule.anchor], 0.0)}
                if rule.tier
                else None,
            )


def _floats(values: Any) -> list[float]:
    return [math.nan if v is None else float(v) for v in values]


def _lines(_: Any, axis: Any, panel: Panel) -> None:
    for series in panel.series:
        x = _floats(series.x)
        style = "o" if len(x) == 1 else "--" if series.dashed else "-"
        axis.plot(x, _floats(series.y), style, color=series.colour, linewidth=1.3, markersize=4)
        if series.low is not None and series.high is not None:
            low, high = _floats(series.low), _floats(series.high)
            axis.fill_between(x, low, high, color=series.colour, alpha=0.18, linewidth=0)


def _bars(_: Any, axis: Any, panel: Panel) -> None:
    names = list(dict.fromkeys(str(x) for series in panel.series for x in series.x))
    base = dict.fromkeys(names, 0.0)
    for series in panel.series:
        for x, value in zip(series.x, _floats(series.y), strict=True):
            height = 0.0 if math.isnan(value) else value
            axis.bar(names.index(str(x)), height, bottom=base[str(x)], color=series.colour, width=0.75)
            base[str(x)] += height
    axis.set_xticks(
        range(len(names)), names, rotation=30 if max(map(len, names), default=0) > 8 else 0, ha="center"
    )


def _points(_: Any, axis: Any, panel: Panel) -> None:
    raster = sum(len(series.x) for series in panel.series) > RASTER_FROM
    for series in panel.series:
        axis.scatter(
            _floats(series.x),
            _floats(series.y),
            s=4,
            color=series.colour,
            alpha=0.75,
            linewidths=0,
            rasterized=raster,
        )
    axis.set_xticks([])
    axis.set_yticks([])


def _intervals(_: Any, axis: Any, panel: Panel) -> None:
    names = row_names(panel)
    for series in panel.series:
        for i, (value, name) in enumerate(zip(_floats(series.x), series.y, strict=True)):
            place = names.index(str(name))
            axis.plot(value, place, "o", color=series.colour, markersize=5)
            if series.low is not None and series.high is not None and series.low[i] is not None:
                axis.plot([series.low[i], series.high[i]], [place, place], color=series.colour, linewidth=1.2)
    for name, word in panel.words.items():
        axis.annotate(word, (0.01, names.index(name)), xycoords=("axes fraction", "data"), fontsize=7, va="center")
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)


def _heat(figure: Any, axis: Any, panel: Panel) -> None:
    values = [_floats(row) for row in panel.matrix]
    limit = max((abs(v) for row in values for v in row if not math.isnan(v)), default=1.0) or 1.0
    image = axis.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    axis.set_xticks(range(len(panel.columns)), panel.columns, rotation=30, ha="right")
    axis.set_yticks(range(len(panel.rows)), panel.rows)
    figure.colorbar(image, ax=axis, label=panel.colour_label)


_DRAW = {"lines": _lines, "bars": _bars, "points": _points, "intervals": _intervals, "heat": _heat}
