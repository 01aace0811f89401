"""Cells as GEARS trains on them: checked, numbered by condition, paired with control cells and split for validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from hyped_core.design.model import CONTROL
from hyped_core.errors import InvalidDataError
from hyped_seq.gears.checks import check_panel, conditions_of, examples, labels_of, log_matrix, records_of
from hyped_seq.gears.de_genes import group_moments, top_genes, welch_scores
from hyped_seq.gears.pairs import CellStates, learn_states, matched_pairs, random_pairs

if TYPE_CHECKING:
    from anndata import AnnData

    from hyped_core.design import Perturbation
    from hyped_seq.gears.params import GearsParams

Ints = npt.NDArray[np.int64]
ENOUGH_PERTURBATIONS = 5
"""From so many on, whole perturbations are held out for validation; with fewer, cells of each are."""
ENOUGH_CELLS = 5
"""Perturbed cells a condition has at least for some of them to be held out."""
HELD_OUT = 0.1
"""Share of perturbations, or of cells, held out."""


@dataclass(frozen=True, eq=False)
class TrainingCells:
    """Training and validation cells, and all that training needs to know of them.

    Attributes
    ----------
    x : (cells, genes) float32 rows, ln(1 + counts per 10,000); training cells first.
    genes, symbols : names of the columns, and the symbols perturbations are named by.
    names : of the conditions; the first is the control. Labels of the same genes and directions (``A``, ``A+ctrl``) are
        one condition.
    perturbations : what each condition stands for.
    condition : (cells,) number of each cell's condition.
    train : rows trained on, control cells among them.
    validation : rows held out, all of them perturbed; empty where nothing could be.
    kept : (conditions, genes) genes that enter the loss: of non-zero mean among the condition's cells (control: all).
        A gene that is zero in every cell stays in the panel and is predicted, but enters the loss of control only.
    de_genes : (conditions, up to 20) genes that differ most from control, the first the most.
    control : rows of the control cells that are trained on.
    control_mean : (genes,) float32, their mean.
    pairs : (cells,) row of the control cell that each cell is taken to come from; a control cell's is itself.
    states : how a cell's state is scored; None where the model has none.
    cell_states : (cells, k) float32 state of every cell, or None.
    rule : how cells were held out for validation, in words.
    notes : what the user should be told.
    silent : names in ``uns["perturbations"]`` that no cell is labelled with.
    """

    x: sp.csr_matrix
    genes: tuple[str, ...]
    symbols: tuple[str, ...]
    names: tuple[str, ...]
    perturbations: tuple[Perturbation, ...]
    condition: Ints
    train: Ints
    validation: Ints
    kept: npt.NDArray[np.bool_]
    de_genes: Ints
    control: Ints
    control_mean: npt.NDArray[np.float32]
    pairs: Ints
    states: CellStates | None
    cell_states: npt.NDArray[np.float32] | None
    rule: str
    notes: tuple[str, ...]
    silent: tuple[str, ...] = ()

    @property
    def perturbed_genes(self) -> tuple[str, ...]:
        """Symbols that any condition changes, sorted."""
        return tuple(sorted({gene for found in self.perturbations for gene in found.genes}))

    def trained_genes(self) -> tuple[str, ...]:
        """Symbols that a condition with training cells changes, sorted."""
        present = np.unique(self.condition[self.train])
        return tuple(sorted({gene for number in present for gene in self.perturbations[number].genes}))

    def sets(self, positions: Mapping[str, int]) -> list[tuple[int, ...]]:
        """Nodes of each condition's genes; () is the control."""
        return [tuple(positions[gene] for gene in found.genes) for found in self.perturbations]

    def signs(self) -> list[tuple[float, ...]]:
        """For each condition +1 for an activated gene and -1 for a suppressed one, in the order of `sets`."""
        return [
            tuple(1.0 if change.direction == "activation" else -1.0 for change in found.changes)
            for found in self.perturbations
        ]


