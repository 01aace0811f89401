"""Checks of demultiplexers: the table of calls, easy cells, order of cells and tags, depth, odd and wrong counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

from hyped_core.checking.behaviour.asking import ask, must_refuse
from hyped_core.checking.behaviour.demultiplex_kit import (
    called,
    calls_or_refusal,
    changed_calls,
    check_calls,
    same_calls,
)
from hyped_core.checking.compare import difference
from hyped_core.checking.records import Check, CheckFailed, Exercise, Subject, asked_by
from hyped_core.checking.tiny.hashtags import TAGS, tiny_hashtags
from hyped_core.context import RunContext

if TYPE_CHECKING:
    from anndata import AnnData

TASK = ("demultiplex",)
ODD_NAMES = ("Hashtag 1", "anti-β2M/CD298 (TotalSeq™-B0252)", "3", 'tag+"4",')


def inputs(seed: int) -> dict[str, Any]:
    """Raw counts of the tiny capture, as the benchmark gives them."""
    return {"hto": tiny_hashtags(seed).hto}


def work(model: Any, inputs: dict[str, Any], context: RunContext) -> dict[str, Any]:
    """Call every cell."""
    return {"calls": model.assign(inputs["hto"], context=context)}


EXERCISE = Exercise("demultiplex", inputs, work)


def calls_form(subject: Subject) -> None:
    """One row a cell in order; call, kind, probability, tags and optional columns with values that agree."""
    called(subject, tiny_hashtags().hto)


def easy_singlets_called(subject: Subject) -> None:
    """Cells with 160 counts of one tag and 6 of each other are called this tag, four of five at least."""
    cells = tiny_hashtags()
    calls = called(subject, cells.hto)
    single = (cells.truth["kind"] == "singlet").to_numpy()
    right = (calls["call"].to_numpy() == cells.truth["call"].to_numpy())[single]
    if right.mean() < 0.8:
        with asked_by("calls_tag_order"):
            raise CheckFailed(
                f"{int(right.sum())} of {int(single.sum())} clear singlets are called by their tag",
                where="assign, call",
                mend="read hto.X as raw counts, one column a tag, and name column i by hto.var_names[i]",
            )


def cell_without_counts_negative(subject: Subject) -> None:
    """A cell without any count is Negative."""
    hto = tiny_hashtags().hto
    counts = hto.X.tolil()
    counts[[5, 17]] = 0
    hto.X = sp.csr_matrix(counts)
    calls = called(subject, hto, about="cells without counts")
    if (calls["call"].iloc[[5, 17]] != "Negative").any():
        raise CheckFailed(
            f"cells without counts are called {', '.join(map(str, calls['call'].iloc[[5, 17]]))}",
            where="assign, call",
            mend="set call to Negative, kind to negative and tags to '' where a cell's counts sum to 0, before any "
            "tag is ranked",
        )


def calls_cell_order(subject: Subject) -> None:
    """Cells in another order get their calls, up to ties."""
    hto = tiny_hashtags().hto
    order = np.random.default_rng(0).permutation(hto.n_obs)
    same_calls(
        called(subject, hto[order].copy(), about="cells in another order"), called(subject, hto), "assign",
        "cells in another order get other calls",
        "let a call depend on a cell's counts, not on its row: no random start drawn by row, no first cells as seeds",
    )  # fmt: skip


def calls_tag_order(subject: Subject) -> None:
    """Tags in another order: the same calls, up to ties."""
    hto = tiny_hashtags().hto
    order = np.array([2, 0, 3, 1])
    same_calls(
        called(subject, hto[:, order].copy(), about="tags in another order"), called(subject, hto), "assign",
        "tags in another order give other calls",
        "name column i of hto.X by hto.var_names[i], and treat all columns alike",
    )  # fmt: skip


def tag_names_any(subject: Subject) -> None:
    """Tags with spaces, signs, letters of other scripts and digits for names: the same calls under these names."""
    hto = tiny_hashtags().hto
    named = hto.copy()
    named.var_names = list(ODD_NAMES)
    mend = "take names from hto.var_names as they are: no sorting, splitting or patterns"
    calls = called(subject, named, about="odd names of tags", mend=mend)
    back = calls.assign(call=calls["call"].replace(dict(zip(ODD_NAMES, TAGS, strict=True))))
    with asked_by("calls_tag_order"):
        same_calls(back, called(subject, hto), "assign", "tags of other names give other calls", mend)


def hashtag_forms(subject: Subject) -> None:
    """Dense counts, and counts as whole or double numbers, give the calls that sparse float32 gives."""
    hto = tiny_hashtags().hto
    first = called(subject, hto)
    forms = {
        "dense": hto.X.toarray(),
        "dense int64": hto.X.toarray().astype(np.int64),
        "sparse int32": hto.X.astype(np.int32),
        "sparse float64": hto.X.astype(np.float64),
        "CSC": sp.csc_matrix(hto.X),
    }
    for name, matrix in forms.items():
        other = anndata.AnnData(matrix, obs=hto.obs.copy(), var=hto.var.copy())
        mend = "begin with X.toarray() if scipy.sparse.issparse(X) else X, then .astype(float)"
        found = called(subject, other, about=f"{name} counts", mend=mend)
        if said := difference(found, first, rtol=1e-4, atol=1e-4, forms=False):
            told = f"{name} counts give another table than sparse float32 ones: {said}"
            raise CheckFailed(told, where="assign", mend=mend)


def deeper_sequencing(subject: Subject) -> None:
    """Eight times the counts of every cell and tag leave four of five calls as they were."""
    hto = tiny_hashtags().hto
    deep = hto.copy()
    deep.X = deep.X * np.float32(8.0)
    same_calls(
        called(subject, deep, about="eight times the counts"), called(subject, hto), "assign",
        "eight times the counts give other calls",
        "take thresholds from the capture (its tags' backgrounds, its cells' totals), not as fixed counts", 0.2,
    )  # fmt: skip


def calls_in_any_order(subject: Subject) -> None:
    """One model that calls a capture, another one, and the first again, calls it alike."""
    model, hto = subject.make(), tiny_hashtags().hto
    first = called(subject, hto, model=model)
    called(subject, tiny_hashtags(1).hto[:100].copy(), model=model, about="another capture")
    again = called(subject, hto, model=model, about="after another capture")
    if changed_calls(again, first).any():
        mend = "let assign set nothing on self: thresholds are of the capture given, so that each is learned anew"
        same_calls(again, first, "assign", "after another capture the calls are others", mend, share=0.0)


def tag_without_counts(subject: Subject) -> None:
    """A tag of which there is no count is called of no cell."""
    hto = tiny_hashtags().hto
    wide = anndata.AnnData(
        sp.csr_matrix(sp.hstack([hto.X, sp.csr_matrix((hto.n_obs, 1), dtype=np.float32)])),
        obs=hto.obs.copy(),
        var=pd.DataFrame(index=[*hto.var_names, "UNUSED"]),
    )
    mend = "take the number of tags from hto.n_vars, and leave columns of hto.X that sum to 0 out of all that ranks"
    calls = called(subject, wide, about="a tag without counts", mend=mend)
    columns = [name for name in ("call", "forced_call") if name in calls]
    if count := int((calls[columns] == "UNUSED").any(axis=1).sum()):
        with asked_by("calls_tag_order"):
            raise CheckFailed(f"{count} cells are called by a tag without any count", where="assign, call", mend=mend)


def few_cells_and_tags(subject: Subject) -> None:
    """One cell, two, no cell; one tag, two, none: calls, or refused."""
    hto = tiny_hashtags().hto
    for about, small in (
        ("one cell", hto[:1]), ("two cells", hto[:2]), ("one tag", hto[:, :1]), ("two tags", hto[:, :2]),
        ("no tag", hto[:, :0]),
    ):  # fmt: skip
        calls_or_refusal(subject, small.copy(), about=about)
    alike = hto[:50].copy()
    alike.X = sp.csr_matrix(np.full(alike.shape, 7.0, dtype=np.float32))
    calls_or_refusal(subject, alike, about="the same counts in all cells and tags")
    none = hto[:0].copy()
    call = lambda: subject.make().assign(none, context=subject.context())  # noqa: E731
    result, refusal = ask(call, "assign, no cell")
    if refusal is None:
        check_calls(result, none, "assign, no cell")


def wrong_counts_refused(subject: Subject) -> None:
    """NaN and negative counts are refused."""
    for value in (np.nan, -1.0):
        hto: AnnData = tiny_hashtags().hto
        counts = hto.X.tolil()
        counts[3, 1] = value
        hto.X = sp.csr_matrix(counts)
        must_refuse(
            lambda hto=hto: subject.make().assign(hto, context=subject.context()), f"assign, a count of {value:g}",
            "though this is no count: X may be normalised, or damaged",
            "raise hyped_core.errors.InvalidDataError where a value of hto.X is negative or not finite",
        )  # fmt: skip


_WHY = {
    calls_form: "Tables that contradict themselves, or are of other cells, give cells the condition of others.",
    calls_in_any_order: "Captures are called one after the other; what stays of one changes the calls of the next.",
    calls_cell_order: "The order of cells in a file is chance, and must not decide what a cell is.",
    calls_tag_order: "A model that goes by position names the wrong condition when a file lists tags otherwise.",
    easy_singlets_called: "A model that misses cells with 25 times as many counts of one tag names the wrong columns.",
    cell_without_counts_negative: "A cell that nothing is known of must not be counted as one of a condition.",
    tag_names_any: "Vendors' names hold spaces, slashes and Greek letters.",
    hashtag_forms: "Counts come sparse and dense, whole and floating; the same counts must give the same calls.",
    deeper_sequencing: "A threshold in counts works for one depth of sequencing and fails silently at another.",
    tag_without_counts: "Kits have more tags than an experiment uses.",
    few_cells_and_tags: "Small captures must end in calls or in a sentence, not in a traceback from inside a library.",
    wrong_counts_refused: "Normalised or damaged counts give calls that look like any others.",
}
CHECKS = tuple(Check(run.__name__, TASK, why, run) for run, why in _WHY.items())
