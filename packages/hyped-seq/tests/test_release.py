"""`hyped seq release`: one documented file that scanpy opens without HYPED, and back again."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyped_core.cli.main import run
from hyped_core.container import HypedData
from hyped_core.container.cells_schema import SCHEMA
from hyped_core.container.cells_summary import describe_cells
from hyped_core.container.cells_validate import validate_cells
from hyped_core.design import Design, default_design
from hyped_core.errors import InvalidDataError, MissingFileError, UsageError
from hyped_seq.annotate.normalise import log_normalised
from hyped_seq.ingest.import_cells import import_cells, write_imported
from hyped_seq.ingest.params import ImportCellsParams
from hyped_seq.release import build_release, read_cells, write_release

PAGE = Path(__file__).resolve().parents[3] / "docs" / "release.md"
N_CELLS, N_GENES, N_TRANSCRIPTS = 60, 30, 45


def make_modalities(design: Design, seed: int = 0) -> dict[str, anndata.AnnData]:
    """Annotated cells of the design's hashtags: genes, transcripts that sum to them, hashtags, an embedding."""
    rng = np.random.default_rng(seed)
    pick = rng.integers(0, len(design.hashtags), N_CELLS)
    tags = [design.hashtags[i] for i in pick]
    kind = np.array(["doublet", "negative"] + ["singlet"] * (N_CELLS - 2))
    single = kind == "singlet"

    def of_singlets(values: list[str]) -> pd.Categorical:
        return pd.Categorical(np.where(single, values, ""))

    pools = [tag.pool for tag in tags]
    obs = pd.DataFrame(
        {
            "pool": pd.Categorical(pools),
            "barcode": [f"C{i}" for i in range(N_CELLS)],
            "hashtag_call": pd.Categorical(
                np.where(single, [tag.tag for tag in tags], np.where(kind == "doublet", "Doublet", "Negative"))
            ),
            "hashtag_kind": pd.Categorical(kind),
            "hashtag_probability": rng.random(N_CELLS).astype(np.float32),
            "assigned_condition": of_singlets([tag.condition for tag in tags]),
            "condition": of_singlets([tag.condition for tag in tags]),
            "assigned_phase": of_singlets([tag.phase or "" for tag in tags]),
            "phase": of_singlets([tag.phase or "G1" for tag in tags]),
        },
        index=[f"{pool}_C{i}" for i, pool in enumerate(pools)],
    )
    owner = np.arange(N_TRANSCRIPTS) % N_GENES
    counts = sp.csr_matrix(rng.poisson(1.5, (N_CELLS, N_TRANSCRIPTS)).astype(np.int32))
    to_gene = sp.csr_matrix((np.ones(N_TRANSCRIPTS, np.int32), (np.arange(N_TRANSCRIPTS), owner)))
    genes = sp.csr_matrix((counts @ to_gene).astype(np.int32))
    symbols = [f"G{i}" for i in range(N_GENES)]
    var = pd.DataFrame({"gene_id": [f"ENSG{i:011d}" for i in range(N_GENES)], "symbol": symbols}, index=symbols)
    rna = anndata.AnnData(log_normalised(genes), obs.copy(), var.copy(), layers={"counts": genes})
    rna.obs.insert(2, "n_counts", np.asarray(genes.sum(1)).ravel())
    rna.obsm["X_pca"] = rng.normal(size=(N_CELLS, 3)).astype(np.float32)
    rna.uns["log1p"] = {"target_sum": 1e4}
    rna.uns["design_yaml"] = design.to_yaml()
    rna.uns["top_genes"] = pd.DataFrame({"gene": ["G1"], "warning": ["confounded with pool"]}, index=["0"])
    names = [f"ENST{i:011d}" for i in range(N_TRANSCRIPTS)]
    table = pd.DataFrame({"transcript_id": names, "gene_id": var["gene_id"].to_numpy()[owner]}, index=names)
    table["symbol"] = var["symbol"].to_numpy()[owner]
    isoform = anndata.AnnData(log_normalised(counts), obs.copy(), table, layers={"counts": counts})
    all_tags = list(dict.fromkeys(tag.tag for tag in design.hashtags))
    tag_counts = sp.csr_matrix(rng.poisson(4, (N_CELLS, len(all_tags))).astype(np.int32))
    table = pd.DataFrame({"hashtag": all_tags}, index=all_tags)
    hto = anndata.AnnData(tag_counts, obs.copy(), table, layers={"counts": tag_counts.copy()})
    return {"rna": rna, "isoform": isoform, "hto": hto}