def training_cells(
    cells: AnnData,
    params: GearsParams,
    *,
    validation: AnnData | None = None,
    seed: int = 0,
    states: CellStates | None = None,
) -> TrainingCells:
    """Check and arrange cells.

    Parameters
    ----------
    cells
        As the contract of task ``expression`` has them: ``X`` ln(1 + counts per 10,000), ``obs["perturbation"]``,
        ``uns["perturbations"]``; ``obs["phase"]`` where known.
    validation
        Perturbed cells to choose the epoch by (control cells among them are left out). Where None, or without a
        perturbed cell: with five or more perturbations a tenth of these (one at least), drawn evenly among all; else a
        tenth of the cells of each condition with five cells or more; else nothing.
    states
        Components to score states with (of a model training goes on from); learned from the control cells where None.

    Raises
    ------
    InvalidDataError
        Values, names or labels are not what they have to be; there is no control cell or no perturbed one.
    """
    x, labels, records = log_matrix(cells, "cells"), labels_of(cells, "cells"), records_of(cells)
    genes = tuple(map(str, cells.var_names))
    if not (labels == CONTROL).any():
        raise InvalidDataError(
            f"has no {CONTROL!r} cells", where="cells/obs/perturbation", mend="add control cells of the experiment"
        )
    if (labels == CONTROL).all():
        raise InvalidDataError("holds no perturbed cells", where="cells", mend="give perturbed training cells")
    notes = _empty_conditions(cells)
    phases = _phases(cells)
    n_train, held = len(labels), 0
    if validation is not None:
        chosen = np.flatnonzero(labels_of(validation, "validation") != CONTROL) if validation.n_obs else np.array([])
        held = len(chosen)
        if held:
            check_panel(list(map(str, validation.var_names)), genes, where="validation/var_names")
            part = validation[chosen]
            x = sp.vstack([x, log_matrix(part, "validation")], format="csr")
            labels = np.concatenate([labels, labels_of(part, "validation")])
            phases = np.concatenate([phases, _phases(part)])
            records = {**records_of(validation), **records}
        else:
            notes.append("the validation cells hold no perturbed cell: cells were held out of the training cells")
    silent = tuple(sorted(set(records) - set(labels) - {CONTROL}))
    conditions_of(labels[:n_train], records, "cells")
    labels, stands_for = conditions_of(labels, records, "validation" if held else "cells")
    names = (CONTROL, *sorted(set(labels) - {CONTROL}))
    number = {name: i for i, name in enumerate(names)}
    condition = np.array([number[label] for label in labels], dtype=np.int64)
    perturbations = tuple(stands_for[name] for name in names)
    if held:
        train, out = np.arange(n_train), np.arange(n_train, n_train + held)
        rule = f"{held} cells of {len(np.unique(condition[out]))} perturbations were given for validation"
    else:
        train, out, rule = hold_out(condition, seed=seed)
        if not len(out):
            notes.append(f"{rule}: every epoch is run and the last one kept")
    control = train[condition[train] == 0]
    gene_sets = _gene_sets(x, condition, train, len(names))
    for name, kept in zip(names, gene_sets["kept"], strict=True):
        if not kept.any():
            raise InvalidDataError(
                f"every gene is zero in the cells of {name!r}", where="cells/X", mend="leave these cells out"
            )
    states, cell_states = _states(x, control, params, states, seed)
    return TrainingCells(
        x=x, genes=genes, symbols=_symbols(cells), names=names, perturbations=perturbations, condition=condition,
        train=train, validation=out, control=control,
        control_mean=np.asarray(x[control].mean(axis=0, dtype=np.float64), dtype=np.float32).ravel(),
        pairs=_pairs(condition, train, control, cell_states, phases, params, seed), states=states,
        cell_states=cell_states, rule=rule, notes=tuple(notes), silent=silent, **gene_sets,
    )  # fmt: skip


