"""Charts as Plotly figures (JSON), one a panel; colours of text and grid are set by the page's script."""

from __future__ import annotations

from typing import Any

from hyped_bench.metrics.undefined import rounded
from hyped_bench.report.charts import Chart, Panel, Rule, Series

TIER = 13
"""Height of a line of labels above the axes, in pixels."""
MANY_POINTS = 4000
"""More points than this are drawn by WebGL."""


def plotly_json(chart: Chart) -> list[str]:
    """One JSON text a panel: ``{"data": [...], "layout": {...}}``, checked against Plotly's schema."""
    import plotly.graph_objects as go

    texts = []
    for panel in chart.panels:
        data = _DATA[panel.kind](panel)
        figure = go.Figure(data=data, layout=_layout(panel, chart.height))
        figure.update_layout(template="none")
        texts.append(figure.to_json())
    return texts


def _numbers(values: Any) -> list[Any]:
    return [v if isinstance(v, str) else rounded(v) for v in values]


def _layout(panel: Panel, height: int) -> dict[str, Any]:
    top = (30 if panel.title else 8) + (TIER * panel.tiers + 8 if panel.tiers else 4)
    layout: dict[str, Any] = {
        "height": height,
        "margin": {"l": 8, "r": 14, "t": top, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
        "hovermode": "closest",
        "font": {"size": 12},
        "xaxis": {"title": {"text": panel.x_label}, "automargin": True, "zeroline": False},
        "yaxis": {"title": {"text": panel.y_label}, "automargin": True, "zeroline": False},
    }
    if panel.title:
        layout["title"] = {
            "text": panel.title,
            "font": {"size": 14},
            "x": 0.02,
            "xanchor": "left",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 8},
        }
    if panel.kind == "heat":
        layout["yaxis"]["autorange"] = "reversed"
    if panel.kind == "intervals":
        names = row_names(panel)
        places = list(range(len(names)))
        layout["yaxis"].update(tickvals=places, ticktext=names, range=[len(names) - 0.5, -0.5])
        layout["xaxis"]["nticks"] = 6
        layout["xaxis"]["tickangle"] = 0
        if panel.rules:  # upright lines are controls and references; the grid's would hide those at a tick
            layout["xaxis"].update(showgrid=False, ticks="outside", ticklen=4)
    if panel.kind == "bars":
        layout["barmode"] = "stack"
    if panel.kind == "points":
        layout["xaxis"].update(showticklabels=False, showgrid=False)
        layout["yaxis"].update(showticklabels=False, showgrid=False)
    if panel.y_range is not None:
        layout["yaxis"]["range"] = list(panel.y_range)
    if panel.x_range is not None:
        layout["xaxis"]["range"] = _numbers(panel.x_range)
    layout["shapes"] = [_shape(rule) for rule in panel.rules]
    # lower lines of labels are drawn later: on their own ground, over the lines that lead to the upper ones
    layout["annotations"] = [_label(rule) for rule in sorted(panel.rules, key=lambda r: -r.tier) if rule.label]
    if panel.words:
        names = row_names(panel)
        layout["annotations"] += [
            {"x": 0.01, "xref": "paper", "xanchor": "left", "y": names.index(name), "yref": "y", "text": word,
             "showarrow": False, "font": {"size": 11}}
            for name, word in panel.words.items()
        ]  # fmt: skip
    return layout


def row_names(panel: Panel) -> list[str]:
    """Rows of a panel of intervals, from top to bottom."""
    return list(panel.names) or list(dict.fromkeys(str(y) for series in panel.series for y in series.y))


def _shape(rule: Rule) -> dict[str, Any]:
    value = rounded(rule.value)
    upright, flat = ({"x0": value, "x1": value, "y0": 0, "y1": 1}, {"y0": value, "y1": value, "x0": 0, "x1": 1})
    return {
        "type": "line",
        "xref": "x" if rule.axis == "x" else "paper",
        "yref": "paper" if rule.axis == "x" else "y",
        **(upright if rule.axis == "x" else flat),
        "line": {"dash": rule.dash, "width": rule.width, "color": rule.colour},
        "layer": "below",
    }


