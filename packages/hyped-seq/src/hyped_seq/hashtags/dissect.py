"""One block of reads taken apart: adapter, cell barcode, UMI and hashtag of each, or why it is lost.

A read runs, on either strand, adapter, cell barcode, UMI, capture site, tag, ...; the tag's antibody oligo is copied,
so the tag's reverse complement stands on the strand of the cell barcode, as far behind the UMI as its chemistry says.

1. Adapter: the strand on which an adapter has the smaller edit distance; lost where both have the same. The barcode
   begins where the adapter's best match ends: at the first such end or at one of the two places behind it.
2. Cell barcode: the one nearest (`hyped_seq.hashtags.whitelist.find_barcode`).
3. Tag: the one nearest in place; where none is within ``tag_distance`` there, the one nearest anywhere in the
   200 bases behind the UMI on either strand, within ``stray_distance``. Lost where two are equally near.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from hyped_core.design import Hashtag
from hyped_core.errors import InvalidDataError
from hyped_seq.hashtags.alignment import (
    Codes,
    Places,
    encode,
    infix_distance,
    infix_distances,
    infix_ends,
    pack,
    pattern,
    reverse_complement,
)
from hyped_seq.hashtags.fastq import Block
from hyped_seq.hashtags.params import ReadParams
from hyped_seq.hashtags.whitelist import AMBIGUOUS, BarcodeIndex, find_barcode

OUTCOMES = (
    "used",
    "no_adapter",
    "both_strands",
    "no_barcode",
    "ambiguous_barcode",
    "too_short",
    "n_in_umi",
    "no_tag",
    "ambiguous_tag",
)
"""What becomes of a read, by code."""

_USED, _NO_ADAPTER, _BOTH, _NO_BARCODE, _AMBIGUOUS_BARCODE, _SHORT, _N_IN_UMI, _NO_TAG, _AMBIGUOUS_TAG = range(9)

PLACES = {"TotalSeq-A": (30, 12), "TotalSeq-B": (31, 6), "TotalSeq-C": (22, 6)}
"""Chemistry -> bases between UMI and tag, and how many more or fewer are looked through: poly(T) of 30, whose length is
read badly; capture sequence 1 (22) or the 5' capture site (13) and 9 random. ``other`` has no place."""

_REACH = 200
_STARTS = 3
_OVERLAP = 2
_ONE, _TWO, _THREE = (np.uint64(i) for i in (1, 2, 3))


class Anatomy(NamedTuple):
    """What reads are compared with.

    Attributes
    ----------
    adapters, adapters_back : (A, 5) patterns of the adapters and of their other strands.
    adapter_codes, adapter_back_codes : (A,) the same, packed.
    adapter_lengths, adapter_limits : (A,) bases, and the largest distance.
    tags, tags_back : (T, 5) patterns of the tags and of their other strands.
    tag_back_codes : (T,) other strands, packed.
    tag_lengths, tag_places, tag_slacks : (T,) bases; where behind the UMI (-1: nowhere); how far off that.
    tag_distance, stray_distance, barcode_distance, umi_length : as in `ReadParams`.
    """

    adapters: npt.NDArray[np.uint64]
    adapters_back: npt.NDArray[np.uint64]
    adapter_codes: npt.NDArray[np.uint64]
    adapter_back_codes: npt.NDArray[np.uint64]
    adapter_lengths: npt.NDArray[np.int64]
    adapter_limits: npt.NDArray[np.int64]
    tags: npt.NDArray[np.uint64]
    tags_back: npt.NDArray[np.uint64]
    tag_back_codes: npt.NDArray[np.uint64]
    tag_lengths: npt.NDArray[np.int64]
    tag_places: npt.NDArray[np.int64]
    tag_slacks: npt.NDArray[np.int64]
    tag_distance: int
    stray_distance: int
    barcode_distance: int
    umi_length: int


class Dissected(NamedTuple):
    """What was found in each read of a block.

    Attributes
    ----------
    outcomes : (n,) places in `OUTCOMES`.
    strands : (n,) 0 as written, 1 the other one, -1 without adapter.
    barcode_edits, tag_edits : (n,) edit distances, -1 where not found.
    keys : (n,) cell, tag and UMI packed as `hyped_seq.hashtags.molecules.MoleculeTable` has them; 0 where lost.
    """

    outcomes: npt.NDArray[np.int8]
    strands: npt.NDArray[np.int8]
    barcode_edits: npt.NDArray[np.int8]
    tag_edits: npt.NDArray[np.int8]
    keys: npt.NDArray[np.uint64]


