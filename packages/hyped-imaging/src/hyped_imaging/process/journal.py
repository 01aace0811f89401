"""What was done, with what, in an output folder: a step whose inputs and parameters are the same is not done again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hyped_core.errors import UsageError
from hyped_core.io.atomic import write_json
from hyped_core.io.hashing import digest as digest_path

FILE = "process.json"


def digest(parts: Mapping[str, Any]) -> str:
    """Hash of JSON-able facts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


class Journal:
    """The record ``process.json`` of a folder: step -> key of its inputs, and hashes of the files it wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / FILE
        self.steps: dict[str, Any] = {}
        if self.path.is_file():
            try:
                self.steps = dict(json.loads(self.path.read_text(encoding="utf-8"))["steps"])
            except (ValueError, KeyError, TypeError) as error:
                raise UsageError(
                    f"cannot be read: {error}",
                    where=self.path,
                    mend="delete it (all steps are then done again), or give another folder",
                ) from error

    def run(
        self, step: str, facts: Mapping[str, Any], outputs: Sequence[Path], action: Callable[[], None]
    ) -> bool:
        """Do ``action`` unless its ``outputs`` stand and were made from the same ``facts``; True: it was done.

        A file that was changed by hand since is kept, and what follows is made from it.

        Raises
        ------
        UsageError
            A file changed by hand would have to be made again.
        """
        key, done = digest(facts), self.steps.get(step)
        standing = all(path.exists() for path in outputs)
        if done is not None and done["key"] == key and standing:
            return False
        if done is not None and standing:
            for path in self.edited(step):
                raise UsageError(
                    "was changed by hand, and would now be made again from other inputs or parameters",
                    where=path,
                    mend="keep a copy elsewhere and delete it here, or go back to the former parameters",
                )
        action()
        self.steps[step] = {"key": key, "files": {self._name(p): _hash(p) for p in outputs}}
        write_json(self.path, {"steps": self.steps})
        return True

    def edited(self, step: str) -> list[Path]:
        """Files of a step that are no longer as the step wrote them."""
        files = self.steps.get(step, {}).get("files", {})
        paths = {name: self.folder / name for name in files}
        return [p for name, p in paths.items() if files[name] and p.exists() and _hash(p) != files[name]]

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


def _hash(path: Path) -> str | None:
    """Hash of a file or of a folder that a user may edit; movies and labels count by the step that made them."""
    if path.is_dir() and path.suffix != ".geff":
        return None
    return digest_path(path).sha256
