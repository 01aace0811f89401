"""Values of the contracts through files and JSON: what comes back equals what went, to the bit."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hyped_core.contracts import ImageMeta
from hyped_core.design import Perturbation
from hyped_core.errors import PluginError
from hyped_core.remote.exchange import decode, encode


def through(value, folder):
    """There and back, JSON text included."""
    return decode(json.loads(json.dumps(encode(value, folder))), folder)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        0.1 + 0.2,
        "naïve \n text",
        [1, [2.5, None]],
        (1, "a"),
        {"a": 1, 2: {"b": None}},
        {"x", "y"},
        Path("a/b"),
        ImageMeta(channel="Cy5", data_range=(0.0, 16383.0), offset=100.5, time_h=(0.0, 0.25), channels=("a", "b")),
        Perturbation.from_name("KLF1+MYOD1"),
    ],
)
def test_plain_values(value, tmp_path):
    found = through(value, tmp_path)
    assert found == value and type(found) is type(value)


@given(
    hnp.arrays(
        st.one_of(hnp.floating_dtypes(), hnp.integer_dtypes(), hnp.boolean_dtypes(), st.just(np.dtype("<U5"))),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    )
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_arrays_to_the_bit(tmp_path, array):
    found = through(array, tmp_path)
    assert found.dtype == array.dtype and found.shape == array.shape and found.tobytes() == array.tobytes()


def test_scalars_and_arrays_of_objects(tmp_path):
    number = through(np.float32(0.1), tmp_path)
    assert number == np.float32(0.1) and isinstance(number, np.float32)
    words = np.array(["a", None, "b"], dtype=object)
    assert through(words, tmp_path).tolist() == ["a", None, "b"]


def table():
    """One column of every kind that the contracts meet."""
    return pd.DataFrame(
        {
            "frame": np.arange(4, dtype=np.int64),
            "x_um": np.array([0.1, np.nan, np.inf, -0.0]),
            "small": np.array([1, 2, 3, 4], dtype=np.float32) / 3,
            "flag": [True, False, True, True],
            "word": ["a", None, "", "NaN"],
            "mixed": np.array(["a", np.nan, None, 1.5], dtype=object),
            "phase": pd.Categorical(["G1", "S", None, "G1"], categories=["S", "G1", "M"], ordered=True),
            "whole": pd.array([1, None, 3, 4], dtype="Int32"),
            "text": pd.array(["x", None, "y", "z"], dtype="string"),
        },
        index=pd.Index(["c1", "c2", "c3", "c3"], name="cell"),
    )


@pytest.mark.parametrize("rows", [4, 0])
def test_tables_keep_types_missing_values_and_index(tmp_path, rows):
    made = table().iloc[:rows]
    found = through(made, tmp_path)
    pd.testing.assert_frame_equal(found, made, check_exact=True)
    if rows:
        assert found["word"].iloc[1] is None and found["mixed"].iloc[2] is None and np.isnan(found["mixed"].iloc[1])
        assert np.signbit(found["x_um"].iloc[3])
    plain = made.reset_index(drop=True)
    assert isinstance(through(plain, tmp_path).index, pd.RangeIndex)
    pd.testing.assert_series_equal(through(made["x_um"], tmp_path), made["x_um"])


@pytest.mark.parametrize("matrix", ["dense", "csr", "csc"])
def test_cells_keep_matrices_tables_and_notes(tmp_path, matrix):
    rng = np.random.default_rng(0)
    x = rng.poisson(0.6, (4, 6)).astype(np.float32)
    cells = anndata.AnnData(
        {"dense": x, "csr": sp.csr_matrix(x), "csc": sp.csc_matrix(x)}[matrix],
        obs=table().drop(columns="mixed").set_axis(list("abcd")),
        var=pd.DataFrame({"symbol": ["A", "B", "C", "D", "E", None]}, index=[f"g{i}" for i in range(6)]),
        uns={"perturbations": {"A": {"name": "A", "changes": [{"gene": "A", "agent": None}]}}, "asked_genes": ["A"]},
        layers={"counts": sp.csr_matrix(x)},
        obsm={"pca": rng.normal(size=(4, 2))},
    )
    kept = cells.copy()
    found = through(cells[:3], tmp_path)
    same = kept[:3].copy()
    assert type(found.X) is type(same.X)
    for a, b in ((found.X, same.X), (found.layers["counts"], same.layers["counts"])):
        a, b = (m.toarray() if sp.issparse(m) else m for m in (a, b))
        assert a.dtype == b.dtype and np.array_equal(a, b)
    assert np.array_equal(found.obsm["pca"], same.obsm["pca"])
    pd.testing.assert_frame_equal(found.obs, same.obs, check_exact=True)
    pd.testing.assert_frame_equal(found.var, same.var, check_exact=True)
    assert dict(found.uns) == dict(same.uns)
    pd.testing.assert_frame_equal(cells.obs, kept.obs)  # what is written is not changed


@pytest.mark.parametrize("kind", ["csr_array", "csc_array", "csr_matrix", "csc_matrix", "coo_matrix", "coo_array"])
def test_sparse_comes_back_as_the_kind_that_it_was(tmp_path, kind):
    rng = np.random.default_rng(1)
    made = getattr(sp, kind)(rng.poisson(0.5, (3, 5)).astype(np.float32))
    found = through(made, tmp_path)
    assert type(found) is type(made) and found.dtype == made.dtype and np.array_equal(found.toarray(), made.toarray())
    if kind.startswith("coo"):
        return
    cells = anndata.AnnData(made, layers={"counts": made.astype(np.int16)}, obsm={"near": made[:, :2]})
    for sent in (cells, cells[[0, 2]]):
        back = through(sent, tmp_path)
        kept = sent.copy()
        for a, b in zip((back.X, back.layers["counts"], back.obsm["near"]),
                        (kept.X, kept.layers["counts"], kept.obsm["near"]), strict=True):  # fmt: skip
            assert type(a) is type(b) is type(made) and a.dtype == b.dtype and np.array_equal(a.toarray(), b.toarray())


def test_cells_keep_raw_and_parts_of_any_name_and_kind(tmp_path):
    rng = np.random.default_rng(2)
    cells = anndata.AnnData(
        rng.normal(size=(3, 4)).astype(np.float32),
        obs=pd.DataFrame(index=list("abc")),
        var=pd.DataFrame({"symbol": list("ABCD")}, index=[f"g{i}" for i in range(4)]),
        varm={"load/ings": rng.normal(size=(4, 2))},
    )
    cells.uns["x/y"] = 1
    cells.raw = cells
    cells = cells[:, [0, 2]].copy()
    cells.layers["a/b"], cells.layers["0"] = rng.integers(0, 9, (3, 2)), np.array([["x", "yy"]] * 3)
    cells.layers["half"] = rng.normal(size=(3, 2)).astype(np.float16)
    cells.obsm["a/table"] = pd.DataFrame({"p/q": [0.1, 0.2, 0.3], "w": ["s", None, "t"]}, index=list("abc"))
    cells.obsm["words"] = np.array([["a", None]] * 3, dtype=object)
    cells.obsp["k/n"], cells.varp["."] = sp.csr_array(np.eye(3)), np.eye(2, dtype=bool)
    found = through(cells, tmp_path)
    for part in ("layers", "obsm", "varm", "obsp", "varp"):
        sent, back = getattr(cells, part), getattr(found, part)
        assert list(back) == list(sent)
        for name, value in sent.items():
            assert type(back[name]) is type(value)
            if isinstance(value, pd.DataFrame):
                pd.testing.assert_frame_equal(back[name], value, check_exact=True)
                continue
            a, b = (m.toarray() if sp.issparse(m) else m for m in (back[name], value))
            assert a.dtype == b.dtype and np.array_equal(a, b)
    assert found.uns["x/y"] == 1
    assert found.raw.shape == (3, 4) and np.array_equal(found.raw.X, cells.raw.X) and found.raw.X.dtype == np.float32
    pd.testing.assert_frame_equal(found.raw.var, cells.raw.var)
    assert np.array_equal(found.raw.varm["load/ings"], cells.raw.varm["load/ings"])
    assert through(anndata.AnnData(obs=pd.DataFrame(index=["a"])), tmp_path).X is None


def test_what_cannot_go_is_named(tmp_path):
    for value in (lambda: 1, object(), {"a": [object()]}, np.ma.masked_equal([1, 2], 2)):
        with pytest.raises(PluginError, match=r"type (function|object|MaskedArray)"):
            encode(value, tmp_path)
    with pytest.raises(PluginError, match="outside the folder"):
        decode({"__hyped__": "array", "file": "../x.npy"}, tmp_path)
    np.save(tmp_path / "bad.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(ValueError, match="pickle"):
        decode({"__hyped__": "array", "file": "bad.npy"}, tmp_path)
