"""Edit distances of short sequences, compiled: bit-parallel dynamic programming (Myers 1999, Hyyro 2003)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

Codes = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]

# numba keeps what it compiled by the file of the outer function: after a change to a kernel that other files call
# (here, in whitelist.py), delete *.nbi and *.nbc in this folder's __pycache__
NOT_BASE, NOT_LETTER = 4, 5
"""Codes of a letter that is no base (N) and of a byte that is no letter; A, C, G, T are 0 to 3."""

_ZERO, _ONE, _TWO, _THREE = (np.uint64(i) for i in range(4))
_ODD = np.uint64(0x5555555555555555)
_PAIRS = np.uint64(0x3333333333333333)
_NIBBLES = np.uint64(0x0F0F0F0F0F0F0F0F)
_BYTES = np.uint64(0x0101010101010101)


def _code_table() -> npt.NDArray[np.uint8]:
    table = np.full(256, NOT_LETTER, np.uint8)
    for letter in b"ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        table[[letter, letter + 32]] = NOT_BASE
    for code, letter in enumerate(b"ACGT"):
        table[[letter, letter + 32]] = code
    table[[ord("U"), ord("u")]] = 3
    table[[ord("."), ord("-"), ord("*")]] = NOT_BASE
    return table


CODES = _code_table()
"""Byte -> code; lower case as upper case."""

_COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


def reverse_complement(sequence: str) -> str:
    """The other strand.

    >>> reverse_complement("AACG")
    'CGTT'
    """
    return sequence.translate(_COMPLEMENT)[::-1]


def edit_distance(one: str, other: str) -> int:
    """Substitutions, insertions and deletions between two sequences.

    >>> edit_distance("ACGT", "CGTT")
    2
    """
    row = list(range(len(other) + 1))
    for i, base in enumerate(one, 1):
        above, row = row, [i]
        for j, letter in enumerate(other, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (base != letter)))
    return row[-1]


def encode(sequence: str) -> npt.NDArray[np.uint8]:
    """Codes of a sequence (n,)."""
    return CODES[np.frombuffer(sequence.encode("latin-1"), np.uint8)]


def pack(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """(n, length <= 32) base codes as one integer a row, the first base highest."""
    packed = np.zeros(len(codes), np.uint64)
    for column in codes.T:
        packed = (packed << _TWO) | column.astype(np.uint64)
    return packed


def pattern(sequence: str) -> npt.NDArray[np.uint64]:
    """(5,) masks: bit i of mask c is set where base i of ``sequence`` (at most 64 bases) has code c."""
    masks = np.zeros(5, np.uint64)
    for place, code in enumerate(encode(sequence)):
        if code < NOT_BASE:
            masks[code] |= np.uint64(1 << place)
    return masks


@njit(cache=True, nogil=True, inline="always")
def count_bits(value: np.uint64) -> int:
    """Number of set bits."""
    value = value - ((value >> _ONE) & _ODD)
    value = (value & _PAIRS) + ((value >> _TWO) & _PAIRS)
    value = (value + (value >> np.uint64(4))) & _NIBBLES
    return np.int64((value * _BYTES) >> np.uint64(56))


@njit(cache=True, nogil=True)
def infix_distance(masks: Masks, length: int, text: Codes, start: int, stop: int) -> tuple[int, int]:
    """Smallest edit distance of a pattern to any part of ``text[start:stop]``, and where the first such part ends."""
    if stop < start:
        stop = start
    above = ~_ZERO
    below = _ZERO
    top = np.uint64(length - 1)
    score = length
    best = length
    at = start
    for i in range(start, stop):
        equal = masks[text[i]]
        vertical = equal | below
        horizontal = (((equal & above) + above) ^ above) | equal
        more = below | ~(horizontal | above)
        less = above & horizontal
        score += np.int64((more >> top) & _ONE) - np.int64((less >> top) & _ONE)
        more = more << _ONE
        less = less << _ONE
        above = less | ~(vertical | more)
        below = more & vertical
        if score < best:
            best = score
            at = i + 1
    return best, at


@njit(cache=True, nogil=True)
def infix_distances(masks: Masks, masks_back: Masks, length: int, text: Codes) -> tuple[int, int]:
    """Smallest edit distances of two patterns of one length to any part of ``text``, in one pass."""
    above, below, above_back, below_back = ~_ZERO, _ZERO, ~_ZERO, _ZERO
    top = np.uint64(length - 1)
    score = score_back = best = best_back = length
    for code in text:
        equal, equal_back = masks[code], masks_back[code]
        vertical, vertical_back = equal | below, equal_back | below_back
        horizontal = (((equal & above) + above) ^ above) | equal
        horizontal_back = (((equal_back & above_back) + above_back) ^ above_back) | equal_back
        more, more_back = below | ~(horizontal | above), below_back | ~(horizontal_back | above_back)
        less, less_back = above & horizontal, above_back & horizontal_back
        score += np.int64((more >> top) & _ONE) - np.int64((less >> top) & _ONE)
        score_back += np.int64((more_back >> top) & _ONE) - np.int64((less_back >> top) & _ONE)
        best, best_back = min(best, score), min(best_back, score_back)
        more, more_back = more << _ONE, more_back << _ONE
        above, above_back = (less << _ONE) | ~(vertical | more), (less_back << _ONE) | ~(vertical_back | more_back)
        below, below_back = more & vertical, more_back & vertical_back
    return best, best_back


@njit(cache=True, nogil=True)
def infix_ends(masks: Masks, length: int, text: Codes, start: int, stop: int, distance: int, ends: Places) -> int:
    """Where parts of ``text[start:stop]`` at ``distance`` end: the first, and those close behind it, as ``ends`` holds.

    Only ends less than ``len(ends)`` behind the first count. Returns how many there are.
    """
    above = ~_ZERO
    below = _ZERO
    top = np.uint64(length - 1)
    score = length
    found = 0
    for i in range(start, stop):
        equal = masks[text[i]]
        vertical = equal | below
        horizontal = (((equal & above) + above) ^ above) | equal
        more = below | ~(horizontal | above)
        less = above & horizontal
        score += np.int64((more >> top) & _ONE) - np.int64((less >> top) & _ONE)
        more = more << _ONE
        less = less << _ONE
        above = less | ~(vertical | more)
        below = more & vertical
        if found and i + 1 - ends[0] >= len(ends):
            break
        if score == distance:
            ends[found] = i + 1
            found += 1
    return found


@njit(cache=True, nogil=True)
def window_masks(text: Codes, start: int, width: int, masks: Masks) -> None:
    """Fill ``masks`` (5,) for the pattern ``text[start:start + width]``."""
    masks[:] = _ZERO
    for place in range(width):
        masks[text[start + place]] |= _ONE << np.uint64(place)


@njit(cache=True, nogil=True)
def prefix_distance(masks: Masks, width: int, code: np.uint64, length: int, most: int) -> tuple[int, int]:
    """Smallest distance of a packed sequence to a prefix of a window of ``width`` bases, and that prefix' length.

    Exact up to ``most``; above it anything above. Of prefixes equally near, the one whose length is nearest to
    ``length``, then the longer.
    """
    above = ~_ZERO
    below = _ZERO
    shift = np.uint64(2 * length)
    for _ in range(length):
        shift -= _TWO
        equal = masks[np.int64((code >> shift) & _THREE)]
        vertical = equal | below
        horizontal = (((equal & above) + above) ^ above) | equal
        more = ((below | ~(horizontal | above)) << _ONE) | _ONE
        less = (above & horizontal) << _ONE
        above = less | ~(vertical | more)
        below = more & vertical
    first = max(length - most, 0)
    if first > width:
        return most + 1, width
    filled = (_ONE << np.uint64(first)) - _ONE
    score = length + count_bits(above & filled) - count_bits(below & filled)
    best = score
    end = first
    for prefix in range(first + 1, min(length + most, width) + 1):
        place = np.uint64(prefix - 1)
        score += np.int64((above >> place) & _ONE) - np.int64((below >> place) & _ONE)
        if score < best or (score == best and abs(prefix - length) <= abs(end - length)):
            best = score
            end = prefix
    return best, end
