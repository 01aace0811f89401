"""Checks of what a model keeps: saving and loading, damaged files, and the way to another process."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from hyped_core.checking.records import CheckFailed, CheckSkipped, Subject
from hyped_core.errors import HypedError

PICKLE_SUFFIXES = (".pkl", ".pickle", ".pt", ".pth", ".joblib", ".ckpt", ".dill", ".h5py-pickle")
"""Suffixes of files that are pickles by custom."""
DAMAGED_FILES = 12
"""At most so many files of a saved model are damaged in turn."""


def _saved(subject: Subject) -> Path:
    """The folder into which the trained model was saved, anew for each check."""
    from hyped_core.checking.behaviour.common import observed

    model = observed(subject).model
    offered = [name for name in ("save", "load") if callable(getattr(model, name, None))]
    if not offered:
        learns = "fit" if callable(getattr(model, "fit", None)) else ""
        raise CheckSkipped("the model offers no save and load" + (" though it learns" if learns else ""))
    if len(offered) == 1:
        raise CheckFailed(
            f"offers {offered[0]} without {'load' if offered[0] == 'save' else 'save'}",
            where=offered[0],
            mend="offer both save(folder) and load(folder), or neither",
        )
    folder = subject.scratch / "saved"
    model.save(folder)
    if not folder.is_dir() or not any(path.is_file() for path in folder.rglob("*")):
        raise CheckFailed("save(folder) left no file in the folder", where="save", mend="write the state there")
    return folder


def saves_and_loads(subject: Subject) -> None:
    """A fresh instance that loads what was saved gives the same outputs."""
    from hyped_core.checking.behaviour.common import compare, observed, repeatable, trained, work

    folder = _saved(subject)
    fresh = subject.make()
    fresh.load(folder)
    before, after = (work(subject, trained(model), 0) for model in (observed(subject).model, fresh))
    if repeatable(subject) and (found := compare(subject, before, after)):
        raise CheckFailed(
            f"a fresh instance that loaded the saved state gives another result: {found}",
            where="load",
            mend="save everything that predictions depend on, and read all of it back",
        )


def no_pickle_saved(subject: Subject) -> None:
    """No saved file is a pickle."""
    folder = _saved(subject)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if why := pickle_in(path):
            raise CheckFailed(
                f"{path.relative_to(folder).as_posix()} {why}",
                where="save",
                mend="save arrays with safetensors or numpy (allow_pickle=False) and the rest as JSON",
            )


def pickle_in(path: Path) -> str:
    """Why a file counts as a pickle, empty where it does not; nothing in it is run."""
    head = path.read_bytes()[:4096]
    if _opens_a_pickle(head):
        return "is a pickle"
    if head.startswith(b"\x93NUMPY") and b"'|O'" in head[:256]:
        return "is an array of pickled objects"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as member:
                    start = member.read(256)
                if name.endswith((".pkl", ".pickle")) or _opens_a_pickle(start):
                    return f"holds the pickle {name}"
                if start.startswith(b"\x93NUMPY") and b"'|O'" in start:
                    return f"holds {name}, an array of pickled objects"
    return "is a pickle by its name" if path.suffix.lower() in PICKLE_SUFFIXES else ""


def _opens_a_pickle(head: bytes) -> bool:
    """By the opcode that pickles of protocol 2 and later begin with."""
    return len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5


def damaged_state_refused(subject: Subject) -> None:
    """An empty folder, and each file cut off or replaced in turn, gets a `HypedError` or changes nothing."""
    import shutil

    from hyped_core.checking.behaviour.common import compare, observed, repeatable, trained, work

    folder = _saved(subject)
    empty = subject.scratch / "empty"
    empty.mkdir()
    _refused(subject, empty, "an empty folder", None)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    expected = None
    for name in files[:DAMAGED_FILES]:
        content = (folder / name).read_bytes()
        for kind, damaged in (("cut off", content[: len(content) // 2]), ("overwritten", b"\0" * 64)):
            if damaged == content:
                continue
            copy = subject.scratch / "damaged"
            shutil.copytree(folder, copy)
            (copy / name).write_bytes(damaged)
            loaded = _refused(subject, copy, f"{name.as_posix()} {kind}", name)
            shutil.rmtree(copy)
            if loaded is not None and repeatable(subject):
                if expected is None:
                    expected = work(subject, trained(observed(subject).model), 0)
                if found := compare(subject, expected, work(subject, trained(loaded), 0)):
                    raise CheckFailed(
                        f"with {name.as_posix()} {kind} it loads without complaint and gives another result: {found}",
                        where="load",
                        mend="check sizes and names of what is read, and raise hyped_core.errors.CorruptFileError",
                    )


def _refused(subject: Subject, folder: Path, what: str, name: Path | None) -> Any:
    """None where loading is refused as it should be; the instance where it loaded."""
    from hyped_core.checking.behaviour.common import said

    fresh = subject.make()
    try:
        fresh.load(folder)
    except HypedError:
        return None
    except Exception as error:
        raise CheckFailed(
            f"given {what}, load {said(error)}",
            where="load",
            mend="raise hyped_core.errors.CorruptFileError (MissingFileError where nothing is there) naming the file",
        ) from error
    if name is None:
        raise CheckFailed(
            f"given {what}, load does not complain",
            where="load",
            mend="raise hyped_core.errors.MissingFileError naming the file that is not there",
        )
    return fresh


def config_pickles(subject: Subject) -> None:
    """The config arrives in another process as it was sent."""
    if subject.spec.config is None:
        raise CheckSkipped("the model has no config")
    config = subject.spec.load_config(dict(getattr(subject.make, "values", {})))
    if sent(config, subject.spec.config) != config:
        raise CheckFailed("arrives changed in another process", where=subject.spec.config, mend="use plain fields")


def model_pickles(subject: Subject) -> None:
    """A trained model arrives in another process and gives the same outputs there."""
    from hyped_core.checking.behaviour.common import compare, observed, repeatable, trained, work

    model = observed(subject).model
    if subject.remote:
        raise CheckSkipped("the model runs in a process of its own and is not sent to others")
    other = sent(model, subject.spec.target)
    if not repeatable(subject):
        return
    before, after = (work(subject, trained(one), 0) for one in (model, other))
    if found := compare(subject, before, after):
        raise CheckFailed(
            f"gives another result after it was sent to another process: {found}",
            where=subject.spec.target,
            mend="keep state in attributes that are sent along (see __getstate__)",
        )


def sent(value: Any, where: str) -> Any:
    """``value`` as it arrives in another process: what `multiprocessing` does with it. No file is read."""
    from multiprocessing.reduction import ForkingPickler

    from hyped_core.checking.behaviour.common import said

    try:
        return ForkingPickler.loads(bytes(ForkingPickler.dumps(value)))
    except Exception as error:
        raise CheckFailed(
            f"cannot be sent to another process: {said(error)}",
            where=where,
            mend="keep no locks, open files, generators or lambdas in attributes",
        ) from error
