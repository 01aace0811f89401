"""FASTQ files read in blocks: gzip or plain, sequences on one line or several, either line end, any case."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt
from isal import igzip
from numba import njit

from hyped_core.errors import CorruptFileError, MissingFileError
from hyped_seq.hashtags.alignment import CODES, NOT_LETTER, Codes, Places
from hyped_seq.hashtags.files import fastq_files
from hyped_seq.readers.matrix import reading

BLOCK_BYTES = 1 << 22

_NEWLINE, _RETURN, _AT, _PLUS = 10, 13, 64, 43
_MESSAGES = {
    1: "does not begin with @",
    2: "holds a byte that is no base before its + line",
    3: "has a quality that is not as long as its sequence",
    4: "is not complete",
}


class Block(NamedTuple):
    """Reads of a file: read i is ``codes[offsets[i]:offsets[i + 1]]`` (`hyped_seq.hashtags.alignment.CODES`)."""

    codes: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]


def read_blocks(path: str | Path, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """The reads of a file, or of all FASTQ files of a folder, about ``block_bytes`` of text at a time.

    Memory is that of one block, or of the longest read where that is longer.

    Raises
    ------
    MissingFileError, CorruptFileError
        No such file, a gz cut short, or a record that is not FASTQ; its line is named.
    """
    for file in fastq_files(Path(path)):
        if not file.is_file():
            raise MissingFileError("no such file", where=file, mend="check the path")
        with reading(file), file.open("rb") as raw:
            yield from _blocks(_unpacked(raw), file, block_bytes)


def _unpacked(raw: IO[bytes]) -> IO[bytes]:
    """The text inside; whether it is gzip is seen from its first bytes."""
    packed = raw.read(2) == b"\x1f\x8b"
    raw.seek(0)
    return igzip.IGzipFile(fileobj=raw) if packed else raw  # type: ignore[return-value]


def _blocks(handle: IO[bytes], path: Path, block_bytes: int) -> Iterator[Block]:
    rest, line, final = b"", 1, False
    while not final:
        chunk = handle.read(max(block_bytes, len(rest)))
        final = not chunk
        data = rest + chunk
        if final and data and not data.endswith(b"\n"):
            data += b"\n"
        codes = np.empty(len(data), np.uint8)
        offsets = np.zeros(len(data) // 4 + 2, np.int64)
        n, used, line, problem = parse_records(np.frombuffer(data, np.uint8), final, line, CODES, codes, offsets)
        if problem:
            raise CorruptFileError(
                f"the record at line {line} is not FASTQ: it {_MESSAGES[problem]}",
                where=path,
                mend="copy the file again",
            )
        rest = data[used:]
        if n:
            yield Block(codes[: offsets[n]], offsets[: n + 1])


@njit(cache=True, nogil=True)
def _skip_line(text: Codes, at: int) -> int:
    """Where the next line begins, -1 where this one is not complete."""
    while at < len(text):
        if text[at] == _NEWLINE:
            return at + 1
        at += 1
    return -1


@njit(cache=True, nogil=True)
def parse_records(
    text: Codes, final: bool, line: int, table: Codes, codes: Codes, offsets: Places
) -> tuple[int, int, int, int]:
    """Codes of all complete records in ``text``, written to ``codes`` and ``offsets``.

    Returns
    -------
    n : records.
    used : bytes of ``text`` they take.
    line : number of the line behind them; of the broken record's first line where there is a problem.
    problem : 0, or what is wrong with the record.
    """
    size = len(text)
    n = out = at = 0
    while at < size:
        if text[at] == _NEWLINE or (text[at] == _RETURN and at + 1 < size and text[at + 1] == _NEWLINE):
            at = _skip_line(text, at)
            line += 1
            continue
        first_at, first_line = at, line
        if text[at] == _RETURN and not final:
            return n, at, line, 0
        if text[at] != _AT:
            return n, at, line, 1
        broken, at, out, line = _parse_record(text, at, line, table, codes, out, final)
        if broken == 4 and not final:
            return n, first_at, first_line, 0
        if broken:
            return n, first_at, first_line, broken
        n += 1
        offsets[n] = out
    return n, at, line, 0


@njit(cache=True, nogil=True)
def _parse_record(
    text: Codes, at: int, line: int, table: Codes, codes: Codes, out: int, final: bool
) -> tuple[int, int, int, int]:
    """One record from its @ on: (problem, next byte, next code, next line)."""
    size = len(text)
    first = out
    at = _skip_line(text, at)
    line += 1
    while True:
        if at < 0 or at >= size:
            return 4, at, out, line
        if text[at] == _PLUS:
            break
        while at < size and text[at] != _NEWLINE:
            code = table[text[at]]
            if code == NOT_LETTER:
                if text[at] != _RETURN or (at + 1 < size and text[at + 1] != _NEWLINE):
                    return 2, at, out, line
            else:
                codes[out] = code
                out += 1
            at += 1
        if at >= size:
            return 4, at, out, line
        at += 1
        line += 1
    at = _skip_line(text, at)
    line += 1
    if at < 0:
        return 4, at, out, line
    wanted = out - first
    if wanted == 0 and at >= size and final:
        return 0, at, out, line
    got = 0
    while True:
        begin = at
        at = _skip_line(text, at) if at < size else -1
        if at < 0:
            return 4, at, out, line
        line += 1
        got += at - 1 - begin
        if at - 2 >= begin and text[at - 2] == _RETURN:
            got -= 1
        if got > wanted:
            return 3, at, out, line
        if got == wanted:
            return 0, at, out, line