@pytest.fixture(scope="module")
def modalities() -> dict[str, anndata.AnnData]:
    return make_modalities(default_design())


@pytest.fixture(scope="module")
def released(modalities: dict[str, anndata.AnnData], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("release") / "mini.h5ad"
    write_release(build_release(modalities, default_design()), path)
    return path


def write_all(modalities: dict[str, anndata.AnnData], folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name, data in modalities.items():
        data.write_h5ad(folder / f"{name}.h5ad")
    return folder


def assert_same(before: dict[str, anndata.AnnData], after: dict[str, anndata.AnnData]) -> None:
    """Equal cells, features, counts, X, obs and obsm."""
    assert list(before) == list(after)
    for name, data in before.items():
        other = after[name]
        assert list(data.obs_names) == list(other.obs_names) and list(data.var_names) == list(other.var_names)
        for a, b in ((data.layers["counts"], other.layers["counts"]), (data.X, other.X)):
            assert a.shape == b.shape and (a != b).nnz == 0 and a.dtype == b.dtype
        assert list(data.obs) == list(other.obs) and list(data.var) == list(other.var)
        for column in data.obs:
            a, b = data.obs[column], other.obs[column]
            if pd.api.types.is_numeric_dtype(a.dtype):
                assert a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
            else:
                assert a.astype(str).tolist() == b.astype(str).tolist()
        assert sorted(data.obsm) == sorted(other.obsm)
        assert all(np.array_equal(data.obsm[key], other.obsm[key]) for key in data.obsm)


def back(path: Path) -> dict[str, anndata.AnnData]:
    result = import_cells(path, default_design(), ImportCellsParams())
    found = {"rna": result.rna, "isoform": result.isoform, "hto": result.hto}
    return {name: data for name, data in found.items() if data is not None}


def test_a_release_is_valid_and_holds_what_was_given(modalities, released):
    checked = validate_cells(released)
    assert (checked.cells, checked.genes, checked.warnings) == (N_CELLS, N_GENES, ())
    cells = anndata.read_h5ad(released)
    assert (cells.layers["counts"] != modalities["rna"].layers["counts"]).nnz == 0
    assert (cells.obsm["isoform_counts"] != modalities["isoform"].layers["counts"]).nnz == 0
    assert (cells.obsm["hashtag_counts"].to_numpy() == modalities["hto"].layers["counts"].toarray()).all()
    assert "condition and pool cannot be told apart" in list(cells.uns["hyped"]["warnings"])
    assert cells.uns["design_yaml"] == default_design().to_yaml()


def test_everything_is_described_by_the_schema(released):
    cells = anndata.read_h5ad(released)
    told = cells.uns["hyped"]["columns"].set_index("place")["meaning"]
    meaning = {entry.place: entry.meaning for entry in SCHEMA}
    held = {"X", *(f"{where}/{name}" for where in ("obs", "var", "obsm", "layers") for name in getattr(cells, where))}
    assert {place: told[place] for place in held} == {place: meaning[place] for place in held}


def test_there_and_back_nothing_changes(modalities, released, tmp_path):
    assert_same(modalities, back(released))
    write_imported(import_cells(released, default_design(), ImportCellsParams()), tmp_path / "cells")
    again = read_cells(tmp_path / "cells")
    write_release(build_release(again, default_design()), tmp_path / "again.h5ad")
    assert_same(modalities, back(tmp_path / "again.h5ad"))


def test_equal_cells_give_equal_bytes(modalities, released, tmp_path):
    write_release(build_release(modalities, default_design()), tmp_path / "other.h5ad")
    assert (tmp_path / "other.h5ad").read_bytes() == released.read_bytes()


def test_building_leaves_the_modalities_as_they_were(tmp_path):
    given = make_modalities(default_design(), seed=4)
    untouched = {name: data.copy() for name, data in given.items()}
    write_release(build_release(given, default_design()), tmp_path / "x.h5ad")
    assert_same(untouched, given)
    assert all(sorted(data.uns) == sorted(untouched[name].uns) for name, data in given.items())


def test_scanpy_opens_it_without_hyped_as_the_page_says(released, tmp_path):
    (tmp_path / "mini.h5ad").write_bytes(released.read_bytes())
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    more = """
import sys
print(len(sc.get.rank_genes_groups_df(singlets, "siPRRX1")), tags.shape, usage.shape)
backed = sc.read_h5ad("mini.h5ad", backed="r")
print(backed.isbacked, backed[:7].to_memory().X.shape)
sc.pp.highly_variable_genes(cells)
cells.write_h5ad("touched.h5ad")
print([name for name in sys.modules if name.startswith("hyped")])
"""
    done = subprocess.run([sys.executable, "-c", block + more], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:3] == ["30 (60, 5) (60, 45)", "True (7, 30)", "[]"]
    validate_cells(tmp_path / "touched.h5ad")


def test_no_encoding_that_older_anndata_cannot_read(released):
    """What anndata 0.10 knows; nulls and nullable strings came later."""
    known = {
        "anndata", "array", "categorical", "csr_matrix", "dataframe", "dict", "numeric-scalar", "string",
        "string-array",
    }  # fmt: skip
    with h5py.File(released) as store:
        kinds = {store.attrs["encoding-type"]}
        store.visititems(lambda _, element: kinds.update([element.attrs.get("encoding-type")]))
        filters = {element.compression for element in _datasets(store) if element.chunks}
    assert kinds - {None} <= known and filters <= {"gzip", None}


def _datasets(store: h5py.File) -> list[h5py.Dataset]:
    found: list[h5py.Dataset] = []
    store.visititems(lambda _, element: found.append(element) if isinstance(element, h5py.Dataset) else None)
    return found


@pytest.mark.parametrize("inferred", [False, True])
def test_pandas_strings_become_plain_text(modalities, inferred, tmp_path):
    """Also where pandas makes its own type of every text, as its next version does."""
    with pd.option_context("future.infer_string", inferred):
        check_plain_text(modalities, tmp_path)


def check_plain_text(modalities, tmp_path):
    given = {name: data.copy() for name, data in modalities.items()}
    given["rna"].obs["note"] = pd.array(["a", None] * (N_CELLS // 2), dtype="string")
    given["rna"].obs["mark"] = pd.Categorical(pd.array(["x", "y"] * (N_CELLS // 2), dtype="string"))
    write_release(build_release(given, default_design()), tmp_path / "x.h5ad")
    with h5py.File(tmp_path / "x.h5ad") as store:
        assert store["obs/note"].attrs["encoding-type"] in ("string-array", "categorical")
        assert store["obs/mark/categories"].attrs["encoding-type"] == "string-array"
    cells = anndata.read_h5ad(tmp_path / "x.h5ad")
    assert cells.obs["note"].astype(str).tolist()[:2] == ["a", ""]
    assert cells.obs["mark"].astype(str).tolist()[:2] == ["x", "y"]


def test_hashtags_alone(modalities, tmp_path, capsys):
    folder = write_all({"hto": modalities["hto"]}, tmp_path / "cells")
    assert run(["seq", "release", str(folder), str(tmp_path / "x.h5ad")]) == 3
    assert "carry no design" in capsys.readouterr().err
    (tmp_path / "design.yaml").write_text(default_design().to_yaml())
    call = ["seq", "release", str(folder), str(tmp_path / "x.h5ad"), "--design", str(tmp_path / "design.yaml")]
    assert run(call) == 0
    cells = anndata.read_h5ad(tmp_path / "x.h5ad", backed="r")
    assert cells.shape == (N_CELLS, 0) and cells.obsm["hashtag_counts"].shape[1] == 5
    assert set(cells.uns["hyped"]["absent"]) == {"rna", "isoform"}
    validate_cells(tmp_path / "x.h5ad")
    assert_same({"hto": modalities["hto"]}, back(tmp_path / "x.h5ad"))


@pytest.mark.parametrize("lacking", ["isoform", "hto"])
def test_what_is_absent_is_said(modalities, lacking, tmp_path):
    given = {name: data for name, data in modalities.items() if name != lacking}
    write_release(build_release(given, default_design()), tmp_path / "x.h5ad")
    assert describe_cells(tmp_path / "x.h5ad")["absent"] == {
        lacking: f"the cells have no counts of {'transcripts' if lacking == 'isoform' else 'hashtags'}"
    }
    assert_same(given, back(tmp_path / "x.h5ad"))


def test_cells_without_raw_counts(modalities, tmp_path):
    rna = modalities["rna"].copy()
    del rna.layers["counts"]
    rna.uns["counts"] = "absent: X is taken as log-normalised"
    write_release(build_release({"rna": rna}, default_design()), tmp_path / "x.h5ad")
    validate_cells(tmp_path / "x.h5ad")
    assert describe_cells(tmp_path / "x.h5ad")["absent"]["counts"] == "X is taken as log-normalised"
    assert "counts" not in back(tmp_path / "x.h5ad")["rna"].layers


def test_own_columns_of_a_modality_keep_their_values(modalities, tmp_path):
    given = {name: data.copy() for name, data in modalities.items()}
    given["isoform"].obs["n_counts"] = np.arange(N_CELLS)
    given["isoform"].obs["only/here"] = np.arange(N_CELLS) / 2
    cells = build_release(given, default_design())
    assert cells.obs["isoform_n_counts"].tolist() == list(range(N_CELLS))
    assert "isoform_only_here" in cells.obs
    told = cells.uns["hyped"]["columns"].set_index("place")["meaning"]
    assert told["obs/isoform_n_counts"] == "n_counts of isoform"
    write_release(cells, tmp_path / "x.h5ad")
    assert_same(given, back(tmp_path / "x.h5ad"))


def test_modalities_that_do_not_go_together(modalities, tmp_path):
    design = default_design()
    others = {**modalities, "hto": modalities["hto"][::-1].copy()}
    with pytest.raises(InvalidDataError, match="hto holds other cells"):
        build_release(others, design)
    with pytest.raises(InvalidDataError, match="neither rna nor hto"):
        build_release({"isoform": modalities["isoform"]}, design)
    rna = modalities["rna"].copy()
    del rna.obs["phase"]
    with pytest.raises(InvalidDataError, match="lack phase"):
        build_release({"rna": rna}, design)
    with pytest.raises(MissingFileError, match="neither rna.h5ad nor hto.h5ad"):
        read_cells(tmp_path)
    with pytest.raises(UsageError, match="no name for a release"):
        write_release(build_release(modalities, design), tmp_path / "x.hdf")


@pytest.mark.parametrize(
    ("names", "message"),
    [(["a/b", "a_b"], "have one name"), (["_index", "b"], "cannot be a name"), (["a\0b", "c"], "cannot be a name")],
)
def test_names_that_a_file_cannot_hold(modalities, names, message):
    rna = modalities["rna"].copy()
    for name in names:
        rna.obs[name] = 1
    with pytest.raises(InvalidDataError, match=message):
        build_release({"rna": rna}, default_design())


def test_what_cannot_be_written_leaves_the_old_file(modalities, released, tmp_path):
    path = tmp_path / "x.h5ad"
    path.write_bytes(released.read_bytes())
    cells = build_release(modalities, default_design())
    cells.uns["odd"] = object()
    with pytest.raises(InvalidDataError, match="cannot be written"):
        write_release(cells, path)
    assert path.read_bytes() == released.read_bytes() and [p.name for p in tmp_path.iterdir()] == ["x.h5ad"]


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


def held(names: list[str]) -> bool:
    """Whether HDF5 can tell these names apart, ``/`` written as ``_``."""
    given = ["_" if name in ("", ".") else name.replace("/", "_") for name in names]
    return len(set(given)) == len(given) and not {"_index", "__categories"} & set(given)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tags=st.lists(NAMES, min_size=1, max_size=4, unique=True),
    columns=st.lists(NAMES, max_size=4, unique=True),
    genes=st.lists(NAMES, min_size=1, max_size=5, unique=True),
    text=st.lists(NAMES, min_size=5, max_size=5),
    seed=st.integers(0, 1000),
)
def test_any_names_and_counts_come_back_or_are_refused(tags, columns, genes, text, seed, tmp_path):
    rng = np.random.default_rng(seed)
    fixed = ("hashtag_call", "hashtag_kind", "assigned_condition", "condition", "assigned_phase", "phase")
    cells = [f"{i}{name}" for i, name in enumerate(text)]
    obs = pd.DataFrame({"pool": "p", **dict.fromkeys(fixed, "")}, index=cells)
    for name in columns:
        obs[name] = text if rng.random() < 0.5 else rng.random(5)
    some = [rng.poisson(3, (5, n)) * (rng.random((5, n)) < 0.3) for n in (len(genes), len(tags))]
    counts, tag_counts = (sp.csr_matrix(dense.astype(np.int32)) for dense in some)
    var = pd.DataFrame({"gene_id": genes, "symbol": genes}, index=genes)
    given = {
        "rna": anndata.AnnData(log_normalised(counts), obs.copy(), var, layers={"counts": counts}),
        "hto": anndata.AnnData(tag_counts, obs, pd.DataFrame(index=tags), layers={"counts": tag_counts.copy()}),
    }
    if not held(tags) or not held(list(obs)):
        with pytest.raises(InvalidDataError, match="name"):
            build_release(given, Design(name="any"))
        return
    write_release(build_release(given, Design(name="any")), tmp_path / "x.h5ad")
    validate_cells(tmp_path / "x.h5ad")
    assert_same(given, back(tmp_path / "x.h5ad"))


def test_the_commands_go_round_and_the_container_takes_it(modalities, tmp_path, capsys):
    folder, out = write_all(modalities, tmp_path / "cells"), tmp_path / "out.h5ad"
    assert run(["seq", "release", str(folder), str(out), "--dry-run"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["cells"] == N_CELLS and said["outputs"] == ["out.h5ad"] and not out.exists()
    assert run(["seq", "release", str(folder), str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["features"] == {"genes": 30, "transcripts": 45, "hashtags": 5}
    assert run(["data", "validate", str(out)]) == 0
    assert run(["seq", "import-cells", str(out), str(tmp_path / "back"), "--dry-run"]) == 0
    planned = json.loads(capsys.readouterr().out)["outputs"]
    assert run(["seq", "import-cells", str(out), str(tmp_path / "back"), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert sorted(planned) == sorted(p.name for p in (tmp_path / "back").iterdir()) and record["modalities"] == [
        "rna", "isoform", "hto",
    ]  # fmt: skip
    container = tmp_path / "x.hyped"
    (tmp_path / "design.yaml").write_text(default_design().to_yaml())
    call = ["data", "assemble", str(container), "--cells", str(tmp_path / "back")]
    assert run([*call, "--design", str(tmp_path / "design.yaml")]) == 0
    hd = HypedData.read(container)
    hd.validate()
    assert sorted(hd.table_names) == ["hto", "isoform", "rna"]
    assert (hd.table("isoform").layers["counts"] != modalities["isoform"].layers["counts"]).nnz == 0
    assert run(["seq", "release", str(folder), str(tmp_path / "less.h5ad"), "--without-isoforms"]) == 0
    assert describe_cells(tmp_path / "less.h5ad")["absent"] == {"isoform": "left out when the release was made"}
