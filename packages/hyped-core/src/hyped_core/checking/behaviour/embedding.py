"""Checks of embedders: form of the vectors, order and batches of cells, perturbations in silico, repeated calls."""

from __future__ import annotations

from typing import Any

import numpy as np

from hyped_core.checking.behaviour import embedding_inputs as given
from hyped_core.checking.behaviour.asking import ask
from hyped_core.checking.behaviour.embedding_kit import (
    GENE,
    PAIR,
    check_vectors,
    embedded,
    perturbed,
    ready,
    same_rows,
    some_cells,
    usual_distance,
    vectors_or_refusal,
)
from hyped_core.checking.behaviour.expression_kit import screen
from hyped_core.checking.behaviour.facts import FACTS_ARE_PLAIN
from hyped_core.checking.behaviour.working import comparing
from hyped_core.checking.records import Check, CheckFailed, CheckSkipped, Exercise, Subject, asked_by
from hyped_core.checking.tiny.screen import tiny_perturbseq
from hyped_core.context import RunContext
from hyped_core.design.model import CONTROL, Perturbation

TASK = ("embedding",)


def inputs(seed: int) -> dict[str, Any]:
    """Labelled control cells to learn from, unlabelled cells to embed, and perturbations."""
    cells = tiny_perturbseq(seed)
    return {
        "train": cells.counts((CONTROL,)),
        "cells": cells.counts((CONTROL, GENE, PAIR), labelled=False),
        "perturbations": [cells.perturbations[name] for name in (GENE, PAIR)],
    }


def work(model: Any, inputs: dict[str, Any], context: RunContext) -> dict[str, Any]:
    """Fit where the model learns, embed the cells, and the control cells under each perturbation."""
    if hasattr(model, "fit"):
        model.fit(inputs["train"], context=context)
    found = {"embed": model.embed(inputs["cells"], context=context)}
    for one in inputs["perturbations"]:
        found[one.name] = model.embed_perturbed(inputs["train"], one, context=context)
    return found


EXERCISE = Exercise("embedding", inputs, work, rtol=1e-4, atol=1e-5)


def embedding_form(subject: Subject) -> None:
    """(cells, d) float32, one d, finite: cells as they are, and with one or two genes up or down."""
    model, cells = ready(subject), some_cells()
    values = embedded(subject, model, cells)
    if np.isnan(values).any():
        raise CheckFailed(
            f"{int(np.isnan(values[:, 0]).sum())} of {len(values)} cells got no vector, though each has counts of "
            "most genes",
            where="embed",
            mend="give every cell a finite row that has counts of a gene the model knows; NaN is for the others",
        )
    for name in (GENE, PAIR):
        for direction in ("activation", "suppression"):
            one = Perturbation.from_name(name, direction)  # type: ignore[arg-type]
            perturbed(subject, model, cells, one, about=direction, width=values.shape[1])


def embedding_cell_order(subject: Subject) -> None:
    """Cells in another order give their rows in that order."""
    model, cells = ready(subject), some_cells()
    order = np.random.default_rng(0).permutation(cells.n_obs)
    one = screen().perturbations[GENE]
    mend = "give row i to cell i: undo any sorting of cells (by length, by cluster) before returning"
    straight, other = (embedded(subject, model, part) for part in (cells, cells[order].copy()))
    same_rows(subject, other, straight[order], "embed", "cells in another order give other rows", mend)
    straight, other = (perturbed(subject, model, part, one) for part in (cells, cells[order].copy()))
    where = f"embed_perturbed {GENE}"
    same_rows(subject, other, straight[order], where, "cells in another order give other rows", mend)


def embedding_batches(subject: Subject) -> None:
    """A cell's row is the same whichever cells it is given with: all, a part of them, none."""
    model, cells = ready(subject), some_cells()
    one = screen().perturbations[GENE]
    mend = "compute a cell's row from its own counts and what fit learned: no mean, deviation or padding of the call"
    for where, call in (
        ("embed", lambda part: embedded(subject, model, part)),
        (f"embed_perturbed {GENE}", lambda part: perturbed(subject, model, part, one)),
    ):
        whole = call(cells)
        for rows in (slice(0, 11), slice(11, None), slice(4, 5)):
            part = call(cells[rows].copy())
            what = f"{len(part)} cells given alone get other rows than among {len(whole)}"
            unit = usual_distance(whole)
            gap = float(np.nanmax(np.linalg.norm(part.astype(np.float64) - whole[rows], axis=1), initial=0.0))
            if gap > (2e-3 if subject.spec.deterministic else 0.1) * unit:
                _other_rows(f"{what}: by {gap:.3g} (two cells differ by {unit:.3g})", where, mend)


@comparing
@asked_by("embeddings_in_any_order", "embedding_cell_order")
def _other_rows(said: str, where: str, mend: str) -> None:
    raise CheckFailed(said, where=where, mend=mend)


def control_embeds_as_is(subject: Subject) -> None:
    """A perturbation without changes gives what `embed` gives; a model may refuse it."""
    model, cells = ready(subject), some_cells()
    values, refusal = vectors_or_refusal(subject, model, cells, about="", perturbation=Perturbation(name=CONTROL))
    if refusal is None and values is not None:
        same_rows(
            subject, values, embedded(subject, model, cells), f"embed_perturbed {CONTROL}",
            "a perturbation that changes no gene moves cells",
            "let embed_perturbed begin with: if perturbation.is_control, return self.embed(cells, context=context)",
        )  # fmt: skip


