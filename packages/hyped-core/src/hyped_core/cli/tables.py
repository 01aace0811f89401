"""Plain aligned columns on stdout: readable on a terminal, and by cut and awk in a pipe."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of columns padded to their widest cell, two spaces apart, under a line of headings."""
    lines = [tuple(head), *(tuple(str(cell) for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def size_text(count: int | None) -> str:
    """Bytes as people read them: ``417.6 MB`` (decimal units), ``size unknown`` for None."""
    if count is None:
        return "size unknown"
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def about_text(count: int) -> str:
    """An approximate number of bytes, two figures of it: ``about 12 MB``."""
    number, unit = size_text(round(float(f"{count:.2g}"))).split()
    return f"about {float(number):g} {unit}"
