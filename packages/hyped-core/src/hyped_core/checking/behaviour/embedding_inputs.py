"""Checks of what embedders are given: forms of counts, order of genes, labels, odd cells, values that are no counts."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from hyped_core.checking.behaviour.asking import ask, must_answer
from hyped_core.checking.behaviour.embedding_kit import (
    GENE,
    check_vectors,
    distances,
    embedded,
    learning_cells,
    perturbed,
    ready,
    same_rows,
    some_cells,
    usual_distance,
    vectors_or_refusal,
)
from hyped_core.checking.behaviour.expression_kit import screen
from hyped_core.checking.compare import difference
from hyped_core.checking.records import CheckFailed, CheckSkipped, Subject, asked_by
from hyped_core.checking.tiny.screen import DOUBLES

NAMES = "use var.gene_id and var.symbol only where they are columns of var; else var_names, or raise InvalidDataError"


def count_forms(subject: Subject) -> None:
    """Counts as whole or floating numbers, by rows or columns, or dense, give one embedding and stay as they are.

    Those by columns, and dense ones, may be refused.
    """
    model, cells = ready(subject), some_cells()
    first = embedded(subject, model, cells)
    for kind in ("int32", "int64", "float64"):
        other = cells.copy()
        other.X = other.X.astype(kind)
        mend = "begin with cells.X.astype(numpy.float32): whole numbers are counts whatever their type"
        found = embedded(subject, model, other, about=f"counts as {kind}", mend=mend)
        same_rows(subject, found, first, "embed", f"counts as {kind} give other rows than as float32", mend)
    for form, values in (("dense counts", cells.X.toarray()), ("counts by columns (CSC)", cells.X.tocsc())):
        other = cells.copy()
        other.X = values
        before = other.copy()
        mend = "begin with scipy.sparse.csr_matrix(cells.X), which takes all, or raise "
        mend += "hyped_core.errors.InvalidDataError"
        rows, refusal = vectors_or_refusal(subject, model, other, about=form, mend=mend)
        if changed := difference(before, other):
            with asked_by("inputs_unmodified"):
                said = "make a copy of X before the first change: it belongs to the caller"
                raise CheckFailed(f"{form} are not as they were: {changed}", where="embed, cells", mend=said)
        if refusal is None and rows is not None:
            same_rows(subject, rows, first, "embed", f"{form} give other rows than sparse ones by rows", mend)


def embedding_genes_by_name(subject: Subject) -> None:
    """Cells with their genes in another order than those learned from: the same rows, or refused."""
    model, cells = ready(subject), some_cells()
    order = np.random.default_rng(0).permutation(cells.n_vars)
    values, refusal = vectors_or_refusal(subject, model, cells[:, order].copy(), about="genes in another order")
    if refusal is None and values is not None:
        same_rows(
            subject, values, embedded(subject, model, cells), "embed, genes in another order",
            "one gene's counts are taken for another's",
            "keep the names of the genes in fit (var_names or var.gene_id); in embed put the columns in that order, "
            "or raise InvalidDataError where they differ",
            part=0.05,  # genes of equal rank may change places
        )  # fmt: skip


def embedding_gene_order(subject: Subject) -> None:
    """Learned and embedded with genes in another order: the same distances between cells."""
    cells, train = some_cells(), learning_cells()
    order = np.random.default_rng(0).permutation(cells.n_vars)
    straight = embedded(subject, ready(subject, train), cells)
    turned = embedded(subject, ready(subject, train[:, order].copy()), cells[:, order].copy())
    gap = np.abs(distances(turned) - distances(straight)).max() / usual_distance(straight)
    if not gap <= 0.1:
        with asked_by("embedding_form"):  # which also says where rows are NaN
            raise CheckFailed(
                f"genes in another order give other distances between cells: by up to {gap:.0%} of the usual one",
                where="fit, embed",
                mend="find genes by name in fit and embed, and draw a gene's weights by its name, not by its place; "
                "where that cannot be, say so in ModelSpec.expected_failures",
            )


def labels_unused(subject: Subject) -> None:
    """``obs.perturbation``, which the benchmark leaves out where it is the truth, changes no row."""
    model = ready(subject)
    names = ("control", GENE, DOUBLES[0])
    plain, labelled = screen().counts(names, labelled=False), screen().counts(names)
    swapped = labelled.copy()
    swapped.obs["perturbation"] = np.roll(labelled.obs["perturbation"].to_numpy(), 7)
    first = embedded(subject, model, plain)
    for cells, what in ((labelled, "labelled cells get other rows"), (swapped, "other labels give other rows")):
        mend = "leave obs.perturbation unread in embed: which cells were perturbed is what embeddings are scored by"
        same_rows(subject, embedded(subject, model, cells), first, "embed", what, mend)


def odd_counts(subject: Subject) -> None:
    """A cell without counts, one cell, a gene without counts, totals over more genes than are given."""
    model, cells = ready(subject), some_cells()
    first = embedded(subject, model, cells)
    odd = cells.copy()
    counts = odd.X.tolil()
    counts[2] = 0
    odd.X = sp.csr_matrix(counts)
    odd.obs["n_counts"] = np.where(np.arange(cells.n_obs) == 2, 0.0, odd.obs["n_counts"])
    values = embedded(subject, model, odd, about="a cell without counts")
    others = np.arange(cells.n_obs) != 2
    with asked_by("embedding_batches", "embedding_cell_order"):
        same_rows(
            subject, values[others], first[others], "embed, a cell without counts", "other cells get other rows for it",
            "give that cell a row of NaN throughout, and take no mean over cells in which it would count",
        )  # fmt: skip
    perturbed(subject, model, odd, screen().perturbations[GENE], about="a cell without counts")
    embedded(subject, model, cells[:1].copy(), about="one cell")
    totals = cells.copy()
    totals.obs["n_counts"] = totals.obs["n_counts"] * 2
    embedded(subject, model, totals, about="obs.n_counts over more genes than X has")


def no_cells(subject: Subject) -> None:
    """No cell: (0, d), or refused."""
    model = ready(subject)
    call = lambda: model.embed(some_cells()[:0].copy(), context=subject.context())  # noqa: E731
    mend = "return numpy.empty((0, d), 'float32'), or raise hyped_core.errors.InvalidDataError"
    values, refusal = ask(call, "embed, no cell", mend)
    if refusal is None:
        check_vectors(values, 0, "embed, no cell")


def names_alone(subject: Subject) -> None:
    """Genes that have a name and no gene_id or symbol: embedded, or refused with what is missing."""
    train, cells = learning_cells(), some_cells()
    for one in (train, cells):
        one.var = one.var[[]]
    model = subject.make()
    if hasattr(model, "fit"):
        call = lambda: model.fit(train, context=subject.context())  # noqa: E731
        _, refusal = ask(call, "fit, var without gene_id and symbol", NAMES)
        if refusal is not None:
            return
    vectors_or_refusal(subject, model, cells, about="var without gene_id and symbol", mend=NAMES)


def no_counts_refused(subject: Subject) -> None:
    """Values below 0, fractions and NaN are no counts: refused; NaN may also give that cell's row as NaN."""
    model, cells = ready(subject), some_cells()
    for what, value in (("a count of -1", -1.0), ("a count of 0.5", 0.5), ("a count of NaN", np.nan)):
        wrong = cells.copy()
        counts = wrong.X.tolil()
        counts[1, 3] = value
        wrong.X = sp.csr_matrix(counts)
        values, refusal = vectors_or_refusal(subject, model, wrong, about=what)
        if refusal is None and values is not None and not (np.isnan(value) and np.isnan(values[1]).all()):
            raise CheckFailed(
                f"{what} is taken for a count",
                where="embed",
                mend="raise hyped_core.errors.InvalidDataError where a stored value of X is negative, not whole or "
                "NaN: X may be normalised already",
            )


