"""Checks of what a model keeps: saving and loading, damaged files, and the way to another process."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

from hyped_core.blame import is_refusal, place_of, said
from hyped_core.checking.behaviour.working import must_agree, observed, repeatable, trained, work
from hyped_core.checking.records import CheckFailed, CheckSkipped, Subject, asked_by

PICKLE_SUFFIXES = (".pkl", ".pickle", ".pt", ".pth", ".joblib", ".ckpt", ".dill", ".h5py-pickle")
"""Suffixes of files that are pickles by custom."""
DAMAGED_FILES = 12
"""At most so many files of a saved model are damaged in turn."""


@asked_by("saves_and_loads")
def _saved(subject: Subject) -> Path:
    """The folder into which the trained model was saved, anew for each check."""
    model = observed(subject).model
    offered = [name for name in ("save", "load") if callable(getattr(model, name, None))]
    if not offered:
        though = ", though it has a fit" if callable(getattr(model, "fit", None)) else ""
        raise CheckSkipped(f"the model offers no save and load{though}")
    if len(offered) == 1:
        raise CheckFailed(
            f"offers {offered[0]} without {'load' if offered[0] == 'save' else 'save'}",
            where=offered[0],
            mend="offer both save(folder) and load(folder), or neither",
        )
    folder = subject.scratch / "saved"
    try:
        model.save(folder)
    except Exception as error:
        raise CheckFailed(
            f"save(folder) {said(error)}",
            where=place_of(error) or "save",
            mend="begin with folder.mkdir(parents=True, exist_ok=True), and write arrays with safetensors and the "
            "rest as JSON",
        ) from error
    if not folder.is_dir() or not any(path.is_file() for path in folder.rglob("*")):
        raise CheckFailed(
            "save(folder) left no file in the folder",
            where="save",
            mend="write all that predictions depend on into files of `folder`, which need not exist yet",
        )
    return folder


def saves_and_loads(subject: Subject) -> None:
    """A fresh instance that loads what was saved gives the same outputs."""
    folder = _saved(subject)
    fresh = subject.make()
    try:
        fresh.load(folder)
    except Exception as error:
        raise CheckFailed(
            f"given what save wrote, load {said(error)}",
            where=place_of(error) or "load",
            mend="let load(folder) read, into an instance that was not fitted, every file that save(folder) writes",
        ) from error
    before, after = (work(subject, trained(model), 0) for model in (observed(subject).model, fresh))
    if repeatable(subject):
        must_agree(
            subject, before, after, "a fresh instance that loaded the saved state gives another result", where="load",
            mend="write in save every attribute that fit sets, and set each of them in load; numbers with all their "
            "digits",
        )  # fmt: skip


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
                must_agree(
                    subject, expected, work(subject, trained(loaded), 0),
                    f"with {name.as_posix()} {kind} it loads without complaint and gives another result", where="load",
                    mend="compare in load the names, shapes and count of what is read with what save writes, and raise "
                    "hyped_core.errors.CorruptFileError naming the file",
                )  # fmt: skip


def _refused(subject: Subject, folder: Path, what: str, name: Path | None) -> Any:
    """None where loading is refused as it should be; the instance where it loaded."""
    fresh = subject.make()
    try:
        fresh.load(folder)
    except Exception as error:
        if is_refusal(error):
            return None
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
        raise CheckFailed(
            "arrives changed in another process",
            where=subject.spec.config,
            mend="derive it from hyped_core.Params, with fields of numbers, text, lists and None, and no attributes "
            "beside",
        )


def model_pickles(subject: Subject) -> None:
    """A trained model arrives in another process and gives the same outputs there."""
    model = observed(subject).model
    if subject.remote:
        raise CheckSkipped("the model runs in a process of its own and is not sent to others")
    other = sent(model, subject.spec.target)
    if not repeatable(subject):
        return
    before, after = (work(subject, trained(one), 0) for one in (model, other))
    must_agree(
        subject, before, after, "gives another result after it was sent to another process",
        where=subject.spec.target,
        mend="keep what fit learns in plain attributes of self; where __getstate__ leaves some out, let "
        "__setstate__ make them again",
    )  # fmt: skip


def sent(value: Any, where: str) -> Any:
    """``value`` as it arrives in another process: what `multiprocessing` does with it. No file is read."""
    from multiprocessing.reduction import ForkingPickler

    try:
        return ForkingPickler.loads(bytes(ForkingPickler.dumps(value)))
    except Exception as error:
        raise CheckFailed(
            f"cannot be sent to another process: {said(error)}",
            where=where,
            mend="define its class at the top of a module, and keep no locks, open files, generators or lambdas in "
            "attributes: make them in the method that uses them",
        ) from error
