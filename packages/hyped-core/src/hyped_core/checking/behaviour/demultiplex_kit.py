"""What the checks of demultiplexers share: a checked table of calls, and comparisons that allow for honest ties."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_core.checking.behaviour.asking import ask, must_answer
from hyped_core.checking.behaviour.working import comparing
from hyped_core.checking.compare import dense
from hyped_core.checking.records import CheckFailed, Subject, asked_by
from hyped_core.errors import HypedError

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

COLUMNS = {
    "call": "the tag, Doublet or Negative",
    "kind": "singlet, doublet or negative",
    "probability": "of the call, from 0 to 1",
    "tags": "the call of a singlet, names joined with + of a doublet, '' else",
}
KINDS = {"Doublet": "doublet", "Negative": "negative"}
TIES = 0.02
"""Share of the cells whose call may change with the order of cells or tags: two tags may stand out alike, and an
iteration that goes through the cells in turn stops at another cell."""


def called(subject: Subject, hto: AnnData, *, about: str = "", model: Any = None, mend: str = "") -> pd.DataFrame:
    """Calls of a fresh (or the given) model, held to their form; ``mend`` says what to do where it gives none.

    Raises
    ------
    CheckFailed
        It refuses, raises, or returns something of another form; ``about`` says what was special.
    """
    model = subject.make() if model is None else model
    where = _where(about)
    return check_calls(must_answer(lambda: model.assign(hto, context=subject.context()), where, mend), hto, where)


def calls_or_refusal(subject: Subject, hto: AnnData, *, about: str) -> tuple[pd.DataFrame | None, HypedError | None]:
    """Calls held to their form, or the typed error that the model refuses with."""
    where = _where(about)
    model = subject.make()
    mend = "call every cell Negative, or raise hyped_core.errors.InvalidDataError: so many cells and tags it takes"
    result, refusal = ask(lambda: model.assign(hto, context=subject.context()), where, mend)
    return (check_calls(result, hto, where), None) if refusal is None else (None, refusal)


@asked_by("calls_form")
def check_calls(result: Any, hto: AnnData, where: str) -> pd.DataFrame:
    """Refuse a table that the contract does not allow, with the first cell that is wrong."""
    import pandas as pd

    if not isinstance(result, pd.DataFrame):
        raise CheckFailed(
            f"returned {type(result).__name__}, expected DataFrame",
            where=where,
            mend=f"return a pandas DataFrame with hto.obs_names as index and the columns {', '.join(COLUMNS)}",
        )
    if lacking := [name for name in COLUMNS if name not in result]:
        mend = f"add {', '.join(f'{name}: {COLUMNS[name]}' for name in lacking)}"
        raise CheckFailed(f"has no column {', '.join(lacking)}", where=where, mend=mend)
    if list(result.index) != list(hto.obs_names):
        same = set(result.index) == set(hto.obs_names)
        said = "the cells in another order" if same else "other cells"
        raise CheckFailed(
            f"returned {said} than given ({len(result)} against {hto.n_obs})",
            where=f"{where}, index",
            mend="return one row a cell, with hto.obs_names as index, in their order",
        )
    texts = {name: result[name].to_numpy(dtype=object) for name in ("call", "kind", "tags")}
    for name, values in texts.items():
        wrong = np.array([not isinstance(value, str) for value in values], dtype=bool)
        _refuse(wrong, result, f"{where}, {name}", values, "text", f"{name} is text in every row: {COLUMNS[name]}")
    _check_names(result, hto, texts, where)
    _check_numbers(result, where)
    if "forced_call" in result:
        _check_forced(result, hto, where)
    return result


def changed_calls(ours: pd.DataFrame, theirs: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Cells, in the order of ``theirs``, whose call differs."""
    same = ours.loc[theirs.index, "call"].astype(str).to_numpy() == theirs["call"].astype(str).to_numpy()
    return ~same


@comparing
def same_calls(ours: pd.DataFrame, theirs: pd.DataFrame, where: str, what: str, mend: str, share: float = TIES) -> None:
    """Refuse tables in which more than ``share`` of the calls differ."""
    changed = changed_calls(ours, theirs)
    allowed = math.ceil(share * len(theirs))
    if changed.sum() > allowed:
        cell = theirs.index[int(changed.argmax())]
        raise CheckFailed(
            f"{what}: {int(changed.sum())} of {len(theirs)} calls ({allowed} may be ties), {cell!r} is "
            f"{ours.loc[cell, 'call']} and {theirs.loc[cell, 'call']}",
            where=where,
            mend=mend,
        )


