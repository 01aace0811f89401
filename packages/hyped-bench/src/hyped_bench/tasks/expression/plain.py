"""Scoring a file of predictions against a plain perturb-seq file: no parameter file, no imaging, no container."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt

from hyped_bench.readers import dense, existing, read_cells, read_obs
from hyped_bench.splits.folds import Kind
from hyped_bench.tasks.expression.files import COLUMNS, predicted_column
from hyped_bench.tasks.expression.names import canonical_names
from hyped_bench.tasks.expression.scale import looks_like_counts
from hyped_core.design.model import CONTROL
from hyped_core.errors import InvalidDataError, UsageError

if TYPE_CHECKING:
    import pandas as pd

    from hyped_bench.runner import Job, Result

GLANCE = 200
"""Cells looked at to tell raw counts."""
WITH = {"listed": "held_out: [NAME, ...]", "custom": "file: FILE", "saved": "file: FILE"}
"""Kinds of split that a command line's name alone does not settle, and what a parameter file gives with them."""


def score_plain(
    predictions: str | Path,
    truth: str | Path,
    *,
    perturbation: str | None = None,
    split: dict[str, Any] | None = None,
    name: str | None = None,
    seed: int = 0,
    max_cells: int | None = None,
    **options: Any,
) -> tuple[Job, Result]:
    """Score an .h5ad of predicted cells against an .h5ad of measured ones.

    Parameters
    ----------
    predictions
        ``obs.perturbation`` (or another of `COLUMNS`) names what each cell predicts; control cells there are not used.
    truth
        Perturbed and control cells, ln(1 + counts per 10,000) or raw counts.
    perturbation
        The column of ``truth``; found by its name where None.
    split
        As in `hyped_bench.splits.SplitParams`, such as ``{"kind": "unseen_condition"}``. Where None, what the file
        predicts is held out and everything else was there to learn from.
    max_cells
        Cells of a perturbation (and of control) used at most; `ExpressionSource`'s own limit where None.
    options
        More keys of the source (`ExpressionSource`): ``where``, ``direction``, ``n_genes``.

    Returns
    -------
    The job and its result, as `hyped_bench.records.write_record` takes them.

    Raises
    ------
    InvalidDataError
        No column of perturbations or no control cells in ``truth``; nothing predicted that was measured; nothing left
        to learn from; and what is wrong with the predictions.
    """
    from hyped_bench.runner import prepare, score_file

    section = plain_section(
        predictions, truth, perturbation=perturbation, split=split, max_cells=max_cells, **options
    )
    job = prepare("expression", section, seed=seed)
    return job, score_file(job, predictions, source=section["sources"][0]["name"], name=name)


def plain_section(
    predictions: str | Path | None,
    truth: str | Path,
    *,
    perturbation: str | None = None,
    split: dict[str, Any] | None = None,
    max_cells: int | None = None,
    **options: Any,
) -> dict[str, Any]:
    """The section of a parameter file that `score_plain` scores by; without predictions, ``split`` is needed."""
    if max_cells is not None:
        options["max_cells"] = max_cells
    for path in (truth, *([] if predictions is None else [predictions])):
        existing(path, mend="correct the path of this file of cells")
    obs = read_obs(truth)
    column = perturbation or label_column(obs, truth)
    if column not in obs:
        raise InvalidDataError(f"has no obs column {column!r}", where=truth, mend=f"there: {', '.join(map(str, obs))}")
    if split is None:
        if predictions is None:
            raise InvalidDataError("nothing says what is held out", where=truth, mend="give predictions or a split")
        kept = np.ones(len(obs), dtype=bool)
        for other, value in options.get("where", {}).items():
            kept &= (obs[other].astype(str) == value).to_numpy() if other in obs else True  # said later, by the source
        split = {"kind": "listed", "held_out": _predicted(predictions, obs[column], kept, truth)}
    source = {
        "name": _source_name(truth),
        "cells": str(truth),
        "perturbation": column,
        "counts": looks_like_counts(_glance(truth)),
        "split": split,
        "suffix": False,
        **options,
    }
    return {"sources": [source]}


