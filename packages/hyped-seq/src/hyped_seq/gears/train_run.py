"""GEARS from files to a folder: what `hyped seq gears train` does.

Importing this module imports torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hyped_core.design.model import CONTROL, Perturbation
from hyped_core.errors import InvalidDataError, UsageError
from hyped_core.io.atomic import atomic_path, remove, write_json, write_text
from hyped_core.io.outputs import check_output
from hyped_core.splits import GearsKind, GearsSplit, custom_split, gears_split
from hyped_seq.gears.checkpoint import TEXT, Checkpoint
from hyped_seq.gears.checks import conditions_of, labels_of, log_matrix, perturbation_of, records_of
from hyped_seq.gears.de_genes import group_moments, top_genes, welch_scores
from hyped_seq.gears.evaluate import METRICS, EvaluationSet, scores
from hyped_seq.gears.model import pretrained_for, terms_of
from hyped_seq.gears.predict import fallback, predict_means
from hyped_seq.gears.train import fit
from hyped_seq.readers.cells import read_cells, select_cells
from hyped_seq.torch_run import torch_threads

if TYPE_CHECKING:
    from anndata import AnnData

    from hyped_core.context import RunContext
    from hyped_seq.gears.params import GearsParams

LOSS, SPLIT, REPORT, TEST = "loss.csv", "split.json", "report.json", "test.csv"
FLOPS = 1.5e10
"""Floating point operations a second that one core is taken to do in an estimate."""
_BASE_MIB = 800
"""Memory of a training beside what its sizes explain: the interpreter, PyTorch and the other libraries."""


@dataclass(frozen=True, slots=True)
class SplitChoice:
    """Which perturbations are held out: by a kind of `hyped_core.splits` with its seed, by a file, or none."""

    kind: GearsKind | None = None
    seed: int = 1
    file: Path | None = None

    def of(self, names: Sequence[str]) -> GearsSplit | None:
        """The split of ``names``, which come in the order in which the cells show them."""
        if self.file is not None:
            return custom_split(self.file, names)
        return None if self.kind is None else gears_split(names, self.kind, seed=self.seed)


def train_file(
    cells: str | Path,
    out: str | Path,
    params: GearsParams,
    *,
    split: SplitChoice | None = None,
    extra: Sequence[str] = (),
    where: Sequence[str] = (),
    overwrite: bool = False,
    context: RunContext,
) -> dict[str, Any]:
    """Train on the cells of a file into the folder ``out``; returns its ``report.json``.

    ``out`` gets the checkpoint (``gears.json``, ``gears.safetensors``), ``loss.csv``, ``report.json`` and, with a
    split, ``split.json`` (which `custom_split` reads) and ``test.csv`` (a row a test perturbation, under the model and
    under no change). Until it is there, the state of training is kept in a hidden folder beside it, and a run that was
    killed goes on from its last epoch.

    ``extra`` are genes that get a node in the perturbation graph beside those of the panel and of all perturbations of
    the file, those held out included.

    Raises
    ------
    UsageError
        ``out`` holds a trained model and ``overwrite`` is not given, or something else.
    InvalidDataError
        Cells, labels or names are not what they have to be.
    """
    out = Path(out)
    check_out(out, overwrite, inputs=[p for p in (cells, params.terms, params.pretrained) if p])
    resume = out.with_name(f".{out.name}.resume")
    if overwrite:
        remove(resume)
    everything = select_cells(read_cells(cells), where, cells)
    labels = _labels(everything, cells)
    names = [name for name in pd.unique(labels) if name != CONTROL]
    parts = (split or SplitChoice()).of(names)
    train, validation = everything, None
    if parts is not None:
        train = everything[np.isin(labels, (CONTROL, *parts.train))]
        validation = everything[np.isin(labels, parts.validation)]
    terms = terms_of(params)
    start, extra = None, (*extra, *_genes_of(names, everything))
    if params.pretrained:
        start = pretrained_for(train, params, terms=terms, validation=validation, extra=extra, context=context)
    made = fit(
        train, params, terms=terms, validation=validation, start=start, folder=resume, extra=extra, context=context
    )
    report: dict[str, Any] = {"model": made.facts, "cells": everything.n_obs, "perturbations": len(names)}
    test = None
    if parts is not None:
        report["split"] = _split_record(split or SplitChoice(), parts)
        if parts.test:
            with torch_threads(context.threads):
                test = evaluate_test(made, everything, labels, parts)
            report["test"] = summarise(test)
            report["held_out"] = [p.model_dump(mode="json") for p in _perturbations(parts.test, everything)]
    with atomic_path(out) as temporary:
        temporary.mkdir()
        made.save(temporary)
        write_text(temporary / LOSS, made.history.to_csv(index=False, float_format="%.9g", lineterminator="\n"))
        write_json(temporary / REPORT, report)
        if parts is not None:
            sets = {"train": list(parts.train), "validation": list(parts.validation), "test": list(parts.test)}
            write_json(temporary / SPLIT, sets)
        if test is not None:
            write_text(temporary / TEST, test.to_csv(index=False, float_format="%.9g", lineterminator="\n"))
    remove(resume)
    return report


def check_out(out: Path, overwrite: bool, inputs: Sequence[str | Path] = ()) -> None:
    """Refuse to write over a trained model unless asked to, and over anything else, what is read included, at all."""
    check_output(out, kind="folder", inputs=inputs, marks=(TEXT,))
    if (out / TEXT).is_file() and not overwrite:
        raise UsageError("holds a trained model", where=out, mend="give --overwrite to train it anew, or a new folder")


def evaluate_test(checkpoint: Checkpoint, cells: AnnData, labels: np.ndarray, split: GearsSplit) -> pd.DataFrame:
    """A row a test perturbation: metrics of `hyped_seq.gears.evaluate`, and the same for the control's mean as guess.

    Predictions start from the mean of all control cells; the most different genes are those of the test cells.
    """
    x = log_matrix(cells, "cells")
    control = np.flatnonzero(labels == CONTROL)
    names = (CONTROL, *split.test)
    number = {name: i for i, name in enumerate(names)}
    group = np.array([number.get(label, -1) for label in labels], dtype=np.int64)
    moments = group_moments(x, group, len(names))
    rows = np.arange(1, len(names))
    perturbations = _perturbations(split.test, cells)
    predicted = predict_means(checkpoint, x[control].toarray(), perturbations).astype(np.float64)
    base = np.repeat(moments.mean[:1], len(rows), axis=0)
    held = EvaluationSet(rows, moments.counts[rows], base, moments.mean[rows], np.zeros(len(rows)), None)
    de_genes = top_genes(welch_scores(moments))
    table = scores(predicted, held, de_genes, moments.mean[0], names)
    nothing = scores(base, held, de_genes, moments.mean[0], names)
    for name in METRICS:
        table[f"{name}_no_change"] = nothing[name]
    subgroup = {name: group for group, members in split.subgroups.items() for name in members}
    table.insert(1, "subgroup", [subgroup.get(name, "") for name in table["perturbation"]])
    table["fallback"] = [fallback(checkpoint, perturbation) for perturbation in perturbations]
    return table


def summarise(test: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Means over all test perturbations and each subgroup; on how many the model beats no change or knows nothing."""
    keys = [*METRICS, *(f"{name}_no_change" for name in METRICS)]
    groups = {"all": test} | {str(name): part for name, part in test.groupby("subgroup") if name}
    return {
        name: {
            "perturbations": len(part),
            "better_than_no_change": {
                key: int((part[key] < part[f"{key}_no_change"]).sum()) for key in ("mse", "mse_de")
            },
            "nothing_known": int((part["fallback"] != "").sum()),
        }
        | {key: float(f"{part[key].mean():.6g}") for key in keys}
        for name, part in groups.items()
    }


