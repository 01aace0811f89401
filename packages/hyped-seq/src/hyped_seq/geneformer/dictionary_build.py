"""Dictionaries of any gene set, built from cells: exact medians, tokens in the order of gene ids."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_core.errors import InvalidDataError, UsageError
from hyped_seq.geneformer.cell_chunks import CellSource, checked_totals, open_cells
from hyped_seq.geneformer.dictionaries import Dictionaries
from hyped_seq.geneformer.medians import exact_medians
from hyped_seq.geneformer.series import V2, Series, series_of
from hyped_seq.readers.matrix import as_counts
from hyped_seq.readers.rows import stack

if TYPE_CHECKING:
    from anndata import AnnData

    from hyped_core.context import Progress

CHUNK_CELLS = 2048
_ENSEMBL = re.compile(r"ENS[A-Z]*G\d{11}")


@dataclass(frozen=True, slots=True)
class Built:
    """Dictionaries and what became of the genes.

    Attributes
    ----------
    dictionaries : what was built.
    n_cells : cells they were built from.
    left_out : genes without token, by reason: ``unseen`` (no counts), ``not_asked_for`` (not in the gene set),
        ``not_in_mapping``, ``without_id`` (names of columns), ``not_in_data`` (of the gene set), and
        ``ambiguous_symbol`` (names of several genes: these are called by id).
    typical : genes without counts that were kept: their median is the median of all medians.
    """

    dictionaries: Dictionaries
    n_cells: int
    left_out: dict[str, list[str]]
    typical: list[str]


@dataclass(slots=True)
class _Genes:
    """Genes of all sources: ids in order and the place of each, names, and the gene of each source's columns."""

    ids: list[str]
    place: dict[str, int]
    symbols: dict[str, str]
    columns: list[npt.NDArray[np.int64]] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)


def build(
    cells: AnnData | str | Path | Sequence[AnnData | str | Path],
    *,
    series: Series | str = V2,
    gene_ids: Sequence[str] | None = None,
    symbols: Mapping[str, str] | None = None,
    n_counts: npt.ArrayLike | None = None,
    mapping: Mapping[str, str] | None = None,
    only: Collection[str] | None = None,
    keep: Collection[str] = (),
    keep_unseen: bool = False,
    layer: str | None = None,
    where: str = "",
    progress: Progress | None = None,
) -> Built:
    """`hyped_seq.geneformer.dictionaries.build_dictionaries`, with what became of the genes."""
    series = series_of(series) if isinstance(series, str) else series
    sources = list(cells) if isinstance(cells, Sequence) and not isinstance(cells, str) else [cells]
    if not sources:
        raise UsageError("no cells were given", mend="give an .h5ad file or a .hyped container")
    if len(sources) > 1 and (gene_ids is not None or n_counts is not None):
        raise UsageError("gene_ids and n_counts belong to one source, several were given")
    mapping = {key.upper(): value.upper() for key, value in (mapping or {}).items()} if series.collapse else {}
    mapping = {gene: gene for gene in mapping.values()} | mapping
    with ExitStack() as opened:
        called = where or "cells"
        open_sources = [
            opened.enter_context(open_cells(_table(source), layer=layer, where=called)) for source in sources
        ]
        if gene_ids is not None and len(gene_ids) != open_sources[0].shape[1]:
            raise InvalidDataError(
                f"{len(gene_ids)} gene ids for {open_sources[0].shape[1]} columns", where=open_sources[0].where
            )
        given = None if gene_ids is None else [name if isinstance(name, str) else "" for name in gene_ids]
        ids = [source.gene_ids if given is None else np.array(given, dtype=object) for source in open_sources]
        genes = _genes(open_sources, ids, symbols, series, mapping)
        asked = _asked(genes, only, series, mapping)
        kept = _kept(genes, keep, series, mapping)
        totals: list[np.ndarray | None] = [None] * len(open_sources)
        if n_counts is not None:
            totals[0] = checked_totals(n_counts, open_sources[0].n_cells, "n_counts")

        n_cells = sum(source.n_cells for source in open_sources)
        if not n_cells:
            raise InvalidDataError("holds no cells", where=where or _named(sources), mend="give files with cells")

        def chunks() -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
            parts = _chunks(open_sources, genes, totals)
            yield from parts if progress is None else progress.track(parts, "medians")

        medians, seen = exact_medians(chunks, len(genes.ids), target_sum=series.target_sum)
    return _assemble(genes, medians, seen, asked, kept, keep_unseen, series, mapping, n_cells, where or _named(sources))


