"""GEARS from files to files: what `hyped seq gears predict` and `convert` do.

Importing this module imports torch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyped_core.design.model import CONTROL, Perturbation
from hyped_core.errors import InvalidDataError, MissingFileError, UsageError
from hyped_core.io.atomic import atomic_path
from hyped_core.io.outputs import check_output
from hyped_seq.gears.checkpoint import TEXT, Checkpoint, load_checkpoint
from hyped_seq.gears.checks import check_panel
from hyped_seq.gears.model import control_matrix
from hyped_seq.gears.predict import predict_cells
from hyped_seq.gears.train_run import FLOPS, REPORT, check_out
from hyped_seq.perturb_option import perturbation_of
from hyped_seq.readers.cells import read_cells, select_cells
from hyped_seq.torch_run import torch_threads

if TYPE_CHECKING:
    from anndata import AnnData

    from hyped_core.context import RunContext

FACTS = "gears_json"
"""Key of ``uns`` that says what a prediction is."""
_BASE_MIB = 600
"""Memory of a prediction beside what its sizes explain: the interpreter, PyTorch and the other libraries."""


def predict_file(
    model: str | Path,
    cells: str | Path,
    out: str | Path,
    perturbations: Sequence[Perturbation],
    *,
    where: Sequence[str] = (),
    max_cells: int = 300,
    context: RunContext,
) -> dict[str, Any]:
    """Predict cells under each perturbation from the control cells of a file into an h5ad; returns what it says.

    Control cells are those whose ``obs["perturbation"]`` is ``control`` (all where there is no such column), at most
    ``max_cells`` of them, drawn with the seed. Columns are taken by name in the model's order; more genes than the
    model's are left out. ``obs`` of the result has ``perturbation`` and ``control_cell``; ``uns["gears_json"]`` has
    fallbacks and notes.

    Raises
    ------
    UsageError
        ``out`` is no name of an h5ad file, no perturbation is given or one is given twice.
    UnknownPerturbation
        A gene has no node in the perturbation graph.
    InvalidDataError
        Genes of the model are missing, there is no control cell, or values are not log values.
    """
    from anndata import AnnData

    from hyped_seq.readers.h5ad import write_h5ad

    out = Path(out)
    check_output(out, kind="file", inputs=[model, cells])
    check_h5ad(out)
    check_own(out)
    checkpoint = load_checkpoint(model)
    names = [perturbation.name for perturbation in perturbations]
    if not names or len(set(names)) < len(names):
        raise UsageError("name perturbations, each once", where="--perturb", mend="--perturb MYOD1:activation")
    for perturbation in perturbations:
        checkpoint.encode(perturbation)  # all names before any work
    control, left_out = control_cells(cells, checkpoint, where, max_cells, context)
    x = control_matrix(control, str(cells))
    blocks, spreads, said = [], [], {}
    with torch_threads(context.threads):
        for perturbation in perturbations:
            found = predict_cells(checkpoint, x, perturbation)
            blocks.append(found.x)
            if found.log_variance is not None:
                spreads.append(found.log_variance)
            said[perturbation.name] = {"fallback": found.fallback, "notes": list(found.notes)}
    sources = np.asarray(control.obs_names, dtype=object)
    obs = control.obs.iloc[np.tile(np.arange(len(x)), len(names))].copy()
    obs["perturbation"] = np.repeat(np.array(names, dtype=object), len(x))
    obs["control_cell"] = np.tile(sources, len(names))
    obs.index = [f"{name}_{cell}" for name in names for cell in sources]
    result = AnnData(np.vstack(blocks), obs=obs, var=control.var.copy())
    if spreads:
        result.layers["log_variance"] = np.vstack(spreads)
    records = {p.name: p.model_dump(mode="json") for p in perturbations}
    facts = {"model": checkpoint.facts, "perturbations": said, "cells_each": len(x), "genes_left_out": left_out}
    result.uns["perturbations_json"] = json.dumps(records, sort_keys=True)
    result.uns[FACTS] = json.dumps(facts, sort_keys=True)
    with atomic_path(out) as temporary:
        write_h5ad(result, temporary)
    return facts


def control_cells(
    path: str | Path, checkpoint: Checkpoint, where: Sequence[str], max_cells: int, context: RunContext
) -> tuple[AnnData, int]:
    """Control cells of a file with the model's genes in the model's order, and how many genes were left out."""
    cells = select_cells(read_cells(path), where, path)
    if "perturbation" in cells.obs:
        control = np.flatnonzero((cells.obs["perturbation"].astype(str) == CONTROL).to_numpy())
        if not len(control):
            raise InvalidDataError(
                f"has no {CONTROL!r} cells", where=f"{path}/obs/perturbation", mend="give cells to start from"
            )
        cells = cells[control]
    if cells.n_obs > max_cells:
        rng = context.rng("gears", "predict")
        cells = cells[np.sort(rng.choice(cells.n_obs, max_cells, replace=False))]
    names = [str(name) for name in cells.var_names]
    here, known = set(names), set(checkpoint.genes)
    if names != list(checkpoint.genes):
        check_panel([gene for gene in checkpoint.genes if gene in here], checkpoint.genes, where=f"{path}/var_names")
        kept = [name for name in names if name in known]
        if len(kept) > len(known):  # a gene of the model stands there twice
            check_panel(kept, checkpoint.genes, where=f"{path}/var_names")
        cells = cells[:, list(checkpoint.genes)]
    return cells, len(here - known)


def held_out_of(model: str | Path) -> list[Perturbation]:
    """The test perturbations of the split a model was trained with, from its ``report.json``.

    Raises
    ------
    MissingFileError
        There is no model.
    InvalidDataError
        It was trained without a split, or nothing was held out for the test.
    """
    path = Path(model) / REPORT
    if not (Path(model) / TEXT).is_file():
        raise MissingFileError("no such file", where=Path(model) / TEXT, mend="give the folder of a trained GEARS")
    records = json.loads(path.read_text(encoding="utf-8")).get("held_out", []) if path.is_file() else []
    if not records:
        raise InvalidDataError("was trained without a test set", where=model, mend="name perturbations: --perturb")
    return [Perturbation.model_validate(record) for record in records]


def check_own(out: Path) -> None:
    """Refuse to write over a file that is not an earlier prediction."""
    import h5py

    if not out.exists():
        return
    try:
        with h5py.File(out, "r") as file:
            own = f"uns/{FACTS}" in file
    except OSError:
        own = False
    if not own:
        raise UsageError("is there and no prediction of GEARS", where=out, mend="give a new name")


def check_h5ad(out: Path) -> None:
    """Refuse a name that does not end in .h5ad."""
    if out.suffix != ".h5ad":
        raise UsageError("is no name of an .h5ad file", where=out, mend="give OUT.h5ad")


def estimate_predict(
    model: str | Path,
    cells: str | Path,
    perturbations: Sequence[Perturbation],
    *,
    where: Sequence[str] = (),
    max_cells: int = 300,
) -> dict[str, Any]:
    """Time, memory and disk that `predict_file` needs at most, very roughly and for one core."""
    checkpoint = load_checkpoint(model)
    for perturbation in perturbations:
        checkpoint.encode(perturbation)
    present = select_cells(read_cells(cells), where, cells)
    each = min(max_cells, present.n_obs)
    genes, hidden, number = len(checkpoint.genes), checkpoint.architecture.hidden, len(perturbations)
    values = number * each * genes * (2 if checkpoint.architecture.uncertainty else 1)
    return {
        "perturbations": number,
        "cells": number * each,
        "genes": genes,
        "seconds": round(1 + (number * genes * hidden**2 * 8 + 2 * values * hidden) / FLOPS + values / 2e7, 1),
        "memory_mib": round(_BASE_MIB + (values * 8 + present.n_obs * present.n_vars * 8) / 2**20),
        "disk_mib": round(values * 4 / 2**20 + 0.1, 1),
    }


def read_perturbations(path: str | Path) -> list[Perturbation]:
    """Perturbations of a text file, one a line: ``A``, ``A+B`` (activated) or ``A:activation+B:suppression``.

    Raises
    ------
    MissingFileError
        There is no such file.
    InvalidDataError
        It names none, or a line is not understood.
    """
    path = Path(path)
    found = []
    for line in _lines(path):
        parts = line.split("+")
        if not any(":" in part for part in parts):
            found.append(Perturbation.from_name(line))
            continue
        try:
            found.append(perturbation_of(parts))
        except UsageError as error:
            mend = "write A:activation+B:suppression"
            raise InvalidDataError(f"{line!r} is no perturbation", where=path, mend=mend) from error
    if not found:
        raise InvalidDataError("names no perturbation", where=path, mend="write one a line: A, A+B")
    return found


def convert_folder(
    official: str | Path, out: str | Path, genes: str | Path, perturbations: str | Path, *, overwrite: bool = False
) -> dict[str, Any]:
    """Write an official checkpoint, with names from two files (a line each, or JSON lists), into ``out``; its facts.

    Raises
    ------
    UsageError
        ``out`` is taken.
    MissingFileError, CorruptFileError, InvalidDataError
        Files of the checkpoint, or names that are not as many as it has rows.
    """
    from hyped_seq.gears.official import load_official

    out = Path(out)
    check_out(out, overwrite, inputs=[official, genes, perturbations])
    made = load_official(Path(official), genes=_lines(Path(genes)), perturbations=_lines(Path(perturbations)))
    with atomic_path(out) as temporary:
        temporary.mkdir()
        made.save(temporary)
    sizes = {"genes": len(made.genes), "perturbations": len(made.perturbations), "hidden": made.architecture.hidden}
    return made.facts | {"sizes": sizes}


def _lines(path: Path) -> list[str]:
    """Lines of a text file that are not empty, or the strings of a JSON list."""
    if not path.is_file():
        raise MissingFileError("no such file", where=path, mend="check the path")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidDataError("is no text", where=path, mend="write one name a line") from error
    if not text.lstrip().startswith("["):
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        listed = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidDataError(f"is no JSON list: {error}", where=path, mend="write one name a line") from error
    if not all(isinstance(name, str) for name in listed):
        raise InvalidDataError("holds what is no name", where=path, mend="write a list of strings")
    return listed
