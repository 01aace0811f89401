"""Where everything lies that ``hyped seq process -o NAME.h5ad`` writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hyped_core.errors import UsageError


@dataclass(frozen=True)
class Layout:
    """Paths that follow from the name of the result.

    Raises
    ------
    UsageError
        The name does not end in ``.h5ad``.
    """

    out: Path

    def __post_init__(self) -> None:
        if self.out.suffix != ".h5ad" or self.out.is_dir():
            raise UsageError("is no name of an h5ad file", where=self.out, mend="name it like -o out.h5ad")

    @property
    def page(self) -> Path:
        """The summary."""
        return self.out.with_suffix(".html")

    @property
    def steps(self) -> Path:
        """The folder of what the steps leave behind."""
        return self.out.with_suffix(".steps")

    @property
    def ingest(self) -> Path:
        """Raw counts of all pools."""
        return self.steps / "ingest"

    @property
    def calls(self) -> Path:
        """The table of hashtag calls."""
        return self.steps / "demultiplex.csv"

    @property
    def cells(self) -> Path:
        """Annotated cells and the tables about them."""
        return self.steps / "cells"

    @property
    def summary(self) -> Path:
        """The numbers of the page."""
        return self.steps / "summary.json"