def embedding_fit_again(subject: Subject) -> None:
    """Fitted a second time, the model is what the second cells make."""
    if not hasattr(subject.make(), "fit"):
        raise CheckSkipped("the model has no fit")
    cells = some_cells()
    used = ready(subject, screen(1).counts())
    must_answer(lambda: used.fit(learning_cells(), context=subject.context()), "fit, a second time")
    fresh = embedded(subject, ready(subject), cells)
    same_rows(
        subject, embedded(subject, used, cells), fresh, "embed", "fitted before on other cells, it embeds otherwise",
        "let fit begin by setting to its start all that it learns: weights, axes, means, lists of genes",
    )  # fmt: skip


CHECKS = (
    (
        "count_forms",
        "Files hold counts as whole or floating numbers, by rows, by columns or dense; the same cell must get the same "
        "vector.",
        count_forms,
    ),
    (
        "embedding_genes_by_name",
        "A model that goes by position embeds another file's cells by the wrong genes, silently.",
        embedding_genes_by_name,
    ),
    (
        "embedding_gene_order",
        "The order of genes in a file is chance, and must not decide which cells are alike.",
        embedding_gene_order,
    ),
    (
        "labels_unused",
        "An embedding that uses the labels separates the cells by what it is later asked to tell.",
        labels_unused,
    ),
    (
        "odd_counts",
        "Filtered data have empty cells, and totals over genes that were filtered away.",
        odd_counts,
    ),
    (
        "no_cells",
        "A filter that leaves no cell must end in a sentence or an empty table, not in a traceback.",
        no_cells,
    ),
    (
        "names_alone",
        "Many files name genes by symbol alone; a model that needs ids has to say so.",
        names_alone,
    ),
    (
        "no_counts_refused",
        "Normalised values given for counts are the commonest mistake with embedders, and nothing shows it later.",
        no_counts_refused,
    ),
    (
        "embedding_fit_again",
        "What stays from an earlier fit is knowledge of cells that this one should not have.",
        embedding_fit_again,
    ),
)
"""(name, why, run)."""