def anatomy(hashtags: Sequence[Hashtag], params: ReadParams, tag_distance: int) -> Anatomy:
    """What reads are compared with; ``tag_distance`` is the one that the tags allow.

    Raises
    ------
    InvalidDataError
        A tag has fewer than 6 or more than 32 bases.
    """
    odd = next((item for item in hashtags if not 6 <= len(item.barcode) <= 32), None)
    if odd is not None:
        raise InvalidDataError(
            f"tag {odd.tag!r} has a barcode of {len(odd.barcode)} bases",
            where="design",
            mend="give 6 to 32 bases (TotalSeq has 15)",
        )
    adapters = params.adapters
    places = [PLACES.get(item.chemistry, (-1, 0)) for item in hashtags]
    return Anatomy(
        np.array([pattern(item) for item in adapters]),
        np.array([pattern(reverse_complement(item)) for item in adapters]),
        _packed(adapters),
        _packed([reverse_complement(item) for item in adapters]),
        np.array([len(item) for item in adapters]),
        np.array([min(params.adapter_distance, len(item) // 4) for item in adapters]),
        np.array([pattern(item.barcode) for item in hashtags]),
        np.array([pattern(reverse_complement(item.barcode)) for item in hashtags]),
        _packed([reverse_complement(item.barcode) for item in hashtags]),
        np.array([len(item.barcode) for item in hashtags]),
        np.array([place for place, _ in places]),
        np.array([slack for _, slack in places]),
        tag_distance,
        min(params.stray_distance, tag_distance),
        params.barcode_distance,
        params.umi_length,
    )


def _packed(sequences: Sequence[str]) -> npt.NDArray[np.uint64]:
    return np.array([pack(encode(item)[None])[0] for item in sequences], np.uint64)


def dissect(block: Block, parts: Anatomy, index: BarcodeIndex, tag_bits: int) -> Dissected:
    """Take all reads of a block apart."""
    n = len(block.offsets) - 1
    found = Dissected(
        np.zeros(n, np.int8),
        np.full(n, -1, np.int8),
        np.full(n, -1, np.int8),
        np.full(n, -1, np.int8),
        np.zeros(n, np.uint64),
    )
    _dissect(block.codes, block.offsets, parts, index, np.uint64(tag_bits), found)
    return found


@njit(cache=True, nogil=True)
def _dissect(
    codes: Codes, offsets: Places, parts: Anatomy, index: BarcodeIndex, tag_bits: np.uint64, found: Dissected
) -> None:
    longest = 0
    for i in range(len(offsets) - 1):
        longest = max(longest, offsets[i + 1] - offsets[i])
    other_strand = np.empty(longest, np.uint8)
    starts = np.empty(_STARTS, np.int64)
    keys = np.empty(128, np.uint64)
    masks = np.empty(5, np.uint64)
    umi_bits = np.uint64(2 * parts.umi_length)
    for i in range(len(offsets) - 1):
        read = codes[offsets[i] : offsets[i + 1]]
        adapter, strand, distance = _find_adapter(read, parts)
        if adapter < 0:
            found.outcomes[i] = _NO_ADAPTER if strand < 0 else _BOTH
            continue
        found.strands[i] = strand
        if strand:
            text = other_strand[: len(read)]
            for place in range(len(read)):
                code = read[len(read) - 1 - place]
                text[place] = 3 - code if code < 4 else code
        else:
            text = read
        n_starts = infix_ends(
            parts.adapters[adapter], parts.adapter_lengths[adapter], text, 0, len(text), distance, starts
        )
        place, umi, edits = find_barcode(index, text, starts, n_starts, parts.barcode_distance, keys, masks)
        if place < 0:
            found.outcomes[i] = _AMBIGUOUS_BARCODE if place == AMBIGUOUS else _NO_BARCODE
            continue
        found.barcode_edits[i] = edits
        if umi + parts.umi_length > len(text):
            found.outcomes[i] = _SHORT
            continue
        code = np.uint64(0)
        whole = True
        for k in range(umi, umi + parts.umi_length):
            whole = whole and text[k] < 4
            code = (code << _TWO) | np.uint64(text[k] & 3)
        if not whole:
            found.outcomes[i] = _N_IN_UMI
            continue
        tag, edits = find_tag(text, umi + parts.umi_length, parts)
        if tag < 0:
            found.outcomes[i] = _AMBIGUOUS_TAG if tag == AMBIGUOUS else _NO_TAG
            continue
        found.tag_edits[i] = edits
        row = np.uint64(index.rows[place])
        found.keys[i] = (((row << tag_bits) | np.uint64(tag)) << umi_bits) | code


@njit(cache=True, nogil=True)
def _find_adapter(read: Codes, parts: Anatomy) -> tuple[int, int, int]:
    """(adapter, other strand?, distance) of the nearest; adapter -1 where none (strand -1) or on both strands (1)."""
    n = len(parts.adapter_lengths)
    forward = backward = -1
    code = np.uint64(0)
    run = 0
    for base in read:
        run = run + 1 if base < 4 else 0
        code = (code << _TWO) | np.uint64(base & 3)
        for k in range(n):
            length = parts.adapter_lengths[k]
            if run < length:
                continue
            unused = np.uint64(64 - 2 * length)
            if (code ^ parts.adapter_codes[k]) << unused == 0 and (forward < 0 or k < forward):
                forward = k
            if (code ^ parts.adapter_back_codes[k]) << unused == 0 and (backward < 0 or k < backward):
                backward = k
    if forward >= 0 or backward >= 0:
        if forward >= 0 and backward >= 0:
            return -1, 1, 0
        return (forward, 0, 0) if forward >= 0 else (backward, 1, 0)
    nearest, nearest_back, adapter, adapter_back = 99, 99, -1, -1
    for k in range(n):
        length = parts.adapter_lengths[k]
        distance, distance_back = infix_distances(parts.adapters[k], parts.adapters_back[k], length, read)
        if distance <= parts.adapter_limits[k] and distance < nearest:
            nearest, adapter = distance, k
        if distance_back <= parts.adapter_limits[k] and distance_back < nearest_back:
            nearest_back, adapter_back = distance_back, k
    if nearest == nearest_back:
        return -1, (1 if adapter >= 0 else -1), 0
    if nearest < nearest_back:
        return adapter, 0, nearest
    return adapter_back, 1, nearest_back


@njit(cache=True, nogil=True)
def find_tag(text: Codes, umi_end: int, parts: Anatomy) -> tuple[int, int]:
    """(tag, distance) of the nearest tag behind the UMI; tag -1 where there is none, -2 where two are equally near."""
    n = len(parts.tag_lengths)
    best = second = 99
    tag = -1
    first, last = len(text), 0
    for k in range(n):
        if parts.tag_places[k] >= 0:
            place = umi_end + parts.tag_places[k]
            first = min(first, max(place - parts.tag_slacks[k], umi_end - _OVERLAP))
            last = max(last, min(place + parts.tag_slacks[k] + parts.tag_lengths[k], len(text)))
    code = np.uint64(0)
    run = 0
    for i in range(first, last):
        run = run + 1 if text[i] < 4 else 0
        code = (code << _TWO) | np.uint64(text[i] & 3)
        for k in range(n):
            length = parts.tag_lengths[k]
            if run >= length and (code ^ parts.tag_back_codes[k]) << np.uint64(64 - 2 * length) == 0:
                off = i + 1 - length - umi_end - parts.tag_places[k]
                if parts.tag_places[k] >= 0 and -parts.tag_slacks[k] <= off <= parts.tag_slacks[k] and k != tag:
                    if tag >= 0:
                        return AMBIGUOUS, 0
                    tag = k
    if tag >= 0:
        return tag, 0
    for k in range(n):
        if parts.tag_places[k] < 0:
            continue
        place = umi_end + parts.tag_places[k]
        start = max(place - parts.tag_slacks[k], umi_end - _OVERLAP)
        stop = min(place + parts.tag_slacks[k] + parts.tag_lengths[k], len(text))
        distance, _ = infix_distance(parts.tags_back[k], parts.tag_lengths[k], text, start, stop)
        if distance < best:
            best, second, tag = distance, best, k
        elif distance < second:
            second = distance
    if best <= parts.tag_distance:
        return (tag, best) if best < second else (AMBIGUOUS, best)
    best = second = 99
    tag = -1
    start, stop = umi_end - _OVERLAP, min(umi_end + _REACH, len(text))
    for k in range(n):
        limit = parts.stray_distance if parts.tag_places[k] >= 0 else parts.tag_distance
        distance, _ = infix_distance(parts.tags_back[k], parts.tag_lengths[k], text, start, stop)
        if distance > 0:
            ahead, _ = infix_distance(parts.tags[k], parts.tag_lengths[k], text, start, stop)
            distance = min(distance, ahead)
        if distance > limit:
            continue
        if distance < best:
            best, second, tag = distance, best, k
        elif distance < second:
            second = distance
    if tag < 0:
        return -1, 0
    return (tag, best) if best < second else (AMBIGUOUS, best)
