"""Sections of other packages, each made in a process of its own within limits: what one does there harms no other."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hyped_bench.report.charts import Chart, Panel, Rule, Series
from hyped_bench.report.context import Placed, ReportContext, Table, plain
from hyped_bench.report.inputs import Container, Entry, ReportInputs
from hyped_bench.report.verdicts import Judged
from hyped_core.errors import PluginError
from hyped_core.plugins.registry import Provided
from hyped_core.spec import import_target

SECONDS_VARIABLE = "HYPED_SECTION_SECONDS"
SECONDS = 300.0
"""How long a section of another package may take where that variable says nothing else."""
MEMORY_SHARE = 0.6
"""Share of the machine's memory that it may take."""


def section_apart(item: Provided, context: ReportContext) -> str:
    """The HTML of a stranger's section, with what it placed now placed here.

    Raises
    ------
    PluginError
        It failed, in one line.
    """
    from hyped_core.remote.apart import ask_apart
    from hyped_core.remote.memory import machine_memory_gb

    placed, memory = context.placed, machine_memory_gb()
    taken = {"tables": list(placed.tables), "charts": list(placed.charts), "ids": sorted(placed.ids)}
    made = ask_apart(
        f"{__name__}:make_section",
        {"target": item.spec.target, "section": context.section, "inputs": inputs_out(context.inputs), "taken": taken},
        f"the section {item.spec.name} of {item.plugin.distribution}",
        seconds=_seconds(),
        memory_gb=None if memory is None else MEMORY_SHARE * memory,
        more=f"where it needs more: {SECONDS_VARIABLE}=900",
    )
    placed.tables.update({name: Table("", *table) for name, table in made["tables"].items()})
    placed.charts.update({name: chart_in(chart) for name, chart in made["charts"].items()})
    placed.ids.update(made["ids"])
    placed.headings[context.section] = [(place, listed) for place, listed in made["headings"]]
    for kind in ("alerts", "absent"):
        known = getattr(placed, kind)
        known += [text for text in made[kind] if text not in known]
    for kind in ("styles", "scripts"):
        for name, text in made[kind].items():
            getattr(placed, kind).setdefault(name, text)
    return made["html"]


def make_section(target: str, section: str, inputs: dict[str, Any], taken: dict[str, list[str]]) -> dict[str, Any]:
    """The far side: a section's HTML and what it placed, as JSON.

    Charts are drawn once on trial: one that cannot be drawn fails here.
    """
    from hyped_bench.report.draw_svg import svg_and_png

    context = ReportContext(inputs_in(inputs))
    context.section = section
    placed = context.placed = Placed(ids=set(taken["ids"]))
    placed.tables.update(dict.fromkeys(taken["tables"]))  # type: ignore[arg-type]  names alone, which are taken
    placed.charts.update(dict.fromkeys(taken["charts"]))  # type: ignore[arg-type]
    html = html_of(target, context)
    tables = {name: table for name, table in placed.tables.items() if table is not None}
    charts = {name: chart for name, chart in placed.charts.items() if chart is not None}
    for chart in charts.values():
        svg_and_png(chart)
    found = {
        "html": html,
        "tables": {n: (t.columns, [[plain(v) for v in row] for row in t.rows]) for n, t in tables.items()},
        "charts": {name: asdict(chart) for name, chart in charts.items()},
        "ids": sorted(placed.ids),
        "headings": placed.headings.get(section, []),
        **{kind: getattr(placed, kind) for kind in ("alerts", "absent", "styles", "scripts")},
    }
    return json.loads(json.dumps(found, default=_plain))


def html_of(target: str, context: ReportContext) -> str:
    """What a section's function gives, which has to be text."""
    html = import_target(target)(context)
    if not isinstance(html, str):
        raise PluginError(f"returned {type(html).__name__}, not text", where=target, mend="return HTML as str")
    return html


def inputs_out(inputs: ReportInputs) -> dict[str, Any]:
    """The inputs as JSON, files and folders by their paths."""
    found = {
        "dataset": inputs.dataset,
        "settings": inputs.settings,
        "results": {task: [asdict(entry) for entry in entries] for task, entries in inputs.results.items()},
        "containers": [(one.name, one.path) for one in inputs.containers],
        "judgements": {task: judged.values for task, judged in inputs.judgements.items()},
        "cards": inputs.cards,
    }
    return json.loads(json.dumps(found, default=str))


def inputs_in(given: dict[str, Any]) -> ReportInputs:
    """The inputs that `inputs_out` gave."""
    results = {
        task: [Entry(**{**e, "folder": None if e["folder"] is None else Path(e["folder"])}) for e in entries]
        for task, entries in given["results"].items()
    }
    return ReportInputs(
        given["dataset"],
        given["settings"],
        results,
        [Container(name, Path(path)) for name, path in given["containers"]],
        {task: Judged(values) for task, values in given["judgements"].items()},
        [Path(card) for card in given["cards"]],
    )


def chart_in(given: dict[str, Any]) -> Chart:
    """The chart that was written out with `dataclasses.asdict`."""
    panels = [
        Panel(
            **{
                **panel,
                "series": tuple(Series(**one) for one in panel["series"]),
                "rules": tuple(Rule(**one) for one in panel["rules"]),
            }
        )
        for panel in given["panels"]
    ]
    return Chart(**{**given, "panels": tuple(panels), "legend": tuple((name, c) for name, c in given["legend"])})


def _plain(value: Any) -> Any:
    """Numbers and arrays of numpy, and columns of pandas, as Python's own; anything else as its text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _seconds() -> float:
    try:
        value = float(os.environ.get(SECONDS_VARIABLE, ""))
    except ValueError:
        return SECONDS
    return value if 0 < value < float("inf") else SECONDS
