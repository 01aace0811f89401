"""Writing pages that the build makes, so that an unchanged page keeps its time and is not built again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def write_pages(folder: Path, pages: Mapping[str, str]) -> None:
    """Leave exactly ``pages`` (name -> text) in ``folder``; a file that has its text already is not touched."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {folder / name for name in pages}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path not in wanted:
            path.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
