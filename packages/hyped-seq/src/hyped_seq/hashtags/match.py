"""Matching of short known sequences in reads with errors: adapter, cell barcodes, hashtags, UMIs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import edlib
import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

ADAPTER = "CTACACGACGCTCTTCCGATCT"
"""End of Illumina's read 1 primer, which stands before the cell barcode of 10x 3' libraries."""

_ADAPTER_DISTANCE = 5
_COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


def reverse_complement(sequence: str) -> str:
    """The other strand.

    >>> reverse_complement("AACG")
    'CGTT'
    """
    return sequence.translate(_COMPLEMENT)[::-1]


_ADAPTER_REVERSE = reverse_complement(ADAPTER)


def find_adapter(sequence: str) -> tuple[bool, int] | None:
    """Where the cell barcode begins: (other strand?, position on that strand), None without adapter."""
    at = sequence.find(ADAPTER)
    if at >= 0:
        return False, at + len(ADAPTER)
    at = sequence.find(_ADAPTER_REVERSE)
    if at >= 0:
        return True, len(sequence) - at
    forward = edlib.align(ADAPTER, sequence, mode="HW", task="locations", k=_ADAPTER_DISTANCE)
    reverse = edlib.align(_ADAPTER_REVERSE, sequence, mode="HW", task="locations", k=_ADAPTER_DISTANCE)
    distances = [item["editDistance"] for item in (forward, reverse)]
    if max(distances) < 0 or distances[0] == distances[1]:
        return None
    if distances[1] < 0 or 0 <= distances[0] < distances[1]:
        return False, forward["locations"][0][1] + 1
    start = reverse["locations"][0][0]
    return True, len(sequence) - (start or 0)


class BarcodeIndex:
    """Corrects observed cell barcodes against a whitelist: exact, else the one unique closest."""

    def __init__(self, whitelist: Sequence[str], distance: int) -> None:
        self.whitelist = list(whitelist)
        self.distance = distance
        self.length = len(self.whitelist[0])
        self._exact = {barcode: index for index, barcode in enumerate(self.whitelist)}
        self._seen: dict[str, int | None] = {}

    def locate(self, strand: str, start: int) -> tuple[int, int] | None:
        """(index into the whitelist, where the UMI begins) for a barcode expected at ``start``."""
        end = start + self.length
        observed = strand[start:end]
        exact = self._exact.get(observed)
        if exact is not None:
            return exact, end
        for shift in (-1, 1):
            exact = self._exact.get(strand[max(start + shift, 0) : end + shift])
            if exact is not None:
                return exact, end + shift
        cell = self.correct(observed)
        if cell is None:
            return None
        low = max(start - self.distance, 0)
        window = strand[low : end + self.distance]
        fit = edlib.align(self.whitelist[cell], window, mode="HW", task="locations")
        ends = [low + location[1] + 1 for location in fit["locations"]]
        return cell, min(ends, key=lambda found: (abs(found - end), -found))

    def correct(self, observed: str) -> int | None:
        """Index of the unique whitelist entry closest to ``observed``, None where none or several are."""
        if observed not in self._seen:
            hits = process.extract(
                observed, self.whitelist, scorer=Levenshtein.distance, score_cutoff=self.distance, limit=2
            )
            unique = len(hits) == 1 or (len(hits) == 2 and hits[0][1] < hits[1][1])
            self._seen[observed] = hits[0][2] if unique else None
        return self._seen[observed]


class TagFinder:
    """Finds which hashtag's barcode a read holds, on either strand, within an edit distance."""

    def __init__(self, tags: Mapping[str, str], distance: int) -> None:
        self.distance = distance
        self._forms = [(reverse_complement(barcode), barcode) for barcode in tags.values()]

    def find(self, rest: str) -> int | None:
        """Index of the tag in ``rest`` (what follows the UMI), None where none or two fit equally well."""
        for index, forms in enumerate(self._forms):
            if forms[0] in rest or forms[1] in rest:
                return index
        best, second, found = self.distance + 1, self.distance + 1, None
        for index, forms in enumerate(self._forms):
            distances = [
                edlib.align(form, rest, mode="HW", k=self.distance)["editDistance"] for form in forms
            ]
            fitting = [distance for distance in distances if distance >= 0]
            if not fitting:
                continue
            distance = min(fitting)
            if distance < best:
                best, second, found = distance, best, index
            else:
                second = min(second, distance)
        return found if best < second else None


def collapse_umis(umis: Counter[str], distance: int) -> int:
    """Number of molecules: a UMI within ``distance`` edits of a more frequent one is a copy of that one.

    Equal frequencies are ordered by sequence, so the result does not depend on the order of the reads.
    """
    if distance == 0 or len(umis) < 2:
        return len(umis)
    ordered = [umi for umi, _ in sorted(umis.items(), key=lambda item: (-item[1], item[0]))]
    molecules = 0
    block = 512
    for start in range(0, len(ordered), block):
        rows = ordered[start : start + block]
        near = process.cdist(
            rows,
            ordered[: start + len(rows)],
            scorer=Levenshtein.distance,
            score_cutoff=distance,
            dtype=np.uint8,
        )
        is_near = near <= distance
        for offset in range(len(rows)):
            molecules += not is_near[offset, : start + offset].any()
    return molecules
