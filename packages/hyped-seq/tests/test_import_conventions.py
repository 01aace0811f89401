"""`hyped seq import-cells` on files as GEARS and scPerturb write them, with what is odd about each."""

from __future__ import annotations

import json

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from hyped_core.design import default_design
from hyped_core.errors import InvalidDataError
from hyped_seq.ingest.import_cells import import_cells, write_imported
from hyped_seq.ingest.params import ImportCellsParams
from hyped_seq.ingest.perturbations import split_name

SYMBOLS = ["KLF1", "HLA-A", "CNN1", "HBG1", "RP11_2"]
IDS = [f"ENSG{i:011d}" for i in range(5)]
rng = np.random.default_rng(0)
COUNTS = rng.poisson(3, (8, 5)) + np.eye(8, 5, dtype=int) * 2
LOGS = np.log1p(COUNTS / COUNTS.sum(1, keepdims=True) * 1e4).astype(np.float32)
GEARS = ["ctrl", "KLF1+ctrl", "ctrl+KLF1", "KLF1+HLA-A", "HLA-A+KLF1", "RP11_2+ctrl", "ctrl", "C3orf72+KLF1"]
NAMES = ["control", "KLF1", "KLF1", "HLA-A+KLF1", "HLA-A+KLF1", "RP11_2", "control", "C3orf72+KLF1"]
SCPERTURB = ["control", "KLF1", "KLF1", "KLF1_HLA-A", "HLA-A_KLF1", "RP11_2", "control", "C3orf72_KLF1"]


def gears(tmp_path, conditions=GEARS, logs=LOGS, symbols=SYMBOLS):
    """As GEARS' own processing leaves a file: log values, symbols in a column, results of tests in uns."""
    obs = pd.DataFrame(
        {
            "condition": pd.Categorical(conditions),
            "cell_type": pd.Categorical(["K562"] * 8),
            "dose_val": pd.Categorical(["1+1" if "ctrl" not in c else "1" for c in conditions]),
            "control": [int(c == "ctrl") for c in conditions],
            "condition_name": pd.Categorical([f"K562_{c}_1+1" for c in conditions]),
        },
        index=[f"AAAC{i}-1" for i in range(8)],
    )
    cells = anndata.AnnData(
        sp.csr_matrix(logs), obs=obs, var=pd.DataFrame({"gene_name": symbols}, index=pd.Index(IDS, name="gene_id"))
    )
    cells.uns["rank_genes_groups_cov_all"] = {"K562_KLF1+ctrl_1+1": np.array(IDS, dtype=object)}
    cells.uns["non_zeros_gene_idx"] = {"K562_KLF1+ctrl_1+1": np.arange(5)}
    cells.uns["log1p"] = {"base": None}
    cells.write_h5ad(tmp_path / "gears.h5ad")
    return tmp_path / "gears.h5ad"


def scperturb(tmp_path, values=SCPERTURB, kinds="CRISPRi", by_id=True, **more):
    """As scPerturb has it: raw counts as floats, number and kind of perturbation, annotations of the sample."""
    numbers = [0 if v == "control" else 1 if v in ("KLF1", "RP11_2") else 2 for v in map(str, values)]
    obs = pd.DataFrame(
        {
            "perturbation": pd.Categorical(values),
            "nperts": numbers,
            "perturbation_type": pd.Categorical([kinds] * 8 if isinstance(kinds, str) else kinds),
            "tissue_type": pd.Categorical(["cell_line"] * 8),
            "cancer": [True] * 8,
            "organism": pd.Categorical(["human"] * 8),
            "ncounts": COUNTS.sum(1).astype(float),
            "ngenes": pd.array((COUNTS > 0).sum(1).tolist()[:7] + [None], dtype="Int64"),
            **more,
        },
        index=[f"cell{i}" for i in range(8)],
    )
    var = (
        pd.DataFrame({"gene_symbol": SYMBOLS}, index=IDS)
        if by_id
        else pd.DataFrame({"ensemble_id": IDS, "ncells": 8}, index=SYMBOLS)
    )
    anndata.AnnData(sp.csr_matrix(COUNTS.astype(np.float32)), obs=obs, var=var).write_h5ad(tmp_path / "sc.h5ad")
    return tmp_path / "sc.h5ad"


def imported(path, **params):
    return import_cells(path, default_design(), ImportCellsParams.model_validate(params))


def changes(result) -> dict[str, list[tuple[str, str, str]]]:
    described = json.loads(result.rna.uns["perturbations_json"])
    return {
        name: [(c["gene"], c["direction"], c["agent"]) for c in item["changes"]] for name, item in described.items()
    }


