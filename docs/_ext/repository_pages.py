"""Pages from Markdown files outside of docs (READMEs, changelogs, dataset cards), and links to the repository's files.

The pages are written for a code host, where a link may lead to any file. In the site a link to a file that is a page
leads to that page; one to another file becomes its address under ``repository_base``, or its path as text without one.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from generated import write_pages

ROOT = Path(__file__).resolve().parents[2]
DOCS = "docs"
PATTERNS = {
    "packages/*/README.md": "packages/{0}.md",
    "packages/*/CHANGELOG.md": "packages/{0}-changes.md",
    "data/*/card.md": "cards/{0}.md",
    "examples/*/README.md": "examples/{0}.md",
}
"""Files of the repository -> the page each becomes; ``{0}`` is the name of the folder it lies in."""

TITLES = {
    "packages": ("Packages", "What each package is for, and what changed in it."),
    "cards": ("Dataset cards", "What each dataset is, under which licence, and what it cannot show."),
    "examples": ("Examples", "Complete plugin packages to read and to copy; they lie in `examples/`."),
}
_LINK = re.compile(r"(?<![!\\])\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_CODE = re.compile(r"(^[ \t]*(`{3,}|~{3,})[^\n]*\n.*?^[ \t]*\2[ \t]*$|(`+)(?:(?!\3).)+?\3(?!`))", re.S | re.M)


def pages_of(root: Path) -> dict[str, str]:
    """Path in the repository -> page in docs, of the files that become pages."""
    found = {"README.md": "index.md"}
    for pattern, page in PATTERNS.items():
        for path in sorted(root.glob(pattern)):
            found[path.relative_to(root).as_posix()] = page.format(path.parent.name)
    return found


def site_links(text: str, source: str, page: str, pages: Mapping[str, str], base: str, root: Path = ROOT) -> str:
    """``text`` of the file ``source`` (path in the repository) with links as the page ``page`` (in docs) needs them."""
    parts: list[str] = []
    last = 0
    # A link's text may hold code, so only fences and code spans that are no part of a link's text are kept out.
    fences = [m.span() for m in _CODE.finditer(text) if m.group(2)]
    for match in _LINK.finditer(text):
        if any(start <= match.start() < end for start, end in fences):
            continue
        parts += [text[last : match.start()], _link(*match.groups(), source, page, pages, base, root)]
        last = match.end()
    return "".join(parts) + text[last:]


def _link(
    words: str, target: str, source: str, page: str, pages: Mapping[str, str], base: str, root: Path
) -> str:
    same = f"[{words}]({target})"
    if re.match(r"^([a-z][a-z0-9+.-]*:|#|/)", target):
        return same
    path, _, anchor = target.partition("#")
    place = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    inside = place.removeprefix(f"{DOCS}/") if place.startswith(f"{DOCS}/") else pages.get(place, "")
    if inside:
        there = os.path.relpath(inside, posixpath.dirname(page) or ".")
        return f"[{words}]({there}{'#' + anchor if anchor else ''})"
    if not (root / place).exists():
        return same  # Sphinx says that it leads nowhere
    if base:
        return f"[{words}]({base}/{place})"
    return words if place in words or words.strip("`") in place else f"{words} (`{place}`)"


def _make_pages(app: Any) -> None:
    pages = pages_of(ROOT)
    docs = Path(app.srcdir)
    by_folder: dict[str, dict[str, str]] = {folder: {} for folder in TITLES}
    for source, page in pages.items():
        folder, _, name = page.partition("/")
        if not name:
            continue
        text = (ROOT / source).read_text(encoding="utf-8")
        if name.endswith("-changes.md"):
            text = re.sub(r"^# .*$", f"# Changes of {name.removesuffix('-changes.md')}", text, count=1, flags=re.M)
        by_folder[folder][name] = site_links(text, source, page, pages, app.config.repository_base)
    for folder, texts in by_folder.items():
        title, summary = TITLES[folder]
        names = "\n".join(sorted(name.removesuffix(".md") for name in texts))
        texts["index.md"] = f"# {title}\n\n{summary}\n\n```{{toctree}}\n:maxdepth: 1\n\n{names}\n```\n"
        write_pages(docs / folder, texts)


def _read(app: Any, name: str, content: list[str]) -> None:
    if not Path(app.env.doc2path(name)).suffix == ".md" or name.split("/")[0] in TITLES:
        return
    page = f"{name}.md"
    content[0] = site_links(content[0], f"{DOCS}/{page}", page, pages_of(ROOT), app.config.repository_base)


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_config_value("repository_base", "", "env")
    app.connect("builder-inited", _make_pages)
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
