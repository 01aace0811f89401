"""Names of tags: those of a count matrix matched to those of the design."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from hyped_core.design import Hashtag
from hyped_core.errors import DesignError, InvalidDataError
from hyped_seq.readers.matrix import CountMatrix

NOT_A_TAG = ("unmapped", "total_reads", "bad_struct", "nan", "unassigned", "no_match")
"""Rows that counting tools add to their tables and that are no hashtags (compared in lower case)."""

_WITH_SEQUENCE = re.compile(r"(?P<name>.+)[-_](?P<sequence>[ACGT]{6,})", re.IGNORECASE)


def split_name(label: str) -> tuple[str, str]:
    """(name, sequence) of a label like ``name-SEQUENCE``, as CITE-seq-Count writes them; the sequence may be "".

    >>> split_name("Hashtag_1-GTCAACTCTTTAGCG")
    ('Hashtag_1', 'GTCAACTCTTTAGCG')
    >>> split_name("Hashtag-1")
    ('Hashtag-1', '')
    """
    match = _WITH_SEQUENCE.fullmatch(label)
    return (match["name"], match["sequence"].upper()) if match else (label, "")


def name_tags(matrix: CountMatrix, hashtags: Sequence[Hashtag]) -> tuple[CountMatrix, dict[str, Any]]:
    """``matrix`` under the design's names, without rows that are no tags, and the record of both.

    A column is a tag of the design where, in this order, its label is the tag's name, its barcode, ``name-BARCODE``
    (the barcode decides; a tag without one in the design goes by its name), or the name but for case and ``-_``.
    Columns called as counting tools call what is no tag (`NOT_A_TAG`) are left out, unless the design names them.

    Raises
    ------
    InvalidDataError, DesignError
        Two columns are one tag, or a label pairs the name of a tag with another barcode.
    """
    labels = [str(label) for label in matrix.features["name"]]
    known = {hashtag.tag for hashtag in hashtags}
    keep = [label in known or label.lower() not in NOT_A_TAG for label in labels]
    names = [_name(label, hashtags) for label, kept in zip(labels, keep, strict=True) if kept]
    kept_labels = [label for label, kept in zip(labels, keep, strict=True) if kept]
    for name in names:
        if names.count(name) > 1:
            same = [label for label, other in zip(kept_labels, names, strict=True) if other == name]
            raise InvalidDataError(
                f"{' and '.join(map(repr, same))} are both tag {name!r}", where="hashtag counts", mend="keep one"
            )
    record: dict[str, Any] = {}
    if not all(keep):
        totals = np.asarray(matrix.counts.sum(axis=0)).ravel()
        record["rows_that_are_no_tags"] = {
            label: int(total) for label, total, kept in zip(labels, totals, keep, strict=True) if not kept
        }
    renamed = {label: name for label, name in zip(kept_labels, names, strict=True) if label != name}
    if renamed:
        record["renamed_tags"] = renamed
    counts = matrix.counts if all(keep) else sp.csr_matrix(matrix.counts[:, np.flatnonzero(keep)])
    return CountMatrix(counts, matrix.barcodes, pd.DataFrame({"id": kept_labels, "name": names})), record


def _name(label: str, hashtags: Sequence[Hashtag]) -> str:
    """The design's name of one column, or its label."""
    tags = {hashtag.tag: hashtag for hashtag in hashtags}
    if label in tags:
        return label
    by_barcode = {hashtag.barcode: hashtag.tag for hashtag in hashtags if hashtag.barcode}
    if label.upper() in by_barcode:
        return by_barcode[label.upper()]
    name, sequence = split_name(label)
    if sequence:
        if sequence in by_barcode:
            return by_barcode[sequence]
        if name in tags and tags[name].barcode:
            raise DesignError(
                f"gives tag {name!r} the barcode {tags[name].barcode}, the counts call it {label!r}",
                where=f"design, pool {tags[name].pool!r}",
                mend="correct the tag's barcode in the design, or take the counts of this experiment",
            )
        if name in tags:
            return name
    alike = [tag for tag in tags if _plain(tag) == _plain(name)]
    return alike[0] if len(alike) == 1 else label


def _plain(name: str) -> str:
    return re.sub(r"[-_\s]", "", name).casefold()
