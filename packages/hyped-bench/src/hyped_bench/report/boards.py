"""One group of metrics of a task: the figure (models as points, controls and references as lines) and the table."""

from __future__ import annotations

from hyped_bench.report.charts import GREY, PALETTE, Chart, Panel, Rule, Series, spread
from hyped_bench.report.context import Cell, ReportContext, Table, number_text, record_anchor
from hyped_bench.report.inputs import Entry
from hyped_bench.report.scoreboard import Metric, best_control, counts, ordered
from hyped_bench.report.verdicts import Judged, said

MODEL, REFERENCE = PALETTE[0], "#c77d00"
"""Colours of points and of dashed lines; controls are grey."""
LEAST = 70
"""Least height of the axes in pixels: below it Plotly takes it from the labels above them."""
ENDS = "ends"
"""Class of a cell whose text may have two lines: a value and its interval, say."""
PANELS = 4
"""Metrics of a group that are drawn; the others stand in the table."""
SCORED = ("model", "pipeline", "unknown")
"""Kinds of entries that are points."""


def board_table(
    context: ReportContext, name: str, title: str, entries: list[Entry], keys: list[Metric], judged: Judged | None
) -> str:
    """The scores: one line a model; the CSV holds the metrics files' own numbers, intervals in columns."""
    numbers = [n for n in counts(entries, keys[0]) if n not in {m.key for m in keys}]
    scored = [e for e in entries if e.status == "ok"]
    values = {n: {e.metrics.get(n) for e in scored} for n in numbers}
    shared = [n for n in numbers if len(values[n]) == 1 and values[n] != {0}]  # others tell of the model
    rows = ordered(entries, keys[0])
    columns = ["model", "role", "status"]
    for item in keys:
        columns += [item.key, f"{item.key}_lo", f"{item.key}_hi"]
    blind = {m.key for m in keys if mute(judged, entries, m.key)}
    verdicts = {e.model: verdict(judged, entries, e, keys) for e in entries}
    told = any(verdicts.values())
    nothing = does_nothing(judged, entries, keys)
    raw, shown, marks = [], [], []
    for entry in rows:
        values_of = [entry.metrics.get(f"{m.key}{end}") for m in keys for end in ("", "_lo", "_hi")]
        over = [entry.metrics.get(n) for n in numbers]
        raw.append(
            [entry.model, entry.kind, entry.status, *values_of, *over, *([verdicts[entry.model]] if told else [])]
        )
        cells = [score(entry, m.key, muted=m.key in blind) for m in keys]
        role = f"{entry.kind}:\ndoes nothing" if entry.model in nothing else entry.kind
        role = role if entry.status == "ok" else f"{entry.kind}, {entry.status}"
        first = Cell(entry.model, href=f"#{record_anchor(entry.task, entry.model)}")
        words = verdicts[entry.model] or ("failed, see above" if entry.status != "ok" else "")
        over = [entry.metrics.get(n) for n in shared]
        shown.append([first, Cell(role, mark=ENDS), *([words] if told else []), *cells, *over])
        marks.append("failed" if entry.status != "ok" else "control" if entry.kind == "control" else "")
    lead = leading(judged, entries, keys)
    heads = ["model", "role", *([f"verdict by {lead}"] if told else []), *(m.heading for m in keys), *shared]
    caption = f"{title}, best first by {keys[0].key}; arrows point to the better end"
    if blind:
        caption += "; grey metrics cannot tell"
    muted = [m.heading for m in keys if m.key in blind]
    extra = ["verdict"] if told else []
    return context.table(name, Table(caption, [*columns, *numbers, *extra], raw, (heads, shown), marks, muted))


def score(entry: Entry, key: str, *, muted: bool) -> Cell:
    """A value's cell; its interval stands below it."""
    text = with_interval(entry, key).replace(" (", "\n(")
    return Cell(text, True, mark=" ".join(filter(None, ("muted" if muted else "", ENDS if "(" in text else ""))))


