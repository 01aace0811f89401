"""Checks of demultiplexers: a plain good model passes all, and each catches the mistake that it is for."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from hyped_core.checking.behaviour import demultiplex
from hyped_core.checking.behaviour.demultiplex_kit import check_calls
from hyped_core.checking.records import CheckFailed
from hyped_core.checking.tiny.hashtags import tiny_hashtags
from hyped_core.errors import InvalidDataError

checked = runpy.run_path(str(Path(__file__).with_name("checked_models.py")))
outcome = checked["outcome"]
CHECKS = {check.name: check for check in demultiplex.CHECKS}


class Good:
    """A tag is carried where it has four times the capture's median of it, or more."""

    def assign(self, hto, *, context):
        counts = np.asarray(hto.X.toarray() if sp.issparse(hto.X) else hto.X, dtype=float)
        if 0 in counts.shape or not np.isfinite(counts).all() or (counts < 0).any():
            raise InvalidDataError("holds no raw counts", where="hto")
        names = np.asarray(hto.var_names, dtype=object)
        return self.table(hto, counts, names, self.heights(counts))

    def heights(self, counts):
        return np.where(counts > 0, counts / (4 * np.maximum(np.median(counts, axis=0), 1)), 0)

    def table(self, hto, counts, names, height):
        rows = []
        for cell, above in zip(counts, height, strict=True):
            order = np.argsort(-above, kind="stable")
            carried = [names[i] for i in order if above[i] >= 1][:2]
            call = "Negative" if not carried else "Doublet" if len(carried) > 1 else carried[0]
            kind = {"Negative": "negative", "Doublet": "doublet"}.get(call, "singlet")
            best = names[order[0]] if cell.any() else ""
            rows.append((call, kind, 0.9, "+".join(carried), best, 0.1))
        columns = ["call", "kind", "probability", "tags", "forced_call", "doublet_probability"]
        return pd.DataFrame(rows, columns=columns, index=hto.obs_names)


class SortsCells(Good):
    def table(self, *given):
        return super().table(*given).sort_index(ascending=False)


class NumbersCells(Good):
    def table(self, *given):
        return super().table(*given).reset_index(drop=True)


class OnlyCalls(Good):
    def table(self, *given):
        return super().table(*given)[["call", "probability"]]


class OwnWords(Good):
    def table(self, *given):
        return super().table(*given).replace({"call": {"Doublet": "Multiplet"}})


class KindsWrong(Good):
    def table(self, *given):
        return super().table(*given).assign(kind="singlet")


class TagsWrong(Good):
    def table(self, *given):
        made = super().table(*given)
        return made.assign(tags=np.where(made["kind"] == "doublet", "HTO-A", made["tags"]))


class TagsAbsent(Good):
    def table(self, *given):
        made = super().table(*given)
        return made.assign(tags=made["tags"].where(made["kind"] != "negative", None))


class PercentProbability(Good):
    def table(self, *given):
        return super().table(*given).assign(probability=90.0)


class NanDoublets(Good):
    def table(self, *given):
        return super().table(*given).assign(doublet_probability=np.nan)


class ForcesDoublets(Good):
    def table(self, *given):
        made = super().table(*given)
        return made.assign(forced_call=made["call"])


class OffByOne(Good):
    def table(self, hto, counts, names, height):
        return super().table(hto, counts, np.roll(names, 1), height)


class AlwaysSomeTag(Good):
    def heights(self, counts):
        height = super().heights(counts)
        height[np.arange(len(height)), height.argmax(axis=1)] += 1
        return height


class GoesByRow(Good):
    def heights(self, counts):
        height = super().heights(counts)
        height[np.arange(len(height)) % 9 == 0] = 0
        return height


class GoesByColumn(Good):
    def heights(self, counts):
        return super().heights(counts) * np.array([1.0, 1, 1, 0.01][: counts.shape[1]])


class SortsNames(Good):
    def table(self, hto, counts, names, height):
        return super().table(hto, counts, np.array(sorted(names), dtype=object), height)


class SplitsNames(Good):
    def table(self, hto, counts, names, height):
        return super().table(hto, counts, np.array([name.split(" ")[0] for name in names], dtype=object), height)


class SparseOnly(Good):
    def assign(self, hto, *, context):
        return super().assign(hto, context=context) if hto.X.nnz >= 0 else None


class FixedThreshold(Good):
    def heights(self, counts):
        return counts / 60


class KeepsMedians(Good):
    medians = None

    def heights(self, counts):
        self.medians = np.median(counts, axis=0) if self.medians is None else self.medians * 3
        return np.where(counts > 0, counts / (4 * np.maximum(self.medians, 1)), 0)


class AddsOne(Good):
    def heights(self, counts):
        return super().heights(counts + 1) + (counts.sum(axis=0) == 0) * 2.0