def split_of(kind: str) -> dict[str, Any]:
    """``--split KIND`` of a command line as `ExpressionSource.split`."""
    if kind in WITH:
        mend = f"give --params REF, where a source has `split: {{kind: {kind}, {WITH[kind]}}}`"
        raise UsageError(f"{kind} alone does not say what is held out", where="--split", mend=mend)
    named = [known for known in get_args(Kind) if known not in WITH]
    if kind not in named:
        close = difflib.get_close_matches(kind, named, n=1)
        mend = f"did you mean {close[0]}?" if close else f"one of {', '.join(named)}"
        raise UsageError(f"there is no split {kind!r}", where="--split", mend=mend)
    return {"kind": kind}


def where_of(pairs: Sequence[str]) -> dict[str, str]:
    """``COLUMN=VALUE`` of a command line as `ExpressionSource.where`."""
    if wrong := [pair for pair in pairs if not pair.partition("=")[0] or "=" not in pair]:
        raise UsageError(f"--where {wrong[0]!r} is not understood", mend="write it as --where COLUMN=VALUE")
    return {column: value for column, _, value in (pair.partition("=") for pair in pairs)}


def label_column(obs: pd.DataFrame, where: str | Path) -> str:
    """The column of ``obs`` that names perturbations: the first of `COLUMNS` in which some cells are control.

    Raises
    ------
    InvalidDataError
        There is none.
    """
    present = [column for column in COLUMNS if column in obs]
    for column in present:
        if CONTROL in canonical_names(obs[column].astype(str)).values():
            return column
    name = "name the column with --perturbation COLUMN, or rename it in the file to perturbation"
    call = f"call the control cells of {' or '.join(present)} control; or else " if present else ""
    raise InvalidDataError(
        "no obs column names perturbations and control cells"
        + (f" ({', '.join(present)}: no cell is called control or ctrl)" if present else ""),
        where=where,
        mend=f"{call}{name}; there: {', '.join(map(str, obs))}; looked for: {', '.join(COLUMNS)}",
    )


def _glance(path: str | Path) -> npt.NDArray[np.float32]:
    """Some cells of a file or container."""
    import anndata

    if existing(path).is_dir():
        matrix = read_cells(path).X
        return dense(matrix[:: max(1, matrix.shape[0] // GLANCE)])
    cells = anndata.read_h5ad(path, backed="r")
    try:
        return dense(cells.X[: min(GLANCE, cells.n_obs)])
    finally:
        cells.file.close()


def _predicted(
    predictions: str | Path, measured: pd.Series, kept: npt.NDArray[np.bool_], truth: str | Path
) -> Sequence[str]:
    """Perturbations that are predicted and were measured, spelled as the truth's cells are."""
    obs = read_obs(predictions)
    raw = obs[predicted_column(obs, predictions)].astype(str)
    spelled = canonical_names(measured.astype(str))
    there = measured[kept].dropna().astype(str)
    known = {spelled[n] for n in there} - {CONTROL}
    names = canonical_names(raw, known=set(spelled.values()))
    held = sorted({names[n] for n in raw} & known)
    if not held:
        raise InvalidDataError(
            "predicts nothing that was measured", where=predictions, mend=f"perturbations of {truth}: {_some(known)}"
        )
    if len(known) == 1:
        raise InvalidDataError(
            f"holds one perturbation ({held[0]}), so that none is left that a model could have learned from",
            where=truth,
            mend="give measured cells of more perturbations",
        )
    if len(held) == len(known):
        raise InvalidDataError(
            f"predicts all {len(known)} perturbations, so that none is left that a model could have learned from",
            where=predictions,
            mend="say how they were held out, for example one at a time as unseen_condition",
        )
    return held


def _some(names: set[str]) -> str:
    found = sorted(names)
    return ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")


def _source_name(path: str | Path) -> str:
    kept = "".join(c if c.isalnum() else "_" for c in Path(path).stem)
    return kept or "truth"
