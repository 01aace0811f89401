"""Telling how far `annotate` has come, part by part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hyped_core.context import RunContext


@contextmanager
def part(context: RunContext, name: str) -> Iterator[None]:
    """Report ``name`` as under way while the block runs, and as done after it."""
    tracked = context.progress.track([name], f"annotate: {name}", total=1)
    try:
        for _ in tracked:
            yield
    finally:
        close = getattr(tracked, "close", None)
        if close is not None:  # a bar has to go before an error is written
            close()