class TakesSecondTag(Good):
    def table(self, hto, counts, names, height):
        assert np.argsort(height, axis=1)[:, -2].size
        return super().table(hto, counts, names, height)


class TakesAnything(Good):
    def assign(self, hto, *, context):
        clean = hto.copy()
        clean.X = np.clip(np.nan_to_num(hto.X.toarray() if sp.issparse(hto.X) else hto.X), 0, None)
        return super().assign(clean, context=context)


TOLD = {
    OffByOne: {"calls_tag_order"},
    GoesByColumn: {"calls_tag_order", "tag_without_counts"},
    SortsNames: {"calls_tag_order"},
    KeepsMedians: {"calls_repeat"},
}
"""The checks that tell of a defect where it is not its own alone: one that is more general, or several that differ."""
BROKEN = [
    ("calls_form", SortsCells, "the cells in another order"),
    ("calls_form", NumbersCells, "other cells than given"),
    ("calls_form", OnlyCalls, "has no column kind, tags"),
    ("calls_form", OwnWords, "is 'Multiplet', expected a tag, Doublet or Negative"),
    ("calls_form", KindsWrong, "assign, kind"),
    ("calls_form", TagsWrong, "two or more different tags"),
    ("calls_form", TagsAbsent, "is None, expected text"),
    ("calls_form", PercentProbability, "assign, probability: 240 of 240"),
    ("calls_form", NanDoublets, "assign, doublet_probability"),
    ("calls_form", ForcesDoublets, "assign, forced_call"),
    ("easy_singlets_called", OffByOne, "of 200 clear singlets"),
    ("cell_without_counts_negative", AlwaysSomeTag, "cells without counts are called HTO-A"),
    ("calls_cell_order", GoesByRow, "cells in another order get other calls"),
    ("calls_tag_order", GoesByColumn, "tags in another order give other calls"),
    ("tag_names_any", SortsNames, "tags of other names give other calls"),
    ("tag_names_any", SplitsNames, "expected a tag"),
    ("hashtag_forms", SparseOnly, "dense counts: raises AttributeError"),
    ("deeper_sequencing", FixedThreshold, "eight times the counts give other calls"),
    ("calls_in_any_order", KeepsMedians, "after another capture the calls are others"),
    ("tag_without_counts", AddsOne, "called by a tag without any count"),
    ("few_cells_and_tags", TakesSecondTag, "one tag: raises IndexError"),
    ("wrong_counts_refused", TakesAnything, "a count of nan: answered with DataFrame"),
]


@pytest.mark.parametrize("name", CHECKS)
def test_a_good_model_passes(name, tmp_path):
    assert outcome(CHECKS[name], "demultiplex", Good, tmp_path) == "passed"


@pytest.mark.parametrize(("name", "model", "said"), BROKEN, ids=[f"{n}-{m.__name__}" for n, m, _ in BROKEN])
def test_a_wrong_model_fails(name, model, said, tmp_path):
    assert said in outcome(CHECKS[name], "demultiplex", model, tmp_path)


@pytest.mark.parametrize(("name", "model", "said"), BROKEN, ids=[f"{n}-{m.__name__}" for n, m, _ in BROKEN])
def test_a_defect_is_told_by_as_few_checks_as_can_be(name, model, said):
    assert set(checked["failing"]("demultiplex", model)) == TOLD.get(model, {name})


def test_every_check_has_a_wrong_model():
    assert {name for name, _, _ in BROKEN} == set(CHECKS)


@pytest.mark.parametrize(
    ("tags", "right"),
    [("a+b", True), ("b+a", True), ("a+b+c+d", True), ("c+d+a", True), ("a", False), ("a+a", False), ("a+x", False)]
    + [("c+d", False), ("", False), ("a+", False), ("+a", False)],
)
def test_tags_of_doublets_are_read_though_a_tag_holds_a_plus(tags, right):
    hto = tiny_hashtags().hto[:1, :3].copy()
    hto.var_names = ["a", "b", "c+d"]
    table = pd.DataFrame(
        {"call": ["Doublet"], "kind": ["doublet"], "probability": [1.0], "tags": [tags]}, index=hto.obs_names
    )
    if right:
        check_calls(table, hto, "assign")
    else:
        with pytest.raises(CheckFailed, match="two or more different tags"):
            check_calls(table, hto, "assign")


def test_a_few_ties_are_no_failure(tmp_path):
    class Ties(Good):
        """The first two cells of a file are called otherwise: as many as ties may change."""

        def heights(self, counts):
            height = super().heights(counts)
            height[:2] = 0
            return height

    assert outcome(CHECKS["calls_cell_order"], "demultiplex", Ties, tmp_path) == "passed"
