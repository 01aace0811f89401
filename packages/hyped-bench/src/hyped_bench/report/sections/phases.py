"""Figure 2a: cell-cycle phases by imaging over time and at harvest; and composition, imaging against sequencing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hyped_bench.report.charts import (
    PHASE_COLOURS,
    Chart,
    Panel,
    Rule,
    Series,
    condition_colours,
    phase_legend,
)
from hyped_bench.report.context import ReportContext, Table
from hyped_bench.report.inputs import Container
from hyped_bench.report.phase_data import (
    at_time,
    composition,
    fraction_bands,
    fractions_over_time,
    phased,
    shares,
)
from hyped_core.design.phases import PHASE_SYSTEMS

if TYPE_CHECKING:
    import pandas as pd


def phase_tables(context: ReportContext) -> list[tuple[Container, pd.DataFrame, str]]:
    """Containers whose nuclei have phases: with the nuclei and the phase system."""
    found = []
    for container in context.containers:
        if not container.has("nuclei"):
            continue
        table = container.data.table("nuclei")
        system = str(table.uns.get("phase_system") or "fucci")
        if "phase" in table.obs and system in PHASE_SYSTEMS and len(phased(table.obs, system)):
            found.append((container, table.obs, system))
    return found


def section(context: ReportContext) -> str:
    """Over time, at harvest, and against sequencing."""
    tables = phase_tables(context)
    if not tables:
        return context.absent(
            "No container holds nuclei with phases: Figure 2a and the composition are not drawn."
        )
    parts: list[str] = []
    for i, (container, nuclei, system) in enumerate(tables):
        suffix = f"_{i + 1}" if len(tables) > 1 else ""
        if len(tables) > 1:
            parts.append(context.heading(f"Container {container.name}"))
        parts += over_time(context, container, nuclei, system, suffix)
        parts += at_harvest(context, container, nuclei, system, suffix)
        parts += against_sequencing(context, container, nuclei, system, suffix)
    return context.join(parts)


def over_time(
    context: ReportContext, container: Container, nuclei: pd.DataFrame, system: str, suffix: str
) -> list[str]:
    """A panel a condition: mean over replicates with its confidence interval as a band."""
    table = fractions_over_time(nuclei, system)
    bands = fraction_bands(nuclei, system)
    design = container.data.design
    phases = [p for p in PHASE_SYSTEMS[system].phases if (table[table["phase"] == p]["fraction"] > 0).any()]
    names = [c.name for c in design.conditions if c.name in set(table["condition"])]
    first, last = table["time_h"].min(), table["time_h"].max()
    rules = tuple(Rule(e.time_h, e.name) for e in design.timeline.events if first <= e.time_h <= last)
    panels = []
    for name in names:
        own = bands[bands["condition"] == name]
        series = []
        for phase in phases:
            over = own[own["phase"] == phase]
            x, mean, low, high = (over[column].tolist() for column in ("time_h", "fraction", "lo", "hi"))
            series.append(Series(phase, x, mean, PHASE_COLOURS[phase], low, high))
        panels.append(
            Panel("lines", name, "hours since release", "fraction", tuple(series), rules, y_range=(0.0, 1.0))
        )
    without = len(nuclei) - len(phased(nuclei, system))
    caption = (
        "Figure 2a, over time: share of nuclei in each phase by their reporters, hourly means over the "
        "replicates; bands are 95 % intervals by bootstrap over the lineages of each replicate (how well the cells "
        f"that were seen stand for them; not how replicates differ). {len(nuclei) - without} nuclei in all frames "
        f"have a phase, {without} have none and are left out."
    )
    alt = f"Lines of phase fractions over {first:g} to {last:g} hours for {', '.join(names)}"
    chart = Chart(caption, alt, tuple(panels), phase_legend(phases), height=300)
    rows = [
        [*row[:2], float(row[2]), row[3], float(row[4]), int(row[5])] for row in table.itertuples(index=False)
    ]
    sheet = Table("Phase fractions over time, hourly", list(table.columns), rows)
    name = f"phase_fractions{suffix}"
    link = context.attach(name, sheet, f"All {len(rows)} values as CSV")
    drawn = [[_plain(v) for v in row] for row in bands.itertuples(index=False)]
    sheet = Table("Phase fractions over time with intervals", list(bands.columns), drawn)
    lines = context.attach(f"phase_bands{suffix}", sheet, "The lines and bands drawn, as CSV")
    return [context.chart(f"figure_2a_over_time{suffix}", chart), link, lines]


def at_harvest(
    context: ReportContext, container: Container, nuclei: pd.DataFrame, system: str, suffix: str
) -> list[str]:
    """Stacked shares by condition at harvest, or at the last frame where the design names no harvest."""
    design = container.data.design
    hour = design.timeline.time_of("harvest")
    when = "harvest" if hour is not None else "the last frame"
    hour = float(nuclei["time_h"].max()) if hour is None else hour
    chosen = at_time(phased(nuclei, system), hour)
    if chosen.empty:
        return [
            context.absent(
                f"No frame lies within an hour of {when} ({hour:g} h): no phases are shown for it."
            )
        ]
    phases = list(PHASE_SYSTEMS[system].phases)
    found = shares(chosen, "condition", phases)
    names = [c.name for c in design.conditions if c.name in found]
    series = tuple(Series(p, names, [found[n][p] for n in names], PHASE_COLOURS[p]) for p in phases)
    chart = Chart(
        f"Figure 2a, at {when} ({hour:g} h): phases of the nuclei in each scene's nearest frame.",
        f"Stacked bars of phase shares at {hour:g} hours for {', '.join(names)}",
        (Panel("bars", y_label="fraction of nuclei", series=series, y_range=(0.0, 1.0)),),
        phase_legend(phases),
        height=340,
    )
    rows = [[n, *(found[n][p] for p in phases), found[n]["n"]] for n in names]
    table = Table(f"Phases at {when} by imaging ({hour:g} h)", ["condition", *phases, "n_nuclei"], rows)
    return [
        context.chart(f"figure_2a_harvest{suffix}", chart),
        context.table(f"phases_harvest{suffix}", table),
    ]


def against_sequencing(
    context: ReportContext, container: Container, nuclei: pd.DataFrame, system: str, suffix: str
) -> list[str]:
    """Coarse phases at harvest, by condition that was not sorted: one cause seen by two modalities."""
    design = container.data.design
    hour = design.timeline.time_of("harvest")
    parts: list[str] = [context.heading("Composition at harvest: imaging against sequencing")]
    if hour is None or not container.has("rna"):
        why = (
            "the design names no harvest"
            if hour is None
            else f"container {container.name} has no sequenced cells"
        )
        return [*parts, context.absent(f"Composition is not compared: {why}.")]
    cells = container.data.table("rna").obs
    left_out = design.sorted_conditions()
    wanted = [c.name for c in design.conditions if c.name not in left_out]
    if "phase" not in cells or "condition" not in cells:
        return [
            *parts,
            context.absent("Composition is not compared: the cells have no phases or no conditions."),
        ]
    rows = composition(nuclei, cells, system, wanted, hour)
    if not rows:
        return [
            *parts,
            context.absent("Composition is not compared: no unsorted condition was seen by both."),
        ]
    colours = condition_colours([c.name for c in design.conditions])
    series: list[Series] = []
    for row in rows:
        for kind, low, high in (("imaging", "lowest", "highest"), ("sequencing", "lo", "hi")):
            ends = row[f"{kind}_{low}"], row[f"{kind}_{high}"]
            label = f"{row['condition']}, {kind}"
            series.append(
                Series(label, [row[kind]], [label], colours[row["condition"]], [ends[0]], [ends[1]])
            )
    caption = (
        "Share of S/G2/M (coarse phases, the only ones both can tell apart). Imaging: nuclei in the frame nearest to "
        "harvest, the bar spans the replicates. Sequencing: cells, the bar is a 95 % Wilson interval over cells of "
        "pooled wells."
    )
    alt = "; ".join(
        f"{r['condition']}: imaging {r['imaging']:.2f}, sequencing {r['sequencing']:.2f}" for r in rows
    )
    panel = Panel("intervals", x_label="share of S/G2/M", series=tuple(series))
    parts.append(
        context.chart(f"composition{suffix}", Chart(caption, alt, (panel,), height=90 + 28 * len(series)))
    )
    heads = list(rows[0])
    table = Table("Share of S/G2/M at harvest", heads, [[_plain(r[h]) for h in heads] for r in rows])
    parts.append(context.table(f"composition{suffix}", table))
    apart = [
        r["condition"]
        for r in rows
        if r["imaging_lowest"] > r["sequencing_hi"] or r["imaging_highest"] < r["sequencing_lo"]
    ]
    if apart:
        parts.append(
            context.alert(
                f"Imaging and sequencing disagree beyond both bars for {', '.join(apart)}: one of the two calls "
                "phases wrongly there, or their cells differ. The tasks phases_imaging and phases_rna say which, "
                "where truth is known."
            )
        )
    if left_out:
        parts.append(
            context.note(f"Left out: {', '.join(left_out)}, whose sequenced cells were sorted by phase.")
        )
    return parts


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, float) else value
