"""Parameters of counting hashtags from the reads of a hashing library."""

from __future__ import annotations

from pydantic import Field, field_validator

from hyped_core.params import Params

READ1 = "CTACACGACGCTCTTCCGATCT"
"""End of Illumina's TruSeq read 1 primer: before the cell barcode of 10x poly(dT) oligos and of 5' beads."""

READ1N = "CGTCAGATGTGTATAAGAGACAG"
"""End of Illumina's Nextera read 1 primer: before the cell barcode of 10x capture-sequence oligos."""


class ReadParams(Params):
    """How the reads of a hashing library are taken apart."""

    tag_distance: int = Field(3, ge=0, le=4)
    """Largest edit distance between a read and a hashtag's barcode where its chemistry puts it. Lowered to half the
    distance of the two nearest tags, so that a read within it is never nearer to a wrong tag."""
    stray_distance: int = Field(1, ge=0, le=3)
    """The same anywhere else behind the UMI, on either strand (at most `tag_distance`)."""
    barcode_distance: int = Field(2, ge=0, le=3)
    """Largest edit distance between a read and a cell barcode of the whitelist."""
    barcode_translation: str = "auto"
    """How the barcodes before a hashtag differ from the whitelist's (those of the cDNA): ``none``; ``v3``: bases 8 and
    9 complemented, as on the capture-sequence oligos of 10x 3' v3 beads; or the path of a two-column list (10x' own for
    newer kits). ``auto``: ``none`` or ``v3``, whichever fits more of the first reads."""
    umi_length: int = Field(12, ge=4, le=16)
    """Length of the UMI (12 in 10x 3' v3 and v4, 10 in v2 and in 5' v1 and v2)."""
    umi_distance: int = Field(1, ge=0, le=2)
    """UMIs of one cell and tag at most this many edits from a more frequent one are counted with it."""
    adapters: tuple[str, ...] = (READ1, READ1N)
    """What may stand before the cell barcode; 8 to 32 bases each."""
    adapter_distance: int = Field(5, ge=0, le=10)
    """Largest edit distance between a read and an adapter (at most a quarter of the adapter's length is used)."""
    threads: int = Field(1, ge=1, le=64)
    """Threads that take reads apart; the result does not depend on it."""

    @field_validator("adapters")
    @classmethod
    def _adapters(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or any(not 8 <= len(item) <= 32 or set(item) - set("ACGT") for item in value):
            raise ValueError("needs one adapter at least, each of 8 to 32 of A, C, G, T")
        return value
