"""Cell barcodes of a whitelist, found in reads with errors: the unique nearest within a distance, without a scan.

The barcodes are indexed by the first and by the second half. A barcode within D edits of a read has at most D // 2
edits in its first half, or at most D - 1 - D // 2 in its second: only barcodes that share such a half are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from hyped_core.errors import InvalidDataError
from hyped_seq.hashtags.alignment import (
    CODES,
    NOT_BASE,
    Codes,
    Masks,
    Places,
    count_bits,
    pack,
    prefix_distance,
    window_masks,
)

NOTHING, AMBIGUOUS = -1, -2
_KEY_BASES = 10
_TWO, _THREE = np.uint64(2), np.uint64(3)
_ODD = np.uint64(0x5555555555555555)


class BarcodeIndex(NamedTuple):
    """Barcodes packed two bits a base, sorted, with the barcodes of each half.

    Attributes
    ----------
    length : bases of a barcode.
    codes, rows : (n,) sorted barcodes and their places in the whitelist.
    first_bases, first_offsets : bases of a first half's key; (4**bases + 1,) where its barcodes begin in ``codes``.
    second_bases, second_offsets, second_order : the same for the second half, by way of ``second_order``.
    """

    length: int
    codes: npt.NDArray[np.uint64]
    rows: npt.NDArray[np.int32]
    first_bases: int
    first_offsets: npt.NDArray[np.int64]
    second_bases: int
    second_offsets: npt.NDArray[np.int64]
    second_order: npt.NDArray[np.int32]


def pack_barcodes(barcodes: Sequence[str], where: object) -> tuple[npt.NDArray[np.uint64], int]:
    """Barcodes as integers (n,), and their length.

    Raises
    ------
    InvalidDataError
        There are none, lengths differ or are not 8 to 31, or one holds a letter that is no base.
    """
    if not barcodes:
        raise InvalidDataError("holds no cell barcodes", where=where, mend="give the barcodes of the pool's cells")
    length = len(barcodes[0])
    if set(map(len, barcodes)) != {length}:
        odd = next(barcode for barcode in barcodes if len(barcode) != length)
        raise InvalidDataError(
            f"holds cell barcodes of {length} and of {len(odd)} bases ({odd!r})",
            where=where,
            mend="give barcodes of one length",
        )
    if not 8 <= length <= 31:
        raise InvalidDataError(
            f"holds cell barcodes of {length} bases ({barcodes[0]!r})", where=where, mend="give 8 to 31 bases"
        )
    letters = np.frombuffer("".join(barcodes).encode("utf-8"), np.uint8)
    codes = CODES[letters].reshape(-1, length) if letters.size == length * len(barcodes) else None
    if codes is None or (codes >= NOT_BASE).any():
        bad = next(barcode for barcode in barcodes if set(barcode.upper()) - set("ACGT"))
        raise InvalidDataError(
            f"holds a cell barcode that is not a sequence ({bad!r})", where=where, mend="give A, C, G and T"
        )
    return pack(codes), length


def index_barcodes(packed: npt.NDArray[np.uint64], length: int, where: object) -> BarcodeIndex:
    """Index packed barcodes.

    Raises
    ------
    InvalidDataError
        A barcode occurs more than once.
    """
    rows = np.argsort(packed, kind="stable").astype(np.int32)
    codes = packed[rows]
    repeated = np.flatnonzero(codes[1:] == codes[:-1])
    if repeated.size:
        raise InvalidDataError(
            f"{repeated.size} cell barcode(s) occur more than once, first {unpack(codes[repeated[0]], length)!r}",
            where=where,
            mend="give each barcode once",
        )
    half = length // 2
    first, second = min(half, _KEY_BASES), min(length - half, _KEY_BASES)
    first_keys = codes >> np.uint64(2 * (length - first))
    second_keys = (codes >> np.uint64(2 * (length - half - second))) & np.uint64(4**second - 1)
    order = np.argsort(second_keys, kind="stable").astype(np.int32)
    return BarcodeIndex(
        length, codes, rows, first, _offsets(first_keys, first), second, _offsets(second_keys, second), order
    )


def _offsets(keys: npt.NDArray[np.uint64], bases: int) -> npt.NDArray[np.int64]:
    sizes = np.bincount(keys.astype(np.int64), minlength=4**bases)
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def unpack(code: int | np.uint64, length: int) -> str:
    """Letters of a packed sequence.

    >>> unpack(27, 4)
    'ACGT'
    """
    return "".join("ACGT"[(int(code) >> 2 * (length - 1 - place)) & 3] for place in range(length))


@njit(cache=True, nogil=True)
def _kmer(text: Codes, start: int, bases: int) -> np.uint64:
    """``bases`` bases from ``start`` on, packed; N and what lies outside count as A (candidates are verified)."""
    code = np.uint64(0)
    for place in range(start, start + bases):
        base = text[place] if 0 <= place < len(text) else 0
        code = (code << _TWO) | np.uint64(base if base < 4 else 0)
    return code


@njit(cache=True, nogil=True)
def neighbours(text: Codes, start: int, bases: int, edits: int, keys: Masks) -> int:
    """All packed k-mers at most ``edits`` (0 or 1) edits from a part of ``text`` that begins at ``start``."""
    code = _kmer(text, start, bases)
    keys[0] = code
    if edits == 0:
        return 1
    n = 1
    after = _kmer(text, start + bases, 1)
    for place in range(bases):
        right = np.uint64(2 * (bases - 1 - place))
        low = (np.uint64(1) << right) - np.uint64(1)
        base = (code >> right) & _THREE
        head = (code >> right) >> _TWO
        tail = code & low
        pushed = (base << right | tail) >> _TWO
        for other in range(4):
            letter = np.uint64(other)
            if letter != base:
                keys[n] = ((head << _TWO | letter) << right) | tail
                keys[n + 1] = ((head << _TWO | letter) << right) | pushed
                n += 2
        keys[n] = ((head << _TWO) << right) | (tail << _TWO) | after
        n += 1
    return n


@njit(cache=True, nogil=True)
def exact_barcode(index: BarcodeIndex, text: Codes, start: int) -> int:
    """Place in ``index.codes`` of the barcode that stands at ``start``, else -1."""
    if start < 0 or start + index.length > len(text):
        return NOTHING
    code = np.uint64(0)
    for place in range(start, start + index.length):
        base = text[place]
        if base > 3:
            return NOTHING
        code = (code << _TWO) | np.uint64(base)
    key = np.int64(code >> np.uint64(2 * (index.length - index.first_bases)))
    low, high = index.first_offsets[key], index.first_offsets[key + 1]
    while low < high:
        middle = (low + high) >> 1
        if index.codes[middle] < code:
            low = middle + 1
        else:
            high = middle
    if low < index.first_offsets[key + 1] and index.codes[low] == code:
        return low
    return NOTHING


@njit(cache=True, nogil=True, inline="always")
def _may_be_near(code: np.uint64, window: np.uint64, length: int, most: int) -> bool:
    """False where more than ``most`` bases of a barcode differ from all bases that so many edits can bring there.

    ``window`` holds ``length + most`` bases, packed.
    """
    differs = ~np.uint64(0)
    for shift in range(2 * most + 1):
        pair = code ^ (window >> np.uint64(2 * shift))
        differs &= pair | (pair >> np.uint64(1))
    differs &= _ODD & ((np.uint64(1) << np.uint64(2 * length)) - np.uint64(1))
    return count_bits(differs) <= most


@njit(cache=True, nogil=True)
def find_barcode(
    index: BarcodeIndex, text: Codes, starts: Places, n_starts: int, distance: int, keys: Masks, masks: Masks
) -> tuple[int, int, int]:
    """The one whitelist barcode nearest to ``text`` where it may begin at any of ``starts``.

    The distance of a barcode is that to the part of ``text`` that begins at a start and ends wherever it fits
    best; the least over the starts counts.

    Returns
    -------
    place : in ``index.codes``; -1 where none is within ``distance``, -2 where several are equally near.
    end : where the barcode ends in ``text``.
    edits : its distance.
    """
    length = index.length
    found, end = NOTHING, 0
    for i in range(n_starts):
        place = exact_barcode(index, text, starts[i])
        if place >= 0:
            if found >= 0 and place != found:
                return AMBIGUOUS, 0, 0
            if found < 0:
                found, end = place, starts[i] + length
    if found >= 0:
        return found, end, 0
    half = length // 2
    for most in range(1, distance + 1):
        in_first = most // 2
        in_second = most - 1 - in_first
        off = 0
        for i in range(n_starts):
            start = starts[i]
            width = min(length + most, len(text) - start)
            if width < length - most:
                continue
            window_masks(text, start, width, masks)
            window = _kmer(text, start, min(length + most, 32))
            for part in range(2 * most + 2):
                if part == 0:
                    n = neighbours(text, start, index.first_bases, in_first, keys)
                else:
                    n = neighbours(text, start + half + part - 1 - most, index.second_bases, in_second, keys)
                offsets = index.first_offsets if part == 0 else index.second_offsets
                for k in range(n):
                    key = np.int64(keys[k])
                    for item in range(offsets[key], offsets[key + 1]):
                        place = item if part == 0 else np.int64(index.second_order[item])
                        if length + most <= 32 and not _may_be_near(index.codes[place], window, length, most):
                            continue
                        edits, used = prefix_distance(masks, width, index.codes[place], length, most)
                        if edits > most:
                            continue
                        if found >= 0 and place != found:
                            return AMBIGUOUS, 0, most
                        if found < 0 or abs(used - length) < off:
                            found, end, off = place, start + used, abs(used - length)
        if found >= 0:
            return found, end, most
    return NOTHING, 0, 0
