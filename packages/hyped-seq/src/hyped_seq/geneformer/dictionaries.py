"""`Dictionaries`: which genes have a token, which token, and the median that Geneformer divides their counts by.

Loaded from the official files or HYPED's own, or built from cells (`build_dictionaries`).
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_core.errors import CorruptFileError, InvalidDataError
from hyped_core.io.atomic import write_json
from hyped_seq.geneformer.dictionary_files import FILE, FORMAT, VERSION, Tables, read_files, read_tables
from hyped_seq.geneformer.series import CLS, EOS, MASK, PAD, V1, V2, Series, series_of

if TYPE_CHECKING:
    from anndata import AnnData

_MOST = int(np.iinfo(np.int32).max)


@dataclass(frozen=True, eq=False)
class Dictionaries:
    """Genes, tokens and medians; checked when made, not changed after.

    Attributes
    ----------
    series : how long a sequence is and which special tokens it has.
    genes : (n,) object array of gene ids, upper case in series V2, ordered by token.
    tokens : (n,) int32, token of each gene, ascending; gaps are allowed.
    medians : (n,) float64, above 0: non-zero median of each gene's counts, of 10,000 a cell.
    specials : tokens of ``<pad>``, ``<mask>`` and, in series V2, ``<cls>`` and ``<eos>``: 0, 1, 2, 3.
    mapping : current id of each id, both upper case (series V2). Where it is not empty it is complete, as in the
        official code: an id it does not hold is unknown. Empty: each id is current.
    symbols : gene id of each gene name, as written; ids without token may be among them. Not part of `sha256`.
    reserved : tokens of the vocabulary whose gene has no median and so cannot be encoded.
    left_out : how many entries were left out when the dictionaries were made, by reason.
    source : where they are from, in words, without folders.
    where : what messages call them: the file they were read from, else ``source``. Not part of `sha256`.

    Raises
    ------
    InvalidDataError
        An id or a token occurs twice, a gene has a special's token, a median is not above 0, a special is not where
        it belongs, or there is no gene.
    """

    series: Series
    genes: npt.NDArray[np.object_]
    tokens: npt.NDArray[np.int32]
    medians: npt.NDArray[np.float64]
    specials: Mapping[str, int]
    mapping: Mapping[str, str] = field(default_factory=dict)
    symbols: Mapping[str, str] = field(default_factory=dict)
    reserved: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    source: str = "dictionaries"
    where: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "where", self.where or self.source)
        genes = np.array([self._written(gene) for gene in self.genes], dtype=object)
        tokens, medians = np.asarray(self.tokens, dtype=np.int64), np.array(self.medians, dtype=np.float64)
        if not len(genes) == len(tokens) == len(medians):
            raise InvalidDataError(
                f"{len(genes)} genes, {len(tokens)} tokens and {len(medians)} medians", where=self.where
            )
        order = np.argsort(tokens, kind="stable")
        self._check(genes, tokens, medians)
        mapping = {key.upper(): value.upper() for key, value in self.mapping.items()} if self.series.collapse else {}
        known = set(genes)
        mapping = {key: value for key, value in mapping.items() if value in known}
        if len(mapping) == len(known) and all(key == value for key, value in mapping.items()):
            mapping = {}  # says nothing that an empty one does not
        for name, array in (
            ("genes", genes[order]),
            ("tokens", tokens[order].astype(np.int32)),
            ("medians", medians[order]),
        ):
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        for name, table in (("mapping", mapping), *((name, dict(getattr(self, name))) for name in _TABLES)):
            object.__setattr__(self, name, table)

    def _check(self, genes: np.ndarray, tokens: np.ndarray, medians: np.ndarray) -> None:
        """Raise `InvalidDataError` where the parts contradict one another."""
        expected = {name: token for token, name in enumerate(self.series.specials)}
        if dict(self.specials) != expected:
            raise InvalidDataError(
                f"special tokens {dict(self.specials)}, series {self.series.name} has {expected}", where=self.where
            )
        if not len(genes):
            raise InvalidDataError("no gene has a token and a median", where=self.where)
        _refuse_repeated(genes, "gene id", self.where)
        _refuse_repeated([*tokens, *self.reserved.values(), *expected.values()], "token", self.where)
        if min(tokens.min(), *expected.values(), *self.reserved.values()) < 0 or self._largest(tokens) > _MOST:
            raise InvalidDataError(f"tokens lie outside 0 to {_MOST}", where=self.where)
        bad = np.flatnonzero(~(np.isfinite(medians) & (medians > 0)))
        if len(bad):
            raise InvalidDataError(
                f"{len(bad)} medians are not above 0, first {medians[bad[0]]:g} of {genes[bad[0]]}",
                where=self.where,
                mend="leave such genes out of the medians: they are then not encoded",
            )

    def _largest(self, tokens: np.ndarray) -> int:
        return int(max(tokens.max(), *self.specials.values(), *self.reserved.values()))

    def _written(self, name: str) -> str:
        """A gene id as the series writes it."""
        return str(name).upper() if self.series.collapse else str(name)

    def __len__(self) -> int:
        return len(self.genes)

    @property
    def vocabulary(self) -> int:
        """Rows that a model's table of token embeddings needs: the largest token + 1."""
        return self._largest(self.tokens) + 1

    @cached_property
    def sha256(self) -> str:
        """Hash of series, ids, tokens, medians and mapping: of the content, not of a file's format."""
        content = [
            self.series.name,
            dict(self.specials),
            sorted(zip(self.genes, self.tokens.tolist(), map(float.hex, self.medians.tolist()), strict=True)),
            sorted(self.mapping.items()),
            sorted(self.reserved.items()),
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def facts(self) -> dict[str, Any]:
        """What a record says of them."""
        return {
            "series": self.series.name,
            "genes": len(self),
            "vocabulary": self.vocabulary,
            "sha256": self.sha256,
            "source": self.source,
            "left_out": dict(self.left_out),
        }

    @cached_property
    def _rows(self) -> dict[str, int]:
        """Place in `genes` of every id that is known."""
        own = {gene: i for i, gene in enumerate(self.genes)}
        return {key: own[value] for key, value in self.mapping.items()} if self.mapping else own

    def position(self, ids: Iterable[object]) -> npt.NDArray[np.int64]:
        """(len(ids),) place in `genes` of each gene id, -1 where it is unknown.

        In series V2 ids are taken in upper case and through `mapping`, so several can have one place. An id that is
        missing (None, NaN) is unknown.
        """
        rows = self._rows
        return np.fromiter(
            (rows.get(self._written(name), -1) if isinstance(name, str) else -1 for name in ids), dtype=np.int64
        )

    def gene_id(self, name: str) -> str:
        """The id, as `genes` has it and `position` knows it, of a gene called by id or symbol (as written, or upper).

        Raises
        ------
        InvalidDataError
            No such gene has a token; the message names close ones.
        """
        named = (self.symbols.get(name), self.symbols.get(name.upper()))
        for candidate in (name, *filter(None, named), name.upper()):
            written = self._written(candidate)
            row = self._own.get(written, self._rows.get(written))
            if row is not None:
                return self._reachable(name, str(self.genes[row]))
        unnamed = next(filter(None, named), None)
        if unnamed is not None:
            raise InvalidDataError(f"gene {name!r} ({unnamed}) has no token", where=self.where, mend=_KEEP)
        spelled = {symbol.upper(): symbol for symbol in self.symbols}
        close = [spelled[found] for found in difflib.get_close_matches(name.upper(), [*spelled], n=3, cutoff=0.75)]
        raise InvalidDataError(
            f"there is no gene {name!r} in the dictionary",
            where=self.where,
            mend=f"close ones: {', '.join(close)}" if close else f"give an id as {self.genes[0]}, or {_KEEP}",
        )

    def _reachable(self, name: str, gene: str) -> str:
        """``gene``, which `position` knows by this id."""
        if gene not in self._rows:
            raise InvalidDataError(
                f"gene {name!r} ({gene}) has a token, but the mapping of ids does not hold its id",
                where=self.where,
                mend=f"add {gene}: {gene} to the mapping",
            )
        return gene

    def token_of(self, name: str) -> int:
        """Token of a gene called by id or symbol; raises what `gene_id` does."""
        gene = self.gene_id(name)
        return int(self.tokens[self._own[gene]])

    @cached_property
    def _own(self) -> dict[str, int]:
        return {gene: i for i, gene in enumerate(self.genes)}

    def save(self, folder: str | Path) -> Path:
        """Write ``dictionaries.json`` to ``folder``, atomically; equal content gives equal bytes. Returns its path."""
        path = Path(folder) / FILE
        tokens = dict(zip(self.genes, self.tokens.tolist(), strict=True))
        content: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "series": self.series.name,
            "source": self.source,
            "sha256": self.sha256,
            "tokens": {**tokens, **self.specials, **self.reserved},
            "medians": dict(zip(self.genes, self.medians.tolist(), strict=True)),
            "mapping": self.mapping,
            "symbols": self.symbols,
            "left_out": self.left_out,
        }
        write_json(path, content)
        return path


