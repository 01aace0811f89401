"""`EmbeddingCache`: embeddings by the content they were made of, in memory and, where a folder is given, on disk.

A key is the hash of a sequence and of everything else that decides its embedding. A folder holds shards, each one
``.npy`` of keys and rows named by its own hash: written whole or not at all, never changed, checked when read. Several
processes may share one.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hyped_core.errors import StorageError, UsageError
from hyped_core.io.atomic import atomic_path
from hyped_seq.geneformer.tokens import TokenSets

MEMORY_BYTES = 1 << 30
"""Embeddings kept in memory; above, those kept longest leave (without a folder they are computed again)."""
FLUSH_ROWS = 4096
FLUSH_SECONDS = 20.0
"""A shard is written after so many new embeddings or so long: what a killed process loses."""

Key = bytes
Floats = npt.NDArray[np.float32]


def keys_of(tokens: TokenSets, facts: Mapping[str, Any]) -> list[Key]:
    """The key of each sequence under ``facts`` (weights, layer, pooling, precision): 16 bytes of BLAKE2b."""
    common = hashlib.blake2b(json.dumps(dict(facts), sort_keys=True).encode(), digest_size=16)
    content = np.ascontiguousarray(tokens.tokens, dtype="<i4").view(np.uint8).data
    bounds = (4 * tokens.offsets).tolist()
    keys = []
    for first, last in zip(bounds[:-1], bounds[1:], strict=True):
        one = common.copy()
        one.update(content[first:last])
        keys.append(one.digest())
    return keys


class EmbeddingCache:
    """Embeddings that need not be computed again.

    Parameters
    ----------
    folder : where shards lie; made where there is none. Without one, embeddings are kept in memory alone.

    Attributes
    ----------
    n_found, n_computed : sequences that were taken from the cache, and that were put into it.
    damaged : names of shards that could not be read; they were removed and what they held is computed again.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        self.n_found = self.n_computed = 0
        self.damaged: list[str] = []
        self._rows: dict[Key, Floats] = {}
        self._bytes = 0
        self._pending: dict[Key, Floats] = {}
        self._flushed = time.monotonic()
        self._places: dict[Key, tuple[str, int]] = {}
        self._shards: set[str] = set()
        if self.folder is not None:
            if self.folder.exists() and not self.folder.is_dir():
                raise UsageError("is a file, not a folder", where=self.folder, mend="give a folder for the cache")
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError(f"cannot be made: {error}", where=self.folder, mend="give another folder") from error

    def get(self, keys: Sequence[Key], width: int) -> tuple[npt.NDArray[np.bool_], Floats]:
        """Which of ``keys`` are known, and the embeddings (keys, width) float32, NaN where not."""
        self._look_for_shards()
        out = np.full((len(keys), width), np.nan, dtype=np.float32)
        found = np.zeros(len(keys), dtype=bool)
        stored: dict[str, list[tuple[int, int]]] = {}
        for i, key in enumerate(keys):
            row = self._rows.get(key)
            if row is not None and len(row) == width:
                out[i], found[i] = row, True
            elif key in self._places:
                name, place = self._places[key]
                stored.setdefault(name, []).append((i, place))
        for name, pairs in stored.items():
            shard = self._open(name)
            if shard is None or shard["row"].shape[1] != width:
                continue
            targets, places = (np.array(part) for part in zip(*pairs, strict=True))
            out[targets], found[targets] = shard["row"][places], True
        self.n_found += int(found.sum())
        return found, out

    def put(self, keys: Iterable[Key], rows: Floats) -> None:
        """Take embeddings in; with a folder they are written after a while and by `flush`."""
        rows = np.array(rows, dtype=np.float32)
        for key, row in zip(keys, rows, strict=True):
            if key not in self._rows:
                self._rows[key] = row
                self._bytes += row.nbytes
            if self.folder is not None:
                self._pending[key] = row
        self.n_computed += len(rows)
        while self._bytes > MEMORY_BYTES:
            oldest = next(iter(self._rows))
            self._bytes -= self._rows.pop(oldest).nbytes
        if len(self._pending) >= FLUSH_ROWS or time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is not yet in the folder, as one shard for each width.

        Raises
        ------
        StorageError
            The folder cannot be written to.
        """
        self._flushed = time.monotonic()
        if self.folder is None:
            return
        pending, self._pending = self._pending, {}
        for width in sorted({len(row) for row in pending.values()}):
            chosen = {key: row for key, row in pending.items() if len(row) == width}
            shard = np.empty(len(chosen), dtype=_kind(width))
            shard["key"] = np.frombuffer(b"".join(chosen), dtype=np.uint8).reshape(-1, 16)
            shard["row"] = np.stack(list(chosen.values()))
            name = f"{_hash(shard)}.npy"
            try:
                with atomic_path(self.folder / name) as temporary, temporary.open("wb") as stream:
                    np.save(stream, shard, allow_pickle=False)
            except OSError as error:
                raise StorageError(
                    f"embeddings cannot be written: {error}",
                    where=self.folder,
                    mend="free space, or give another folder",
                ) from error
            self._index(name, shard)

    def _look_for_shards(self) -> None:
        """Read the keys of shards that are new, whoever wrote them."""
        if self.folder is None:
            return
        for path in sorted(self.folder.glob("*.npy")):
            if path.name in self._shards or path.name.startswith("."):
                continue
            shard = self._open(path.name)
            if shard is not None and f"{_hash(shard)}.npy" == path.name:
                self._index(path.name, shard)
            elif path.exists():  # another process may have removed it meanwhile
                self.damaged.append(path.name)
                path.unlink(missing_ok=True)

    def _open(self, name: str) -> Any:
        """The shard as a memory map, None where it is gone or is none."""
        assert self.folder is not None
        try:
            shard = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        kind = shard.dtype
        fits = shard.ndim == 1 and kind.names == ("key", "row") and kind == _kind(kind["row"].shape[0])
        return shard if fits else None

    def _index(self, name: str, shard: npt.NDArray[Any]) -> None:
        self._shards.add(name)
        for place, key in enumerate(np.ascontiguousarray(shard["key"])):
            self._places[key.tobytes()] = (name, place)


def _kind(width: int) -> np.dtype:
    return np.dtype([("key", "u1", (16,)), ("row", "<f4", (width,))])


def _hash(shard: npt.NDArray[Any]) -> str:
    content = hashlib.blake2b(str(shard.dtype.descr).encode(), digest_size=16)
    content.update(np.ascontiguousarray(shard).view(np.uint8).data)
    return content.hexdigest()
