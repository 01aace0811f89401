"""The release of cells: its schema, its validation, and the golden file that schema version 1 was released with."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import yaml

from hyped_core.cli.main import run
from hyped_core.container import cells_matrix
from hyped_core.container.cells_file import has_cells_format
from hyped_core.container.cells_matrix import StoredMatrix, row_blocks
from hyped_core.container.cells_schema import FIXED_OBS, KINDS, PARTS, SCHEMA, SCHEMA_VERSION, schema_markdown
from hyped_core.container.cells_summary import describe_cells
from hyped_core.container.cells_validate import validate_cells
from hyped_core.container.validate_tables import CELL_COLUMNS
from hyped_core.errors import (
    CorruptFileError,
    InvalidDataError,
    MissingFileError,
    Problem,
    UnsupportedDataError,
    ValidationError,
)

GOLDEN = Path(__file__).parent / "golden"
PAGE = Path(__file__).resolve().parents[3] / "docs" / "release.md"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """The script that made the golden release; its arrays are the truth."""
    spec = importlib.util.spec_from_file_location("make_cells_v1", GOLDEN / "make_cells_v1.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """The golden release, to break."""
    return Path(shutil.copy(GOLDEN / "v1" / "cells.h5ad", tmp_path / "cells.h5ad"))


def edit(path: Path, change: Callable[[anndata.AnnData], None]) -> None:
    data = anndata.read_h5ad(path)
    change(data)
    data.write_h5ad(path)


def found(path: Path) -> dict[str, str]:
    """Place -> problem."""
    with pytest.raises(ValidationError) as caught:
        validate_cells(path)
    assert caught.value.exit_code == 3 and all(problem.mend for problem in caught.value.problems)
    return {problem.where: problem.message for problem in caught.value.problems}


def test_the_schema_is_one_table_without_contradictions():
    places = [entry.place for entry in SCHEMA]
    assert len(set(places)) == len(places) and FIXED_OBS == CELL_COLUMNS
    for entry in SCHEMA:
        assert entry.kind in KINDS and entry.needed in ("", "always", *PARTS) and entry.meaning
        assert not (entry.values and entry.low is not None) and "|" not in entry.meaning


def test_the_page_is_the_schema():
    assert PAGE.read_text(encoding="utf-8").endswith("\n" + schema_markdown()), (
        "docs/release.md has to end in hyped_core.container.cells_schema.schema_markdown()"
    )


def test_golden_v1_reads_and_validates(maker: ModuleType, cells: Path):
    assert cells.stat().st_size < 200_000
    assert validate_cells(cells).warnings == () and SCHEMA_VERSION >= 1
    data = anndata.read_h5ad(cells)
    assert (data.layers["counts"].toarray() == maker.gene_counts()).all()
    assert (data.obsm["isoform_counts"].toarray() == maker.transcript_counts()).all()
    assert (data.obsm["hashtag_counts"].to_numpy() == maker.hashtag_counts()).all()
    assert list(data.obsm["hashtag_counts"]) == ["T1", "T2", "T_3"] and list(data.uns["hashtags"].index)[2] == "T/3"
    assert list(data.uns["isoform"]["transcript_id"]) == [name for name, _ in maker.TRANSCRIPTS]
    pd.testing.assert_frame_equal(data.obs.drop(columns="n_counts"), maker.obs())
    assert list(data.uns["top_genes"]["warning"]) == ["confounded with pool"]


def test_golden_v1_needs_no_hyped(cells: Path):
    code = (
        "import sys, anndata; data = anndata.read_h5ad(sys.argv[1]); print(data.shape);"
        "backed = anndata.read_h5ad(sys.argv[1], backed='r')[2:4].to_memory();"
        "print(backed.obsm['isoform_counts'].sum());"
        "print([name for name in sys.modules if name.startswith('hyped')])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(cells)], capture_output=True, text=True, check=True)
    data = anndata.read_h5ad(cells)
    assert done.stdout.split("\n")[:3] == ["(8, 5)", str(data.obsm["isoform_counts"][2:4].sum()), "[]"]


def test_everything_is_described_in_the_file(cells: Path):
    data = anndata.read_h5ad(cells)
    told = data.uns["hyped"]["columns"].set_index("place")
    held = {f"obs/{name}" for name in data.obs} | {f"obsm/{name}" for name in data.obsm} | {"X", "layers/counts"}
    assert held <= set(told.index) and told["meaning"].str.len().min() > 10


BREAKS: dict[str, tuple[Callable[[anndata.AnnData], None], str, str]] = {
    "fraction": (lambda a: a.layers["counts"].data.__setitem__(0, 0.5), "layers/counts", "not whole numbers"),
    "negative": (lambda a: a.layers["counts"].data.__setitem__(3, -1), "layers/counts", "negative"),
    "log10": (lambda a: a.X.data.__imul__(np.float32(1 / np.log(10))), "X", "in 8 of 8 cells looked at"),
    "nan": (lambda a: a.X.data.__setitem__(5, np.nan), "X", "NaN"),
    "kind": (lambda a: a.obs.__setitem__("hashtag_kind", ["multiplet"] * 8), "obs/hashtag_kind", "'multiplet'"),
    "condition": (lambda a: a.obs.__setitem__("condition", ["drug"] * 8), "obs/condition", "'drug'"),
    "pool": (lambda a: a.obs.__setitem__("pool", ["p9"] * 8), "obs/pool", "'p9'"),
    "phase": (lambda a: a.obs.__setitem__("phase", ["G2/M"] * 8), "obs/phase", "'G2/M'"),
    "tag": (lambda a: a.obs.__setitem__("hashtag_call", ["T2"] * 8), "obs/hashtag_call", "no hashtag of the pool 'p2'"),
    "probability": (
        lambda a: a.obs.__setitem__("hashtag_probability", np.linspace(0, 1.5, 8)),
        "obs/hashtag_probability",
        "values are not 0 to 1",
    ),
    "text": (lambda a: a.obs.__setitem__("n_counts", ["many"] * 8), "obs/n_counts", "not numbers"),
    "half": (lambda a: a.obs.__setitem__("n_counts", [0.5] * 8), "obs/n_counts", "not whole numbers"),
    "number": (lambda a: a.obs.__setitem__("phase_source", range(8)), "obs/phase_source", "not text"),
    "column": (lambda a: a.obs.drop(columns="assigned_phase", inplace=True), "obs/assigned_phase", "missing"),
    "gene": (lambda a: a.var.drop(columns="gene_id", inplace=True), "var/gene_id", "missing"),
    "layer": (lambda a: a.layers.pop("counts"), "layers/counts", "missing"),
    "names": (lambda a: setattr(a, "obs_names", ["p1_x"] * 8), "obs_names", "'p1_x' is there twice"),
    "transcripts": (
        lambda a: a.uns.__setitem__("isoform", a.uns["isoform"].iloc[:4]),
        "obsm/isoform_counts",
        "has 6 columns, uns/isoform names 4 transcripts",
    ),
    "tags": (lambda a: a.obsm.__setitem__("hashtag_counts", a.obsm["hashtag_counts"].iloc[:, :2]),
             "obsm/hashtag_counts", "has 2 columns, uns/hashtags names 3 tags"),
    "tag counts": (lambda a: a.obsm.__setitem__("hashtag_counts", a.obsm["hashtag_counts"] - 1),
                   "obsm/hashtag_counts/T1", "negative"),
    "embedding": (lambda a: a.obsm["X_pca"].__setitem__((0, 0), np.inf), "obsm/X_pca", "infinite"),
    "design": (lambda a: a.uns.pop("design_yaml"), "uns/design_yaml", "missing"),
    "modality": (lambda a: a.obsm.pop("hashtag_counts"), "obsm/hashtag_counts", "missing"),
    "absent": (lambda a: a.uns["hyped"]["absent"].__setitem__("hto", "lost"), "uns/hyped", "both there and absent"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BREAKS))
def test_each_defect_is_named_at_its_place(cells: Path, name: str):
    change, place, message = BREAKS[name]

    def apply(data: anndata.AnnData) -> None:
        data.layers["counts"] = data.layers["counts"].astype(np.float32)
        change(data)

    edit(cells, apply)
    problems = found(cells)
    assert message in problems[place]
    assert all(other == place or "hashtag" in other for other in problems)


CALLS: dict[str, tuple[dict[str, list[str]], str, str]] = {
    "condition of another tag": ({"assigned_condition": ["MYOD1", *["control"] * 3, "MYOD1", "MYOD1", "", ""]},
                                 "obs/assigned_condition", "tag 'T1' in pool 'p1' have 'MYOD1'"),
    "doublet with a condition": ({"assigned_condition": [*["control"] * 4, *["MYOD1"] * 3, ""]},
                                 "obs/assigned_condition", "kind 'doublet' have 'MYOD1', by the design it is ''"),
    "singlet without a condition": ({"assigned_condition": ["control", "", *["control"] * 2, *["MYOD1"] * 2, "", ""]},
                                    "obs/assigned_condition", "by the design it is 'control'"),
    "phase of another tag": ({"assigned_phase": ["G2M"] * 8}, "obs/assigned_phase", "have 'G2M'"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CALLS))
def test_conditions_and_phases_are_those_of_the_design(cells: Path, name: str):
    columns, place, message = CALLS[name]
    edit(cells, lambda data: [data.obs.__setitem__(column, values) for column, values in columns.items()])
    problems = [p for p in _problems(cells) if p.where == place]
    assert any(message in problem.message for problem in problems), problems


def test_cells_of_a_pool_without_hashtags_may_be_of_its_condition(cells: Path):
    def change(data: anndata.AnnData) -> None:
        design = yaml.safe_load(data.uns["design_yaml"])
        design["hashtags"] = [tag for tag in design["hashtags"] if tag["pool"] == "p1"]
        data.uns["design_yaml"] = yaml.safe_dump(design)
        bare = (data.obs["pool"] == "p2").to_numpy()
        data.obs["hashtag_call"] = data.obs["hashtag_call"].astype(str).where(~bare, "")
        data.obs["hashtag_kind"] = data.obs["hashtag_kind"].astype(str).where(~bare, "singlet")
        data.obs["assigned_condition"] = data.obs["assigned_condition"].astype(str).where(~bare, "MYOD1")

    edit(cells, change)
    validate_cells(cells)


def _problems(path: Path) -> tuple[Problem, ...]:
    with pytest.raises(ValidationError) as caught:
        validate_cells(path)
    return caught.value.problems


def test_all_defects_are_told_at_once(cells: Path, capsys: pytest.CaptureFixture):
    def change(data: anndata.AnnData) -> None:
        for name in ("condition", "probability", "gene", "tags", "embedding", "design"):
            BREAKS[name][0](data)

    edit(cells, change)
    places = set(found(cells))
    assert places == {
        "obs/hashtag_probability", "var/gene_id", "obsm/hashtag_counts", "obsm/X_pca", "uns/design_yaml",
    }  # fmt: skip
    assert run(["data", "validate", str(cells), "--json"]) == 3
    said = json.loads(capsys.readouterr().out)
    assert said["valid"] is False and {problem["where"] for problem in said["problems"]} == places


def test_users_may_add_columns_layers_and_embeddings(cells: Path):
    def change(data: anndata.AnnData) -> None:
        data.obs["leiden"] = pd.Categorical(list("aabbccdd"))
        data.layers["scaled"] = data.X.toarray() - 1
        data.obsm["X_scvi"] = np.zeros((8, 3))
        data.uns["mine"] = {"a": 1}

    edit(cells, change)
    validate_cells(cells)


def test_dense_matrices_are_checked_too(cells: Path):
    def change(data: anndata.AnnData) -> None:
        data.X, data.layers["counts"] = data.X.toarray(), data.layers["counts"].toarray().astype(np.float32)

    edit(cells, change)
    validate_cells(cells)
    with h5py.File(cells, "r+") as store:
        store["layers/counts"][3, 2] = 1.5
    assert set(found(cells)) == {"layers/counts"}


def test_transcripts_above_their_gene_are_a_warning(cells: Path, capsys: pytest.CaptureFixture):
    def change(data: anndata.AnnData) -> None:
        transcripts = data.obsm["isoform_counts"].toarray()
        transcripts[1, 2] = 99
        data.obsm["isoform_counts"] = sp.csr_matrix(transcripts)

    edit(cells, change)
    excess = 99 - anndata.read_h5ad(cells).layers["counts"][1, 1]
    (warning,) = validate_cells(cells).warnings
    assert f"'PRRX1' of 'p1_CELL1' by {excess}" in warning.message and "1 times in 1 cells" in warning.message
    assert run(["data", "validate", str(cells)]) == 0
    assert "warning: obsm/isoform_counts" in capsys.readouterr().err
    assert validate_cells(cells, quick=True).warnings == ()


def test_columns_outside_and_broken_row_starts_are_problems(cells: Path):
    with h5py.File(cells, "r+") as store:
        store["layers/counts/indices"][0] = 77
        store["obsm/isoform_counts/indptr"][2] = 0
    problems = found(cells)
    assert "outside its 5" in problems["layers/counts"] and "row starts" in problems["obsm/isoform_counts"]


@pytest.mark.parametrize("block", [1, 7, 40, 10_000])
def test_the_answer_does_not_depend_on_the_block(cells: Path, block: int, monkeypatch: pytest.MonkeyPatch):
    sizes: dict[tuple[int, int], int] = {}
    rows = StoredMatrix.rows

    def measured(self: StoredMatrix, start: int, stop: int):
        got = rows(self, start, stop)
        sizes[start, stop] = sizes.get((start, stop), 0) + got.nnz
        return got

    monkeypatch.setattr(cells_matrix, "BLOCK_VALUES", block)
    monkeypatch.setattr(StoredMatrix, "rows", measured)
    validate_cells(cells)
    assert all(size <= block or stop == start + 1 for (start, stop), size in sizes.items())
    assert sorted(row for start, stop in sizes for row in range(start, stop)) == list(range(8))
    with h5py.File(cells, "r+") as store:
        store["layers/counts/data"][-1] = -3
    assert "negative" in found(cells)["layers/counts"]


@pytest.mark.parametrize("block", [1, 3, 100])
def test_blocks_tile_the_rows(tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cells_matrix, "BLOCK_VALUES", block)
    matrix = sp.random(23, 9, 0.3, "csr", rng=np.random.default_rng(1))
    matrix = sp.csr_matrix(np.where(np.isin(np.arange(23), range(5, 9))[:, None], 0, matrix.toarray()))
    anndata.AnnData(X=matrix, layers={"dense": matrix.toarray()}).write_h5ad(tmp_path / "x.h5ad")
    with h5py.File(tmp_path / "x.h5ad") as store:
        for place in ("X", "layers/dense"):
            stored = StoredMatrix(store[place])
            assert stored.defect == "" and stored.shape == (23, 9)
            back = sp.vstack([stored.rows(*bounds) for bounds in row_blocks([stored])])
            assert (back.toarray() == matrix.toarray()).all()


def test_a_newer_schema_is_refused_with_the_command_that_helps(cells: Path, capsys: pytest.CaptureFixture):
    with h5py.File(cells, "r+") as store:
        store["uns/hyped/schema_version"][()] = SCHEMA_VERSION + 1
    with pytest.raises(UnsupportedDataError, match=f"version {SCHEMA_VERSION + 1}, this HYPED knows up to"):
        validate_cells(cells)
    assert run(["data", "info", str(cells)]) == 3
    assert "pip install --upgrade" in capsys.readouterr().err


def test_files_that_are_no_release(cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    anndata.AnnData(np.ones((2, 2))).write_h5ad(tmp_path / "plain.h5ad")
    assert not has_cells_format(tmp_path / "plain.h5ad") and has_cells_format(cells)
    with pytest.raises(InvalidDataError, match="is no release of HYPED"):
        validate_cells(tmp_path / "plain.h5ad")
    (tmp_path / "text.h5ad").write_text("not HDF5")
    assert not has_cells_format(tmp_path / "text.h5ad")
    with pytest.raises(CorruptFileError, match="not a readable h5ad"):
        validate_cells(tmp_path / "text.h5ad")
    with pytest.raises(MissingFileError):
        describe_cells(tmp_path / "gone.h5ad")
    for command in ("validate", "info"):
        assert run(["data", command, str(tmp_path / "plain.h5ad")]) == 3
        assert "hyped seq release" in capsys.readouterr().err
    cut = cells.read_bytes()
    (tmp_path / "cut.h5ad").write_bytes(cut[: len(cut) // 2])
    with pytest.raises(CorruptFileError):
        validate_cells(tmp_path / "cut.h5ad")


def test_info_counts_cells_and_warns(cells: Path, capsys: pytest.CaptureFixture):
    assert run(["data", "info", str(cells), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["by_kind"] == {"singlet": 6, "doublet": 1, "negative": 1}
    assert said["by_condition"] == {"MYOD1": {"": 1, "G1": 2, "G2M": 1}, "control": {"G1": 2, "S": 2}}
    assert said["features"] == {"genes": 5, "transcripts": 6, "hashtags": 3} and said["absent"] == {}
    assert said["design"]["confounded"] == [["condition", "pool"]] and said["design"]["pooled_wells"] is True
    assert run(["data", "info", str(cells)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line.split() for line in lines if line.startswith("  MYOD1")]
    assert row == ["MYOD1", "2", "0", "1", "1", "4"]
    assert "  beware condition and pool cannot be told apart" in lines
    assert lines[-1].startswith("written  with anndata ")
