"""Fetching a dataset by its manifest: copy or download, verify, put each file in place whole or not."""

from __future__ import annotations

import fnmatch
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from hyped_core.context import Progress, SilentProgress
from hyped_core.data.download import Unreachable, copy_hashed, download, hash_file, kaggle_folder
from hyped_core.data.manifest import Manifest, ManifestFile
from hyped_core.errors import (
    CorruptFileError,
    HypedError,
    MissingFileError,
    MissingHardwareError,
    NetworkError,
    Problem,
    UsageError,
    ValidationError,
)
from hyped_core.io.atomic import atomic_path, write_json

RECEIPT = ".fetched.json"
"""What came, with its sha256, where the manifest could not say it beforehand."""


@dataclass(slots=True)
class Fetched:
    """What a fetch did; paths are relative to ``folder``."""

    folder: Path
    fetched: list[str] = field(default_factory=list)
    already: list[str] = field(default_factory=list)
    recorded: dict[str, dict[str, object]] = field(default_factory=dict)
    """Files whose sha256 was not known beforehand: path -> bytes and sha256, as now recorded."""


def fetch(
    manifest: Manifest,
    to: Path,
    *,
    source: Path | None = None,
    handle: str | None = None,
    only: Sequence[str] = (),
    mirror: str | None = None,
    progress: Progress | None = None,
) -> Fetched:
    """Bring the files of ``manifest`` into the folder ``to``.

    Parameters
    ----------
    source
        A local folder to copy from, laid out as the manifest says; no network then.
    handle
        Kaggle handle of a release whose files are not listed.
    only
        Patterns of paths; others are left out.
    mirror
        Base address instead of the files' own sources.

    Raises
    ------
    ValidationError
        Naming every file that is missing or is not what the manifest says. The right ones stay; where none
        came, a folder that was made for them goes again.
    NetworkError
        Downloads failed; what was verified before stays.
    UsageError
        The dataset is simulated, its handle is missing, or ``only`` matches nothing.
    MissingHardwareError
        Not enough disk.
    """
    if manifest.made_by:
        raise UsageError(
            "is simulated, there is nothing to fetch",
            where=manifest.name,
            mend=f"make it: {manifest.made_by}",
        )
    if source is not None and not source.is_dir():
        raise MissingFileError("no such folder", where=source, mend="give the folder that holds the files")
    progress = progress or SilentProgress()
    if manifest.files and handle is not None:
        raise UsageError(
            "lists its files and takes no handle", where=manifest.name, mend="leave --handle out"
        )
    with _no_empty_folder(to):
        if not manifest.files:
            return _fetch_release(manifest, to, source, handle, only, progress)
        return _fetch_listed(manifest, to, source, only, mirror, progress)


def chosen_files(manifest: Manifest, only: Sequence[str]) -> list[ManifestFile]:
    """The manifest's files whose path matches one of the patterns (all without patterns)."""
    chosen = [f for f in manifest.files if not only or any(fnmatch.fnmatch(f.path, p) for p in only)]
    if manifest.files and not chosen:
        raise UsageError(
            f"no file matches {' or '.join(only)}",
            where=manifest.name,
            mend=f"paths there: {', '.join(file.path for file in manifest.files[:8])}",
        )
    return chosen


def read_receipt(folder: Path) -> dict[str, dict[str, object]]:
    """Path -> bytes and sha256 recorded by an earlier fetch into ``folder``."""
    path = folder / RECEIPT
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptFileError("not a receipt of hyped data fetch", where=path, mend=f"rm {path}") from error


def _fetch_listed(
    manifest: Manifest,
    to: Path,
    source: Path | None,
    only: Sequence[str],
    mirror: str | None,
    progress: Progress,
) -> Fetched:
    chosen = chosen_files(manifest, only)
    receipt = read_receipt(to)
    result = Fetched(to)
    wanted: list[tuple[ManifestFile, int | None, str | None]] = []
    for file in progress.track(chosen, f"checking {manifest.name}"):
        held = receipt.get(file.path, {})
        size = file.bytes if file.bytes is not None else held.get("bytes")
        digest = file.sha256 or held.get("sha256")
        if _is_right(to / file.path, size, digest):
            result.already.append(file.path)
        else:
            wanted.append((file, size, digest))
    _check_disk(to, sum(size or 0 for _, size, _ in wanted))
    bad: list[Problem] = []
    lost: list[NetworkError] = []
    for file, size, digest in progress.track(wanted, f"fetching {manifest.name}"):
        try:
            with _verified(to / file.path, file.path, size, digest) as (temporary, report):
                if source is not None:
                    got = _copy(source / file.path, temporary)
                else:
                    got = download(manifest.name, file, temporary, mirror=mirror)
                report(*got)
        except Unreachable as error:
            lost.append(error)
            break
        except NetworkError as error:
            lost.append(error)
        except _Mismatch as error:
            bad.append(error.problem)
        else:
            result.fetched.append(file.path)
            if file.sha256 is None:
                result.recorded[file.path] = {"bytes": got[0], "sha256": got[1]}
    if result.recorded:
        _write_receipt(to, manifest.name, {**receipt, **result.recorded})
    _raise_failures(manifest, bad, lost, len(chosen))
    return result


