"""The graph of genes that can be perturbed: of gene ontology terms where a file has them, else of co-expression."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from hyped_core.errors import CorruptFileError, MissingFileError

LEAST_SHARED = 0.1
"""Genes share an edge where more than this part of their terms is common, as in cell-gears."""


def read_terms(file: Path) -> dict[str, frozenset[str]]:
    """Terms of each gene from JSON ``{"GENE": ["GO:0006355", ...], ...}``.

    Raises
    ------
    MissingFileError, CorruptFileError
        The file is not there, or holds something else.
    """
    if not file.is_file():
        raise MissingFileError("there is no such file of terms", where=file, mend='JSON: {"GENE": ["GO:...", ...]}')
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {str(gene): frozenset(map(str, terms)) for gene, terms in found.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise CorruptFileError("does not map genes to lists of terms", where=file) from error


def edges_of_terms(genes: Sequence[str], terms: Mapping[str, frozenset[str]], k: int) -> pd.DataFrame:
    """``source, target, importance`` (shared part of all terms of the two): k sources of a target, and itself."""
    names = sorted({term for gene in genes for term in terms.get(gene, ())})
    place = {term: i for i, term in enumerate(names)}
    has = np.zeros((len(genes), len(names)), dtype=np.float32)
    for i, gene in enumerate(genes):
        has[i, [place[term] for term in terms.get(gene, ())]] = 1
    common = has @ has.T
    size = has.sum(axis=1)
    importance = common / np.maximum(size[:, None] + size[None, :] - common, 1)
    importance[importance <= LEAST_SHARED] = 0
    return _edges(genes, importance, k)


def edges_of_expression(genes: Sequence[str], measured: Sequence[str], cells: npt.NDArray, k: int) -> pd.DataFrame:
    """The same by the size of the correlation over ``cells`` (cells, measured); a gene not measured is alone."""
    place = {gene: i for i, gene in enumerate(measured)}
    known = [i for i, gene in enumerate(genes) if gene in place]
    values = cells[:, [place[genes[i]] for i in known]].astype(np.float64)
    values = values - values.mean(axis=0)
    length = np.sqrt((values**2).sum(axis=0))
    scaled = values / np.where(length > 0, length, 1)
    importance = np.zeros((len(genes), len(genes)))
    importance[np.ix_(known, known)] = np.abs(scaled.T @ scaled)
    return _edges(genes, importance, k)


def _edges(genes: Sequence[str], importance: npt.NDArray, k: int) -> pd.DataFrame:
    np.fill_diagonal(importance, 1.0)
    order = np.argsort(-importance, axis=0, kind="stable")[: k + 1]
    rows = [
        (genes[source], genes[target], float(importance[source, target]))
        for target in range(len(genes))
        for source in order[:, target]
        if importance[source, target] > 0
    ]
    return pd.DataFrame(rows, columns=["source", "target", "importance"])