def with_interval(entry: Entry, key: str) -> str:
    """A value with its interval, where there is one."""
    value, low, high = (entry.metrics.get(f"{key}{end}") for end in ("", "_lo", "_hi"))
    text = number_text(value)
    if value is None or low is None or high is None:
        return text
    return f"{text} ({low:.3g} to {high:.3g})"


def main_sources(entries: list[Entry], judged: Judged) -> list[str]:
    """The judged sources that a task's means are over.

    Sources of one unit each (``S0_dim``, ``S2_dim``) are judged together under the end of their names (``dim``).
    """
    listed = [s for e in entries for s in e.sources if isinstance(s, dict) and "name" in s]
    primary = {str(s["name"]): bool(s.get("primary", True)) for s in listed}

    def is_main(name: str) -> bool:
        own = [value for key, value in primary.items() if key == name or key.endswith(f"_{name}")]
        return any(own) or not own

    found = [name for name in judged.sources if is_main(name)]
    return found or judged.sources


def mute(judged: Judged | None, entries: list[Entry], key: str) -> str:
    """Why a metric cannot tell, where it was judged on the main sources and can tell on none of them."""
    if judged is None:
        return ""
    rows = [row for s in main_sources(entries, judged) if (row := judged.calibration(s, key))]
    if not rows or any(row["can_tell"] for row in rows):
        return ""
    return "Cannot tell: " + "; ".join(dict.fromkeys(str(row.get("reason") or "no reason given") for row in rows))


def was_judged(judged: Judged, key: str) -> bool:
    """True where a metric was judged on any source."""
    return any(key in judged.metrics(source) for source in judged.sources)


def does_nothing(judged: Judged | None, entries: list[Entry], keys: list[Metric]) -> list[str]:
    """The controls that verdicts on these metrics take for doing nothing; none where they were not judged."""
    rows = judged.values["verdicts"] if judged is not None else []
    wanted = {m.key for m in keys}
    there = {e.model for e in entries if e.kind == "control"}
    return sorted({str(r["against"]) for r in rows if r["role"] == "nothing" and r["metric"] in wanted} & there)


def leading(judged: Judged | None, entries: list[Entry], keys: list[Metric]) -> str:
    """The group's first metric that was judged and can tell; else its first that was judged."""
    if judged is None:
        return ""
    known = {m for s in main_sources(entries, judged) for m in judged.metrics(s)}
    there = [m.key for m in keys if m.key in known]
    return next((key for key in there if not mute(judged, entries, key)), there[0] if there else "")


def verdict(judged: Judged | None, entries: list[Entry], entry: Entry, keys: list[Metric]) -> str:
    """A model's verdict by the group's leading metric, on each main source."""
    key = leading(judged, entries, keys)
    if judged is None or not key:
        return ""
    sources = [s for s in main_sources(entries, judged) if key in judged.metrics(s)]
    told = {s: said(rows) for s in sources if (rows := judged.verdicts(s, key, entry.model))}
    if len(set(told.values())) == 1 and len(told) == len(sources):
        return next(iter(told.values()))
    return "; ".join(f"{source}: {text}" for source, text in told.items())


