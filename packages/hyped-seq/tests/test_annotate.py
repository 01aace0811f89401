"""`hyped seq annotate`: normalisation, embedding, the columns later steps rely on, files, and odd input."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from hyped_core.cli.main import run
from hyped_core.context import RunContext, SilentProgress
from hyped_core.design import Design, default_design
from hyped_core.design.model import parse_design
from hyped_core.errors import InvalidDataError, MissingFileError
from hyped_seq.annotate.cycle_genes import CycleGenes, read_cycle_genes
from hyped_seq.annotate.embedding import fit_components, principal_components
from hyped_seq.annotate.normalise import log_normalised, mean_and_variance, variable_genes
from hyped_seq.annotate.params import AnnotateParams
from hyped_seq.annotate.run import OUTPUTS, annotate, read_ingested, write_annotated
from hyped_seq.cli_annotate import messages
from hyped_seq.demultiplex.calls import check_against_design
from hyped_seq.demultiplex.run import write_calls
from hyped_seq.readers.h5ad import write_h5ad

CONTEXT = RunContext()
PARAMS = AnnotateParams.model_validate({"tsne": False, "umap": False})


def test_fixed_columns_and_layers(annotated):
    rna = annotated.modalities["rna"]
    fixed = [
        "pool",
        "hashtag_call",
        "hashtag_kind",
        "assigned_condition",
        "condition",
        "assigned_phase",
        "phase",
    ]
    assert set(fixed) <= set(rna.obs)
    for name, data in annotated.modalities.items():
        assert list(data.obs_names) == list(rna.obs_names), name
        assert set(fixed) <= set(data.obs)
        assert data.layers["counts"].dtype == np.int32
    back = np.expm1(rna.X.astype(np.float64)).sum(axis=1)
    assert rna.X.dtype == np.float32 and np.allclose(back, 1e4, rtol=1e-4)
    names = json.loads(rna.uns["perturbations_json"])
    assert set(names) == {"control", "PRRX1", "MYOD1", "PRRX1+MYOD1"}
    both = rna.obs["condition"] == "siPRRX1_mmMYOD1"
    assert set(rna.obs["perturbation"][both]) == {"PRRX1+MYOD1"}
    assert rna.obsm["X_pca"].shape == (rna.n_obs, 30)
    assert {"n_counts", "n_genes", "mito_pct", "doublet_score", "predicted_doublet", "ambient_share"} <= set(rna.obs)


def test_every_cell_is_kept_or_accounted_for(annotated, seq_world):
    kept, removed = set(annotated.modalities["rna"].obs_names), set(annotated.removed["cell"])
    assert kept | removed == set(seq_world.cells.index) and not kept & removed
    assert (annotated.removed["reason"] != "").all()
    low = set(seq_world.cells.index[seq_world.cells["low_quality"]])
    assert len(low & removed) > 0.9 * len(low)
    assert len(removed - low) < 0.02 * len(seq_world.cells)


def test_doublets_stay_and_have_no_phase_or_assigned_condition(annotated):
    obs = annotated.modalities["rna"].obs
    doublet = obs["hashtag_kind"] == "doublet"
    assert (
        doublet.any()
        and (obs["phase"][doublet] == "").all()
        and (obs["assigned_condition"][doublet] == "").all()
    )
    in_control = doublet & (obs["pool"] == "control")
    assert (obs["condition"][in_control] == "control").all(), "every cell of that pool is a control cell"


def test_same_seed_same_bytes(ingested, calls, tmp_path):
    (tmp_path / "some").mkdir()
    for path in ingested.glob("*.h5ad"):
        write_h5ad(anndata.read_h5ad(path)[::3].copy(), tmp_path / "some" / path.name)
    digests = []
    for name in ("a", "b"):
        read, context = read_ingested(tmp_path / "some"), RunContext(seed=7)
        result = annotate(read, calls, default_design(), AnnotateParams(), CycleGenes(), context=context)
        write_annotated(result, tmp_path / name)
        made = sorted((tmp_path / name).iterdir())
        digests.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in made})
    assert digests[0] == digests[1] and set(digests[0]) == set(OUTPUTS)
    views = anndata.read_h5ad(tmp_path / "a" / "rna.h5ad").obsm
    assert views["X_tsne"].shape[1] == views["X_umap"].shape[1] == 2


def test_normalisation_and_moments():
    rng = np.random.default_rng(0)
    counts = sp.csr_matrix(rng.poisson(2, (30, 12)))
    logs = log_normalised(counts)
    dense = np.log1p(counts.toarray() / counts.sum(1) * 1e4)
    assert np.allclose(logs.toarray(), dense, rtol=1e-5)
    mean, variance = mean_and_variance(logs)
    assert np.allclose(mean, dense.mean(0), rtol=1e-5) and np.allclose(
        variance, dense.var(0, ddof=1), rtol=1e-3
    )
    assert log_normalised(sp.csr_matrix((3, 4), dtype=np.int32)).nnz == 0


def test_variable_genes_find_the_planted_ones():
    rng = np.random.default_rng(1)
    mean = np.tile(rng.uniform(2, 20, 300), (200, 1))
    mean[:100, :15] *= 1.8
    mean[100:, :15] *= 0.2
    chosen = variable_genes(log_normalised(sp.csr_matrix(rng.poisson(mean))), 20)
    assert chosen.sum() == 20 and chosen[:15].sum() >= 13


def test_calls_of_another_experiment(ingested, calls):
    with pytest.raises(InvalidDataError, match="no call for"):
        annotate(
            read_ingested(ingested), calls.iloc[5:], default_design(), PARAMS, CycleGenes(), context=CONTEXT
        )


def test_an_ingest_without_rna(tmp_path):
    with pytest.raises(MissingFileError, match="rna.h5ad"):
        read_ingested(tmp_path)


def test_command_line_refuses_unknown_keys(ingested, calls, tmp_path, capsys):
    write_calls(calls, tmp_path / "calls.csv")
    (tmp_path / "p.yaml").write_text("annotate: {quality: {n_mad: 3}}\n")
    arguments = ["seq", "annotate", str(ingested), str(tmp_path / "calls.csv"), str(tmp_path / "out")]
    assert run([*arguments, "--params", f"{tmp_path / 'p.yaml'}#annotate"]) == 3
    assert "n_mad" in capsys.readouterr().err and not (tmp_path / "out").exists()
    (tmp_path / "p.yaml").write_text("annotate: {tsne: false, umap: false}\n")
    assert run([*arguments, "--params", f"{tmp_path / 'p.yaml'}#annotate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cells"] > 800


def test_components_are_those_of_a_dense_decomposition():
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(0)
    groups = rng.integers(0, 4, 5000)
    counts = rng.poisson(rng.gamma(0.5, 2, (4, 60))[groups])
    logs = log_normalised(sp.csr_matrix(counts))
    dense = logs.toarray().astype(float)
    scaled = np.minimum((dense - dense.mean(0)) / dense.std(0), 10)
    theirs = PCA(5, svd_solver="full").fit_transform(scaled)
    ours = principal_components(logs, 5)
    for k in range(5):
        assert abs(np.corrcoef(ours[:, k], theirs[:, k])[0, 1]) > 1 - 1e-4
        assert ours[:, k].std() == pytest.approx(theirs[:, k].std(), rel=1e-4)
    assert np.allclose(fit_components(logs, 5).scores(logs[:7]), ours[:7], atol=1e-5), "a cell's scores are its own"


def small_experiment(
    folder: Path, pools: dict[str, int], conditions: dict[str, list[str]], mito: bool = True
) -> Design:
    """An ingest folder with random genes (no hashtags), and a design whose ``pools`` have these ``conditions``."""
    rng = np.random.default_rng(0)
    names = [name for name, n in pools.items() for _ in range(n)]
    genes = [f"G{i}" for i in range(60)] + [f"MT-{i}" if mito else f"X{i}" for i in range(3)]
    counts = sp.csr_matrix(rng.poisson(np.tile(rng.gamma(1, 8, len(genes)), (len(names), 1))).astype(np.int32))
    cells = [f"{name}_{i}" for i, name in enumerate(names)]
    obs = pd.DataFrame({"pool": names, "barcode": [c.split("_")[1] for c in cells]}, index=cells)
    var = pd.DataFrame({"symbol": genes, "gene_id": genes}, index=genes)
    folder.mkdir()
    write_h5ad(AnnData(counts, obs=obs, var=var, layers={"counts": counts}), folder / "rna.h5ad")
    known = dict.fromkeys(c for some in conditions.values() for c in some)
    return parse_design(
        {
            "name": "small",
            "conditions": [{"name": name} for name in known],
            "pools": [{"name": name, "conditions": some} for name, some in conditions.items()],
        },
        "test",
    )


def test_without_hashtags_a_pool_with_one_condition_is_of_it(tmp_path):
    conditions = {"p1": ["control"], "p2": ["drug"], "p3": ["control", "drug"]}
    design = small_experiment(tmp_path / "ingest", {"p1": 40, "p2": 40, "p3": 30}, conditions, mito=False)
    result = annotate(read_ingested(tmp_path / "ingest"), None, design, PARAMS, CycleGenes(), context=CONTEXT)
    obs = result.modalities["rna"].obs
    assert dict(zip(obs["pool"], obs["condition"].astype(str))) == {"p1": "control", "p2": "drug", "p3": ""}
    assert set(obs["hashtag_kind"][obs["pool"] == "p3"]) == {""} and obs["hashtag_probability"].isna().all()
    assert result.record["contrasts"] == ["drug_vs_control"]
    assert (result.changes.de["warning"].astype(str).str.contains("pool")).all()
    assert "no gene begins with MT-" in result.record["quality_notes"][0] and obs["mito_pct"].isna().all()
    assert obs["doublet_score"].isna().all() and "fewer than 50" in result.record["doublets"]["p1"]["reason"]
    assert obs["ambient_share"].isna().all()
    write_annotated(result, tmp_path / "cells")
    assert anndata.read_h5ad(tmp_path / "cells" / "rna.h5ad").n_obs == len(obs)


def test_the_command_line_takes_a_dash_for_no_calls(tmp_path, capsys):
    small_experiment(tmp_path / "ingest", {"one": 70}, {"one": ["drug"]})
    design = "{name: d, conditions: [{name: drug}], pools: [{name: one, conditions: [drug]}]}"
    (tmp_path / "design.yaml").write_text(design)
    (tmp_path / "p.yaml").write_text("a: {tsne: false, umap: false}")
    arguments = ["seq", "annotate", str(tmp_path / "ingest"), "-", str(tmp_path / "cells")]
    arguments += ["--design", str(tmp_path / "design.yaml"), "--params", f"{tmp_path / 'p.yaml'}#a"]
    assert run(arguments) == 0
    said = capsys.readouterr().err
    assert "doublets of one: about 0.1 %" in said and "one condition (drug): nothing is compared" in said
    assert set(anndata.read_h5ad(tmp_path / "cells" / "rna.h5ad").obs["condition"]) == {"drug"}


def test_cells_of_a_pool_without_hashtags_need_no_call(tmp_path):
    design = small_experiment(tmp_path / "ingest", {"p1": 30, "p2": 30}, {"p1": ["control"], "p2": ["control", "drug"]})
    tags = [{"pool": "p2", "tag": tag, "condition": name} for tag, name in (("A", "control"), ("B", "drug"))]
    design = parse_design({**design.model_dump(), "hashtags": tags}, "test")
    modalities = read_ingested(tmp_path / "ingest")
    names = modalities["rna"].obs_names[30:]
    tag = np.array(["A", "B"] * 15)
    condition = np.where(tag == "A", "control", "drug")
    calls = pd.DataFrame({"pool": "p2", "call": tag, "kind": "singlet", "probability": 0.9, "tags": tag}, index=names)
    calls = calls.assign(condition=condition, phase="", forced_call=tag, doublet_probability=0.1, margin=2.0)
    result = annotate(modalities, calls, design, PARAMS, CycleGenes(), context=CONTEXT)
    obs = result.modalities["rna"].obs
    assert set(obs["condition"][:30]) == {"control"} and list(obs["condition"][30:]) == list(condition)
    assert list(obs["forced_call"]) == [""] * 30 + list(tag) and obs["margin"].isna().sum() == 30
    assert modalities == {}, "each matrix is held once"
    again = read_ingested(tmp_path / "ingest")
    with pytest.raises(InvalidDataError, match="is of pool 'p1', the matrix says 'p2'"):
        annotate(again, calls.assign(pool="p1"), design, PARAMS, CycleGenes(), context=CONTEXT)


def test_predicted_doublets_leave_only_if_asked(ingested, calls, annotated):
    marked = annotated.modalities["rna"].obs
    assert marked["predicted_doublet"].any() and annotated.record["doublets"]["removed"] is False
    params = PARAMS.model_copy(update={"doublets": PARAMS.doublets.model_copy(update={"remove": True})})
    result = annotate(read_ingested(ingested), calls, default_design(), params, CycleGenes(), context=CONTEXT)
    kept = result.modalities["rna"].obs_names
    assert list(kept) == list(marked.index[~marked["predicted_doublet"]])
    gone = result.removed.set_index("cell")["reason"]
    assert gone[marked.index[marked["predicted_doublet"]]].str.startswith("doublet_score").all()
    assert list(gone.index) == [cell for cell in calls.index if cell not in set(kept)]
    assert result.record["removed"] + result.record["cells"] == len(calls)


def test_hashtags_alone_get_calls_and_conditions(tmp_path):
    design = parse_design(
        {
            "name": "two",
            "conditions": [{"name": "control"}, {"name": "other"}],
            "pools": [{"name": "p"}],
            "hashtags": [
                {"pool": "p", "tag": "a", "barcode": "ACGT", "condition": "control", "phase": "S"},
                {"pool": "p", "tag": "b", "barcode": "TGCA", "condition": "other"},
            ],
        },
        "test",
    )
    counts = np.array([[9, 0], [0, 8], [7, 7]], dtype=np.float32)
    cells = ["p_AA", "p_CC", "p_GG"]
    hto = AnnData(counts, obs=pd.DataFrame({"pool": "p", "barcode": ["AA", "CC", "GG"]}, index=cells))
    hto.var_names = ["a", "b"]
    (tmp_path / "ingest").mkdir()
    write_h5ad(hto, tmp_path / "ingest" / "hto.h5ad")
    calls = pd.DataFrame(
        {
            "pool": "p",
            "call": ["a", "b", "Doublet"],
            "kind": ["singlet", "singlet", "doublet"],
            "probability": [0.9, 0.9, 0.8],
            "tags": ["a", "b", "a+b"],
            "condition": ["control", "other", ""],
            "phase": ["S", "", ""],
        },
        index=cells,
    )
    read, genes = read_ingested(tmp_path / "ingest"), read_cycle_genes(None)
    result = annotate(read, calls, design, AnnotateParams(), genes, context=RunContext())
    write_annotated(result, tmp_path / "cells")
    obs = result.modalities["hto"].obs
    assert list(obs["condition"]) == ["control", "other", ""]
    assert list(obs["phase"]) == ["S", "", ""]
    written = sorted(p.name for p in (tmp_path / "cells").iterdir())
    assert written == ["annotate.json", "de.csv", "dose.csv", "hto.h5ad", "isoform_usage.csv", "removed.csv"]


def test_a_dry_run_says_what_it_would_make_and_writes_nothing(ingested, calls, annotated, tmp_path, capsys):
    write_calls(calls, tmp_path / "calls.csv")
    arguments = ["seq", "annotate", str(ingested), str(tmp_path / "calls.csv"), str(tmp_path / "out")]
    assert run([*arguments, "--dry-run"]) == 0
    said = json.loads(capsys.readouterr().out)
    held = {path.stem: anndata.read_h5ad(path) for path in ingested.glob("*.h5ad")}
    assert said["cells"] == held["rna"].n_obs
    assert said["features"] == {name: data.n_vars for name, data in held.items()}
    assert set(said["outputs"]) == {*(f"{n}.h5ad" for n in held), *OUTPUTS[3:]}
    assert said["seconds"] > 0 and "cells/s" in said["rate"] and not (tmp_path / "out").exists()
    write_annotated(annotated, tmp_path / "made")
    size = sum(path.stat().st_size for path in (tmp_path / "made").iterdir())
    assert 0.5 * size < said["bytes"] < 2 * size


def tagged(counts: np.ndarray) -> tuple[dict[str, AnnData], pd.DataFrame, Design]:
    """Cells of one pool with these counts and two tags in turn: modalities, calls, design."""
    n, genes = counts.shape[0], [f"G{i}" for i in range(counts.shape[1])]
    design = parse_design(
        {
            "name": "tiny",
            "conditions": [{"name": "control"}, {"name": "up"}],
            "pools": [{"name": "p", "conditions": ["control", "up"]}],
            "hashtags": [{"pool": "p", "tag": tag, "condition": name} for tag, name in (("A", "control"), ("B", "up"))],
        },
        "test",
    )
    cells = [f"p_{i}" for i in range(n)]
    matrix = sp.csr_matrix(counts.astype(np.int32))
    obs = pd.DataFrame({"pool": "p", "barcode": cells}, index=cells)
    var = pd.DataFrame({"symbol": genes, "gene_id": genes}, index=genes)
    tags = np.array((["A", "B"] * n)[:n])
    calls = pd.DataFrame({"pool": "p", "call": tags, "kind": "singlet", "probability": 0.9, "tags": tags}, index=cells)
    calls = calls.assign(condition=np.where(tags == "A", "control", "up"), phase="")
    return {"rna": AnnData(matrix, obs=obs, var=var, layers={"counts": matrix})}, calls, design


RANDOM = np.random.default_rng(5).poisson(5, (5, 40)) + 1
SMALL = {
    "one cell": (RANDOM[:1], "one cell, there are no principal components"),
    "two cells": (RANDOM[:2], "2 cells, too few for t-SNE and UMAP"),
    "one gene of one cell": (RANDOM[:1, :1], "one cell, there are no principal components"),
    "one gene": (np.full((60, 1), 7), "no gene varies among the cells"),
    "identical cells": (np.tile(RANDOM[0], (60, 1)), "no gene varies among the cells"),
}


@pytest.mark.parametrize("name", SMALL)
def test_hardly_any_cells_or_genes_are_annotated_and_what_is_skipped_is_said(name, tmp_path):
    counts, message = SMALL[name]
    modalities, calls, design = tagged(counts)
    result = annotate(modalities, calls, design, AnnotateParams(), CycleGenes(), context=CONTEXT)
    notes = result.record["quality_notes"]
    assert any(message in note for note in notes) and set(messages(result.record)) > set(notes)
    assert any(note.startswith("doublets of p: not scored") for note in notes)
    assert not {"X_tsne", "X_umap"} & set(result.modalities["rna"].obsm)
    write_annotated(result, tmp_path / "cells")
    assert anndata.read_h5ad(tmp_path / "cells" / "rna.h5ad").n_obs == len(counts)


def test_one_component_is_no_map():
    counts = np.c_[np.full(60, 7), np.where(np.arange(60) < 5, 7, 0)]  # the second gene is seen in too few cells
    modalities, calls, design = tagged(counts)
    params = AnnotateParams.model_validate({"quality": {"min_cells_per_gene": 10}})
    result = annotate(modalities, calls, design, params, CycleGenes(), context=CONTEXT)
    assert result.modalities["rna"].obsm["X_pca"].shape == (60, 1)
    assert "embedding: one principal component, too few for t-SNE and UMAP" in result.record["quality_notes"]


def test_five_cells_have_maps():
    modalities, calls, design = tagged(RANDOM)
    result = annotate(modalities, calls, design, AnnotateParams(), CycleGenes(), context=CONTEXT)
    assert {name: view.shape for name, view in result.modalities["rna"].obsm.items()} == {
        "X_pca": (5, 4), "X_tsne": (5, 2), "X_umap": (5, 2)
    }  # fmt: skip


def test_parts_are_told_as_they_come():
    class Told(SilentProgress):
        lines: list[str] = []

        def track(self, items, description, total=None):
            self.lines.append(description)
            yield from items

    modalities, calls, design = tagged(RANDOM)
    annotate(modalities, calls, design, AnnotateParams(), CycleGenes(), context=RunContext(progress=Told()))
    assert Told.lines == [f"annotate: {name}" for name in (
        "quality", "doublets", "soup", "phases", "principal components", "t-SNE", "UMAP", "changes between conditions"
    )]  # fmt: skip


EDITS: dict[str, tuple[dict[str, str], str]] = {
    "condition": ({"condition": "nonsense"}, "condition is 'nonsense', expected 'control'"),
    "of another tag": ({"condition": "up"}, "condition is 'up', expected 'control'"),
    "tag": ({"call": "foo"}, "call is 'foo', expected one of A, B"),
    "call alone": ({"call": "B"}, "condition is 'control', expected 'up'"),
    "doublet": ({"call": "Doublet", "kind": "doublet"}, "condition is 'control', expected ''"),
    "kind alone": ({"kind": "negative", "condition": ""}, "call is 'A', expected no tag"),
    "phase": ({"phase": "S"}, "phase is 'S', expected ''"),
    "emptied": ({"condition": ""}, "condition is '', expected 'control'"),
}


@pytest.mark.parametrize("name", EDITS)
def test_calls_that_contradict_the_design_are_refused_with_row_and_field(name):
    modalities, calls, design = tagged(RANDOM)
    edit, message = EDITS[name]
    for column, value in edit.items():
        calls.loc["p_2", column] = value
    with pytest.raises(InvalidDataError, match="row 3, cell 'p_2'") as caught:
        annotate(modalities, calls, design, PARAMS, CycleGenes(), context=CONTEXT, calls_from="calls.csv")
    assert message in str(caught.value) and caught.value.mend and "calls.csv" in str(caught.value)


def test_calls_edited_as_a_whole_are_taken():
    modalities, calls, design = tagged(RANDOM)
    calls.loc["p_2", ["call", "condition"]] = ["B", "up"]
    calls.loc["p_0", ["call", "kind", "condition"]] = ["Doublet", "doublet", ""]
    obs = annotate(modalities, calls, design, PARAMS, CycleGenes(), context=CONTEXT).modalities["rna"].obs
    assert list(obs["assigned_condition"]) == ["", "up", "up", "up", "control"]


def test_calls_of_a_pool_that_the_design_lacks_have_no_condition():
    _, calls, design = tagged(RANDOM)
    elsewhere = calls.assign(pool="q", condition="")
    check_against_design(elsewhere, design, "calls.csv")
    with pytest.raises(InvalidDataError, match="expected ''") as caught:
        check_against_design(elsewhere.assign(condition="up"), design, "calls.csv")
    assert "--design" in caught.value.mend


@pytest.mark.parametrize("damage", ["cut", "kind", "probability", "short", "binary"])
def test_damaged_calls_are_refused_by_the_name_of_their_file(damage, ingested, calls, tmp_path, capsys):
    path = tmp_path / "calls.csv"
    write_calls(calls, path)
    text = path.read_text()
    lines = text.splitlines(keepends=True)
    broken = {
        "cut": "".join(lines[:-5]),
        "kind": text.replace(",singlet,", ",singelt,", 1),
        "probability": text.replace(lines[1].split(",")[4], "0.x9", 1),
        "short": "".join(lines[:-1]) + lines[-1][:25],
    }
    path.write_bytes(b"\x00\xff\xfe\x81" * 50 if damage == "binary" else broken[damage].encode())
    assert run(["seq", "annotate", str(ingested), str(path), str(tmp_path / "out")]) == 3
    assert f"{path}: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