def _check_names(result: pd.DataFrame, hto: AnnData, texts: dict[str, npt.NDArray], where: str) -> None:
    """Calls are tags, Doublet or Negative; kind and tags say the same as the call."""
    known = list(hto.var_names)
    call, kind, tags = texts["call"], texts["kind"], texts["tags"]
    wrong = ~np.isin(call, [*known, *KINDS])
    mend = "call a cell by its tag as hto.var_names has it, by the word Doublet, or by the word Negative"
    _refuse(wrong, result, f"{where}, call", call, "a tag, Doublet or Negative", mend)
    expected = np.array([KINDS.get(one, "singlet") for one in call], dtype=object)
    _refuse(
        kind != expected, result, f"{where}, kind", kind, "the kind of the call",
        "kind is singlet for a tag, doublet for Doublet, negative for Negative",
    )  # fmt: skip
    single = expected == "singlet"
    mend = "tags is the call of a singlet, names joined with + of a doublet, '' of a cell without a tag"
    _refuse(single & (tags != call), result, f"{where}, tags", tags, "the call, as it is a singlet", mend)
    negative = (expected == "negative") & (tags != "")
    _refuse(negative, result, f"{where}, tags", tags, "'', as the call is Negative", mend)
    for row in np.flatnonzero(expected == "doublet"):
        if not _joined(tags[row], known):
            at = np.arange(len(tags)) == row
            _refuse(at, result, f"{where}, tags", tags, "two or more different tags joined with +", mend)


def _joined(text: str, known: list[str]) -> bool:
    """Whether ``text`` is two or more different tags joined with ``+``; tags may hold a ``+`` themselves."""

    def rest(left: str, used: tuple[str, ...]) -> bool:
        for tag in known:
            if tag in used:
                continue
            if left == tag and used:
                return True
            if left.startswith(f"{tag}+") and rest(left[len(tag) + 1 :], (*used, tag)):
                return True
        return False

    return rest(text, ())


def _check_numbers(result: pd.DataFrame, where: str) -> None:
    """Probabilities are numbers within 0 and 1; a margin is finite."""
    for name in ("probability", "doublet_probability", "margin"):
        if name not in result:
            continue
        try:
            values = result[name].to_numpy(dtype=float)
        except (TypeError, ValueError) as error:
            raise CheckFailed(
                f"holds no numbers: {error}", where=f"{where}, {name}", mend="give a float for every cell, none as text"
            ) from error
        wrong = ~np.isfinite(values)
        if name != "margin":
            wrong |= (values < 0) | (values > 1 + 1e-9)
        expected = "a finite number" if name == "margin" else "a number within 0 and 1"
        mend = "give each call's probability as a share of 1 (0.5 where nothing is known), no percentage and no NaN"
        if name != "probability":
            mend = f"{name} may be absent: leave the column out where it is not known of every cell; shares are of 1"
        _refuse(wrong, result, f"{where}, {name}", values, expected, mend)


def _check_forced(result: pd.DataFrame, hto: AnnData, where: str) -> None:
    """The forced call is a tag; "" of cells without counts, and of those alone."""
    forced = result["forced_call"].to_numpy(dtype=object)
    empty = dense(hto.X).sum(axis=1) == 0
    wrong = np.where(empty, forced != "", ~np.isin(forced, list(hto.var_names)))
    mend = "forced_call is the best tag of every cell with counts, '' of a cell without"
    _refuse(wrong.astype(bool), result, f"{where}, forced_call", forced, "a tag ('' without counts)", mend)


def _refuse(
    wrong: npt.NDArray[np.bool_], result: pd.DataFrame, where: str, values: npt.NDArray, expected: str, mend: str
) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        value = values[row].item() if isinstance(values[row], np.generic) else values[row]
        raise CheckFailed(
            f"{int(wrong.sum())} of {len(wrong)} cells are wrong, {result.index[row]!r} is {value!r}, "
            f"expected {expected}",
            where=where,
            mend=mend,
        )


def _where(about: str) -> str:
    return f"assign, {about}" if about else "assign"
