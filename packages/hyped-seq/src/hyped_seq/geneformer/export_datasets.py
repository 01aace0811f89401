"""Token sequences as a folder that HuggingFace ``datasets.load_from_disk`` reads, written with pyarrow alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyped_core.errors import InvalidDataError
from hyped_core.io.atomic import atomic_path
from hyped_core.io.tables import read_parquet
from hyped_seq.geneformer.token_store import open_tokens
from hyped_seq.geneformer.tokens import TokenSets

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_BATCH = 1000
"""Sequences in a record batch, as ``datasets`` writes them."""
STATE = "state.json"
"""Every such folder has it."""
_DATA = "data-00000-of-00001.arrow"
TAKEN = ("input_ids", "length")
"""Columns that official code looks for; no column of ``obs`` may have their names."""


def export_dataset(
    tokens: TokenSets | str | Path, out: str | Path, *, obs: pd.DataFrame | None = None
) -> dict[str, Any]:
    """Write a dataset with columns ``input_ids`` (list of int32), ``length`` (int64) and those of ``obs``.

    This is what Geneformer's own code takes as a tokenized dataset: special tokens are in it, nothing is padded. The
    folder appears when it is whole; equal sequences give equal bytes.

    Parameters
    ----------
    tokens : sequences, or a token folder, whose ``obs.parquet`` is taken along.
    obs : one row a sequence; instead of that of the folder.

    Returns
    -------
    ``{"sequences", "tokens", "columns"}``.

    Raises
    ------
    InvalidDataError
        ``obs`` has another length, or a column called as one of `TAKEN`.
    MissingFileError, CorruptFileError
        As `open_tokens`.
    """
    import pyarrow as pa

    if not isinstance(tokens, TokenSets):
        folder = Path(tokens)
        tokens = open_tokens(folder)
        if obs is None:
            obs = read_parquet(folder / "obs.parquet")
    columns = {} if obs is None else {str(name): _plain(obs[name]) for name in obs.columns}
    for name in columns:
        if name in TAKEN:
            raise InvalidDataError(f"obs has a column {name!r}, which the sequences need", mend="rename it")
        if len(columns[name]) != len(tokens):
            raise InvalidDataError(
                f"obs has {len(columns[name])} rows for {len(tokens)} sequences", mend="take rows `tokens.rows` of obs"
            )
    schema = pa.schema(
        [("input_ids", pa.list_(pa.int32())), ("length", pa.int64()), *((n, c.type) for n, c in columns.items())]
    )
    seen = hashlib.sha256(str(schema).encode())
    with atomic_path(out) as folder:
        folder.mkdir()
        with pa.OSFile(str(folder / _DATA), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for first in range(0, len(tokens), _BATCH):
                last = min(first + _BATCH, len(tokens))
                batch = _batch(tokens, first, last, columns, schema)
                seen.update(np.ascontiguousarray(tokens.tokens[tokens.offsets[first] : tokens.offsets[last]]))
                writer.write_batch(batch)
        # without features in dataset_info.json every release of `datasets` takes them from the file's own schema
        _write_plain(folder / "dataset_info.json", {"citation": "", "description": "", "homepage": "", "license": ""})
        _write_plain(
            folder / STATE,
            {
                "_data_files": [{"filename": _DATA}],
                "_fingerprint": seen.hexdigest()[:16],
                "_format_columns": None,
                "_format_kwargs": {},
                "_format_type": None,
                "_output_all_columns": False,
                "_split": None,
            },
        )
    return {"sequences": len(tokens), "tokens": len(tokens.tokens), "columns": [*TAKEN, *columns]}


def _batch(tokens: TokenSets, first: int, last: int, columns: dict[str, pa.Array], schema: pa.Schema) -> pa.RecordBatch:
    """Sequences ``first`` to ``last`` with their columns."""
    import pyarrow as pa

    offsets = tokens.offsets[first : last + 1]
    values = np.asarray(tokens.tokens[offsets[0] : offsets[-1]], dtype=np.int32)
    lists = pa.ListArray.from_arrays(pa.array((offsets - offsets[0]).astype(np.int32)), pa.array(values))
    rest = [column.slice(first, last - first) for column in columns.values()]
    return pa.record_batch([lists, pa.array(np.diff(offsets)), *rest], schema=schema)


def _plain(column: pd.Series) -> pa.Array:
    """A column as one array; categories as their values, which ``datasets`` knows."""
    import pyarrow as pa

    array = pa.Array.from_pandas(column)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _write_plain(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8", newline="\n")
