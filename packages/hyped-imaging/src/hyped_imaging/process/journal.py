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
        self.source: list[str] | None = None
        if self.path.is_file():
            try:
                held = json.loads(self.path.read_text(encoding="utf-8"))
                self.steps, self.source = dict(held["steps"]), held["source"]
            except (ValueError, KeyError, TypeError) as error:
                raise UsageError(
                    f"cannot be read: {error}",
                    where=self.path,
                    mend="delete it (all steps are then done again), or give another folder",
                ) from error

    def stale(self, step: str, facts: Mapping[str, Any], outputs: Sequence[Path]) -> bool:
        """Whether a step has to be done: its outputs do not all stand, or were made from other facts."""
        done = self.steps.get(step)
        return done is None or done["key"] != digest(facts) or not all(path.exists() for path in outputs)

    def run(
        self, step: str, facts: Mapping[str, Any], outputs: Sequence[Path], action: Callable[[], None]
    ) -> None:
        """Do ``action`` where the step is `stale`, and note what its ``outputs`` are then."""
        if not self.stale(step, facts, outputs):
            return
        action()
        self.steps[step] = {"key": digest(facts), "files": {self._name(p): _hash(p) for p in outputs}}
        self.save()

    def save(self) -> None:
        """Write the record."""
        write_json(self.path, {"source": self.source, "steps": self.steps})

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
