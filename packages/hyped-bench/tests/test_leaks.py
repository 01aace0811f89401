"""The leak test: a model or a split that lets test cells be seen is caught, an honest one is not."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_bench.runner import prepare
from hyped_bench.splits import Fold, LeakError, check_no_leak, find_leaks, fold_cells
from hyped_bench.splits.leaks import MIN_DETECTED, equal_rows, row_keys
from hyped_core.errors import InvalidDataError

N_GENES = 40


def screen(seed: int = 0, each: int = 12) -> anndata.AnnData:
    """Cells of control, A, B and A+B in two phases; no two are equal."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(["control", "A", "B", "A+B"], each)
    x = rng.gamma(1.0, 1.0, (len(labels), N_GENES)).astype(np.float32)
    obs = pd.DataFrame(
        {"perturbation": labels, "phase": np.tile(["G1", "S_G2M"], len(labels) // 2)},
        index=[f"cell{i:03d}" for i in range(len(labels))],
    )
    return anndata.AnnData(x, obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(N_GENES)]))


FOLD = Fold("unseen_combination", ("A", "B"), ("A+B",))
PHASE = Fold("phase G1", ("A", "B", "A+B"), ("A", "B", "A+B"), held_phase="G1")


@pytest.mark.parametrize("fold", [FOLD, PHASE])
def test_an_honest_fold_has_no_leak(fold):
    cells = screen()
    rows = fold_cells(fold, cells.obs)
    seen = {"visible": cells[rows.train].copy(), "validation": None, "control": cells[rows.control].copy()}
    check_no_leak(fold, seen, cells[rows.test].copy())


def leaking(kind: str) -> tuple[Fold, anndata.AnnData, anndata.AnnData]:
    """A fold whose visible cells hold test cells, each time visible in one way only."""
    cells = screen()
    rows = fold_cells(FOLD, cells.obs)
    visible, test = cells[rows.train].copy(), cells[rows.test].copy()
    if kind == "names":  # the cell itself with noise on it and another label
        visible.obs_names = [test.obs_names[0], *visible.obs_names[1:]]
    elif kind == "labels":  # other cells of the held-out perturbation
        visible.obs["perturbation"] = ["A+B", *visible.obs["perturbation"].astype(str)[1:]]
    else:  # under another name and label
        visible.X[3] = test.X[5]
    return FOLD, visible, test


@pytest.mark.parametrize("kind", ["names", "labels", "content"])
@pytest.mark.parametrize("part", ["visible", "validation", "control"])
def test_each_way_of_seeing_a_test_cell_is_caught_in_every_part(kind, part):
    fold, seen, test = leaking(kind)
    assert [leak.kind for leak in find_leaks(seen, test, fold)] == [kind]
    clean = screen()[fold_cells(FOLD, screen().obs).train].copy()
    parts = {"visible": clean, "validation": None, "control": None, part: seen}
    with pytest.raises(LeakError, match=part) as caught:
        check_no_leak(fold, parts, test)
    assert fold.name in str(caught.value) and "1 cells" in str(caught.value)


def test_a_split_that_scores_what_it_learns_from_is_caught():
    cells = screen()
    with pytest.raises(LeakError, match=r"learned from: A\+B"):
        check_no_leak(Fold("bad", ("A", "A+B"), ("A+B",)), {}, cells)
    with pytest.raises(LeakError, match="learned from: A"):
        check_no_leak(Fold("bad", ("B",), ("A",), ("A",)), {}, cells)


def test_cells_of_the_held_phase_may_not_be_seen_and_neither_may_those_without_a_phase():
    cells = screen()
    rows = fold_cells(PHASE, cells.obs)
    test = cells[rows.test].copy()
    for phase in ("G1", ""):
        visible = cells[rows.train].copy()
        at = np.flatnonzero(visible.obs["perturbation"] == "A")[0]
        visible.obs["phase"] = visible.obs["phase"].astype(str)
        visible.obs.iloc[at, visible.obs.columns.get_loc("phase")] = phase
        assert [leak.kind for leak in find_leaks(visible, test, PHASE)] == ["labels"]
    control = cells[rows.control].copy()
    assert set(control.obs["phase"]) == {"G1"} and not find_leaks(control, test, PHASE)


def test_relabelled_control_cells_are_no_leak_but_relabelled_test_cells_are():
    cells = screen()
    control = cells[cells.obs["perturbation"] == "control"].copy()
    test = cells[cells.obs["perturbation"] != "control"].copy()
    fold = Fold("relabelled_control", (), ("A", "B", "A+B"))
    visible = anndata.concat([control, control])
    visible.obs["perturbation"] = np.repeat(["control", "A"], control.n_obs)
    visible.obs_names = [*control.obs_names, *(f"A/{name}" for name in control.obs_names)]
    check_no_leak(fold, {"visible": visible}, test, relabelled=True)
    visible.obs_names = [*visible.obs_names[:-1], f"A/{test.obs_names[0]}"]
    with pytest.raises(LeakError, match="name of a test cell"):
        check_no_leak(fold, {"visible": visible}, test, relabelled=True)
    visible.obs_names = [f"x{i}" for i in range(visible.n_obs)]
    visible.X[-1] = test.X[0]
    with pytest.raises(LeakError, match="expression of a test cell"):
        check_no_leak(fold, {"visible": visible}, test, relabelled=True)


