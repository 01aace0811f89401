"""Dictionaries of Geneformer on disk: which files of a folder they are, and their content, read without running it.

What the content means is in `hyped_seq.geneformer.dictionaries`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError
from hyped_core.io.unpickle import safe_load

FILE = "dictionaries.json"
"""What `Dictionaries.save` writes: all dictionaries in one file."""
FORMAT = "hyped-geneformer-dictionaries"
VERSION = 1

SUFFIXES = {"v2": ("_gc104M", "_gc95M", ""), "v1": ("_gc30M", "_30M", "")}
"""Endings of the official files' names by series, tried in this order; the oldest files have none."""
_KINDS = (".pkl", ".json")
_FETCH = "`hyped models fetch geneformer` fetches the official files; `hyped seq geneformer dictionary` makes own ones"


@dataclass(frozen=True, slots=True)
class Tables:
    """Plain content of dictionary files, nothing of it compared yet.

    Attributes
    ----------
    tokens : token of each gene id and special token.
    medians : median of each gene id.
    mapping : current id of each id (series V2); ``None`` where there is no such file.
    symbols : gene id of each gene name.
    source : names of the files, without folders.
    where : the file or folder, for messages.
    record : what else `FILE` holds (series, sha256, counts of what was left out).
    """

    tokens: dict[str, int]
    medians: dict[str, float]
    mapping: dict[str, str] | None
    symbols: dict[str, str]
    source: str
    where: str
    record: Mapping[str, Any] = field(default_factory=dict)


def read_tables(path: str | Path, series: str | None = None) -> Tables:
    """Read `FILE`, or a folder that has it or the official files.

    Where a folder holds official files of several series, ``series`` (``v1`` or ``v2``) chooses.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError
        No such file, one of the official files is not there, a pickle holds anything but data, or a value is of
        another kind than it has to be. Nothing that a file says is ever run.
    """
    path = Path(path)
    if path.is_file():
        return _read_own(path)
    if not path.is_dir():
        raise MissingFileError("there is no such folder of dictionaries", where=path, mend=_FETCH)
    if (path / FILE).is_file():
        return _read_own(path / FILE)
    suffix = _suffix(path, series)
    found = {name: _find(path, name, suffix) for name in ("token_dictionary", "gene_median_dictionary")}
    absent = [f"{name}{suffix}.pkl" for name, file in found.items() if file is None]
    if absent:
        raise MissingFileError(
            f"holds neither {FILE} nor the official {' and '.join(absent)} (or .json)", where=path, mend=_FETCH
        )
    return read_files(
        found["token_dictionary"],
        found["gene_median_dictionary"],
        mapping=_find(path, "ensembl_mapping_dict", suffix),
        symbols=_find(path, "gene_name_id_dict", suffix),
    )


def read_files(tokens: Any, medians: Any, *, mapping: Any = None, symbols: Any = None) -> Tables:
    """Read explicit files (``.pkl`` or ``.json``, each one mapping); the last two may be None.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError
        As `read_tables`.
    """
    files = [Path(file) for file in (tokens, medians, mapping, symbols) if file is not None]
    return Tables(
        tokens=_read_mapping(Path(tokens), as_token, "whole numbers"),
        medians=_read_mapping(Path(medians), as_number, "numbers"),
        mapping=None if mapping is None else _read_mapping(Path(mapping), as_text, "texts"),
        symbols={} if symbols is None else _named(_load(Path(symbols)), Path(symbols)),
        source=", ".join(file.name for file in files),
        where=str(files[0]),
    )


def _suffix(folder: Path, series: str | None) -> str:
    """The ending of the official files' names in ``folder``; the series' first where there are none."""
    wanted = SUFFIXES[series] if series else tuple(dict.fromkeys(end for ends in SUFFIXES.values() for end in ends))
    there = [end for end in wanted if _find(folder, "token_dictionary", end)]
    if series is None and len(there) > 1:
        names = ", ".join(f"token_dictionary{end}" for end in there)
        raise InvalidDataError(
            f"holds dictionaries of several kinds ({names})", where=folder, mend="name the series: v1 or v2"
        )
    return there[0] if there else wanted[-1]


def _find(folder: Path, name: str, suffix: str) -> Path | None:
    """The file of this name and ending, a pickle or JSON."""
    return next((file for kind in _KINDS if (file := folder / f"{name}{suffix}{kind}").is_file()), None)


def _read_own(path: Path) -> Tables:
    """Read what `Dictionaries.save` wrote."""
    content = _load(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InvalidDataError(
            f"is no {FORMAT} file",
            where=path,
            mend=f"give a folder with {FILE} or the official files, or each official file by its name",
        )
    if content.get("version") != VERSION:
        raise InvalidDataError(
            f"has version {content.get('version')!r}, this HYPED reads {VERSION}", where=path, mend="write it again"
        )
    return Tables(
        tokens=_checked(content.get("tokens"), as_token, "whole numbers", f"{path}/tokens"),
        medians=_checked(content.get("medians"), as_number, "numbers", f"{path}/medians"),
        mapping=_checked(content.get("mapping", {}), as_text, "texts", f"{path}/mapping") or None,
        symbols=_checked(content.get("symbols", {}), as_text, "texts", f"{path}/symbols"),
        source=str(content.get("source", path.name)),
        where=str(path),
        record={key: content.get(key) for key in ("series", "sha256", "left_out")},
    )


def _read_mapping(path: Path, convert: Callable[[Any], Any], kind: str) -> dict[str, Any]:
    return _checked(_load(path), convert, kind, path)


def _named(content: Any, where: Path) -> dict[str, str]:
    """Gene ids by name; the official file has an entry without a name, which is left out."""
    if isinstance(content, Mapping):
        content = {key: value for key, value in content.items() if key not in ("", None) and key == key}
    return _checked(content, as_text, "texts", where)


def _load(path: Path) -> Any:
    """The content of a pickle or a JSON file."""
    if not path.is_file():
        raise MissingFileError("there is no such file", where=path, mend=_FETCH)
    if path.suffix != ".json":
        return safe_load(path, "numpy-scalars")
    try:
        return json.loads(path.read_bytes(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"is not JSON: {error}", where=path, mend=_FETCH) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a key that occurs twice, of which Python would take the last, is refused."""
    content = dict(pairs)
    if len(content) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} occurs more than once")
    return content


def _checked(content: Any, convert: Callable[[Any], Any], kind: str, where: object) -> dict[str, Any]:
    """``content`` as a dictionary from texts to what ``convert`` makes of the values."""
    if not isinstance(content, Mapping):
        raise InvalidDataError(
            f"holds a {type(content).__name__}, not a dictionary from names to {kind}", where=where, mend=_FETCH
        )
    checked = {}
    for key, value in content.items():
        converted = convert(value)
        if not isinstance(key, str) or not key.strip() or converted is None:
            raise InvalidDataError(
                f"holds {key!r}: {str(value)[:80]!r} ({type(value).__name__}), expected names with {kind}",
                where=where,
                mend=_FETCH,
            )
        checked[str(key)] = converted
    return checked


def as_token(value: Any) -> int | None:
    """A whole number, None where it is not one."""
    return int(value) if isinstance(value, int | np.integer) and not isinstance(value, bool) else None


def as_number(value: Any) -> float | None:
    """A number, None where it is not one."""
    whole_or_real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return float(value) if whole_or_real else None


def as_text(value: Any) -> str | None:
    """A text, None where it is not one."""
    return str(value) if isinstance(value, str) and value.strip() else None
