"""Asking a model for something it may refuse, told from a crash; and fitted models that several checks start from."""

from __future__ import annotations

import copy
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hyped_core.blame import is_refusal, place_of, said
from hyped_core.checking.records import CheckFailed, Subject
from hyped_core.context import RunContext
from hyped_core.errors import HypedError

TYPED = "answer, or raise hyped_core.errors.InvalidDataError that names what is wrong (where) and what to do (mend)"
REFUSE = "raise hyped_core.errors.InvalidDataError that names what is wrong (where) and what to do (mend)"
ANSWER = "answer it: the contract gives this to every model of the task (hyped_core.contracts says what it looks like)"


def ask(call: Callable[[], Any], where: str, mend: str = TYPED) -> tuple[Any, HypedError | None]:
    """What ``call`` returns, or the `HypedError` it was refused with.

    Raises
    ------
    CheckFailed
        It raised anything else; ``where`` says what was asked.
    """
    try:
        return call(), None
    except (CheckFailed, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        if is_refusal(error):
            return None, error  # type: ignore[return-value]
        place = place_of(error)
        raise CheckFailed(f"{said(error)}{f' ({place})' if place else ''}", where=where, mend=mend) from error


def must_answer(call: Callable[[], Any], where: str, mend: str = "") -> Any:
    """What ``call`` returns, where a refusal is a failure too.

    Raises
    ------
    CheckFailed
        It raised.
    """
    result, refusal = ask(call, where, mend or ANSWER)
    if refusal is not None:
        raise CheckFailed(
            f"refused what models of the task are asked for: {refusal.message}",
            where=where,
            mend=mend or ANSWER,
        ) from refusal
    return result


def must_refuse(call: Callable[[], Any], where: str, expected: str, mend: str = REFUSE) -> HypedError:
    """The `HypedError` that ``call`` is refused with.

    Raises
    ------
    CheckFailed
        It was answered (``expected`` says why it cannot be), or raised something else.
    """
    result, refusal = ask(call, where, mend)
    if refusal is None:
        raise CheckFailed(f"answered with {_kind(result)}, {expected}", where=where, mend=mend)
    return refusal


def kept(subject: Subject, name: str, fit: Callable[[RunContext], Any]) -> Any:
    """A model as ``fit`` makes it, made once for all checks of this model: each gets a deep copy of its own.

    The context's scratch folder lasts as long as ``subject.make``, since the model may have put files there. Models in
    a process of their own, and those that cannot be copied, are made anew each time.
    """
    notes = getattr(subject.make, "notes", None)
    if notes is None or subject.remote:
        return fit(subject.context())
    key = f"fitted {name}"
    if key not in notes:
        folder = Path(tempfile.mkdtemp(prefix="hyped-check-"))
        weakref.finalize(subject.make, shutil.rmtree, folder, ignore_errors=True)
        model = fit(subject.context(scratch=folder))
        notes[key] = _copied(model)
        return model
    model = _copied(notes[key])
    return fit(subject.context()) if model is None else model


def _copied(model: Any) -> Any:
    """A deep copy; None where there can be none."""
    try:
        return copy.deepcopy(model)
    except Exception:  # noqa: BLE001  a stranger's model may hold anything, and need not be copied
        return None


def _kind(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__}" + (f" of shape {tuple(shape)}" if shape is not None else "")