def test_genes_in_another_order_cannot_hide_a_leak():
    cells = screen()
    with pytest.raises(InvalidDataError, match="another order"):
        find_leaks(cells[:, ::-1].copy(), cells)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    copied=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 29)), max_size=6),
    sparse=st.booleans(),
    zeros=st.booleans(),
)
def test_equal_rows_are_those_that_brute_force_finds(seed, copied, sparse, zeros):
    rng = np.random.default_rng(seed)
    x = rng.poisson(1.0, (20, N_GENES)).astype(np.float32)
    among = rng.poisson(1.0, (30, N_GENES)).astype(np.float32)
    if zeros:
        x[0] = among[0] = 0
        among[1] = -among[1] * 0  # minus zero
    for a, b in copied:
        x[a] = among[b]
    full = (x != 0).sum(axis=1) >= MIN_DETECTED
    expected = np.array([any(np.array_equal(row, other) for other in among) for row in x]) & full
    as_given = scipy.sparse.csr_matrix if sparse else np.asarray
    np.testing.assert_array_equal(equal_rows(as_given(x), among), expected)
    np.testing.assert_array_equal(equal_rows(x.astype(np.float64), as_given(among)), expected)


def test_a_collision_of_keys_is_no_leak(monkeypatch):
    import hyped_bench.splits.leaks as leaks

    def collide(x):
        return np.zeros(x.shape[0], dtype=np.uint64), np.ones(x.shape[0], dtype=bool)

    monkeypatch.setattr(leaks, "row_keys", collide)
    x = screen().X
    assert not leaks.equal_rows(x[:5], x[5:]).any() and leaks.equal_rows(x[:5], x[4:]).tolist() == [False] * 4 + [True]


def test_keys_do_not_depend_on_the_block_a_row_is_in(monkeypatch):
    import hyped_bench.splits.leaks as leaks

    x = screen(each=20).X
    whole = row_keys(x)[0]
    monkeypatch.setattr(leaks, "_BLOCK", 7 * N_GENES)
    np.testing.assert_array_equal(leaks.row_keys(x)[0], whole)
    assert len(set(whole.tolist())) == len(whole)


class Spy:
    """Predicts the control cells and remembers the names of all it was shown."""

    seen: list = []

    def fit(self, train, validation=None, *, context):
        Spy.seen.append({*train.obs_names, *(validation.obs_names if validation is not None else ())})

    def predict(self, control, perturbation, *, context):
        Spy.seen[-1] |= set(control.obs_names)
        return control


@pytest.fixture
def section(tmp_path):
    """The task's parameters for a screen in two phases and two replicates."""
    cells = screen(each=24)
    cells.obs["replicate"] = np.tile(["1", "1", "2"], cells.n_obs // 3)
    cells.write_h5ad(tmp_path / "screen.h5ad")
    return {"sources": [{"name": "screen", "cells": str(tmp_path / "screen.h5ad")}]}


@pytest.mark.parametrize("kind", ["unseen_combination", "unseen_condition", "unseen_phase", "unseen_replicate"])
def test_in_every_fold_of_the_task_the_cells_shown_and_the_cells_scored_are_others(section, kind):
    section["sources"][0]["split"] = {"kind": kind}
    task = prepare("expression", section).task
    data, Spy.seen = task.data["screen"], []
    predicted = task.run(Spy)
    assert len(Spy.seen) == len(data.folds) >= 1
    for fold, seen in zip(data.folds, Spy.seen, strict=True):
        scored = fold_cells(fold, data.cells()).test
        assert len(scored) and not seen & set(data.obs_names[scored])
    assert len(predicted) == sum(len(fold.test) for fold in data.folds)


@pytest.mark.parametrize("what", ["a test cell", "its content under another name", "its label"])
def test_the_task_stops_before_a_model_sees_what_it_is_scored_on(section, monkeypatch, what):
    task = prepare("expression", section).task
    data = task.data["screen"]
    honest, fold = type(data).visible, data.folds[0]
    row = fold_cells(fold, data.cells()).test[0]

    def leaky(self, fold):
        cells = honest(self, fold)
        if what == "a test cell":
            cells.obs_names = [*cells.obs_names[:-1], data.obs_names[row]]
        elif what == "its label":
            cells.obs["perturbation"] = [*cells.obs["perturbation"].astype(str)[:-1], data.labels[row]]
        else:
            cells.X[-1] = data.x[row]
        return cells

    monkeypatch.setattr(type(data), "visible", leaky)
    Spy.seen = []
    with pytest.raises(LeakError, match="visible"):
        task.run(Spy)
    assert Spy.seen == []
