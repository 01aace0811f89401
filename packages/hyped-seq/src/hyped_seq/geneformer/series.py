"""The two series of Geneformer: how long a cell's sequence is, and which special tokens it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hyped_core.errors import UnknownNameError

SeriesName = Literal["v1", "v2"]

PAD, MASK, CLS, EOS = "<pad>", "<mask>", "<cls>", "<eos>"
"""Special tokens; series V1 knows the first two."""


@dataclass(frozen=True, slots=True)
class Series:
    """How a series turns a cell into tokens.

    Attributes
    ----------
    max_tokens : longest sequence, special tokens counted.
    special : ``<cls>`` stands in front and ``<eos>`` at the end.
    collapse : gene ids are first mapped to a current one, and counts of ids that map to one are summed.
    target_sum : counts a cell is scaled to before the genes' medians divide it.
    """

    name: SeriesName
    max_tokens: int
    special: bool
    collapse: bool
    target_sum: float = 10_000.0

    @property
    def specials(self) -> tuple[str, ...]:
        """Special tokens in the order of their ids, which begin at 0."""
        return (PAD, MASK, CLS, EOS) if self.special else (PAD, MASK)

    def room(self, max_tokens: int | None = None) -> int:
        """How many genes of a cell fit into a sequence of ``max_tokens`` (the series' own where None)."""
        return (self.max_tokens if max_tokens is None else max_tokens) - (2 if self.special else 0)


V1 = Series("v1", 2048, special=False, collapse=False)
"""Pretrained on 30 million cells."""
V2 = Series("v2", 4096, special=True, collapse=True)
"""Pretrained on 104 million cells."""

SERIES: dict[str, Series] = {"v1": V1, "v2": V2}


def series_of(name: str) -> Series:
    """The series called ``v1`` or ``v2``.

    Raises
    ------
    UnknownNameError
    """
    try:
        return SERIES[name.lower()]
    except KeyError:
        raise UnknownNameError(f"there is no series {name!r} of Geneformer", mend="series: v1, v2") from None
