"""`hyped seq import-cells`: finished h5ad files of several makers to the columns later steps expect."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from hyped_core.cli.main import run
from hyped_core.design import default_design
from hyped_core.errors import DesignError, InvalidDataError, ValidationError
from hyped_seq.ingest.import_cells import Imported, import_cells, write_imported
from hyped_seq.ingest.params import ImportCellsParams
from hyped_seq.ingest.perturbations import split_name

COUNTS = np.random.default_rng(0).poisson(3, (6, 4)) + np.eye(6, 4, dtype=int)


def file_of(tmp_path, column: str, values: list[str], **more):
    obs = pd.DataFrame({column: values, **more}, index=[f"cell{i}" for i in range(len(values))])
    cells = anndata.AnnData(
        sp.csr_matrix(COUNTS.astype(np.float32)),
        obs=obs,
        var=pd.DataFrame(index=["KLF1", "MAP2K6", "CNN1", "HBG1"]),
    )
    cells.write_h5ad(tmp_path / "x.h5ad")
    return tmp_path / "x.h5ad"


def imported(path, **params) -> Imported:
    return import_cells(path, default_design(), ImportCellsParams.model_validate(params))


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("condition", ["ctrl", "KLF1+ctrl", "ctrl+KLF1", "KLF1+MAP2K6", "MAP2K6+KLF1", "CNN1+ctrl"]),
        ("perturbation", ["control", "KLF1", "KLF1", "KLF1_MAP2K6", "MAP2K6_KLF1", "CNN1"]),
        ("perturbation", ["control", "KLF1", "KLF1", "KLF1+MAP2K6", "KLF1+MAP2K6", "CNN1"]),
    ],
)
def test_three_makers_one_result(column, values, tmp_path):
    result = imported(file_of(tmp_path, column, values), agent="CRISPRa")
    names = result.rna.obs["perturbation"].astype(str).tolist()
    assert names == ["control", "KLF1", "KLF1", "KLF1+MAP2K6", "KLF1+MAP2K6", "CNN1"]
    described = json.loads(result.rna.uns["perturbations_json"])
    assert [c["gene"] for c in described["KLF1+MAP2K6"]["changes"]] == ["KLF1", "MAP2K6"]
    assert described["KLF1"]["changes"][0]["agent"] == "CRISPRa" and described["control"]["changes"] == []
    assert (result.rna.layers["counts"].toarray() == COUNTS).all()
    assert np.allclose(np.expm1(result.rna.X.toarray()).sum(1), 1e4, rtol=1e-4)
    fixed = [
        "pool",
        "hashtag_call",
        "hashtag_kind",
        "assigned_condition",
        "condition",
        "assigned_phase",
        "phase",
    ]
    assert set(fixed) <= set(result.rna.obs) and list(result.rna.obs_names)[0] == "all_cell0"


def test_an_underscore_may_belong_to_a_name():
    assert split_name("HLA_A", ("control",), ("+", "_"), {"KLF1"}) == ("HLA_A",)
    assert split_name("non-targeting", ("Non-Targeting",), ("+",), set()) == ()


def test_the_release_gets_its_genes_from_the_design(tmp_path):
    values = ["control", "siPRRX1", "mmMYOD1", "siPRRX1_mmMYOD1", "control", "siPRRX1"]
    phases = ["G1", "S", "G2/M", "G1", "S", "G1"]
    rna = imported(
        file_of(tmp_path, "assigned_condition", values, phase=phases, pool=["a"] * 3 + ["b"] * 3)
    ).rna
    assert rna.obs["perturbation"].astype(str).tolist() == [
        "control",
        "PRRX1",
        "MYOD1",
        "PRRX1+MYOD1",
        "control",
        "PRRX1",
    ]
    assert rna.obs["condition"].astype(str).tolist() == values
    described = json.loads(rna.uns["perturbations_json"])
    assert {c["gene"]: c["direction"] for c in described["PRRX1+MYOD1"]["changes"]} == {
        "PRRX1": "suppression",
        "MYOD1": "activation",
    }
    assert rna.obs["phase"].astype(str).tolist()[2] == "G2M" and rna.obs_names[5] == "b_cell5"


def test_without_raw_counts_the_file_says_so(tmp_path):
    path = file_of(tmp_path, "perturbation", ["control"] * 3 + ["KLF1"] * 3)
    cells = anndata.read_h5ad(path)
    logs = np.log1p(COUNTS / COUNTS.sum(1, keepdims=True) * 1e4).astype(np.float32)
    cells.X = sp.csr_matrix(logs)
    cells.write_h5ad(path)
    rna = imported(path).rna
    assert "counts" not in rna.layers and rna.uns["counts"].startswith("absent")
    assert np.allclose(rna.X.toarray(), logs)
    cells.uns["log1p"] = {"base": 2}
    cells.X = sp.csr_matrix(logs / np.log(2).astype(np.float32))
    cells.write_h5ad(path)
    assert np.allclose(imported(path).rna.X.toarray(), logs, rtol=1e-5)
    for bad in (logs - 3, logs * 5):
        cells.X = bad
        cells.uns = {}
        cells.write_h5ad(path)
        with pytest.raises(InvalidDataError, match="neither raw counts nor log-normalised"):
            imported(path)


def test_columns_and_filters_that_are_not_there(tmp_path):
    path = file_of(tmp_path, "perturbation", ["control", "KLF1"] * 3, dataset=["a", "a", "b"] * 2)
    with pytest.raises(InvalidDataError, match="'guide'"):
        imported(path, perturbation_column="guide")
    with pytest.raises(InvalidDataError, match="values there: a, b"):
        imported(path, filter={"dataset": "c"})
    assert imported(path, filter={"dataset": "b"}).rna.n_obs == 2
    with pytest.raises(InvalidDataError, match="no column with the perturbation"):
        imported(file_of(tmp_path, "treatment", ["x"] * 6))


def test_direction_column(tmp_path):
    path = file_of(
        tmp_path, "perturbation", ["control", "KLF1", "KLF1", "CNN1", "CNN1", "control"], kind=["CRISPRi"] * 6
    )
    described = json.loads(imported(path, direction_column="kind").rna.uns["perturbations_json"])
    assert described["KLF1"]["changes"][0]["direction"] == "suppression"
    with pytest.raises(InvalidDataError, match="'odd'"):
        imported(
            file_of(tmp_path, "perturbation", ["control", "KLF1"] * 3, kind=["odd"] * 6),
            direction_column="kind",
        )


def test_rare_perturbations_are_listed(tmp_path):
    result = imported(
        file_of(tmp_path, "perturbation", ["control"] * 3 + ["KLF1", "KLF1", "CNN1"]), min_cells=2
    )
    assert result.record["left_out"] == {"CNN1": 1} and result.rna.n_obs == 5


def test_screen_of_the_simulator_keeps_its_own_description(seq_world, tmp_path):
    result = import_cells(seq_world.screen, default_design(), ImportCellsParams())
    original = anndata.read_h5ad(seq_world.screen)
    assert json.loads(result.rna.uns["perturbations_json"]) == json.loads(original.uns["perturbations_json"])
    assert (
        result.rna.obs["perturbation"].astype(str).to_numpy()
        == original.obs["perturbation"].astype(str).to_numpy()
    ).all()
    assert (result.rna.layers["counts"] != original.layers["counts"]).nnz == 0
    write_imported(result, tmp_path / "a")
    write_imported(result, tmp_path / "b")
    assert (tmp_path / "a" / "rna.h5ad").read_bytes() == (tmp_path / "b" / "rna.h5ad").read_bytes()


def test_a_second_import_changes_nothing(seq_world, tmp_path):
    first = import_cells(seq_world.screen, default_design(), ImportCellsParams())
    write_imported(first, tmp_path / "a")
    second = import_cells(tmp_path / "a" / "rna.h5ad", default_design(), ImportCellsParams()).rna
    assert list(second.obs_names) == list(first.rna.obs_names)
    assert (second.X != first.rna.X).nnz == 0
    assert second.obs["perturbation"].astype(str).equals(first.rna.obs["perturbation"].astype(str))


@pytest.mark.public
def test_public_norman_cells(public_folder, tmp_path, capsys):
    (tmp_path / "p.yaml").write_text(
        "norman: {filter: {dataset: norman19}, direction_column: perturbation_type}\n"
    )
    source = public_folder / "perturb" / "perturbench_devel.h5ad"
    assert (
        run(
            [
                "seq",
                "import-cells",
                str(source),
                str(tmp_path / "out"),
                "--params",
                f"{tmp_path / 'p.yaml'}#norman",
                "--json",
            ]
        )
        == 0
    )
    record = json.loads(capsys.readouterr().out)
    assert record["cells"] == 3375 and len(record["perturbations"]) == 34
    assert sum("+" in name for name in record["perturbations"]) == 15
    rna = anndata.read_h5ad(tmp_path / "out" / "rna.h5ad")
    described = json.loads(rna.uns["perturbations_json"])
    assert {c["direction"] for item in described.values() for c in item["changes"]} == {"activation"}
    assert "counts" not in rna.layers


def test_a_table_of_hashtags_becomes_hto(small_pool, small_design, tmp_path):
    table = small_pool / "hashtags" / "counts.csv"
    result = import_cells(table, small_design, ImportCellsParams())
    assert result.rna is None
    assert list(result.hto.obs_names) == [
        f"p1_{b}" for b in ("AAACCCAAGAAACACT", "AAACCCAAGAAACCAT", "GGGTTTCCATTTGGCA")
    ]
    assert result.hto.to_df().to_dict("list") == {"A": [40, 2, 33], "B": [1, 50, 2]}
    fixed = [
        "pool",
        "hashtag_call",
        "hashtag_kind",
        "assigned_condition",
        "condition",
        "assigned_phase",
        "phase",
    ]
    assert set(fixed) <= set(result.hto.obs) and set(result.hto.obs["pool"]) == {"p1"}
    write_imported(result, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["hto.h5ad", "import.json"]
    table.write_text(table.read_text().replace("B,", "X,"))
    with pytest.raises(DesignError, match="'X'"):
        import_cells(table, small_design, ImportCellsParams())


def test_a_dry_run_says_what_it_would_make_and_writes_nothing(small_pool, small_design, tmp_path, capsys):
    path = file_of(tmp_path, "perturbation", ["control"] * 3 + ["KLF1"] * 3)
    out = tmp_path / "out"
    assert run(["seq", "import-cells", str(path), str(out), "--dry-run"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["cells"], said["features"]) == (6, {"rna": 4})
    assert said["outputs"] == ["rna.h5ad", "import.json"] and said["bytes"] > 0 and said["seconds"] > 0
    table = small_pool / "hashtags" / "counts.csv"
    assert run(["seq", "import-cells", str(table), str(out), "--dry-run"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["cells"], said["features"], said["outputs"][0]) == (3, {"hto": 2}, "hto.h5ad")
    assert "cells/s" in said["rate"] and not out.exists()
    (tmp_path / "bad.h5ad").write_bytes(b"nothing")
    assert run(["seq", "import-cells", str(tmp_path / "bad.h5ad"), str(out), "--dry-run"]) == 3
    assert str(tmp_path / "bad.h5ad") in capsys.readouterr().err


def test_a_release_of_schema_version_1_goes_back_to_its_modalities(tmp_path):
    golden = Path(__file__).resolve().parents[2] / "hyped-core" / "tests" / "golden" / "v1" / "cells.h5ad"
    result = import_cells(golden, default_design(), ImportCellsParams())
    assert list(result.hto.var_names) == ["T1", "T2", "T/3"] and result.rna.shape == (8, 5)
    assert list(result.isoform.var["transcript_id"]) == [f"ENST{i}" for i in range(1, 7)]
    assert "name: tiny" in result.rna.uns["design_yaml"] and "hyped" not in result.rna.uns
    assert "n_counts" in result.rna.obs and "n_counts" not in result.isoform.obs
    write_imported(result, tmp_path / "out")
    files = ["hto.h5ad", "import.json", "isoform.h5ad", "rna.h5ad"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == files
    singlets = import_cells(golden, default_design(), ImportCellsParams(filter={"hashtag_kind": "singlet"}))
    assert singlets.rna.n_obs == 6 and singlets.hto is None


def test_a_release_that_is_not_valid_is_not_imported(tmp_path):
    golden = Path(__file__).resolve().parents[2] / "hyped-core" / "tests" / "golden" / "v1" / "cells.h5ad"
    cells = anndata.read_h5ad(golden)
    cells.layers["counts"].data[0] = -1
    del cells.obs["phase"]
    cells.write_h5ad(tmp_path / "x.h5ad")
    with pytest.raises(ValidationError) as caught:
        import_cells(tmp_path / "x.h5ad", default_design(), ImportCellsParams())
    assert {problem.where for problem in caught.value.problems} == {"layers/counts", "obs/phase"}


def test_an_import_replaces_neither_its_source_nor_what_others_wrote(tmp_path, capsys):
    cells = anndata.AnnData(
        sp.csr_matrix(np.eye(4, dtype=np.float32) * 5),
        obs=pd.DataFrame({"perturbation": ["control", "control", "A", "B"]}, index=list("abcd")),
        var=pd.DataFrame(index=["A", "B", "C", "D"]),
    )
    (tmp_path / "mine").mkdir()
    (tmp_path / "other").mkdir()
    source, foreign = tmp_path / "mine" / "rna.h5ad", tmp_path / "other" / "rna.h5ad"
    cells.write_h5ad(source)
    foreign.write_bytes(b"mine")
    before = source.read_bytes()
    assert run(["seq", "import-cells", str(source), str(tmp_path / "mine")]) == 2
    assert "is read by this command" in capsys.readouterr().err
    assert run(["seq", "import-cells", str(source), str(tmp_path / "other")]) == 2
    assert "was not written by this command" in capsys.readouterr().err
    assert source.read_bytes() == before and foreign.read_bytes() == b"mine"
    for _ in range(2):
        assert run(["seq", "import-cells", str(source), str(tmp_path / "new")]) == 0
    assert "taken as activation" in capsys.readouterr().err
