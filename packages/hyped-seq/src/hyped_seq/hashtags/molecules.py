"""Molecules seen in reads: one integer each of cell, tag and UMI, with how often it was read; UMIs collapsed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from hyped_core.errors import InvalidDataError
from hyped_seq.hashtags.alignment import Codes, Masks, Places, window_masks
from hyped_seq.hashtags.whitelist import neighbours

Reads = npt.NDArray[np.uint32]

_ZERO, _ONE, _TWO, _THREE = (np.uint64(i) for i in range(4))
_ODD = np.uint64(0x5555555555555555)
_PAIRWISE = 64
_BUFFER = 1 << 20


class MoleculeTable:
    """Distinct keys and their counts, sorted; 12 bytes a molecule, while merging about 40.

    Reads are gathered in a buffer of a million keys or half of what is there, so memory grows with the molecules
    and not with the reads, and every key is merged a bounded number of times.

    Attributes
    ----------
    keys, counts : (n,) sorted distinct keys, and reads of each; complete after `compact`.
    """

    def __init__(self, cells: int, tags: int, umi_length: int, buffer: int = _BUFFER) -> None:
        self.umi_bits = 2 * umi_length
        self.tag_bits = max((tags - 1).bit_length(), 1)
        if (cells - 1).bit_length() + self.tag_bits + self.umi_bits > 64:
            raise InvalidDataError(
                f"{cells} cell barcodes, {tags} tags and UMIs of {umi_length} bases are more than can be told apart",
                mend="give a shorter whitelist",
            )
        self.keys: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        self.counts: npt.NDArray[np.uint32] = np.empty(0, np.uint32)
        self._least = buffer
        self._waiting: list[npt.NDArray[np.uint64]] = []
        self._n_waiting = 0

    def add(self, keys: npt.NDArray[np.uint64]) -> None:
        """One key a read."""
        self._waiting.append(keys)
        self._n_waiting += len(keys)
        if self._n_waiting >= max(self._least, len(self.keys) // 2):
            self.compact()

    def compact(self) -> None:
        """Merge what waits into `keys` and `counts`."""
        if not self._n_waiting:
            return
        fresh = np.concatenate(self._waiting)
        self._waiting, self._n_waiting = [], 0
        fresh.sort()
        keys = np.empty(len(self.keys) + len(fresh), np.uint64)
        counts = np.empty(len(keys), np.uint32)
        n = _merge(self.keys, self.counts, fresh, keys, counts)
        self.keys, self.counts = keys[:n].copy(), counts[:n].copy()

    def collapsed(self, distance: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(cells, tags, molecules) of all pairs that have any, after `count_molecules` of each."""
        self.compact()
        groups = self.keys >> np.uint64(self.umi_bits)
        starts = (
            np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1]])) if groups.size else np.empty(0, int)
        )
        umis = self.keys & np.uint64((1 << self.umi_bits) - 1)
        molecules = _collapse(umis, self.counts, np.append(starts, len(umis)), self.umi_bits // 2, distance)
        pairs = groups[starts].astype(np.int64)
        return pairs >> self.tag_bits, pairs & ((1 << self.tag_bits) - 1), molecules


@njit(cache=True, nogil=True)
def _merge(old: Masks, old_counts: Reads, fresh: Masks, keys: Masks, counts: Reads) -> int:
    """Merge sorted distinct ``old`` with sorted ``fresh``; returns the number of distinct keys."""
    i = j = n = 0
    while i < len(old) or j < len(fresh):
        if j >= len(fresh) or (i < len(old) and old[i] <= fresh[j]):
            key, count = old[i], old_counts[i]
            i += 1
        else:
            key, count = fresh[j], np.uint32(0)
        while j < len(fresh) and fresh[j] == key:
            count += np.uint32(1)
            j += 1
        keys[n] = key
        counts[n] = count
        n += 1
    return n


def count_molecules(umis: npt.NDArray[np.uint64], reads: npt.NDArray[np.uint32], length: int, distance: int) -> int:
    """Molecules behind the UMIs of one cell and tag.

    A UMI within ``distance`` edits of a more frequent one is a copy of it; what is nobody's copy is a molecule.
    Equal frequencies are ordered by sequence, so the result does not depend on the order of reads. Edits are
    substitutions, insertions and deletions; as UMIs are cut from reads at a fixed length, the bases that an insertion
    or deletion pushes over the end are free.

    Parameters
    ----------
    umis : (n,) distinct, sorted, packed.
    reads : (n,) reads of each.
    """
    bounds = np.array([0, len(umis)])
    return int(_collapse(umis.astype(np.uint64), reads.astype(np.uint32), bounds, length, distance)[0])


@njit(cache=True, nogil=True)
def _collapse(umis: Masks, reads: Reads, bounds: Places, length: int, distance: int) -> npt.NDArray[np.int64]:
    """`count_molecules` of every group ``bounds[i]:bounds[i + 1]``."""
    molecules = np.zeros(len(bounds) - 1, np.int64)
    scratch = np.zeros(128, np.uint64)
    masks = np.zeros(5, np.uint64)
    bases = np.zeros(length, np.uint8)
    for group in range(len(bounds) - 1):
        low, high = bounds[group], bounds[group + 1]
        if distance == 0:
            molecules[group] = high - low
        elif high - low <= _PAIRWISE or length <= 2 * distance + 1:
            for i in range(low, high):
                _unpack(umis[i], length, bases, masks)
                copy = False
                for j in range(low, high):
                    if _above(umis, reads, j, i) and umi_near(umis[i], umis[j], masks, length, distance):
                        copy = True
                        break
                molecules[group] += not copy
        else:
            molecules[group] = _collapse_large(umis[low:high], reads[low:high], length, distance, scratch, masks, bases)
    return molecules


@njit(cache=True, nogil=True)
def _collapse_large(
    umis: Masks, reads: Reads, length: int, distance: int, keys: Masks, masks: Masks, bases: Codes
) -> int:
    """As pair by pair, but only UMIs that share the beginning of a half are compared (see `BarcodeIndex`)."""
    half = (length - 1) // 2 if distance == 1 else length // 2
    tail = length - half - distance
    shift_first = np.uint64(2 * (length - half))
    shift_tail = np.uint64(2 * distance)
    mask_tail = (_ONE << np.uint64(2 * tail)) - _ONE
    first_offsets = np.zeros((1 << (2 * half)) + 1, np.int64)
    tail_offsets = np.zeros((1 << (2 * tail)) + 1, np.int64)
    for umi in umis:
        first_offsets[np.int64(umi >> shift_first) + 1] += 1
        tail_offsets[np.int64((umi >> shift_tail) & mask_tail) + 1] += 1
    first_offsets = np.cumsum(first_offsets)
    tail_offsets = np.cumsum(tail_offsets)
    order = np.empty(len(umis), np.int64)
    filled = tail_offsets.copy()
    for i in range(len(umis)):
        key = np.int64((umis[i] >> shift_tail) & mask_tail)
        order[filled[key]] = i
        filled[key] += 1
    in_first = distance // 2
    in_second = distance - 1 - in_first
    molecules = 0
    for i in range(len(umis)):
        _unpack(umis[i], length, bases, masks)
        copy = False
        for part in range(2 * distance + 2):
            if part == 0:
                n = neighbours(bases, 0, half, in_first, keys)
            else:
                n = neighbours(bases, half + part - 1 - distance, tail, in_second, keys)
            offsets = first_offsets if part == 0 else tail_offsets
            for k in range(n):
                key = np.int64(keys[k])
                for item in range(offsets[key], offsets[key + 1]):
                    j = item if part == 0 else order[item]
                    if _above(umis, reads, j, i) and umi_near(umis[i], umis[j], masks, length, distance):
                        copy = True
                        break
                if copy:
                    break
            if copy:
                break
        molecules += not copy
    return molecules


@njit(cache=True, nogil=True, inline="always")
def _above(umis: Masks, reads: Reads, j: int, i: int) -> bool:
    """True where UMI j comes before i: read more often, or as often and first by sequence."""
    return reads[j] > reads[i] or (reads[j] == reads[i] and umis[j] < umis[i])


@njit(cache=True, nogil=True)
def _unpack(umi: np.uint64, length: int, bases: Codes, masks: Masks) -> None:
    """Fill ``bases`` with the codes of ``umi``, ``masks`` with its pattern."""
    for place in range(length):
        bases[place] = np.uint8((umi >> np.uint64(2 * (length - 1 - place))) & _THREE)
    window_masks(bases, 0, length, masks)


@njit(cache=True, nogil=True)
def umi_near(one: np.uint64, other: np.uint64, masks: Masks, length: int, distance: int) -> bool:
    """True where two UMIs are within ``distance`` (1 or 2) edits, the end of either free; ``masks`` are of ``one``."""
    if distance == 1:
        return _near_by_one(one, other, length)
    above = ~_ZERO
    below = _ZERO
    top = np.uint64(length - 1)
    score = length
    best = length
    shift = np.uint64(2 * length)
    for _ in range(length):
        shift -= _TWO
        equal = masks[np.int64((other >> shift) & _THREE)]
        vertical = equal | below
        horizontal = (((equal & above) + above) ^ above) | equal
        more = below | ~(horizontal | above)
        less = above & horizontal
        score += np.int64((more >> top) & _ONE) - np.int64((less >> top) & _ONE)
        best = min(best, score)
        more = (more << _ONE) | _ONE
        less = less << _ONE
        above = less | ~(vertical | more)
        below = more & vertical
    score = length
    best = min(best, score)
    for place in range(length):
        bit = np.uint64(place)
        score += np.int64((above >> bit) & _ONE) - np.int64((below >> bit) & _ONE)
        best = min(best, score)
    return best <= distance


@njit(cache=True, nogil=True, inline="always")
def _near_by_one(one: np.uint64, other: np.uint64, length: int) -> bool:
    """True where one substitution, or one insertion or deletion with a free end, makes two UMIs equal."""
    differs = one ^ other
    differs = (differs | (differs >> _ONE)) & _ODD
    if differs & (differs - _ONE) == _ZERO:
        return True
    first = np.uint64(2 * length - 2)
    while (differs >> first) & _ONE == _ZERO:
        first -= _TWO
    behind = (_ONE << first) - _ONE
    if (one & behind) == ((other & (behind << _TWO | _THREE)) >> _TWO):
        return True
    return (other & behind) == ((one & (behind << _TWO | _THREE)) >> _TWO)
