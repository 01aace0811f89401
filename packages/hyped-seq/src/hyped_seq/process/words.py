"""Numbers as the summary page writes them."""

from __future__ import annotations

from typing import Any


def interval(share: list[float]) -> str:
    """A share and its bounds, in percent."""
    return f"{100 * share[0]:.1f} % ({100 * share[1]:.1f} to {100 * share[2]:.1f})"


def share(part: float, whole: float) -> str:
    """A part in percent of the whole; a dash where there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def plain(value: Any) -> str:
    """A number with three digits, text as it is, a dash for nothing."""
    if value is None or value == "":
        return "-"
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 1000 else (
        f"{value:.0f}" if isinstance(value, float) else str(value))  # fmt: skip


def percent(share: float | None) -> str:
    """A share in percent, without the sign; a question mark for none."""
    return "?" if share is None else f"{100 * share:.1f}"