def perturbation_moves_cells(subject: Subject) -> None:
    """Activating a gene moves cells; the order in which genes are named does not matter."""
    model, cells = ready(subject), some_cells()
    own = embedded(subject, model, cells)
    pair = screen().perturbations[PAIR]
    values = perturbed(subject, model, cells, pair, width=own.shape[1])
    moved = np.linalg.norm(values.astype(np.float64) - own, axis=1) > 1e-6 * usual_distance(own)
    if not moved.any():
        raise CheckFailed(
            f"{PAIR} moves none of {len(own)} cells, which all are measured for both genes",
            where=f"embed_perturbed {PAIR}",
            mend="apply every change of perturbation.changes: find change.gene in var_names, var.symbol or "
            "var.gene_id, and raise or remove its counts by change.direction",
        )
    other = Perturbation(name="+".join(reversed(pair.genes)), changes=pair.changes[::-1])
    same_rows(
        subject, perturbed(subject, model, cells, other), values, f"embed_perturbed {other.name}",
        f"it is {PAIR}, and is embedded otherwise",
        "apply all of perturbation.changes, in an order of their own (sorted by gene), not that of the name",
    )  # fmt: skip


def unknown_gene_to_perturb(subject: Subject) -> None:
    """A gene that the cells do not have: refused with its name, or applied; not passed over."""
    model, cells = ready(subject), some_cells()
    off = "NOT_ON_THE_PANEL"
    for one in (Perturbation.from_name(off), Perturbation.from_name(f"{GENE}+{off}")):
        mend = f"raise hyped_core.errors.InvalidDataError with {off} in its text where no gene is called so"
        values, refusal = vectors_or_refusal(subject, model, cells, about="", perturbation=one, mend=mend)
        where = f"embed_perturbed {one.name}"
        if refusal is not None:
            if off not in str(refusal):
                said = f"refused without naming {off}: {refusal.message}"
                raise CheckFailed(said, where=where, mend=mend)
            continue
        without = Perturbation.from_name(GENE) if len(one.changes) > 1 else Perturbation(name=CONTROL)
        plain = embedded(subject, model, cells) if without.is_control else perturbed(subject, model, cells, without)
        if values is not None and np.array_equal(values, plain, equal_nan=True):
            with asked_by("perturbation_moves_cells"):
                raise CheckFailed(
                    f"{off}, which the cells do not have, is passed over without a word", where=where, mend=mend
                )


def embeddings_in_any_order(subject: Subject) -> None:
    """`embed` gives the same after `embed_perturbed` of other cells."""
    model, cells = ready(subject), some_cells()
    first = embedded(subject, model, cells)
    mend = "let embed and embed_perturbed set nothing on self, and perturb a copy of the counts and of the weights"
    perturbed(subject, model, some_cells(GENE), screen().perturbations[PAIR])
    later = embedded(subject, model, cells)
    same_rows(subject, later, first, "embed", "it depends on what was asked for before", mend)


def embed_before_fit(subject: Subject) -> None:
    """A model that learns refuses before `fit`, with a typed error, or answers with vectors."""
    model = subject.make()
    if not hasattr(model, "fit"):
        raise CheckSkipped("the model has no fit")
    cells = some_cells()
    call = lambda: model.embed(cells, context=subject.context())  # noqa: E731
    mend = "where nothing was learned, let embed raise hyped_core.errors.UsageError(..., mend='call fit or load')"
    values, refusal = ask(call, "embed before fit", mend)
    if refusal is None:
        check_vectors(values, cells.n_obs, "embed before fit")


CHECKS = (
    Check(
        "embedding_form", TASK,
        "Vectors of changing length, other types or partly NaN cannot be compared between cells.", embedding_form,
    ),
    Check(
        "embeddings_in_any_order", TASK,
        "Cells embedded before and after a call for others would differ by more than what was done to them.",
        embeddings_in_any_order,
    ),
    Check(
        "embedding_cell_order", TASK,
        "Rows in another order put one cell's vector under another cell's name.", embedding_cell_order,
    ),
    Check(
        "embedding_batches", TASK,
        "Large data are embedded in parts; where the batch shows, its edges look like biology.", embedding_batches,
    ),
    Check(
        "control_embeds_as_is", TASK,
        "The shift of a perturbation is measured from the embedding as it is: a shift of nothing is added to all.",
        control_embeds_as_is,
    ),
    Check(
        "perturbation_moves_cells", TASK,
        "A gene that is not found leaves the cells where they were, which reads as 'no effect'.",
        perturbation_moves_cells,
    ),
    Check(
        "unknown_gene_to_perturb", TASK,
        "A gene passed over silently reads as 'no effect' too; a typed error lets the benchmark take another.",
        unknown_gene_to_perturb,
    ),
    Check(
        "embed_before_fit", TASK,
        "A user who forgot to fit gets vectors that mean nothing, or an error that says nothing.", embed_before_fit,
    ),
    FACTS_ARE_PLAIN,
    *(Check(name, TASK, why, run) for name, why, run in given.CHECKS),
)  # fmt: skip