def board_figure(
    context: ReportContext, name: str, task: str, entries: list[Entry], keys: list[Metric], judged: Judged | None
) -> str:
    """A panel a metric: models as points with intervals, every control and reference as a line with its name."""
    good = [e for e in entries if e.status == "ok"]
    told = [m for m in keys if telling(good, m)]
    drawn = ([m for m in told if m.better != "none"] or told)[:PANELS]
    panels = tuple(panel(entries, m, mute(judged, entries, m.key)) for m in drawn)
    if not panels:
        return context.note(f"No figure: the values of the models on {task} are undefined or all equal.")
    kinds = [k for k in ("model", "control", "reference") if any(kind_of(e) == k for e in good)]
    colours = {"model": MODEL, "control": GREY, "reference": REFERENCE}
    ends = any(e.metrics.get(f"{m.key}_lo") is not None for e in good if kind_of(e) == "model" for m in drawn)
    dots = "models (95 % interval)" if ends else "models (too few units for intervals)"
    names = {"model": dots, "control": "controls (lines)", "reference": "references (dashed lines)"}
    top = ordered(good, drawn[0])[0]
    best = best_control(good, drawn[0])
    alt = f"Scores of {len(good)} models on {task} by {', '.join(m.key for m in drawn)}; best by {drawn[0].key}: "
    alt += f"{top.model} ({top.kind}) at {number_text(top.metrics.get(drawn[0].key))}"
    alt += f"; best control: {best.model} at {number_text(best.metrics.get(drawn[0].key))}" if best else ""
    rest = [m.key for m in told if m not in drawn]
    caption = "Models as points, controls as grey lines (the best one thick), references as dashed lines; arrows "
    caption += "point to the better end."
    if nothing := does_nothing(judged, entries, drawn):
        caption += f" Doing nothing is {' or '.join(nothing)}."
    if judged is not None and (without := [m.key for m in drawn if not was_judged(judged, m.key)]):
        caption += f" Not judged, so without a verdict: {', '.join(without)}."
    caption += f" In the table only: {', '.join(rest)}." if rest else ""
    rows = max(len(p.names) for p in panels)
    tall = 76 + max(13 * p.tiers for p in panels) + max(LEAST, 26 * rows)
    return context.chart(name, Chart(caption, alt, panels, tuple((names[k], colours[k]) for k in kinds), tall))


def telling(good: list[Entry], item: Metric) -> bool:
    """True where a metric has values, and not the same for all."""
    values = [e.metrics[item.key] for e in good if e.metrics.get(item.key) is not None]
    return bool(values) and (len(values) == 1 or len(set(values)) > 1)


def kind_of(entry: Entry) -> str:
    """How an entry is drawn."""
    return "model" if entry.kind in SCORED else entry.kind


def panel(entries: list[Entry], item: Metric, why: str) -> Panel:
    """One metric. Where only controls were scored they are the points."""
    known = [e for e in ordered(entries, item) if e.metrics.get(item.key) is not None and e.status == "ok"]
    points = [e for e in known if kind_of(e) == "model"]
    failed = [e for e in entries if e.status != "ok" and kind_of(e) == "model"]
    only = not points and not failed
    points = [e for e in known if e.kind == "control"] if only else points
    best = best_control(known, item)
    rules = [
        Rule(float(e.metrics[item.key] or 0), e.model, colour=GREY if e.kind == "control" else REFERENCE,
             dash="solid" if e.kind == "control" else "dash", width=2.5 if e is best else 1.2)
        for e in known
        if kind_of(e) != "model" and (not only or e.kind != "control")
    ]  # fmt: skip
    undefined = [e for e in entries if e.status == "ok" and kind_of(e) == "model" and e not in known]
    ends = [rule.value for rule in rules]
    ends += [
        float(v) for e in points for end in ("", "_lo", "_hi") if (v := e.metrics.get(f"{item.key}{end}")) is not None
    ]
    pad = 0.05 * (max(ends) - min(ends)) or 0.05 * abs(ends[0]) or 0.05
    span = (min(ends) - pad, max(ends) + pad)
    series = tuple(
        Series(
            f"{e.model} ({e.kind})",
            [e.metrics[item.key]],
            [e.model],
            GREY if e.kind == "control" else MODEL,
            [e.metrics.get(f"{item.key}_lo")],
            [e.metrics.get(f"{item.key}_hi")],
        )
        for e in points
    )
    return Panel(
        "intervals",
        item.heading,
        series=series,
        rules=spread(rules, span),
        x_range=span,
        names=tuple(e.model for e in [*points, *undefined, *failed]),
        words={**{e.model: "undefined" for e in undefined}, **{e.model: e.status for e in failed}},
        muted=why,
    )
