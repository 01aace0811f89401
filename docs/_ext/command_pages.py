"""Pages of the command line, a page a group, made from the click commands that HYPED's own packages register."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import click
from generated import write_pages

from hyped_core.cli.main import GROUPS
from hyped_core.plugins.host import PluginHost, default_host
from hyped_core.spec import CommandSpec, import_target

OWN = ("hyped-core", "hyped-imaging", "hyped-seq", "hyped-bench")
INTRODUCTION = """# The command line

`hyped` has one command for each step; the groups are pages of their own. Every command answers `--help`. A command of
a package that is not installed is not there; `hyped doctor` says what is.

What a command prints on stdout is data, what it says to a person goes to stderr. Exit codes:

| code | |
| --- | --- |
| 0 | it worked |
| 1 | it failed, or something differs that was to be equal |
| 2 | the command was put together wrongly |
| 3 | a file, a design or a parameter is not what it has to be |
| 4 | a plugin or a model cannot be used |
| 5 | a library, hardware or memory is missing |
| 6 | a number got worse than it was |
"""


def commands(host: PluginHost | None = None) -> list[tuple[CommandSpec, str]]:
    """The commands of HYPED's packages with the package each comes with, by their words."""
    found = [(i.spec, i.plugin.distribution) for i in (host or default_host()).collect("hyped_commands")]
    return sorted((pair for pair in found if pair[1] in OWN), key=lambda pair: pair[0].path)


def pages() -> dict[str, str]:
    """File name -> Markdown: an overview, and a page a group."""
    groups: dict[str, list[tuple[CommandSpec, str]]] = {}
    for spec, package in commands():
        groups.setdefault(spec.path[0], []).append((spec, package))
    texts = {f"{name}.md": _group(name, members) for name, members in groups.items()}
    lines = [INTRODUCTION]
    for name, members in groups.items():
        lines += [f"## [hyped {name}]({name}.md)", "", "| command | what it does | package |", "| --- | --- | --- |"]
        for spec, package in members:
            words = " ".join(spec.path)
            place = "" if len(spec.path) == 1 else f"#hyped-{'-'.join(spec.path)}"
            lines.append(f"| [`hyped {words}`]({name}.md{place}) | {_cell(spec.help)} | `{package}` |")
        lines.append("")
    names = "\n".join(groups)
    lines.append(f"```{{toctree}}\n:hidden:\n\n{names}\n```")
    texts["index.md"] = "\n".join(lines) + "\n"
    return texts


def _group(name: str, members: list[tuple[CommandSpec, str]]) -> str:
    if len(members) == 1 and len(members[0][0].path) == 1:
        return "\n".join(_command(*members[0], heading="#"))
    packages = sorted({package for _, package in members})
    lines = [f"# hyped {name}", "", GROUPS.get(name, ""), "", f"From {' and '.join(f'`{p}`' for p in packages)}.", ""]
    for spec, package in members:
        lines += _command(spec, package, heading="##")
    return "\n".join(lines)


def _command(spec: CommandSpec, package: str, heading: str) -> list[str]:
    words = " ".join(("hyped", *spec.path))
    command: click.Command = import_target(spec.target)
    context = click.Context(command, info_name=words)
    usage = command.get_usage(context).removeprefix("Usage: ")
    lines = [f"{heading} {words}", "", "```", re.sub(r"\s+", " ", usage), "```", "", *_help(command), ""]
    if heading == "#":
        lines += [f"From `{package}`.", ""]
    rows = [row for parameter in command.get_params(context) if (row := _row(parameter, context))]
    if rows:
        lines += ["| option | what it does |", "| --- | --- |", *rows, ""]
    return lines


def _help(command: click.Command) -> list[str]:
    """A command's help: paragraphs as they are, indented or ``\\b`` ones as they were typed."""
    text = inspect.cleandoc(command.help or command.short_help or "").split("\f")[0].strip()
    lines: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        if paragraph.lstrip().startswith("\b"):
            lines += ["```", *paragraph.lstrip().removeprefix("\b").strip("\n").splitlines(), "```", ""]
        else:
            lines += [_plain(paragraph), ""]
    return lines


def _row(parameter: click.Parameter, context: click.Context) -> str:
    """A line of the table, of an option only: arguments stand in the usage line and the text."""
    record = parameter.get_help_record(context)
    if record is None or not isinstance(parameter, click.Option):
        return ""
    names, text = record
    return f"| `{names}` | {_cell(text)} |".replace("`|", "` |") if "|" not in names else (
        f"| `{names.replace('|', chr(92) + '|')}` | {_cell(text)} |"
    )


def _plain(text: str) -> str:
    """Help text as Markdown takes it: what would be markup there is escaped outside of backticks."""
    text = re.sub(r"(?<![`\w/=-])(--[a-z][\w-]*)(?![^`]*`(?:[^`]*`[^`]*`)*[^`]*$)", r"`\1`", text)
    parts = re.split(r"(``?[^`]+``?)", text)
    for place in range(0, len(parts), 2):
        parts[place] = re.sub(r"([*_<>$\[\]{}])", r"\\\1", parts[place])
    return "".join(parts)


def _cell(text: str) -> str:
    return _plain(" ".join(text.split())).replace("|", "\\|")


def _make_pages(app: Any) -> None:
    write_pages(Path(app.srcdir) / "cli", pages())


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", _make_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