def test_gears(tmp_path):
    result = imported(gears(tmp_path), direction="activation", agent="CRISPRa")
    rna = result.rna
    assert rna.obs["perturbation"].astype(str).tolist() == NAMES
    assert rna.obs["condition"].astype(str).tolist() == NAMES
    assert changes(result)["KLF1"] == [("KLF1", "activation", "CRISPRa")] and changes(result)["control"] == []
    assert list(rna.var_names) == SYMBOLS and list(rna.var["gene_id"]) == IDS
    assert np.array_equal(rna.X.toarray(), LOGS) and "counts" not in rna.layers
    assert rna.uns["counts"].startswith("absent: X is taken as log-normalised; undone, cells sum to 10000")
    assert set(rna.uns) == {"perturbations_json", "log1p", "counts", "design_yaml"}
    assert rna.obs["cell_type"].astype(str).tolist() == ["K562"] * 8 and "condition_name" in rna.obs
    assert result.record["not_measured"] == ["C3orf72"]
    assert result.record["direction_from"] == "parameters"
    assert imported(gears(tmp_path)).record["direction_from"] == "none says it: taken as activation"
    write_imported(result, tmp_path / "out")
    again = imported(tmp_path / "out" / "rna.h5ad")
    assert again.rna.obs["perturbation"].astype(str).tolist() == NAMES and changes(again) == changes(result)


@pytest.mark.parametrize("by_id", [True, False])
def test_scperturb(by_id, tmp_path):
    result = imported(scperturb(tmp_path, by_id=by_id), genes=["C3orf72"])
    rna = result.rna
    assert rna.obs["perturbation"].astype(str).tolist() == NAMES
    assert changes(result)["HLA-A+KLF1"] == [("HLA-A", "suppression", "CRISPRi"), ("KLF1", "suppression", "CRISPRi")]
    assert changes(result)["RP11_2"] == [("RP11_2", "suppression", "CRISPRi")]
    assert result.record["direction_from"] == "obs/perturbation_type"
    assert list(rna.var_names) == SYMBOLS and list(rna.var["gene_id"]) == IDS
    assert (rna.layers["counts"].toarray() == COUNTS).all() and np.allclose(rna.X.toarray(), LOGS, atol=1e-5)
    assert rna.obs["organism"].astype(str).tolist() == ["human"] * 8
    write_imported(result, tmp_path / "out")
    back = anndata.read_h5ad(tmp_path / "out" / "rna.h5ad")
    assert back.obs["ngenes"].tolist()[:7] == (COUNTS > 0).sum(1).tolist()[:7] and pd.isna(back.obs["ngenes"].iloc[7])


def test_both_conventions_say_the_same(tmp_path):
    one = imported(gears(tmp_path), direction="suppression", agent="CRISPRi")
    two = imported(scperturb(tmp_path), genes=["C3orf72"])
    assert one.rna.obs["perturbation"].tolist() == two.rna.obs["perturbation"].tolist()
    assert changes(one) == changes(two)


def test_names_and_the_number_of_genes_have_to_agree(tmp_path):
    with pytest.raises(InvalidDataError, match="C3orf72_KLF1: obs/nperts says several genes") as caught:
        imported(scperturb(tmp_path))
    assert "genes: [A, B]" in str(caught.value)
    whole = imported(scperturb(tmp_path, values=[*SCPERTURB[:3], *["KLF1_pBA5"] * 4, "control"]), separators=["+"])
    assert set(whole.rna.obs["perturbation"]) == {"control", "KLF1", "KLF1_pBA5"}


def test_the_file_saying_one_gene_keeps_a_name_whole(tmp_path):
    values = ["control", "HBG1", "KLF1", "KLF1_HBG1", "KLF1_HBG1", "KLF1", "control", "HBG1"]
    path = scperturb(tmp_path, values=values)
    assert "KLF1+HBG1" in set(imported(path).rna.obs["perturbation"])
    cells = anndata.read_h5ad(path)
    cells.obs["nperts"] = [int(value != "control") for value in values]
    cells.obs["perturbation"] = [f"{v}_ctrl" if v == "HBG1" else v for v in values]
    cells.write_h5ad(path)
    assert set(imported(path).rna.obs["perturbation"]) == {"control", "HBG1", "KLF1", "KLF1_HBG1"}


@pytest.mark.parametrize("missing", [np.nan, "nan", "None", " "])
def test_a_cell_without_perturbation_is_never_control(missing, tmp_path):
    path = scperturb(tmp_path, values=[*SCPERTURB[:6], missing, missing])
    with pytest.raises(InvalidDataError, match="2 of 8 cells have no value") as caught:
        imported(path)
    assert "without_perturbation: leave_out" in str(caught.value)
    result = imported(path, without_perturbation="leave_out")
    assert result.rna.n_obs == 6 and result.record["without_perturbation"] == 2
    assert result.record["perturbations"]["control"] == 1
    empty = scperturb(tmp_path, values=[missing] * 8)
    with pytest.raises(InvalidDataError, match="8 of 8 cells have no value"):
        imported(empty, without_perturbation="leave_out")


