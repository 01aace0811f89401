"""What was measured: conditions, timeline, pools and tags, and what the design cannot show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyped_bench.report.context import ReportContext, Table

if TYPE_CHECKING:
    from hyped_core.design import Design

MANY = 2
"""More designs than this are folded."""

REASONS = {
    frozenset({"condition", "pool"}): (
        "Condition and capture pool cannot be told apart: every control cell is in one pool, every perturbed "
        "cell in another. Any change from control also holds what differs between the captures; only contrasts "
        "among the perturbed conditions are free of it."
    ),
}


def section(context: ReportContext) -> str:
    """Every design among the containers, each once."""
    designs: dict[str, tuple[Design, list[str]]] = {}
    for container in context.containers:
        design = container.data.design
        designs.setdefault(design.to_yaml(), (design, []))[1].append(container.name)
    if not designs:
        return context.absent("There is no container, so the experiment's design is not known.")
    parts = []
    for i, (design, names) in enumerate(designs.values()):
        body = describe(context, design, f"_{i + 1}" if len(designs) > 1 else "")
        title = f"{design.name} (container{'s' if len(names) > 1 else ''} {', '.join(names)})"
        if len(designs) > MANY:
            parts.append(context.fold(title, body))
        else:
            parts += ([context.heading(title)] if len(designs) > 1 else []) + body
    return context.join(parts)


def describe(context: ReportContext, design: Design, suffix: str) -> list[str]:
    """One design in words and tables."""
    parts = [context.text(design.description)] if design.description else []
    parts += warnings(context, design)
    rows = [
        [
            c.name,
            " + ".join(
                f"{x.gene} {x.direction} ({x.agent or 'agent not said'}, {x.onset_h:g} h)"
                for x in c.perturbation
            )
            or "none",
            len([s for s in design.scenes if s.condition == c.name]),
            ", ".join(p.name for p in design.pools if c.name in p.conditions) or "not sequenced",
            c.phase_composition,
        ]
        for c in design.conditions
    ]
    heads = [
        "condition",
        "perturbation (agent, onset)",
        "scenes imaged",
        "sequenced in pool",
        "phase composition",
    ]
    parts.append(context.table(f"conditions{suffix}", Table("Conditions", heads, rows)))
    timeline = design.timeline
    events = [(e.time_h, e.name) for e in timeline.events]
    if design.scenes:
        events += [(timeline.imaging_start_h, "imaging starts"), (timeline.imaging_end_h, "imaging ends")]
        parts.append(
            context.text(
                f"Imaged every {timeline.interval_min:g} min; times on this page are hours since release, taken "
                "from the files' acquisition times, gaps included."
            )
        )
    if events:
        rows = [[time, name] for time, name in sorted(events)]
        parts.append(context.table(f"timeline{suffix}", Table("Timeline", ["hour", "event"], rows)))
    if design.hashtags:
        rows = [
            [t.pool, t.tag, t.chemistry, t.barcode or None, t.condition, t.phase or None]
            for t in design.hashtags
        ]
        heads = ["pool", "tag", "chemistry", "barcode", "condition", "sorted phase"]
        caption = (
            "Hashtags: what each stands for in its pool (the same tag may mean another thing in another pool)"
        )
        parts.append(context.table(f"hashtags{suffix}", Table(caption, heads, rows), folded="Hashtags"))
    parts += reporters(context, design, suffix)
    return parts


def warnings(context: ReportContext, design: Design) -> list[str]:
    """What the design says it cannot show."""
    found = []
    for pair in design.flags.confounded:
        text = REASONS.get(frozenset(pair), f"{pair[0]} and {pair[1]} cannot be told apart in this design.")
        found.append(context.alert(f"Confounded. {text}"))
    if design.sorted_conditions():
        names = ", ".join(design.sorted_conditions())
        found.append(
            context.alert(
                f"Sorted. The sequenced cells of {names} were sorted by phase: their phase fractions were set by "
                "the sorter, not by biology, and are compared with nothing here."
            )
        )
    if design.flags.pooled_wells:
        found.append(
            context.alert(
                "Pooled. Replicate wells were pooled before barcoding: cells have no replicates, so no interval "
                "over cells speaks of how much another experiment would differ."
            )
        )
    return found


def reporters(context: ReportContext, design: Design, suffix: str) -> list[str]:
    """The channels, which of them report which phase, and where the paper contradicts itself."""
    if not design.channels:
        return []
    rows = [[c.name, c.role, c.reports or None, ", ".join(c.aliases) or None] for c in design.channels]
    table = Table("Channels of the movies", ["channel", "role", "bright in phase", "also called"], rows)
    parts = [context.table(f"channels{suffix}", table)]
    first, second = design.reporter("G1"), design.reporter("S_G2M")
    if first or second:
        said = f"Mapping used: {first or 'no channel'} reports G1, {second or 'no channel'} reports S/G2/M."
        names = {name for c in design.channels for name in (c.name, *c.aliases)}
        if {"mKate", "mKate2"} & names and {"TagGFP", "TagGFP2"} & names:
            said += (
                " The paper contradicts itself here: its section 3.4 lists mKate as G2/M and TagGFP as G1, while its "
                "introduction pairs Geminin with TagGFP2 and Cdt1 with mKate2, which by the biology of these probes "
                "means mKate2 for G1 and TagGFP2 for S/G2/M. The design file chooses between them."
            )
        parts.append(
            context.note(said + " FUCCI cannot tell S from G2; cells early in G1 or in M are dark in both.")
        )
    return parts
