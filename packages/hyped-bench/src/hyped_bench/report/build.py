"""Puts the report together: sections of all plugins in order, one page, the files beside it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from hyped_bench.report.apart import html_of, section_apart
from hyped_bench.report.context import ReportContext
from hyped_bench.report.inputs import ReportInputs
from hyped_bench.report.opening import reading, summary
from hyped_bench.report.outputs import write_files, write_plots
from hyped_core.context import Progress, SilentProgress
from hyped_core.errors import PluginError
from hyped_core.io.atomic import atomic_path
from hyped_core.plugins.host import PluginHost, default_host, stdout_to_stderr

RESERVED = ("main", "theme", "reading", "summary", "data-card")
"""Ids of the page itself."""


@dataclass(frozen=True, slots=True)
class Section:
    """A section as it stands on the page."""

    name: str
    title: str
    html: str
    headings: tuple[tuple[str, str], ...] = ()
    """(id, title) of what the contents list below it."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was written.

    Attributes
    ----------
    page : ``index.html``. ``plots`` : tables for ``dvc plots``, where asked for.
    failed : sections of other plugins that failed, with the reason.
    """

    page: Path
    sections: tuple[str, ...]
    failed: dict[str, str]
    tables: tuple[str, ...]
    figures: tuple[str, ...]
    plots: tuple[Path, ...]


def build_report(
    out: str | Path,
    inputs: ReportInputs,
    *,
    plots: str | Path | None = None,
    host: PluginHost | None = None,
    progress: Progress | None = None,
) -> Report:
    """Write the report to the folder ``out``, whole or not at all; equal inputs give equal bytes.

    Raises
    ------
    HypedError
        Where the inputs cannot be read. A failing section of another plugin is shown as failed.
    """
    context = ReportContext(inputs)
    context.placed.ids.update(RESERVED)
    sections, failed = render_sections(context, host or default_host(), progress or SilentProgress())
    with atomic_path(out) as folder:
        folder.mkdir(parents=True)
        text = render_page(context, [*opening(context), *sections])
        (folder / "index.html").write_text(text, encoding="utf-8", newline="\n")
        write_files(folder, context)
    written = write_plots(Path(plots), context) if plots is not None else []
    return Report(
        Path(out) / "index.html",
        tuple(s.name for s in sections),
        failed,
        tuple(context.placed.tables),
        tuple(context.placed.charts),
        tuple(written),
    )


def render_sections(
    context: ReportContext, host: PluginHost, progress: Progress
) -> tuple[list[Section], dict[str, str]]:
    """Every registered section in order; those of other plugins that fail, with the reason.

    Those of other plugins are made last, in processes of their own: names of tables and figures are HYPED's own first.
    """
    provided = sorted(host.collect("hyped_report_sections"), key=lambda i: (i.spec.order, i.spec.name))
    names: list[str] = []
    for item in provided:
        name = item.spec.name
        while name in names:
            name = f"{item.plugin.distribution}-{name}"
        names.append(name)
    found: dict[str, Section] = {}
    failed: dict[str, str] = {}
    waiting = sorted(zip(names, provided), key=lambda pair: not pair[1].plugin.own)
    for name, item in progress.track(waiting, "sections", total=len(waiting)):
        context.section = name
        if item.plugin.own:
            with stdout_to_stderr():
                html = html_of(item.spec.target, context)
        else:
            try:
                html = section_apart(item, context)
            except PluginError as error:
                reason = f"{error.message} ({error.mend})" if error.mend else error.message
                failed[name] = f"{item.plugin.distribution}: {reason}. To be rid of it: {item.plugin.removal}"
                html = _failure(context, failed[name])
        found[name] = Section(name, item.spec.title, Markup(html), tuple(context.placed.headings.get(name, [])))
    context.section = ""
    return [found[name] for name in names], failed


def opening(context: ReportContext) -> list[Section]:
    """What stands before the sections: how to read the page, and its verdicts in short."""
    found = [("reading", "How to read this page", reading), ("summary", "What the numbers say", summary)]
    return [Section(name, title, make(context)) for name, title, make in found]


def _failure(context: ReportContext, reason: str) -> Markup:
    text = f"This section failed. {reason}"
    context.placed.alerts.append(text)
    return Markup('<p class="note failed-note">{}</p>').format(text)


def plural(count: int, noun: str) -> tuple[int, str]:
    """A count and its noun."""
    return count, noun if count == 1 else f"{noun}s"


def render_page(context: ReportContext, sections: list[Section]) -> str:
    """The page as one HTML document that opens no network."""
    from plotly.offline import get_plotlyjs

    environment = context.environment
    source = {
        name: environment.loader.get_source(environment, name)[0].strip()  # type: ignore[union-attr]
        for name in ("style.css", "page.js")
    }
    entries = context.inputs.entries
    models = {(e.task, e.model) for e in entries if e.kind in ("model", "pipeline", "unknown")}
    controls = {(e.task, e.model) for e in entries if e.kind == "control"}
    failed = [e for e in entries if e.status != "ok"]
    facts = [
        plural(len(context.containers), "container"),
        plural(len(context.results), "task"),
        plural(len(models), "scored method"),
        plural(len(controls), "control"),
        (len(failed), "failed"),
    ]
    return environment.get_template("page.html.j2").render(
        dataset=context.dataset,
        description=context.settings.get("description") or "",
        facts=facts,
        sections=sections,
        styles=[_inside(text, "style") for text in (source["style.css"], *context.placed.styles.values())],
        scripts=[_inside(text, "script") for text in (source["page.js"], *context.placed.scripts.values())],
        plotly=_inside(get_plotlyjs() if context.placed.charts else "", "script"),
    )


def _inside(text: str, tag: str) -> Markup:
    """Text for the inside of a script or style element, which it cannot end."""
    return Markup(re.sub(f"</(?={tag})", r"<\\/", text, flags=re.IGNORECASE))