_TABLES = ("specials", "symbols", "reserved", "left_out")
_KEEP = "build dictionaries in which it has one: `hyped seq geneformer dictionary CELLS OUT --keep GENE`"


def _refuse_repeated(values: Iterable[Any], what: str, where: str) -> None:
    seen: set[Any] = set()
    twice = [value for value in values if value in seen or seen.add(value)]  # type: ignore[func-returns-value]
    if twice:
        raise InvalidDataError(f"{len(twice)} {what}(s) occur more than once, first {twice[0]!s}", where=where)


def load_dictionaries(
    path: str | Path | Mapping[str, str | Path], *, series: Series | str | None = None
) -> Dictionaries:
    """Load dictionaries from HYPED's file or the official ones.

    Parameters
    ----------
    path
        ``dictionaries.json``; a folder with it; a folder with the official ``token_dictionary``,
        ``gene_median_dictionary`` and, where there are, ``gene_name_id_dict`` and ``ensembl_mapping_dict``, each
        ``.pkl`` or ``.json``, with or without ``_gc104M``, ``_gc95M``, ``_gc30M`` or ``_30M``; or explicit files:
        ``{"tokens": ..., "medians": ..., "mapping": ..., "symbols": ...}``, the last two optional.
    series
        Series expected. By default it is V2 where there are ``<cls>`` and ``<eos>``, else V1.

    Notes
    -----
    A gene with a token but no median cannot be encoded: its token stays `Dictionaries.reserved`. A gene with a median
    but no token is left out. Series V1 has no mapping; a file of one beside it is not used, as in the published V1.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError
        A file is not there, is no data (pickles run nothing), contradicts itself or is of another series.
    """
    wanted = series_of(series) if isinstance(series, str) else series
    if isinstance(path, Mapping):
        tables = read_files(**path)
    else:
        tables = read_tables(path, wanted.name if wanted else None)
    return _from_tables(tables, wanted)


