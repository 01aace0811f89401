"""Copies share nothing with what was copied; differences are found wherever they are, and said with their place."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from hyped_core.checking.compare import copy_of, difference
from hyped_core.design.model import Perturbation


def cells() -> anndata.AnnData:
    made = anndata.AnnData(
        sp.csr_matrix(np.arange(12, dtype=np.float32).reshape(4, 3)),
        obs=pd.DataFrame({"phase": ["G1", "S", "S", None], "n": [1, 2, 3, 4]}, index=list("abcd")),
        var=pd.DataFrame({"symbol": ["A", "B", "C"]}, index=["g1", "g2", "g3"]),
        layers={"counts": np.ones((4, 3), dtype=np.int64)},
        uns={"perturbations": {"A": {"name": "A", "changes": []}}, "list": ["x", 1]},
    )
    made.obsm["pca"] = np.zeros((4, 2))
    made.obs["kind"] = pd.Categorical(["x", "y", "x", "y"])
    return made


def change(part):
    def do(value):
        part(value)
        return value

    return do


CHANGES = {
    "X": change(lambda c: c.X.__setitem__((1, 2), 7.5)),
    "layers/counts": change(lambda c: c.layers["counts"].__setitem__((3, 1), 2)),
    "obs/phase": change(lambda c: c.obs.__setitem__("phase", ["G1", "S", "G2M", None])),
    "obs/kind": change(lambda c: c.obs.__setitem__("kind", pd.Categorical(["x", "y", "x", "x"]))),
    "obs/index": change(lambda c: setattr(c, "obs_names", list("abce"))),
    "var/symbol": change(lambda c: c.var.__setitem__("symbol", ["A", "B", "D"])),
    "obsm/pca": change(lambda c: c.obsm["pca"].__setitem__((0, 0), 1.0)),
    "uns/perturbations/A/name": change(lambda c: c.uns["perturbations"]["A"].__setitem__("name", "B")),
    "uns/list[1]": change(lambda c: c.uns["list"].__setitem__(1, 2)),
    "uns": change(lambda c: c.uns.__setitem__("more", 1)),
    "obs": change(lambda c: c.obs.__setitem__("more", 1)),
}


@pytest.mark.parametrize("place", CHANGES)
def test_a_copy_of_cells_is_equal_and_shares_nothing(place):
    original, pristine = cells(), cells()
    copied = copy_of(original)
    assert difference(copied, original) is None
    CHANGES[place](copied)
    assert difference(original, pristine) is None
    found = difference(copied, original)
    assert found is not None and found.startswith(f"{place}: "), found


def test_values_are_counted_and_the_largest_difference_is_shown():
    a, b = np.zeros((3, 4)), np.zeros((3, 4))
    b[0, 1], b[2, 3] = 0.5, -2.0
    assert difference({"X": a}, {"X": b}) == "X: 2 of 12 values differ, the most at (2, 3): 0 and -2"


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (1.0, 1.0 + 1e-7, True),
        (1.0, 1.001, False),
        (np.nan, np.nan, True),
        (np.nan, 0.0, False),
        (np.inf, np.inf, True),
        (np.inf, -np.inf, False),
        (np.array([1, 2]), np.array([1, 2]), True),
        (np.array([10**9]), np.array([10**9 + 1]), False),  # whole numbers have no tolerance
        (np.array(["a", None], dtype=object), np.array(["a", np.nan], dtype=object), True),
        (np.array(["a"], dtype=object), np.array(["b"], dtype=object), False),
        (np.array(["1"], dtype=object), np.array([1], dtype=object), False),
        (np.datetime64("NaT"), np.datetime64("NaT"), True),
        (True, False, False),
        ("x", "x", True),
        ("x", 1, False),
        (None, None, True),
        (None, 0, False),
        ([1, 2], (1, 2), True),
        ([1, 2], [1], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"b": 1}, False),
        (Perturbation.from_name("A+B"), Perturbation.from_name("A+B"), True),
        (Perturbation.from_name("A+B"), Perturbation.from_name("A"), False),
        (pd.Series([1.0, 2.0]), pd.Series([1.0, 2.5]), False),
        (pd.Series([1.0], index=["a"]), pd.Series([1.0], index=["b"]), False),
        (np.zeros((0, 3)), np.zeros((0, 3)), True),
        (np.zeros((0, 3)), np.zeros((3, 0)), False),
        (np.array([1 + 1j]), np.array([1 + 2j]), False),
    ],
)
def test_what_is_equal(a, b, same):
    assert (difference(a, b, 1e-5, 1e-6) is None) is same
    assert (difference(b, a, 1e-5, 1e-6) is None) is same


def test_form_counts_unless_it_is_said_not_to():
    dense = np.eye(3, dtype=np.float32)
    for other in (sp.csr_matrix(dense), dense.astype(np.float64)):
        assert difference(dense, other) is not None
        assert difference(dense, other, forms=False) is None
    table = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert "order" in difference(table, table[["b", "a"]])
    assert difference(table, table[["b", "a"]], forms=False) is None
    assert difference(table, table.astype({"b": "category"})) is not None
    assert difference(table, table.astype({"b": "category"}), forms=False) is None


def test_tables_with_a_name_twice_are_compared_by_place():
    one = pd.DataFrame([[1, 2]], columns=["a", "a"])
    assert difference(one, one.copy()) is None
    assert difference(one, pd.DataFrame([[1, 3]], columns=["a", "a"])).startswith("a: ")


def test_a_dict_of_inputs_is_copied_whole():
    inputs = {"hto": cells(), "labels": np.zeros(3), "objects": np.array([["x"], [1]], dtype=object), "n": (1, [2])}
    copied = copy_of(inputs)
    assert difference(copied, inputs) is None
    copied["labels"][0] = 1
    copied["n"][1].append(3)
    assert inputs["labels"][0] == 0 and inputs["n"] == (1, [2])
