"""The API reference: a page for each public module of hyped_core, and docstrings as autodoc wants them."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from generated import write_pages

MODULES = {
    "Writing a model": (
        "hyped_core.spec",
        "hyped_core.contracts",
        "hyped_core.context",
        "hyped_core.params",
        "hyped_core.design.model",
        "hyped_core.design.phases",
        "hyped_core.stacks",
        "hyped_core.errors",
        "hyped_core.plugins.hookspecs",
    ),
    "Checking it": (
        "hyped_core.testing",
        "hyped_core.testing.plugins",
        "hyped_core.testing.kit",
        "hyped_core.testing.suites",
        "hyped_core.testing.pytest_plugin",
        "hyped_core.checking.records",
        "hyped_core.checking.catalogue",
        "hyped_core.checking.run",
        "hyped_core.checking.compare",
        "hyped_core.checking.tiny.movie",
        "hyped_core.checking.tiny.screen",
        "hyped_core.checking.tiny.hashtags",
    ),
    "Finding and running models": (
        "hyped_core.plugins.registry",
        "hyped_core.plugins.host",
        "hyped_core.plugins.folder",
        "hyped_core.plugins.lock",
        "hyped_core.remote.host",
        "hyped_core.remote.process",
        "hyped_core.remote.environments",
        "hyped_core.remote.cache",
    ),
    "Data": (
        "hyped_core.container.data",
        "hyped_core.container.validate",
        "hyped_core.container.assembly",
        "hyped_core.container.movies",
        "hyped_core.container.labels",
        "hyped_core.data.manifest",
        "hyped_core.splits",
        "hyped_core.io.atomic",
        "hyped_core.io.tables",
        "hyped_core.io.unpickle",
    ),
}
"""Headings of the reference -> public modules; one that is not there is left out."""

INTRODUCTION = """API reference of hyped_core
===========================

What a plugin may import. Names without a leading underscore in these modules keep their meaning within one version of
the contracts; most of them can also be had from ``hyped_core`` itself (``from hyped_core import ModelSpec``).
"""
_SECTION = re.compile(r"^(Attributes|Parameters)$")
_ONE_LINE = re.compile(r"^([A-Za-z_][\w, *]*?) : (\S.*)$")


def pages() -> dict[str, str]:
    """File name -> reStructuredText."""
    texts: dict[str, str] = {}
    lines = [INTRODUCTION]
    for heading, modules in MODULES.items():
        here = [name for name in modules if find_spec(name)]
        lines += [heading, "-" * len(heading), "", ".. toctree::", "   :maxdepth: 1", ""]
        lines += [*(f"   {name}" for name in here), ""]
        for name in here:
            options = "   :members:\n   :ignore-module-all:\n"  # a name is described where it is defined
            texts[f"{name}.rst"] = f"{name}\n{'=' * len(name)}\n\n.. automodule:: {name}\n{options}"
    texts["index.rst"] = "\n".join(lines)
    return texts


def _make_pages(app: Any) -> None:
    write_pages(Path(app.srcdir) / "api", pages())


def unfold(lines: list[str]) -> list[str]:
    """Sections whose entries are ``name : what it is`` on one line, as napoleon reads them: the text below the name."""
    done: list[str] = []
    inside = False
    for place, line in enumerate(lines):
        following = lines[place + 1] if place + 1 < len(lines) else ""
        if re.fullmatch(r"-{3,}", following.strip()):
            inside = bool(_SECTION.match(line.strip()))
        match = _ONE_LINE.match(line) if inside else None
        if match:
            done += [match[1], f"    {match[2]}"]
        else:
            done.append(line)
    return done


def literal(lines: list[str]) -> list[str]:
    """Blocks that are indented after an empty line, as examples in the docstring of a module are, shown as code."""
    done: list[str] = []
    for line in lines:
        before = next((text for text in reversed(done) if text.strip()), "")
        opens = line.startswith("    ") and done and not done[-1].strip() and before[:1] not in (" ", "-", "*", ".")
        if opens and not before.endswith("::"):
            done += ["::", ""]
        done.append(line)
    return done


def _docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    if what in ("attribute", "data", "property"):
        lines.insert(0, "")  # else napoleon takes what stands before a colon for the type
    lines[:] = literal(lines) if what == "module" else unfold(lines)


def _signature(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, result: str | None
) -> tuple[str, str | None] | None:
    """A protocol is not made, so it has no arguments."""
    return ("", result) if what == "class" and getattr(obj, "_is_protocol", False) else None


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx; before napoleon, which reads the sections."""
    app.connect("builder-inited", _make_pages)
    app.connect("autodoc-process-docstring", _docstring, priority=100)
    app.connect("autodoc-process-signature", _signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
