"""What a section of the report gets: the inputs, and a way to place tables, charts, images and notes.

A section is a function ``section(context: ReportContext) -> str`` that returns HTML, announced by a
`hyped_core.spec.ReportSectionSpec`. What it places through the context is also written beside the page:
tables as CSV, charts as SVG and PNG. What it needs of CSS and JavaScript of its own it gives once, by
`ReportContext.style` and `ReportContext.script`: a file of the templates (``movie.js``) or the text itself. Styles
stand in the page's head after its own, scripts at its end after Plotly and the page's script, each once however often
it is given.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hyped_bench.metrics.undefined import rounded
from hyped_bench.report.charts import Chart
from hyped_bench.report.draw_plotly import plotly_json
from hyped_bench.report.inputs import ReportInputs
from hyped_core.errors import UsageError

NONE_TEXT = "–"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the page.

    Attributes
    ----------
    columns, rows : raw values, as they are written to CSV.
    shown : the page's own headings and cells where they differ from the raw ones.
    marks : a CSS class for each row (``control``, ``failed``), "" for none.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    shown: tuple[Sequence[str], Sequence[Sequence[Any]]] | None = None
    marks: Sequence[str] = ()
    muted: Sequence[str] = ()
    """Headings of columns that tell nothing, shown in grey."""
    stacked: bool = False
    """On a phone every row becomes a block of named lines: for tables whose last columns matter most."""


@dataclass(slots=True)
class Placed:
    """What was placed on the page and is to be written beside it."""

    tables: dict[str, Table] = field(default_factory=dict)
    charts: dict[str, Chart] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)
    styles: dict[str, str] = field(default_factory=dict)
    scripts: dict[str, str] = field(default_factory=dict)
    headings: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)


class ReportContext:
    """The inputs of a report, and the parts a section is made of (each returns HTML)."""

    def __init__(self, inputs: ReportInputs) -> None:
        self.inputs = inputs
        self.dataset = inputs.dataset
        self.settings = inputs.settings
        self.results = inputs.results
        self.containers = inputs.containers
        self.placed = Placed()
        self.section = ""
        self.environment = make_environment()
        self._parts: Any = self.environment.get_template("parts.html.j2").module

    def table(self, name: str, table: Table, *, folded: str = "") -> Markup:
        """Place a table, written to ``tables/<name>.csv``; ``folded`` puts it behind this summary."""
        self._claim(name, self.placed.tables)
        self.placed.tables[name] = table
        heads, rows = table.shown or (table.columns, table.rows)
        cells = [[Cell.of(value) for value in row] for row in rows]
        numeric = [all(row[i].number for row in cells) for i in range(len(heads))] if cells else []
        numeric = numeric or [False] * len(heads)
        marks = list(table.marks) or [""] * len(cells)
        body = list(zip(marks, cells, strict=True))
        held = _in_script(csv_text(table.columns, table.rows))
        muted = set(table.muted)
        html = self._parts.table(name, table.caption, heads, body, numeric, muted, held, table.stacked)
        return self.fold(folded, [html]) if folded else Markup(html)

    def attach(self, name: str, table: Table, text: str) -> Markup:
        """Write a table to ``tables/<name>.csv`` without showing it; gives the link."""
        self._claim(name, self.placed.tables)
        self.placed.tables[name] = table
        return Markup(self._parts.attached(name, text, _in_script(csv_text(table.columns, table.rows))))

    def chart(self, name: str, chart: Chart) -> Markup:
        """Place a chart, written to ``figures/<name>.svg``."""
        self._claim(name, self.placed.charts)
        self.placed.charts[name] = chart
        panels = [Markup(text.replace("</", "<\\/")) for text in plotly_json(chart)]
        return Markup(self._parts.chart(name, chart, panels))

    def images(self, images: Iterable[tuple[str, str, str]], caption: str) -> Markup:
        """Place images: (data URI, alternative text, line below it)."""
        return Markup(self._parts.images(list(images), caption))

    def text(self, *paragraphs: str) -> Markup:
        """Paragraphs of plain text."""
        return Markup("").join(Markup("<p>{}</p>\n").format(text) for text in paragraphs)

    def items(self, lines: Iterable[str]) -> Markup:
        """A list of plain lines."""
        inner = Markup("").join(Markup("<li>{}</li>\n").format(line) for line in lines)
        return Markup("<ul>{}</ul>\n").format(inner)

    def heading(self, text: str, level: int = 3, *, listed: str = "") -> Markup:
        """A heading inside a section (its own is level 2); ``listed``: its name in the page's contents."""
        name = re.sub(r"[^a-z0-9]+", "-", (listed or text).lower()).strip("-")
        place = self.anchor(f"{self.section}-{name}" if self.section else name)
        if listed:
            self.placed.headings.setdefault(self.section, []).append((place, listed))
        return Markup(f'<h{level} id="{{}}">{{}}</h{level}>\n').format(place, text)

    def anchor(self, wanted: str) -> str:
        """An id of the page that nothing else has: the wanted one, or that with a number."""
        name, count = wanted, 1
        while name in self.placed.ids:
            count += 1
            name = f"{wanted}-{count}"
        self.placed.ids.add(name)
        return name

    def alert(self, text: str) -> Markup:
        """What a reader must not miss; repeated in the summary."""
        if text not in self.placed.alerts:
            self.placed.alerts.append(text)
        return Markup(self._parts.note("alert", text))

    def note(self, text: str) -> Markup:
        """A remark."""
        return Markup(self._parts.note("note", text))

    def absent(self, text: str) -> Markup:
        """What this dataset does not have; repeated in the summary."""
        if text not in self.placed.absent:
            self.placed.absent.append(text)
        return Markup(self._parts.note("absent", text))

    def pairs(self, values: Mapping[str, Any]) -> Markup:
        """Names and values, one below the other; mappings and lists as JSON."""
        return Markup(self._parts.pairs([(key, Cell.of(value)) for key, value in values.items()]))

    def fold(self, summary: str, parts: Iterable[str], *, anchor: str = "") -> Markup:
        """Parts behind a line that opens them; a link to ``anchor`` opens them too."""
        return Markup(self._parts.fold(summary, Markup("").join(Markup(p) for p in parts), anchor))

    def document(self, text: str, files: Sequence[str]) -> Markup:
        """A Markdown document (its HTML is not trusted), its headings below the section's, with links to files."""
        from markdown_it import MarkdownIt

        parser = MarkdownIt("commonmark", {"html": False}).enable("table")
        tokens = parser.parse(text)
        for token in tokens:
            if token.type in ("heading_open", "heading_close"):
                token.tag = f"h{min(int(token.tag[1]) + 2, 6)}"
        html = parser.renderer.render(tokens, parser.options, {})
        html = html.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")
        return Markup(self._parts.card(Markup(html), files))

    def beside(self, parts: Iterable[str]) -> Markup:
        """Parts side by side where the page is wide enough."""
        return Markup('<div class="beside">{}</div>').format(Markup("").join(Markup(p) for p in parts))

    def join(self, parts: Iterable[str]) -> Markup:
        """Parts one after the other."""
        return Markup("\n").join(Markup(part) for part in parts)

    def style(self, name_or_text: str) -> None:
        """CSS for the page's head: the name of a template (``movie.css``) or the rules; the same only once."""
        self.placed.styles.setdefault(name_or_text, self._source(name_or_text, ".css"))

    def script(self, name_or_text: str) -> None:
        """JavaScript for the end of the page: the name of a template (``movie.js``) or the code; the same only once.

        It runs after the page is read and Plotly is there; wrap it in a function, so that its names are its own.
        """
        self.placed.scripts.setdefault(name_or_text, self._source(name_or_text, ".js"))

    def _source(self, name_or_text: str, suffix: str) -> str:
        if not re.fullmatch(rf"[A-Za-z0-9_.-]+\{suffix}", name_or_text):
            return name_or_text.strip()
        assert self.environment.loader is not None
        return self.environment.loader.get_source(self.environment, name_or_text)[0].strip()

    def _claim(self, name: str, taken: Mapping[str, Any]) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or name in taken:
            why = "is taken" if name in taken else "may hold letters, digits, '_', '-' and '.' only"
            raise UsageError(f"the name of a table or figure {why}", where=name, mend="use another name")


