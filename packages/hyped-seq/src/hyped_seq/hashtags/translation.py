"""Barcodes before hashtags that differ from those before the cDNA of the same bead.

Beads of 10x 3' kits from v3 on carry two oligos with different barcodes: one ends in poly(dT), the other in a capture
sequence, which TotalSeq-B tags bind. 10x gives the pairs in a list; in that of v3 (3M-february-2018; 10x' own example
is AAACCCAAGAAACACT and AAACCCATCAAACACT) bases 8 and 9 are complemented. TotalSeq-A binds the poly(dT) oligo.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hyped_core.errors import CorruptFileError, InvalidDataError
from hyped_seq.readers.matrix import read_lines


def translate_v3(packed: npt.NDArray[np.uint64], length: int) -> npt.NDArray[np.uint64]:
    """The other barcodes of 3' v3 beads: bases 8 and 9 complemented, in packed barcodes of ``length`` bases."""
    return packed ^ (np.uint64(15) << np.uint64(2 * (length - 9)))


def translate_by_list(whitelist: Sequence[str], path: Path) -> list[str]:
    """The other barcode of each of ``whitelist`` as a two-column list (text, plain or gz) has them.

    Which column is the whitelist's is seen from the barcodes: the one that holds more of them, of two the first.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError
        No such file, a line has not two columns, or barcodes of the whitelist are not in the list.
    """
    wanted = set(whitelist)
    ways: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for number, line in enumerate(read_lines(path), 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 2:
            raise CorruptFileError(
                f"line {number} has {len(fields)} columns, not 2",
                where=path,
                mend="give a two-column list of barcodes (barcode_translation)",
            )
        for way, (own, other) in zip(ways, (fields, fields[::-1]), strict=True):
            if own in wanted:
                way[own] = other
    way = ways[0] if len(ways[0]) >= len(ways[1]) else ways[1]
    absent = [barcode for barcode in whitelist if barcode not in way]
    if absent:
        raise InvalidDataError(
            f"lacks {len(absent)} of the whitelist's {len(whitelist)} barcodes, first {absent[0]!r}",
            where=path,
            mend="give the list of this kit, or set barcode_translation: auto",
        )
    return [way[barcode] for barcode in whitelist]