def _from_tables(tables: Tables, wanted: Series | None) -> Dictionaries:
    """Dictionaries of what files hold."""
    front = {name for name in (CLS, EOS) if name in tables.tokens}
    if len(front) == 1:
        raise InvalidDataError(f"has {front.pop()} alone of {CLS} and {EOS}", where=tables.where)
    series = V2 if front else V1
    if wanted is not None and wanted != series:
        raise InvalidDataError(
            f"holds dictionaries of series {series.name}, expected {wanted.name}",
            where=tables.where,
            mend="give the dictionaries that belong to the weights",
        )
    genes = {name: token for name, token in tables.tokens.items() if name not in (PAD, MASK, CLS, EOS)}
    usable = [name for name in genes if name in tables.medians]
    mapping = tables.mapping or {}
    targets = {name.upper() for name in usable}
    left_out = {
        "token_without_median": len(genes) - len(usable),
        "median_without_token": sum(name not in genes for name in tables.medians),
        "mapping_without_token": sum(value.upper() not in targets for value in mapping.values()),
    }
    made = Dictionaries(
        series=series,
        genes=np.array(usable, dtype=object),
        tokens=np.array([genes[name] for name in usable], dtype=np.int64),
        medians=np.array([tables.medians[name] for name in usable], dtype=np.float64),
        specials={name: tables.tokens[name] for name in (PAD, MASK, CLS, EOS) if name in tables.tokens},
        mapping=mapping,
        symbols=tables.symbols,
        reserved={name: token for name, token in genes.items() if name not in tables.medians},
        left_out=tables.record.get("left_out") or {key: count for key, count in left_out.items() if count},
        source=tables.source,
        where=tables.where,
    )
    expected = tables.record.get("sha256")
    if expected is not None and expected != made.sha256:
        raise CorruptFileError(
            f"was changed: its content has sha256 {made.sha256}, it says {expected}",
            where=tables.where,
            mend='write it again, or take "sha256" out of it where the change was meant',
        )
    return made


def build_dictionaries(
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
) -> Dictionaries:
    """Dictionaries of the genes of cells: exact non-zero medians, tokens in the order of gene ids after the specials.

    The median of a gene is that of ``count / n_counts * 10000`` over the cells in which it has counts (with an even
    number of them the mean of the middle two), as ``numpy.median`` has it. In series V2 ids are taken in upper case
    and through ``mapping``, and counts of ids that come to one are summed first. A gene without counts gets no token,
    unless it is in ``keep`` or ``keep_unseen`` is set: its median is then the median of all medians, so that it ranks
    as a typical gene of its count does.

    Parameters
    ----------
    cells
        Raw counts: AnnData, an .h5ad file (read in chunks), a .hyped container (its table ``rna``), or several.
    gene_ids, n_counts
        Ids of the columns and counts of each cell over all genes, where ``var`` and ``obs`` (``n_counts``, else
        sums) do not have them; of a single source.
    symbols
        Gene id of each gene name; by default from ``var``. Names of several genes are left out.
    mapping
        Current id of each id (series V2); where it is given, ids that it has nowhere are left out.
    only
        Ids or symbols of the genes that may have a token; by default all.
    keep
        Ids or symbols of genes that have one in any case, such as those to be perturbed.
    layer
        Layer of the counts; by default ``counts``, else ``raw.X`` or ``X`` that holds counts.
    where
        What `Dictionaries.source` and messages call the cells; by default the names of the files.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError
        No such file; counts that are negative or normalised, a cell with counts whose ``n_counts`` is 0, no gene with
        an id or with counts, a gene to keep that is unknown.
    """
    from hyped_seq.geneformer.dictionary_build import build

    return build(
        cells,
        series=series,
        gene_ids=gene_ids,
        symbols=symbols,
        n_counts=n_counts,
        mapping=mapping,
        only=only,
        keep=keep,
        keep_unseen=keep_unseen,
        layer=layer,
        where=where,
    ).dictionaries
