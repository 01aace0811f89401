"""Token folders: sequences of a file of any size, written as they are made and read as memory maps.

A folder holds ``tokens.npy`` (int32, all sequences one after another), ``offsets.npy``, ``rows.npy``, ``n_genes.npy``
as `TokenSets` has them, ``obs.parquet`` (a row a sequence: the cell's name and what was asked for) and ``tokens.json``.
Tokens are int32 as in memory, not the smallest type that holds them: models and hashes take them as they are.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from hyped_core.container.manifest import SPATIAL
from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError, UnsupportedDataError
from hyped_core.io.atomic import atomic_path, write_json
from hyped_core.io.hashing import digest
from hyped_core.io.tables import write_parquet
from hyped_seq.geneformer.cell_chunks import CHUNK_CELLS, CellChunk, CellSource, open_cells
from hyped_seq.geneformer.tokens import TokenSets

if TYPE_CHECKING:
    from hyped_core.context import RunContext
    from hyped_seq.geneformer.tokenizer import Tokenizer

FORMAT, VERSION = "hyped-tokens", 1
FACTS = "tokens.json"
CELL = "cell"
"""Column of ``obs.parquet`` with the names of cells."""
_TYPES = {"tokens": np.int32, "offsets": np.int64, "rows": np.int64, "n_genes": np.int32}
_AGAIN = "make the folder again: hyped seq geneformer tokenize CELLS OUT --dictionary D"
_CELLS_PER_S = 20_000
"""Of the estimate: with reading from disk, measured on one core and rounded to the careful side."""


def tokenize_file(
    path: str | Path,
    tokenizer: Tokenizer,
    out_folder: str | Path,
    *,
    chunk_cells: int = CHUNK_CELLS,
    threads: int = 1,
    layer: str | None = None,
    obs: Sequence[str] = (),
    context: RunContext | None = None,
) -> dict[str, Any]:
    """Tokenize the cells of an h5ad file (or a container) into a token folder, a chunk of cells at a time.

    The next chunk is read while one is tokenized, so two are in memory, however large the file. The folder appears
    when it is whole; what stood there stays until then.

    Parameters
    ----------
    chunk_cells, threads : the result does not depend on them.
    layer : with the counts; see `open_cells`.
    obs : columns of ``obs`` to write beside the names of cells.

    Returns
    -------
    What ``tokens.json`` holds.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError, UnsupportedDataError
        As `open_cells`, its chunks, and `Tokenizer.tokenize`; there are no cells.
    """
    with open_cells(path, layer=layer) as source, atomic_path(out_folder) as folder:
        _check_cells(source, path)
        columns = tokenizer.columns(source.gene_ids, source.where, source.held)
        table = _obs(source, obs)
        folder.mkdir()
        lengths, rows, n_genes = [], [], []
        with (
            ThreadPoolExecutor(1) as hashing,
            (folder / "tokens.npy").open("wb") as stream,
            closing(_ahead(source.chunks(chunk_cells, check=False))) as chunks,  # its thread ends before the file
        ):
            hashed = hashing.submit(digest, _hashed_part(Path(path)), threads=1)
            _write_header(stream, 0)
            shown = chunks if context is None else context.progress.track(chunks, "tokenize", total=None)
            for chunk in shown:
                sets = tokenizer.tokenize_rows(
                    chunk.counts, columns, chunk.n_counts, threads, source.where, start=chunk.start
                )
                sets.tokens.tofile(stream)
                lengths.append(sets.lengths)
                rows.append(sets.rows + chunk.start)
                n_genes.append(sets.n_genes)
            n_tokens = int(sum(part.sum() for part in lengths))
            stream.seek(0)
            _write_header(stream, n_tokens)
            where_from = hashed.result()
        sequences = np.concatenate([np.zeros(0, np.int64), *rows])
        genes = np.concatenate([np.zeros(0, np.int32), *n_genes])
        np.save(folder / "offsets.npy", np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths])))
        np.save(folder / "rows.npy", sequences)
        np.save(folder / "n_genes.npy", genes)
        write_parquet(folder / "obs.parquet", table.iloc[sequences])
        facts = {
            "format": FORMAT,
            "version": VERSION,
            "series": tokenizer.dictionaries.series.name,
            "dictionary": {"sha256": tokenizer.dictionaries.sha256, "source": tokenizer.dictionaries.source},
            "max_tokens": tokenizer.max_tokens,
            "n_cells": source.n_cells,
            "n_sequences": len(sequences),
            "n_dropped": source.n_cells - len(sequences),
            "n_cut": int((genes > tokenizer.room).sum()),
            "n_tokens": n_tokens,
            "genes": {"columns": source.shape[1], "known": columns.n_known, "shared": columns.n_groups},
            "n_counts": "summed" if source.n_counts is None else "obs",
            "obs": list(obs),
            "source": {
                "name": Path(path).resolve().name,
                "place": source.place,
                "sha256": where_from.sha256,
                "bytes": where_from.n_bytes,
            },
        }
        write_json(folder / FACTS, facts)
    return facts


def estimate_tokenize(path: str | Path, tokenizer: Tokenizer, *, layer: str | None = None) -> dict[str, Any]:
    """What tokenizing will take, from the row pointers of the file; no counts are read.

    Returns
    -------
    ``cells``, ``genes``, ``known_genes``, ``bytes`` (at most), ``seconds`` and ``memory_bytes``.
    """
    from hyped_seq.geneformer.cell_chunks import CHUNK_ENTRIES

    with open_cells(path, layer=layer) as source:
        _check_cells(source, path)
        columns = tokenizer.columns(source.gene_ids, source.where, source.held)
        special = tokenizer.max_tokens - tokenizer.room
        return {
            "cells": source.n_cells,
            "genes": source.shape[1],
            "known_genes": columns.n_known,
            "bytes": 4 * (source.stored(tokenizer.room) + special * source.n_cells) + 60 * source.n_cells,
            "seconds": round(2 + source.n_cells / _CELLS_PER_S, 1),
            "memory_bytes": 300_000_000 + 100 * source.n_cells + 24 * min(CHUNK_ENTRIES, source.stored(1 << 31)),
        }


def open_tokens(folder: str | Path) -> TokenSets:
    """The sequences of a token folder; tokens stay on disk (a memory map).

    Raises
    ------
    MissingFileError, CorruptFileError
        No such folder, or parts of it are missing, cut short or do not fit one another.
    UnsupportedDataError
        A newer HYPED wrote it.
    """
    folder = Path(folder)
    facts = read_token_facts(folder)
    arrays = {name: _array(folder / f"{name}.npy", kind) for name, kind in _TYPES.items()}
    tokens, offsets, rows, n_genes = arrays.values()
    n = len(rows)
    fits = (
        (len(tokens), n) == (facts.get("n_tokens"), facts.get("n_sequences"))
        and len(offsets) == n + 1
        and len(n_genes) == n
        and offsets[0] == 0
        and offsets[-1] == len(tokens)
        and (np.diff(offsets) > 0).all()
        and (np.diff(rows) > 0).all()
        and (n == 0 or 0 <= rows[0] <= rows[-1] < facts["n_cells"])
    )
    if not fits:
        raise CorruptFileError("its arrays and tokens.json do not fit one another", where=folder, mend=_AGAIN)
    return TokenSets(tokens, np.asarray(offsets), np.asarray(rows), int(facts["n_cells"]), np.asarray(n_genes))


def read_token_facts(folder: str | Path) -> dict[str, Any]:
    """What ``tokens.json`` of a token folder holds; raises what `open_tokens` does."""
    path = Path(folder) / FACTS
    if not path.is_file():
        raise MissingFileError("is no folder of tokens: there is no tokens.json", where=folder, mend=_AGAIN)
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts["format"] != FORMAT or not {"n_cells", "n_tokens", "n_sequences"} <= set(facts):
            raise ValueError("is of another kind")
        version = int(facts["version"])
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptFileError(f"is not a record of tokens: {error}", where=path, mend=_AGAIN) from error
    if version > VERSION:
        raise UnsupportedDataError(
            f"has version {version}, this HYPED knows up to {VERSION}",
            where=path,
            mend="pip install --upgrade hyped-seq",
        )
    return facts


def _array(path: Path, kind: Any) -> np.ndarray:
    """An array of the folder as a memory map."""
    if not path.is_file():
        raise CorruptFileError("this part of the token folder is gone", where=path, mend=_AGAIN)
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise CorruptFileError(f"cannot be read: {error}", where=path, mend=_AGAIN) from error
    if array.dtype != kind or array.ndim != 1:
        raise CorruptFileError(f"holds {array.dtype} of shape {array.shape}", where=path, mend=_AGAIN)
    return array


def _check_cells(source: CellSource, path: str | Path) -> None:
    if not source.n_cells:
        raise InvalidDataError("holds no cells", where=path, mend="give a file with cells")


def _hashed_part(path: Path) -> Path:
    """The file itself, or of a container the table that is read."""
    return path / SPATIAL / "tables" / "rna" if path.is_dir() else path


def _obs(source: CellSource, columns: Sequence[str]) -> Any:
    """Names of all cells and these columns of ``obs``."""
    if CELL in columns:
        raise InvalidDataError(f"a column {CELL!r} of obs would hide the cells' names", mend="rename it")
    table = source.obs(columns)
    table.insert(0, CELL, source.cell_names.astype(str))
    return table


def _ahead(chunks: Iterator[CellChunk]) -> Generator[CellChunk, None, None]:
    """The same, each read by a thread of its own while the one before is worked on."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, chunks, None)
        while (chunk := coming.result()) is not None:
            coming = pool.submit(next, chunks, None)
            yield chunk


def _write_header(stream: IO[bytes], n: int) -> None:
    """Header of an npy file of ``n`` tokens; numpy leaves room in it for any length, so it can be written twice."""
    np.lib.format.write_array_header_1_0(stream, {"descr": "<i4", "fortran_order": False, "shape": (n,)})