def _label(rule: Rule) -> dict[str, Any]:
    """The rule's name; above the axes it hangs on a thin line that goes on from the rule."""
    if rule.axis == "y":
        return {"x": 1, "y": rule.value, "xref": "paper", "yref": "y", "text": rule.label, "showarrow": False,
                "yanchor": "bottom", "font": {"size": 10}}  # fmt: skip
    return {
        "x": rounded(rule.value),
        "y": 1,
        "xref": "x",
        "yref": "paper",
        "text": rule.label,
        "showarrow": True,
        "arrowhead": 0,
        "arrowwidth": 1,
        "arrowcolor": rule.colour,
        "ax": 0,
        "ay": -(4 + TIER * rule.tier),
        "xanchor": rule.anchor,
        "yanchor": "bottom",
        "borderpad": 0,
        "standoff": 0,
        "font": {"size": 10},
    }


def _lines(panel: Panel) -> list[dict[str, Any]]:
    found = []
    for series in panel.series:
        if series.low is not None and series.high is not None:
            found.append(_band(series))
        found.append(
            {
                "type": "scatter",
                "mode": "lines" if len(series.x) > 1 else "markers",
                "name": series.name,
                "x": _numbers(series.x),
                "y": _numbers(series.y),
                "line": {"color": series.colour, "width": 2, "dash": "dash" if series.dashed else "solid"},
                "hovertemplate": "%{x:.1f}: %{y:.3f}<extra>" + series.name + "</extra>",
            }
        )
    return found


def _band(series: Series) -> dict[str, Any]:
    assert series.low is not None and series.high is not None
    keep = [i for i in range(len(series.x)) if series.low[i] is not None and series.high[i] is not None]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": _numbers([series.x[i] for i in keep] + [series.x[i] for i in reversed(keep)]),
        "y": _numbers([series.high[i] for i in keep] + [series.low[i] for i in reversed(keep)]),
        "fill": "toself",
        "line": {"width": 0},
        "fillcolor": series.colour,
        "opacity": 0.18,
        "hoverinfo": "skip",
    }


def _bars(panel: Panel) -> list[dict[str, Any]]:
    return [
        {
            "type": "bar",
            "name": series.name,
            "x": _numbers(series.x),
            "y": _numbers(series.y),
            "marker": {"color": series.colour},
            "hovertemplate": "%{x}: %{y:.4g}<extra>" + series.name + "</extra>",
        }
        for series in panel.series
    ]


def _points(panel: Panel) -> list[dict[str, Any]]:
    many = sum(len(series.x) for series in panel.series) > MANY_POINTS
    return [
        {
            "type": "scattergl" if many else "scatter",
            "mode": "markers",
            "name": series.name,
            "x": [round(float(v), 2) for v in series.x],  # type: ignore[arg-type]
            "y": [round(float(v), 2) for v in series.y],  # type: ignore[arg-type]
            "marker": {"color": series.colour, "size": 4, "opacity": 0.75},
            "hovertemplate": "<extra>" + series.name + "</extra>",
        }
        for series in panel.series
    ]


def _intervals(panel: Panel) -> list[dict[str, Any]]:
    found = []
    names = row_names(panel)
    for series in panel.series:
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": "markers",
            "name": series.name,
            "x": _numbers(series.x),
            "y": [names.index(str(name)) for name in series.y],
            "text": [str(name) for name in series.y],
            "marker": {"color": series.colour, "size": 10},
            "hovertemplate": "%{text}: %{x:.5g}<extra>" + series.name + "</extra>",
        }
        if series.low is not None and series.high is not None:
            ends = list(zip(series.x, series.low, series.high, strict=True))
            trace["error_x"] = {
                "type": "data",
                "symmetric": False,
                "array": [rounded(h - v) if h is not None and v is not None else 0 for v, _, h in ends],  # type: ignore[operator]
                "arrayminus": [rounded(v - b) if b is not None and v is not None else 0 for v, b, _ in ends],  # type: ignore[operator]
                "color": series.colour,
                "thickness": 1.5,
            }
        found.append(trace)
    return found


def _heat(panel: Panel) -> list[dict[str, Any]]:
    return [
        {
            "type": "heatmap",
            "z": [_numbers(row) for row in panel.matrix],
            "x": list(panel.columns),
            "y": list(panel.rows),
            "colorscale": [[0, "#2166ac"], [0.5, "#f7f7f7"], [1, "#b2182b"]],
            "zmid": 0,
            "colorbar": {"title": {"text": panel.colour_label, "side": "right"}, "thickness": 12},
            "hovertemplate": "%{y}, %{x}: %{z:.3f}<extra></extra>",
        }
    ]


_DATA = {"lines": _lines, "bars": _bars, "points": _points, "intervals": _intervals, "heat": _heat}