def _table(source: Any) -> Any:
    """What `open_cells` takes: an h5ad file, or the table ``rna`` of a container."""
    if not isinstance(source, str | Path) or not Path(source).is_dir():
        return source
    from hyped_core.container.data import HypedData

    return HypedData.read(source).table("rna")


def _named(sources: Sequence[Any]) -> str:
    names = [Path(source).name if isinstance(source, str | Path) else "an AnnData" for source in sources]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _current(name: str, series: Series, mapping: Mapping[str, str]) -> str:
    """The id as the dictionary has it; empty where the mapping has none."""
    name = name.strip().upper() if series.collapse else name.strip()
    return mapping.get(name, "") if mapping else name


def _genes(
    sources: Sequence[CellSource],
    ids: Sequence[np.ndarray],
    symbols: Mapping[str, str] | None,
    series: Series,
    mapping: Mapping[str, str],
) -> _Genes:
    """Ids of all sources in the order of text, the place of each column among them, and names."""
    current = [[_current(name, series, mapping) for name in own] for own in ids]
    known = sorted(set().union(*current) - {""})
    if not known:
        raise InvalidDataError("no gene has an id", where=sources[0].where, mend='write var["gene_id"]')
    place = {name: i for i, name in enumerate(known)}
    without = {str(name) for source, own in zip(sources, ids, strict=True) for name in source.symbols[own == ""]}
    lost = {
        str(name)
        for own, now in zip(ids, current, strict=True)
        for name, new in zip(own, now, strict=True)
        if name and not new
    }
    named: dict[str, set[str]] = {}
    pairs = (
        ((name, new) for source, now in zip(sources, current, strict=True) for name, new in zip(source.symbols, now))
        if symbols is None
        else ((name, _current(gene, series, mapping)) for name, gene in symbols.items())
    )
    for name, new in pairs:
        if name and new and name != new:
            named.setdefault(str(name), set()).add(new)
    return _Genes(
        ids=known,
        place=place,
        symbols={name: next(iter(found)) for name, found in sorted(named.items()) if len(found) == 1},
        columns=[np.array([place.get(new, -1) for new in now], dtype=np.int64) for now in current],
        left_out={
            "without_id": sorted(without),
            "not_in_mapping": sorted(lost),
            "ambiguous_symbol": sorted(name for name, found in named.items() if len(found) > 1),
        },
    )


def _resolve(genes: _Genes, name: str, series: Series, mapping: Mapping[str, str]) -> str:
    """The current id of a gene called by id or symbol; empty where it is unknown to the data."""
    candidates = (_current(name, series, mapping), genes.symbols.get(name, ""), genes.symbols.get(name.upper(), ""))
    return next((gene for gene in candidates if gene in genes.place), "")


def _asked(genes: _Genes, only: Collection[str] | None, series: Series, mapping: Mapping[str, str]) -> set[str]:
    """Genes that may have a token; what of ``only`` the data do not have is noted."""
    if only is None:
        return set(genes.ids)
    wanted = {name: _resolve(genes, name, series, mapping) for name in dict.fromkeys(only)}
    genes.left_out["not_in_data"] = [name for name, gene in wanted.items() if not gene]
    found = set(wanted.values()) - {""}
    if not found:
        raise InvalidDataError(
            f"none of the {len(wanted)} genes of the gene set is in the data, first {next(iter(wanted), 'none')}",
            mend="give a gene id or symbol a line, as the data have them",
        )
    return found