@dataclass(frozen=True, slots=True)
class Cell:
    """Text of a cell, and whether it is a number.

    Attributes
    ----------
    href : where the text leads to, a place of this page (``#record-denoise-identity``).
    mark : a CSS class of the cell (``muted``).
    """

    text: str
    number: bool = False
    code: bool = False
    href: str = ""
    mark: str = ""

    @classmethod
    def of(cls, value: Any) -> Cell:
        """How a value is shown."""
        if isinstance(value, Cell):
            return value
        if value is None or (isinstance(value, float) and value != value):
            return cls(NONE_TEXT, True)
        if isinstance(value, bool):
            return cls("yes" if value else "no")
        if isinstance(value, int):
            return cls(str(value), True)
        if isinstance(value, float):
            return cls(number_text(value), True)
        if isinstance(value, dict | list | tuple):
            return cls(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False), code=True)
        return cls(str(value))


def _in_script(text: str) -> Markup:
    """Text as a JSON string for a script element, which it cannot end."""
    return Markup(json.dumps(text, ensure_ascii=False).replace("<", "\\u003c"))


def record_anchor(task: str, model: str) -> str:
    """Where a record's provenance stands on the page."""
    return f"record-{task}-{model}"


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Comma separated values; floats with 6 digits, undefined values empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if (cell := plain(value)) is None else cell for value in row])
    return buffer.getvalue()


def plain(value: Any) -> Any:
    """A value for CSV."""
    return rounded(value) if isinstance(value, float) else value


def number_text(value: float | int | None) -> str:
    """A number with four significant digits; integers whole.

    >>> number_text(0.000146), number_text(38.3568), number_text(12), number_text(None)
    ('0.000146', '38.36', '12', '–')
    """
    if value is None or value != value:
        return NONE_TEXT
    if isinstance(value, int):
        return str(value)
    return f"{value:.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


def make_environment() -> Environment:
    """The templates; everything is escaped, an unknown name is an error."""
    return Environment(
        loader=PackageLoader("hyped_bench.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