def test_directions_are_said_by_the_file_or_asked_for(tmp_path):
    kinds = pd.array([None, *["CRISPRa"] * 5, None, "CRISPRi"], dtype="object")
    result = imported(scperturb(tmp_path, kinds=kinds), genes=["C3orf72"])
    assert changes(result)["KLF1"] == [("KLF1", "activation", "CRISPRa")]
    assert {item[1] for item in changes(result)["C3orf72+KLF1"]} == {"suppression"}
    mixed = pd.array(["CRISPRi", "CRISPRa", *["CRISPRi"] * 6], dtype="object")
    with pytest.raises(InvalidDataError, match="cells of KLF1 were both activated and suppressed"):
        imported(scperturb(tmp_path, kinds=mixed), genes=["C3orf72"])
    with pytest.raises(InvalidDataError, match="'drug' is no known direction"):
        imported(scperturb(tmp_path, kinds="drug"), genes=["C3orf72"])
    with pytest.raises(InvalidDataError, match="says nothing of the cells of"):
        imported(scperturb(tmp_path, kinds=pd.array([None] * 8, dtype="object")), genes=["C3orf72"])
    asked = imported(scperturb(tmp_path, kinds="drug"), genes=["C3orf72"], direction="activation")
    assert changes(asked)["KLF1"] == [("KLF1", "activation", "")]


def test_log_values_that_are_none_and_counts_that_are_none(tmp_path):
    path = gears(tmp_path, logs=COUNTS.astype(np.float32))
    assert (imported(path).rna.layers["counts"].toarray() == COUNTS).all()
    bad = LOGS.copy()
    bad[0, 0] = np.nan
    with pytest.raises(InvalidDataError, match="1 values of X are NaN"):
        imported(gears(tmp_path, logs=bad))
    with pytest.raises(InvalidDataError, match="neither raw counts nor log-normalised"):
        imported(gears(tmp_path, logs=np.expm1(LOGS)))
    cells = anndata.read_h5ad(gears(tmp_path))
    cells.layers["counts"] = cells.X
    cells.write_h5ad(path)
    with pytest.raises(InvalidDataError, match="layers/counts: holds counts that are not whole numbers"):
        imported(path)


def test_genes_that_share_a_name_are_summed_before_the_logarithm(tmp_path):
    result = imported(gears(tmp_path, symbols=["KLF1", "HLA-A", "KLF1", None, "RP11_2"]))
    assert list(result.rna.var_names) == ["KLF1", "HLA-A", IDS[3], "RP11_2"]
    assert result.record["summed_features"] == {"KLF1": 2}
    expected = np.log1p(np.expm1(LOGS[:, 0].astype(float)) + np.expm1(LOGS[:, 2].astype(float)))
    assert np.allclose(result.rna.X[:, 0].toarray().ravel(), expected, rtol=1e-6)
    assert np.array_equal(result.rna.X[:, [1, 2, 3]].toarray(), LOGS[:, [1, 3, 4]])


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("ctrl", ()),
        ("Control", ()),
        ("ctrl+ctrl", ()),
        ("A+ctrl", ("A",)),
        ("ctrl+A", ("A",)),
        ("A+A", ("A",)),
        ("A_B", ("A", "B")),
        ("A_x", ("A_x",)),
        ("x_ctrl", ("x",)),
        ("control_x_y", ("x_y",)),
        ("H_L_A", ("H_L", "A")),
        ("A_H_L_ctrl", ("A", "H_L")),
        ("A,B", ("A", "B")),
        ("A-B", ("A-B",)),
        ("H_L+x_y", ("H_L", "x_y")),
    ],
)
def test_genes_in_a_name(value, parts):
    assert split_name(value, ("control", "ctrl"), ("+", "_", ","), {"A", "B", "H_L", "L_A"}) == parts


@given(
    st.lists(st.from_regex(r"[A-Z]{1,4}(-[A-Z0-9]{1,2})?(_[0-9]{1,2})?", fullmatch=True), min_size=1, unique=True),
    st.data(),
)
def test_both_conventions_name_the_same_genes(genes, data):
    """Names may hold ``-`` and ``_``; no piece of one is a gene itself, as every gene begins with a letter."""
    two = data.draw(st.lists(st.sampled_from(genes), min_size=1, max_size=2, unique=True))
    controls, separators = ("control", "ctrl"), ("+", "_", ",")
    plus = "+".join(two if len(two) == 2 else data.draw(st.permutations([*two, "ctrl"])))
    assert split_name(plus, controls, separators, set(genes)) == tuple(two)
    assert split_name("_".join(two), controls, separators, set(genes)) == tuple(two)
