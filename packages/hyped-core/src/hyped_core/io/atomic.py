"""Outputs that appear whole or not at all: written beside the target, then moved over it."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Give a temporary sibling of ``target`` to write a file or a folder to; move it over at the end.

    Where the block raises, the temporary is removed and what stood at ``target`` is left as it was.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield temporary
        replace(temporary, target)
    finally:
        remove(temporary)


def replace(source: Path, target: Path) -> None:
    """Move ``source`` over ``target``, a file or a folder; the old one is gone only once the new one stands."""
    if source.is_dir() and target.exists():
        old = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.old")
        os.rename(target, old)
        try:
            os.rename(source, target)
        except OSError:
            os.rename(old, target)
            raise
        remove(old)
    elif target.is_dir():
        shutil.rmtree(target)
        os.rename(source, target)
    else:
        os.replace(source, target)


def remove(path: Path) -> None:
    """Delete a file or a folder where there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically (UTF-8, ``\\n`` line ends)."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON atomically with sorted keys and two spaces, so that equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")
