"""Splits: GEARS' own, by cells, time and replicate, and as files that are held to the cells they were made on."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_bench.splits import (
    GEARS_KINDS,
    Fold,
    SplitParams,
    fold_cells,
    genes_of,
    load_split,
    make_folds,
    make_split,
    replicate_split,
    save_split,
    split_record,
    time_split,
)
from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError, ParamsError, ValidationError
from hyped_core.params import build
from hyped_core.splits import gears_split

GENES = [f"G{i:02d}" for i in range(24)]
NAMES = ["control", *GENES, *(f"{a}+{b}" for i, a in enumerate(GENES) for b in GENES[i + 1 :: 5])]
SCORED = [kind for kind in GEARS_KINDS if kind not in ("no_test", "simulation_single")]


@pytest.mark.parametrize("kind", SCORED)
@pytest.mark.parametrize("seed", [1, 2])
def test_folds_are_the_split_of_gears_own_names_in_sorted_order(kind, seed):
    fold = make_folds(NAMES, SplitParams(kind=kind, seed=seed))[0]
    theirs = [name if "+" in name else f"{name}+ctrl" for name in sorted(NAMES) if name != "control"]
    split = gears_split(theirs, kind, seed=seed)
    for ours, part in ((fold.train, split.train), (fold.validation, split.validation), (fold.test, split.test)):
        assert set(ours) == {name.removesuffix("+ctrl") for name in part} and list(ours) == sorted(ours)
    assert not set(fold.train) & set(fold.test) and not set(fold.validation) & {*fold.train, *fold.test}
    again = make_folds(np.random.default_rng(0).permutation(NAMES).tolist(), SplitParams(kind=kind, seed=seed))
    assert again == [fold]


def test_subgroups_of_a_simulation_say_how_much_was_seen():
    fold = make_folds(NAMES, SplitParams(kind="simulation", seed=1))[0]
    assert sorted(name for names in fold.subgroups.values() for name in names) == sorted(fold.test)
    unseen = set(fold.subgroups["unseen_single"])
    for name in fold.test:
        count = sum(gene not in unseen for gene in name.split("+"))
        assert fold.subgroup_of(name) == ("unseen_single" if "+" not in name else f"combo_seen{count}")
    assert not any(unseen & set(name.split("+")) for name in (*fold.train, *fold.validation))
    assert fold.subgroup_of("G99") == ""


def test_fractions_reach_the_split():
    few = make_folds(NAMES, SplitParams(kind="simulation", seed=1, train_gene_fraction=0.4))[0]
    many = make_folds(NAMES, SplitParams(kind="simulation", seed=1, train_gene_fraction=0.9))[0]
    assert len(few.train) < len(many.train)
    half = make_folds(NAMES, SplitParams(kind="combo_seen2", seed=1, test_fraction=0.5))[0]
    tenth = make_folds(NAMES, SplitParams(kind="combo_seen2", seed=1))[0]
    assert len(half.test) > 2 * len(tenth.test)


def test_a_split_with_nothing_to_score_is_refused():
    with pytest.raises(InvalidDataError, match="nothing to score"):
        make_folds(NAMES, SplitParams(kind="no_test"))
    with pytest.raises(InvalidDataError, match="simulation_single"):
        make_folds(NAMES, SplitParams(kind="simulation_single"))
    singles = make_folds(GENES, SplitParams(kind="simulation_single", seed=1))[0]
    assert singles.subgroups == {"unseen_single": singles.test}


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_a_split_from_a_file_is_recorded_with_its_hash(tmp_path, suffix):
    path = tmp_path / f"split{suffix}"
    value = {"train": ["ctrl", "A+ctrl", "C"], "val": ["B"], "test": ["B+A"]}
    path.write_text(json.dumps(value) if suffix == ".json" else yaml.safe_dump(value))
    params = SplitParams(kind="custom", file=str(path))
    fold = make_folds(["control", "A", "B", "C", "A+B"], params)[0]
    assert (fold.train, fold.validation, fold.test) == (("A", "C"), ("B",), ("A+B",))
    record = split_record([fold], params)
    assert record["file"]["path"] == str(path) and len(record["file"]["sha256"]) == 64
    assert record["folds"][0]["validation"] == ["B"]


def test_split_files_that_do_not_fit(tmp_path):
    path = tmp_path / "split.json"
    params = SplitParams(kind="custom", file=str(path))
    with pytest.raises(MissingFileError):
        make_folds(["A", "B"], params)
    path.write_text(json.dumps({"train": ["A"], "val": ["B"], "test": ["Z"]}))
    with pytest.raises(InvalidDataError, match="Z"):
        make_folds(["A", "B", "C"], params)
    path.write_text(json.dumps({"train": ["A"], "val": ["B"]}))
    with pytest.raises(InvalidDataError, match="nothing to score"):
        make_folds(["A", "B", "C"], params)
    for values in ({"kind": "custom"}, {"kind": "simulation", "file": str(path)}):
        with pytest.raises(ParamsError, match="custom needs it"):
            build(SplitParams, values)


def test_folds_without_validation_hash_as_a_plain_list_of_names():
    fold = make_folds(["A", "B", "A+B"], SplitParams())[0]
    assert fold.as_dict() == {"name": "unseen_combination", "train": ["A", "B"], "test": ["A+B"]}


PHASED = pd.DataFrame(
    [(name, phase, rep) for name in ("control", "A", "B", "A+B") for phase in ("G1", "S_G2M", "") for rep in "12"],
    columns=["perturbation", "phase", "replicate"],
)
PHASED.index = [f"c{i}" for i in range(len(PHASED))]


def test_every_condition_is_held_out_once_or_those_listed():
    names = ["control", "A", "B", "A+B"]
    each = make_folds(names, SplitParams(kind="unseen_condition"))
    assert [(fold.test, fold.train) for fold in each] == [
        (("A",), ("A+B", "B")),
        (("A+B",), ("A", "B")),
        (("B",), ("A", "A+B")),
    ]
    assert make_folds(names, SplitParams(kind="unseen_condition", held_out=("B",))) == [each[2]]
    with pytest.raises(InvalidDataError, match="not there: Z"):
        make_folds(names, SplitParams(kind="unseen_condition", held_out=("Z",)))


@pytest.mark.parametrize(("kind", "column"), [("unseen_phase", "phase"), ("unseen_replicate", "replicate")])
def test_held_cells_of_every_perturbation_are_scored_and_never_seen(kind, column):
    folds = make_folds(["control", "A", "B", "A+B"], SplitParams(kind=kind), PHASED)
    values = sorted(set(PHASED[column]) - {""})
    assert [fold.held for fold in folds] == [(column, value) for value in values]
    for fold, value in zip(folds, values, strict=True):
        assert fold.train == fold.test == ("A", "A+B", "B")
        rows = fold_cells(fold, PHASED)
        seen, scored = PHASED.iloc[rows.train], PHASED.iloc[rows.test]
        assert set(scored[column]) == {value} and "control" not in set(scored["perturbation"])
        perturbed = seen[seen["perturbation"] != "control"]
        assert not set(perturbed[column]) & {value, ""} and len(perturbed)
        assert set(PHASED.iloc[rows.control][column]) == {value}
        assert set(PHASED.iloc[rows.control]["perturbation"]) == {"control"}
        control = set(seen[seen["perturbation"] == "control"][column])
        assert (value in control) == (kind == "unseen_phase")
        assert Fold.from_dict(fold.as_dict()) == fold
    one = make_folds(["A", "B", "A+B"], SplitParams(kind=kind, held_out=(values[0],)), PHASED)
    assert one == folds[:1]


def test_a_replicate_without_control_starts_from_the_control_cells_that_are_seen():
    cells = PHASED[(PHASED["perturbation"] != "control") | (PHASED["replicate"] == "1")]
    fold = make_folds(["A", "B"], SplitParams(kind="unseen_replicate", held_out=("2",)), cells)[0]
    rows = fold_cells(fold, cells)
    assert set(cells.iloc[rows.control]["replicate"]) == {"1"} and set(rows.control) <= set(rows.train)


def test_held_cells_that_cannot_be_split():
    with pytest.raises(InvalidDataError, match="made on cells"):
        make_folds(["A"], SplitParams(kind="unseen_phase"))
    with pytest.raises(InvalidDataError, match="no column 'replicate'"):
        make_folds(["A"], SplitParams(kind="unseen_replicate"), PHASED.drop(columns="replicate"))
    with pytest.raises(InvalidDataError, match="not there: M"):
        make_folds(["A"], SplitParams(kind="unseen_phase", held_out=("M",)), PHASED)
    one = PHASED[PHASED["phase"] == "G1"]
    with pytest.raises(InvalidDataError, match="nothing to score"):
        make_folds(["A", "B"], SplitParams(kind="unseen_phase"), one)


def strategy_cells() -> st.SearchStrategy[pd.DataFrame]:
    """Tables of cells: a few perturbations, phases and replicates, some unknown."""
    row = st.tuples(
        st.sampled_from(["control", "A", "B", "C", "A+B", "A+C", "B+C"]),
        st.sampled_from(["G1", "S_G2M", ""]),
        st.sampled_from(["r1", "r2", "r3"]),
    )

    def table(rows: list) -> pd.DataFrame:
        index = [f"cell{i}" for i in range(len(rows))]
        return pd.DataFrame(rows, columns=["perturbation", "phase", "replicate"], index=index)

    return st.lists(row, min_size=1, max_size=60).map(table)


KINDS = [
    "unseen_combination",
    "unseen_perturbation",
    "unseen_condition",
    "unseen_phase",
    "unseen_replicate",
    "simulation",
    "combo_seen2",
]


@settings(max_examples=150, deadline=None)
@given(cells=strategy_cells(), kind=st.sampled_from(KINDS), seed=st.integers(0, 50))
def test_no_split_shows_a_cell_that_it_scores(tmp_path_factory, cells, kind, seed):
    params = SplitParams(kind=kind, seed=seed)
    try:
        split = make_split(cells, params, file="somewhere/cells.h5ad")
    except InvalidDataError:
        return  # a typed refusal is an answer
    assert split.folds
    label = cells["perturbation"].to_numpy()
    for fold in split.folds:
        rows = fold_cells(fold, cells)
        assert len(rows.test) and not set(rows.test) & {*rows.train, *rows.validation, *rows.control}
        assert not set(rows.validation) & set(rows.train)
        assert "control" not in set(label[rows.test]) and set(label[rows.test]) <= set(fold.test)
        if kind == "unseen_perturbation":
            scored = {gene for name in fold.test if "+" not in name for gene in genes_of(name)}
            assert not any(scored & set(genes_of(name)) for name in fold.train)
        if fold.held is None:
            assert not {*label[rows.train], *label[rows.validation]} & set(label[rows.test])
    path = tmp_path_factory.getbasetemp() / "split.json"
    save_split(path, split)
    first = path.read_bytes()
    order = np.random.default_rng(seed).permutation(len(cells))
    save_split(path, make_split(cells.iloc[order], params, file="elsewhere/cells.h5ad"))
    assert path.read_bytes() == first, "the order of cells and the folder of the file do not matter"
    assert load_split(path) == split
    assert make_folds([], SplitParams(kind="saved", file=str(path)), cells) == list(split.folds)


@pytest.fixture
def saved(tmp_path):
    """A saved split by phase, and its file."""
    path = tmp_path / "split.json"
    split = make_split(PHASED, SplitParams(kind="unseen_phase"), file="a/b/cells.h5ad")
    save_split(path, split)
    return path, split


def test_a_saved_split_says_what_made_it_and_its_hash_is_the_records(saved):
    path, split = saved
    known = json.loads(path.read_text())
    assert known["source"]["file"] == "cells.h5ad" and known["source"]["n_cells"] == len(PHASED)
    assert known["kind"] == "unseen_phase" and known["folds"][0]["cells"]["test"]["n"] == 6
    names = sorted(PHASED.index[(PHASED["phase"] == "G1") & (PHASED["perturbation"] != "control")])
    expected = hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()
    assert known["folds"][0]["cells"]["test"]["sha256"] == expected
    assert known["folds_sha256"] == split_record(split.folds, SplitParams(kind="unseen_phase"))["sha256"]
    body = {key: value for key, value in known.items() if key != "sha256"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    assert known["sha256"] == hashlib.sha256(text.encode()).hexdigest() == split.sha256
    again = split_record(
        make_folds([], SplitParams(kind="saved", file=str(path)), PHASED), SplitParams(kind="saved", file=str(path))
    )
    assert again["sha256"] == known["folds_sha256"] and len(again["file"]["sha256"]) == 64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cells: cells.iloc[:-1], "made on 24 cells, found 23"),
        (lambda cells: cells.rename(index={"c0": "other"}), "source/sha256"),
        (lambda cells: cells.assign(perturbation=cells["perturbation"].replace("A", "C")), "no cells of A"),
        (lambda cells: cells.assign(phase=cells["phase"].replace("", "G1")), "G1/test: 6 cells expected, 12"),
        (lambda cells: cells.assign(phase=cells["phase"].replace({"G1": "S_G2M", "S_G2M": "G1"})), "of other names"),
    ],
)
def test_other_cells_than_those_of_the_split_are_named(saved, change, message):
    with pytest.raises(ValidationError, match=message):
        make_folds([], SplitParams(kind="saved", file=str(saved[0])), change(PHASED))


def test_split_files_that_are_none(saved, tmp_path):
    path, _ = saved
    known = json.loads(path.read_text())
    with pytest.raises(MissingFileError, match="hyped bench split"):
        load_split(tmp_path / "none.json")
    path.write_text("{")
    with pytest.raises(CorruptFileError):
        load_split(path)
    for change, message in (
        ({"format": "x"}, "not a saved split"),
        ({"schema": 2}, "is of schema 2"),
        ({"source": {}}, "lacks a field"),
        ({"folds": known["folds"][:1]}, "edited by hand"),
        ({"seed": 7}, "edited by hand"),
        ({"kind": "unseen_replicate"}, "edited by hand"),
        ({"params": {"fraction": 0.1}}, "edited by hand"),
        ({"source": {**known["source"], "n_cells": 1}}, "edited by hand"),
        ({"sha256": "0" * 64}, "edited by hand"),
        ({"folds": [1]}, "lacks a field"),
    ):
        path.write_text(json.dumps({**known, **change}))
        with pytest.raises(InvalidDataError, match=message):
            load_split(path)
    path.write_text("[]")
    with pytest.raises(InvalidDataError, match="not a saved split"):
        load_split(path)
    with pytest.raises(InvalidDataError, match="'c0'"):
        make_split(PHASED.rename(index={"c1": "c0"}), SplitParams())


@settings(max_examples=100, deadline=None)
@given(
    times=st.lists(st.floats(0, 80, allow_nan=False), min_size=2, max_size=50), fraction=st.floats(0.05, 0.95)
)
def test_times_are_cut_by_hours_with_nothing_of_the_rest_before_the_cut(times, fraction):
    if max(times) - min(times) < 1e-3:
        return
    cut = time_split(times, fraction)
    times = np.array(times)
    assert cut.start.any() and cut.rest.any() and (cut.start ^ cut.rest).all()
    assert times[cut.start].max() == cut.cut_h < times[cut.rest].min()
    assert cut.cut_h <= times.min() + (1 - fraction) * np.ptp(times) + 1e-6
    order = np.random.default_rng(0).permutation(len(times))
    np.testing.assert_array_equal(time_split(times[order], fraction).rest, cut.rest[order])


def test_the_last_third_is_a_third_of_the_hours_whatever_the_gaps():
    time_h = [0, 1, 2, 3, 20, 25, 30]  # a gap of 17 hours
    assert time_split(time_h).rest.tolist() == [False] * 5 + [True, True]
    for bad in ([1, 1, 1], [], [0, np.nan], [[0, 1]]):
        with pytest.raises(InvalidDataError):
            time_split(bad)
    with pytest.raises(InvalidDataError, match="between 0 and 1"):
        time_split(time_h, 1.0)


def test_replicates_are_scored_only_where_the_condition_has_another():
    folds = replicate_split([1, 2, 1, 2, 3], ["a", "a", "b", "b", "c"])
    assert [fold.name for fold in folds] == ["1", "2"], "replicate 3 alone has condition c"
    assert folds[0].train.tolist() == [False, True, False, True, True]
    assert folds[0].test.tolist() == [True, False, True, False, False]
    lonely = replicate_split([1, 2, 1], ["a", "a", "b"])
    assert lonely[0].left_out.tolist() == [False, False, True]
    for fold in (*folds, *lonely):
        parts = np.array([fold.train, fold.test, fold.left_out])
        assert (parts.sum(axis=0) == 1).all()
    assert [f.name for f in replicate_split([1, 2, 3], held=[3])] == ["3"]
    with pytest.raises(InvalidDataError, match="no replicate 9"):
        replicate_split([1, 2], held=[9])
    with pytest.raises(InvalidDataError, match="second replicate"):
        replicate_split([1, 1], ["a", "b"])
    with pytest.raises(InvalidDataError, match="2 replicates, 1 groups"):
        replicate_split([1, 2], ["a"])