def hold_out(condition: Ints, *, seed: int) -> tuple[Ints, Ints, str]:
    """Rows to train on, rows held out for validation, and the rule in words (see `training_cells`)."""
    rng = np.random.default_rng([seed, 14])
    everything = np.arange(len(condition))
    numbers = np.unique(condition[condition != 0])
    if len(numbers) >= ENOUGH_PERTURBATIONS:
        chosen = rng.choice(numbers, max(1, round(HELD_OUT * len(numbers))), replace=False)
        out = np.isin(condition, chosen)
        rule = f"{len(chosen)} of {len(numbers)} perturbations were held out for validation"
        return everything[~out], everything[out], rule
    parts = []
    for number in numbers:
        rows = np.flatnonzero(condition == number)
        if len(rows) >= ENOUGH_CELLS:
            parts.append(rng.choice(rows, max(1, round(HELD_OUT * len(rows))), replace=False))
    if not parts:
        rule = f"no condition has {ENOUGH_CELLS} cells, nothing could be held out for validation"
        return everything, everything[:0], rule
    out = np.sort(np.concatenate(parts))
    rule = f"{len(out)} cells, a tenth of each of {len(parts)} conditions, were held out for validation"
    return np.setdiff1d(everything, out), out, rule


def _empty_conditions(cells: AnnData) -> list[str]:
    """A note on categories of the labels that no cell has: conditions that were meant to be there."""
    column = cells.obs["perturbation"]
    if not hasattr(column, "cat"):
        return []
    empty = sorted(set(map(str, column.cat.categories)) - set(column.astype(str)) - {CONTROL, ""})
    return [f"conditions without cells are not trained on: {examples(empty)}"] if empty else []


def _symbols(cells: AnnData) -> tuple[str, ...]:
    """What perturbations name the genes by: ``var["symbol"]`` where it is there and not empty, else the names."""
    names = [str(name) for name in cells.var_names]
    if "symbol" not in cells.var:
        return tuple(names)
    symbols = cells.var["symbol"].astype(str)
    return tuple(s if s and s != "nan" else name for s, name in zip(symbols, names, strict=True))


def _phases(cells: AnnData) -> npt.NDArray[np.object_]:
    """``obs["phase"]``; empty where it is not known (missing, or text such as ``nan``)."""
    from hyped_seq.ingest.perturbations import without_value

    if "phase" not in cells.obs:
        return np.full(cells.n_obs, "", dtype=object)
    phases = cells.obs["phase"].astype(object)
    return phases.where(~without_value(cells.obs["phase"]), "").astype(str).to_numpy(object)


def _states(
    x: sp.csr_matrix, control: Ints, params: GearsParams, states: CellStates | None, seed: int
) -> tuple[CellStates | None, npt.NDArray[np.float32] | None]:
    if params.mode == "reference":
        return None, None
    if states is None:
        # matched pairs need states even where the model is given none
        dims = params.state_dims or (8 if params.pairs == "matched" else 0)
        states = learn_states(x[control], dims, seed=seed) if dims else None
    return states, None if states is None else states.of(x)


def _pairs(
    condition: Ints,
    train: Ints,
    control: Ints,
    states: npt.NDArray[np.float32] | None,
    phases: npt.NDArray[np.object_],
    params: GearsParams,
    seed: int,
) -> Ints:
    if params.mode == "reference" or params.pairs == "random" or states is None:
        return random_pairs(condition, control, seed=seed)
    known = sorted(set(phases) - {""})
    phase = np.array([known.index(p) if p else -1 for p in phases], dtype=np.int64)
    return matched_pairs(condition, control, states, phase, train=train, seed=seed)


def _gene_sets(x: sp.csr_matrix, condition: Ints, train: Ints, conditions: int) -> dict[str, npt.NDArray]:
    """``kept`` from training cells (validation cells where a condition has no others), ``de_genes`` from both."""
    everything = group_moments(x, condition, conditions)
    part = np.full(len(condition), -1, dtype=np.int64)
    part[train] = condition[train]
    trained = np.bincount(condition[train], minlength=conditions) > 0
    kept = everything.mean != 0
    kept[trained] = (group_moments(x, part, conditions).mean != 0)[trained]
    kept[0] = True
    return {"kept": kept, "de_genes": top_genes(welch_scores(everything))}
