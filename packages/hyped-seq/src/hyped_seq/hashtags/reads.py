"""Hashtag counts from the hashing library's nanopore reads, streamed; memory grows with molecules, not with reads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from hyped_core.design import Hashtag
from hyped_core.errors import DesignError, InvalidDataError
from hyped_seq.hashtags.alignment import edit_distance
from hyped_seq.hashtags.dissect import OUTCOMES, Anatomy, Dissected, anatomy, dissect
from hyped_seq.hashtags.fastq import Block, read_blocks
from hyped_seq.hashtags.files import ILLUMINA_MEND, is_illumina_pair
from hyped_seq.hashtags.molecules import MoleculeTable
from hyped_seq.hashtags.params import ReadParams
from hyped_seq.hashtags.translation import translate_by_list, translate_v3
from hyped_seq.hashtags.whitelist import BarcodeIndex, index_barcodes, pack_barcodes
from hyped_seq.readers.matrix import CountMatrix

_V3_LENGTH = 9
_PROBE, _PROBED_BLOCKS = 5000, 8
_LEAST_PROBED = 100
_LEAST_EXACT = 0.005
"""Of reads with an adapter, the share whose barcode is exactly one of the whitelist's; with a tenth of all bases read
wrongly and nine of ten reads from droplets without cells it is still four times this."""


@dataclass
class ReadReport:
    """Where the reads of one hashing library went.

    ``reads`` is the sum of the nine numbers behind it.

    Attributes
    ----------
    reads : all of them.
    used : reads with all parts.
    no_adapter, both_strands : no adapter, or one equally near on both strands.
    no_barcode, ambiguous_barcode : no cell barcode of the whitelist is near enough, or several are equally near.
    too_short, n_in_umi : the read ends before the UMI does, or the UMI holds an N.
    no_tag, ambiguous_tag : no tag is near enough, or two are equally near.
    forward, backward : reads with an adapter, by strand.
    exact_barcodes, corrected_barcodes, exact_tags, corrected_tags : of the used reads, without and with errors.
    umis : distinct (cell, tag, UMI).
    molecules : after collapsing UMIs.
    saturation : share of used reads that are no new molecule.
    barcode_translation : what was done (``none``, ``v3`` or the list's path).
    barcode_fits : reads looked at to choose it and exact barcodes found by ``none`` and ``v3``; empty where not chosen.
    tag_distance : largest distance accepted in place.
    """

    reads: int = 0
    used: int = 0
    no_adapter: int = 0
    both_strands: int = 0
    no_barcode: int = 0
    ambiguous_barcode: int = 0
    too_short: int = 0
    n_in_umi: int = 0
    no_tag: int = 0
    ambiguous_tag: int = 0
    forward: int = 0
    backward: int = 0
    exact_barcodes: int = 0
    corrected_barcodes: int = 0
    exact_tags: int = 0
    corrected_tags: int = 0
    umis: int = 0
    molecules: int = 0
    saturation: float = 0.0
    barcode_translation: str = "none"
    barcode_fits: dict[str, int] = field(default_factory=dict)
    tag_distance: int = 0

    def record(self) -> dict[str, Any]:
        """As a plain dict."""
        return asdict(self)

    def _add(self, found: Dissected) -> None:
        self.reads += len(found.outcomes)
        for name, count in zip(OUTCOMES, np.bincount(found.outcomes, minlength=len(OUTCOMES)), strict=True):
            setattr(self, name, getattr(self, name) + int(count))
        self.forward += int((found.strands == 0).sum())
        self.backward += int((found.strands == 1).sum())
        used = found.outcomes == 0
        exact, exact_tag = int((found.barcode_edits[used] == 0).sum()), int((found.tag_edits[used] == 0).sum())
        self.exact_barcodes += exact
        self.corrected_barcodes += int(used.sum()) - exact
        self.exact_tags += exact_tag
        self.corrected_tags += int(used.sum()) - exact_tag


def count_hashtag_reads(
    path: str | Path,
    whitelist: Sequence[str],
    tags: Sequence[Hashtag],
    params: ReadParams | None = None,
    *,
    whitelist_name: str = "the whitelist",
) -> tuple[CountMatrix, ReadReport]:
    """Count hashtag molecules per cell.

    Parameters
    ----------
    path : FASTQ, plain or gzipped, or a folder of such files.
    whitelist : cell barcodes as the cDNA has them, no suffix, all of one length; rows of the result.
    tags : hashtags of the pool; columns of the result.
    params : defaults where None.
    whitelist_name : what errors call the whitelist.

    Raises
    ------
    MissingFileError, CorruptFileError
        No such file, cut short, or not FASTQ.
    DesignError
        Two tags are the same or have the same barcode, or one has none.
    InvalidDataError
        The whitelist is empty, repeats itself or is of another run; no read fits it and the tags; the reads are
        Illumina's.
    """
    path, params = Path(path), params or ReadParams()
    parts = anatomy(tags, params, _tag_distance(tags, params.tag_distance))
    packed, length = pack_barcodes(whitelist, whitelist_name)
    index = index_barcodes(packed, length, whitelist_name)
    if is_illumina_pair(path):
        raise InvalidDataError("holds reads of Illumina, none with all parts", where=path, mend=ILLUMINA_MEND)
    table = MoleculeTable(len(whitelist), len(tags), params.umi_length)
    report = ReadReport(tag_distance=parts.tag_distance, barcode_translation=params.barcode_translation)
    blocks = read_blocks(path)
    probed: list[Block] = []
    if params.barcode_translation == "auto":
        if length >= _V3_LENGTH:
            index = _fitting(index, packed, parts, blocks, probed, report)
        else:
            report.barcode_translation = "none"
    elif params.barcode_translation == "v3":
        index = index_barcodes(_v3(packed, length, whitelist_name), length, whitelist_name)
    elif params.barcode_translation != "none":
        other, length = pack_barcodes(translate_by_list(whitelist, Path(params.barcode_translation)), whitelist_name)
        index = index_barcodes(other, length, params.barcode_translation)
    exact = 0
    for found in _dissected(probed, blocks, parts, index, table.tag_bits, params.threads):
        report._add(found)
        exact += int((found.barcode_edits == 0).sum())
        table.add(found.keys[found.outcomes == 0])
    _check(report, exact, path, f"{whitelist_name} ({whitelist[0]}, ...)", tags)
    rows, columns, molecules = table.collapsed(params.umi_distance)
    report.umis, report.molecules = len(table.keys), int(molecules.sum())
    report.saturation = round(1 - report.molecules / report.used, 6)
    counts = sp.csr_matrix((molecules, (rows, columns)), shape=(len(whitelist), len(tags)), dtype=np.int32)
    names = [hashtag.tag for hashtag in tags]
    return CountMatrix(counts, list(whitelist), pd.DataFrame({"id": names, "name": names})), report


def _tag_distance(tags: Sequence[Hashtag], wanted: int) -> int:
    """``wanted``, or half the distance of the two nearest tags where that is less."""
    if not tags:
        raise DesignError(
            "names no hashtags, which counting reads needs", where="design", mend="add the pool's hashtags"
        )
    without = next((item for item in tags if not item.barcode), None)
    if without is not None:
        raise DesignError(
            f"tag {without.tag!r} has no barcode, which counting reads needs",
            where=f"design, pool {without.pool!r}",
            mend="add the barcode to the design's hashtags, or give a table of counts",
        )
    for one, other in combinations(tags, 2):
        if one.tag == other.tag or one.barcode == other.barcode:
            raise DesignError(
                f"tags {one.tag!r} and {other.tag!r} have one name or one barcode ({one.barcode})",
                where=f"design, pool {one.pool!r}",
                mend="give each tag of a pool its own name and barcode",
            )
        wanted = min(wanted, edit_distance(one.barcode, other.barcode) // 2)
    return wanted


def _v3(packed: npt.NDArray[np.uint64], length: int, where: str) -> npt.NDArray[np.uint64]:
    if length < _V3_LENGTH:
        raise InvalidDataError(
            f"barcode_translation v3 needs cell barcodes of {_V3_LENGTH} bases at least, these have {length}",
            where=where,
            mend="set barcode_translation: none",
        )
    return translate_v3(packed, length)


def _fitting(
    index: BarcodeIndex,
    packed: npt.NDArray[np.uint64],
    parts: Anatomy,
    blocks: Iterator[Block],
    probed: list[Block],
    report: ReadReport,
) -> BarcodeIndex:
    """The whitelist as it is or translated by v3's rule, whichever more of the first reads hold exactly.

    Blocks that were looked at are put into ``probed``.
    """
    translated = index_barcodes(translate_v3(packed, index.length), index.length, "translated whitelist")
    exact_only = parts._replace(barcode_distance=0)
    with_adapter = own = other = 0
    for block in blocks:
        probed.append(block)
        found = dissect(block, exact_only, index, 1)
        with_adapter += int((found.strands >= 0).sum())
        own += int((found.barcode_edits == 0).sum())
        other += int((dissect(block, exact_only, translated, 1).barcode_edits == 0).sum())
        if with_adapter >= _PROBE or len(probed) == _PROBED_BLOCKS:
            break
    report.barcode_fits = {"reads": with_adapter, "none": own, "v3": other}
    report.barcode_translation = "v3" if other > own else "none"
    return translated if other > own else index


def _dissected(
    probed: Sequence[Block], blocks: Iterator[Block], parts: Anatomy, index: BarcodeIndex, tag_bits: int, threads: int
) -> Iterator[Dissected]:
    """`dissect` of all blocks, in order; a few are in memory at a time."""
    if threads == 1:
        for source in (probed, blocks):
            for block in source:
                yield dissect(block, parts, index, tag_bits)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Dissected]] = deque()
        for source in (probed, blocks):
            for block in source:
                waiting.append(pool.submit(dissect, block, parts, index, tag_bits))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _check(report: ReadReport, exact: int, path: Path, whitelist: str, tags: Sequence[Hashtag]) -> None:
    """Refuse reads that are of another run than the whitelist or the tags."""
    with_adapter = report.forward + report.backward
    losses = {name: getattr(report, name) for name in OUTCOMES if getattr(report, name)}
    if with_adapter >= _LEAST_PROBED and exact < _LEAST_EXACT * with_adapter:
        raise InvalidDataError(
            f"{exact} of its {with_adapter} reads with an adapter hold a cell barcode of {whitelist} without errors: "
            "reads and whitelist are of different runs",
            where=path,
            mend="give this pool's reads and whitelist, or the kit's list as barcode_translation",
        )
    if not report.used:
        raise InvalidDataError(
            f"none of its {report.reads} reads fits {whitelist} and the tags ({tags[0].tag}, ...): {losses}",
            where=path,
            mend="check that reads, whitelist and design belong to one pool",
        )