def _kept(genes: _Genes, keep: Collection[str], series: Series, mapping: Mapping[str, str]) -> list[str]:
    """Ids of the genes that have a token whatever the data hold: an Ensembl id or a given name need not be in them."""
    kept = []
    for name in keep:
        gene = _resolve(genes, name, series, mapping) or genes.symbols.get(name, "")
        if not gene and _ENSEMBL.fullmatch(name.strip().upper()):
            gene = _current(name, series, mapping)
        if not gene:
            import difflib

            close = difflib.get_close_matches(name.upper(), [*genes.symbols, *genes.ids], n=3, cutoff=0.75)
            raise InvalidDataError(
                f"there is no gene {name!r} in the data to keep",
                where="keep",
                mend=f"close ones: {', '.join(close)}" if close else "give its Ensembl id",
            )
        kept.append(gene)
    return kept


def _chunks(
    sources: Sequence[CellSource], genes: _Genes, totals: Sequence[np.ndarray | None]
) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
    """Chunks of all sources, each place once; columns of one gene are summed."""
    for source, places, total in zip(sources, genes.columns, totals, strict=True):
        used = places[places >= 0]
        repeated = len(np.unique(used)) < len(used)
        for chunk in source.chunks(CHUNK_CELLS):
            counts = chunk.counts
            n_counts = chunk.n_counts if total is None else total[chunk.start : chunk.start + counts.shape[0]]
            own = places
            if repeated or not counts.has_canonical_format:
                counts = as_counts(counts, source.where)
            if repeated:
                counts = stack([counts], [places], len(genes.ids))
                own = np.arange(len(genes.ids))
            empty = np.flatnonzero((n_counts <= 0) & (np.diff(counts.indptr) > 0))
            without = [row for row in empty if counts.data[counts.indptr[row] : counts.indptr[row + 1]].any()]
            if without:
                raise InvalidDataError(
                    f"is {n_counts[without[0]]:g} in cell {chunk.start + without[0]}, which has counts",
                    where=f"{source.where}: n_counts",
                    mend="give each cell's sum of counts over all genes, or leave the column out: it is then summed",
                )
            yield counts, np.asarray(n_counts, dtype=np.float64), own


def _assemble(
    genes: _Genes,
    medians: np.ndarray,
    seen: np.ndarray,
    asked: set[str],
    kept: Iterable[str],
    keep_unseen: bool,
    series: Series,
    mapping: Mapping[str, str],
    n_cells: int,
    names: str,
) -> Built:
    """Give tokens to the genes that are seen and asked for, and to those that are kept."""
    kept = set(kept)
    chosen = {gene: medians[i] for i, gene in enumerate(genes.ids) if seen[i] and (gene in asked or gene in kept)}
    if not chosen:
        raise InvalidDataError("no gene that is asked for has counts", where=names, mend="give cells with raw counts")
    typical = float(np.median(list(chosen.values())))
    unseen = {gene for i, gene in enumerate(genes.ids) if not seen[i] and gene in asked}
    added = sorted((kept - set(chosen)) | (unseen if keep_unseen else set()))
    chosen |= dict.fromkeys(added, typical)
    ids = sorted(chosen)
    left_out = {
        "unseen": sorted(unseen - set(ids)),
        "not_asked_for": sorted(set(genes.ids) - asked - set(ids)),
        **genes.left_out,
    }
    left_out = {reason: found for reason, found in left_out.items() if found}
    note = f"; the median of all medians for {', '.join(added[:5])}" if added else ""
    note += f" and {len(added) - 5} more" if len(added) > 5 else ""
    first = len(series.specials)
    made = Dictionaries(
        series=series,
        genes=np.array(ids, dtype=object),
        tokens=np.arange(first, first + len(ids), dtype=np.int32),
        medians=np.array([chosen[gene] for gene in ids]),
        specials={name: token for token, name in enumerate(series.specials)},
        mapping=mapping,
        symbols=genes.symbols,
        left_out={reason: len(found) for reason, found in left_out.items()},
        source=f"built from {n_cells} cells of {names}{note}",
    )
    return Built(made, n_cells, left_out, added)
