"""What was done, with what, in an output folder: a step whose inputs and parameters are the same is not done again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyped_core.errors import UsageError
from hyped_core.io.atomic import write_json
from hyped_core.io.hashing import digest as digest_path

FILE = "process.json"


def digest(parts: Mapping[str, Any]) -> str:
    """Hash of JSON-able facts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class Step:
    """A step: what decides its result, what it writes, and how.

    Facts are asked for when the step's turn comes, since they hold hashes of what the steps before wrote.

    Attributes
    ----------
    outputs : what the step writes in any case. ``optional`` : what it writes where the input has it.
    guarded : whether what a hand changed in the outputs stops the step from being done again; a step that sets such
        files aside itself need not be.
    """

    name: str
    facts: Callable[[], dict[str, Any]]
    outputs: Sequence[Path]
    action: Callable[[], None]
    optional: Sequence[Path] = ()
    guarded: bool = True


class Journal:
    """The record ``process.json`` of a folder: step -> key of its inputs, and hashes of the files it wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / FILE
        self.steps: dict[str, Any] = {}
        self.source: list[str] | None = None
        self._hashes: dict[Path, tuple[tuple[int, int], str]] = {}
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

    def stale(self, step: str, facts: Mapping[str, Any], outputs: Sequence[Path] = ()) -> bool:
        """Whether a step has to be done: its outputs do not all stand, or were made from other facts."""
        done = self.steps.get(step)
        if done is None or done["key"] != digest(facts):
            return True
        return not all(path.exists() for path in [*outputs, *(self.folder / name for name in done["files"])])

    def run(
        self, step: str, facts: Mapping[str, Any], outputs: Sequence[Path], action: Callable[[], None],
        optional: Sequence[Path] = (),
    ) -> bool:  # fmt: skip
        """Do ``action`` where the step is `stale`, and note what its outputs are then; True where it was done."""
        if not self.stale(step, facts, outputs):
            return False
        action()
        written = [*outputs, *(path for path in optional if path.exists())]
        self.steps[step] = {"key": digest(facts), "files": {self._name(p): self._noted(p) for p in written}}
        self.save()
        return True

    def save(self) -> None:
        """Write the record."""
        write_json(self.path, {"source": self.source, "steps": self.steps})

    def edited(self, step: str) -> list[Path]:
        """Files of a step that are no longer as the step wrote them."""
        files = self.steps.get(step, {}).get("files", {})
        paths = {name: self.folder / name for name in files}
        return [p for name, p in paths.items() if files[name] and p.exists() and self._noted(p) != files[name]]

    def hash(self, path: Path) -> str:
        """Content of a file; empty where there is none. A file that did not change is read once."""
        if not path.is_file():
            return ""
        state = path.stat()
        stamp = (state.st_size, state.st_mtime_ns)
        held = self._hashes.get(path)
        if held is None or held[0] != stamp:
            held = self._hashes[path] = (stamp, digest_path(path).sha256)
        return held[1]

    def _name(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.folder)).as_posix()

    def _noted(self, path: Path) -> str | None:
        """Hash of a file or of a folder that a user may edit; movies and labels count by the step that made them."""
        if path.is_dir():
            return digest_path(path).sha256 if path.suffix == ".geff" else None
        return self.hash(path)


def check_edits(journal: Journal, chain: Sequence[Step]) -> None:
    """Refuse, before anything is done, to make again what a hand changed; what follows from it may be made.

    Raises
    ------
    UsageError
        A file that was changed by hand would be written over.
    """
    redo = False
    for step in chain:
        if not step.guarded:
            continue
        redo = redo or journal.stale(step.name, step.facts(), step.outputs)
        for path in journal.edited(step.name) if redo else ():
            raise UsageError(
                "was changed by hand, and would now be made again from other inputs or parameters",
                where=path,
                mend="keep a copy elsewhere and delete it here, or go back to the former parameters",
            )


def file_stamps(files: Sequence[Path]) -> list[list[Any]]:
    """Name, size and time of change of files: what decides whether work done before still holds."""
    stamps = [(file, file.stat()) for file in files]
    return [[file.name, stamp.st_size, stamp.st_mtime_ns] for file, stamp in stamps]


def open_journal(folder: Path, source: Sequence[str], command: str) -> Journal:
    """The journal of a folder for work on ``source``; the folder and its record are made where there are none.

    Raises
    ------
    UsageError
        A file stands there, or a folder of other things or of what was made from another source.
    """
    if folder.is_file():
        raise UsageError("is a file", where=folder, mend="name a folder")
    if folder.is_dir() and not (folder / FILE).is_file() and any(folder.iterdir()):
        raise UsageError(f"is not empty and was not made by `{command}`", where=folder, mend="name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(folder)
    if journal.source not in (None, list(source)):
        raise UsageError(
            f"holds what was made from {', '.join(journal.source)}", where=folder, mend="name a new folder"
        )
    journal.source = list(source)
    journal.save()
    return journal