def estimate_train(cells: str | Path, params: GearsParams, *, where: Sequence[str] = ()) -> dict[str, Any]:
    """Time, memory and disk that `train_file` needs at most, very roughly and for one core."""
    found = select_cells(read_cells(cells), where, cells)
    labels = _labels(found, cells)
    kinds = len(set(labels))
    genes, hidden = found.n_vars, params.hidden
    # each distinct perturbation of a batch is one row a gene through two maps of hidden x 2 hidden; gradients: thrice
    share = 1 - (1 - 1 / kinds) ** params.batch_cells
    rows = max(1.0, kinds * share) * genes
    steps = params.epochs * max(1, found.n_obs // params.batch_cells)
    weights = 4 * (genes * (5 * hidden + 3) + genes * hidden + 30 * hidden**2)
    return {
        "cells": found.n_obs,
        "genes": genes,
        "perturbations": kinds - 1,
        "steps": steps,
        "seconds": round(3 + steps * rows * hidden**2 * 8 * 3 / FLOPS, 1),
        "memory_mib": round(
            _BASE_MIB + (found.n_obs * genes * 4 * 2 + rows * hidden * 4 * 12 + 5 * weights) / 2**20
        ),
        "disk_mib": round(4 * weights / 2**20 + 0.1, 1),
    }


def _labels(cells: AnnData, path: str | Path) -> np.ndarray:
    if "perturbation" not in cells.obs:
        raise InvalidDataError(
            "obs has no column 'perturbation'",
            where=path,
            mend="`hyped seq import-cells` makes it of condition, as GEARS and scPerturb have it",
        )
    return conditions_of(labels_of(cells, str(path)), records_of(cells), "cells")[0]


def _perturbations(names: Sequence[str], cells: AnnData) -> list[Perturbation]:
    """What the names stand for by the records of ``cells``."""
    records = records_of(cells)
    return [perturbation_of(name, records, "cells") for name in names]


def _genes_of(names: Sequence[str], cells: AnnData) -> tuple[str, ...]:
    """Perturbed genes of all perturbations of a file: those held out get a node in the graph too."""
    return tuple(sorted({gene for found in _perturbations(names, cells) for gene in found.genes}))


def _split_record(choice: SplitChoice, split: GearsSplit) -> dict[str, Any]:
    """The split with the sha256 of its sets."""
    body = split.as_dict()
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    how = {"file": choice.file.name} if choice.file is not None else {"kind": choice.kind, "seed": choice.seed}
    return how | body | {"sha256": hashlib.sha256(text.encode()).hexdigest()}