def _fetch_release(
    manifest: Manifest,
    to: Path,
    source: Path | None,
    handle: str | None,
    only: Sequence[str],
    progress: Progress,
) -> Fetched:
    """Everything of a folder, or of a Kaggle release: there is no list to hold it to, so it is recorded."""
    if source is None:
        given = handle or (manifest.release.handle if manifest.release else None)
        source = kaggle_folder(given, manifest.name)
    paths = sorted(
        path
        for path in source.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(source).parts)
    )
    names = {path.relative_to(source).as_posix(): path for path in paths}
    if only:
        names = {n: p for n, p in names.items() if any(fnmatch.fnmatch(n, pattern) for pattern in only)}
    if not names:
        raise MissingFileError("holds no files", where=source, mend="give the folder that holds the release")
    if to.resolve().is_relative_to(source.resolve()):
        raise UsageError("lies inside the folder it is to be copied from", where=to, mend="give another --to")
    receipt = read_receipt(to)
    result = Fetched(to)
    _check_disk(to, sum(p.stat().st_size for n, p in names.items() if not (to / n).is_file()))
    bad: list[Problem] = []
    for name in progress.track(list(names), f"fetching {manifest.name}"):
        held = receipt.get(name, {})
        if held and _is_right(to / name, held.get("bytes"), held.get("sha256")):
            result.already.append(name)
            result.recorded[name] = held
            continue
        try:
            with _verified(to / name, name, None, held.get("sha256")) as (temporary, report):
                size, digest = _copy(names[name], temporary)
                report(size, digest)
        except _Mismatch as error:
            bad.append(error.problem)
            continue
        result.fetched.append(name)
        result.recorded[name] = {"bytes": size, "sha256": digest}
    if any(receipt.get(name) != record for name, record in result.recorded.items()):
        _write_receipt(to, manifest.name, {**receipt, **result.recorded})
    _raise_failures(manifest, bad, [], len(names))
    return result


@contextmanager
def _no_empty_folder(to: Path) -> Iterator[None]:
    """Take ``to`` and its new parents away again where they were made here and nothing came into them."""
    new = [folder for folder in (to, *to.parents) if not folder.exists()]
    try:
        yield
    finally:
        if new and to.is_dir():
            below = sorted((path for path in to.rglob("*") if path.is_dir()), reverse=True)
            for folder in (*below, *new):
                with suppress(OSError):  # not empty: it stays
                    folder.rmdir()


class _Mismatch(HypedError):
    """A file is not what it has to be; caught and collected here."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


@contextmanager
def _verified(
    target: Path, name: str, size: object, digest: object
) -> Iterator[tuple[Path, Callable[[int, str], None]]]:
    """A temporary to write and a function to report size and sha256 to; in place where both are right."""

    def report(got_size: int, got_digest: str) -> None:
        mend = "fetch it again; where it stays so, the source has changed: see the dataset's homepage"
        if size is not None and got_size != size:
            more = "at least " if got_size > int(str(size)) else ""
            raise _Mismatch(Problem(name, f"expected {size} bytes, found {more}{got_size}", mend))
        if digest is not None and got_digest != digest:
            raise _Mismatch(Problem(name, f"expected sha256 {digest}, found {got_digest}", mend))

    with atomic_path(target) as temporary:
        yield temporary, report


def _copy(path: Path, temporary: Path) -> tuple[int, str]:
    if not path.is_file():
        raise _Mismatch(
            Problem(path.name, f"not there: {path}", "give a folder that holds it, or leave --from out")
        )
    with path.open("rb") as stream:
        return copy_hashed(stream, temporary)


def _is_right(path: Path, size: object, digest: object) -> bool:
    if digest is None or not path.is_file() or (size is not None and path.stat().st_size != size):
        return False
    return hash_file(path) == digest


def _check_disk(to: Path, needed: int) -> None:
    place = next(folder for folder in (to, *to.resolve().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise MissingHardwareError(
            f"{needed} bytes are needed, {free} are free",
            where=place,
            mend="free disk, or choose another --to",
        )


def _write_receipt(to: Path, name: str, files: dict[str, dict[str, object]]) -> None:
    write_json(to / RECEIPT, {"dataset": name, "files": files})


def _raise_failures(manifest: Manifest, bad: list[Problem], lost: list[NetworkError], total: int) -> None:
    if bad:
        problems = bad + [Problem(str(e.where), e.message, e.mend or "") for e in lost]
        raise ValidationError(
            f"{len(problems)} of {total} files are not right", problems, where=manifest.name
        )
    if lost:
        listing = "\n".join(f"  - {error.where}: {error.message}" for error in lost[:20])
        more = f"\n  ... and {len(lost) - 20} more" if len(lost) > 20 else ""
        raise NetworkError(
            f"{len(lost)} of {total} files could not be downloaded\n{listing}{more}",
            where=manifest.name,
            mend=lost[0].mend,
        )
