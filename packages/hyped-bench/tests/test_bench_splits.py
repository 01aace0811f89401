"""Splits that GEARS defined and splits from a file, as folds of the expression task."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from hyped_bench.splits import GEARS_KINDS, SplitParams, make_folds, split_record
from hyped_core.errors import InvalidDataError, MissingFileError, ParamsError
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
