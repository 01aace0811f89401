"""`hyped seq ingest`: pools of wf-single-cell into AnnData over the same cells."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import anndata
import numpy as np
import pytest
import scipy.io

from hyped_core.cli.main import run
from hyped_core.context import RunContext
from hyped_core.design import Design, default_design
from hyped_core.errors import CorruptFileError, DesignError, InvalidDataError, MissingFileError, UsageError
from hyped_seq.ingest.estimate_pools import estimate_pools
from hyped_seq.ingest.genes import EMPTY, GeneMap, read_gene_map
from hyped_seq.ingest.output import output_files
from hyped_seq.ingest.params import IngestParams
from hyped_seq.ingest.pool import parse_hashtag_arguments
from hyped_seq.ingest.run import Ingested, ingest_pools, write_ingested

BARCODES = ["AAACCCAAGAAACACT", "AAACCCAAGAAACCAT", "GGGTTTCCATTTGGCA"]


def ingest(pool: Path, design: Design, gene_map: GeneMap = EMPTY, **params: object) -> Ingested:
    return ingest_pools([pool], design, IngestParams.model_validate(params), gene_map, context=RunContext())


def tree(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_small_pool(small_pool, small_design):
    gene_map = GeneMap({"MYOD1": "ENSG00000129152"}, frozenset(), {})
    result = ingest(small_pool, small_design, gene_map)
    rna, isoform, hto = (result.modalities[name] for name in ("rna", "isoform", "hto"))
    names = [f"p1_{barcode}" for barcode in BARCODES]
    assert list(rna.obs_names) == list(isoform.obs_names) == list(hto.obs_names) == names
    assert rna.to_df().to_dict("list") == {
        "MYOD1": [5, 0, 1],
        "DUP": [3, 2, 7],
        "MT-CO1": [0, 7, 0],
        "NOVEL": [9, 9, 9],
    }
    assert (rna.X != rna.layers["counts"]).nnz == 0 and rna.X.dtype == np.int32
    assert rna.var.loc["MYOD1", "gene_id"] == "ENSG00000129152" and not rna.var.loc["DUP", "mapped"]
    assert result.unmapped["symbol"].tolist() == ["DUP", "MT-CO1", "NOVEL"]
    assert set(result.unmapped["reason"]) == {"not in the gene map"}
    assert rna.X is rna.layers["counts"], "one matrix in memory"
    assert result.record["summed_features"] == {"DUP": 2}
    assert rna.obs["mito_pct"].tolist() == [1.0, 2.0, 30.0]
    assert rna.obs["n_reads"].tolist() == [2, 0, 1] and rna.obs["n_reads_assigned"].tolist() == [1, 0, 1]
    assert rna.obs["n_counts"].tolist() == [17, 18, 17]
    assert isoform.to_df().to_dict("list") == {"ENST1": [0, 0, 5], "ENST2": [2, 0, 3]}
    assert isoform.var["symbol"].tolist() == ["MYOD1", "DUP"]
    assert hto.to_df().to_dict("list") == {"A": [40, 2, 33], "B": [1, 50, 2]}
    assert result.record["pools"]["p1"]["cells_without_transcripts"] == 1


def test_simulated_pools_add_up(seq_world, tmp_path):
    gene_map = read_gene_map(seq_world.raw / "reference.gtf.gz")
    result = ingest_pools(seq_world.pools, default_design(), IngestParams(), gene_map, context=RunContext())
    rna, isoform, hto = (result.modalities[name] for name in ("rna", "isoform", "hto"))
    assert set(rna.obs_names) == set(seq_world.cells.index) and rna.obs_names.is_unique
    for pool in ("perturbed", "control"):
        raw = scipy.io.mmread(seq_world.raw / pool / f"{pool}.gene_raw_feature_bc_matrix" / "matrix.mtx.gz")
        assert rna[rna.obs["pool"] == pool].X.sum() == raw.sum()
    assert rna.var["mapped"].all() and rna.var["gene_id"].str.startswith("ENSG").all()
    by_gene = isoform.to_df().T.groupby(isoform.var["symbol"]).sum().T
    assert (by_gene.to_numpy() == rna.to_df()[list(by_gene.columns)].to_numpy()).all()
    assert {"394631", "394633", "394635", "394603", "394605"} == set(hto.var_names)
    of_control = hto[hto.obs["pool"] == "control"].to_df()
    assert (of_control[["394633", "394635"]] == 0).all(axis=None), (
        "tags of the other pool hold no counts here"
    )
    truth = seq_world.cells.loc[rna.obs_names, "n_counts"]
    assert (rna.obs["n_counts"].to_numpy() == truth.to_numpy()).all()


def test_same_input_same_bytes(small_pool, small_design, tmp_path):
    for name in ("a", "b"):
        write_ingested(ingest(small_pool, small_design), tmp_path / name)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert set(tree(tmp_path / "a")) == {
        "rna.h5ad",
        "isoform.h5ad",
        "hto.h5ad",
        "ingest.json",
        "unmapped_genes.csv",
    }


def test_a_tag_the_design_lacks(small_pool, small_design):
    (small_pool / "hashtags" / "counts.csv").write_text(
        "," + ",".join(BARCODES) + "\nA,1,2,3\nB,4,5,6\nC9,7,8,9\n"
    )
    with pytest.raises(DesignError, match="'C9'"):
        ingest(small_pool, small_design)
    assert list(ingest(small_pool, small_design, unlisted_tags="drop").modalities["hto"].var_names) == [
        "A",
        "B",
    ]
    assert list(ingest(small_pool, small_design, unlisted_tags="keep").modalities["hto"].var_names) == [
        "A",
        "B",
        "C9",
    ]


def test_a_tag_the_counts_lack(small_pool, small_design):
    (small_pool / "hashtags" / "counts.csv").write_text("," + ",".join(BARCODES) + "\nA,1,2,3\n")
    with pytest.raises(DesignError, match="'B'"):
        ingest(small_pool, small_design)
    hto = ingest(small_pool, small_design, absent_tags="zero").modalities["hto"]
    assert hto.to_df()["B"].tolist() == [0, 0, 0]


def test_a_tag_the_reads_lack(seq_world):
    known = default_design()
    hashtags = [
        tag.model_copy(update={"tag": "C9", "barcode": "ACACACACACACACA"}) if tag.tag == "394633" else tag
        for tag in known.hashtags
    ]
    design = known.model_copy(update={"hashtags": tuple(hashtags)})
    with pytest.raises(DesignError, match=r"'C9'.*reads.fastq.gz"):
        ingest(seq_world.raw / "perturbed", design, hashtags="reads")
    hto = ingest(seq_world.raw / "perturbed", design, hashtags="reads", absent_tags="zero").modalities["hto"]
    assert hto.to_df()["C9"].sum() < 10 < hto.to_df().drop(columns="C9").sum().min()


def test_a_pool_the_design_lacks(small_pool, small_design, tmp_path):
    other = small_pool.rename(tmp_path / "p2")
    with pytest.raises(DesignError, match="'p2'"):
        ingest(other, small_design)
    assert ingest_pools([f"p1={other}"], small_design, IngestParams(), EMPTY, context=RunContext()).record[
        "cells"
    ] == {"p1": 3}


def test_a_pool_given_twice(small_pool, small_design):
    with pytest.raises(UsageError, match="'p1'"):
        ingest_pools([small_pool, small_pool], small_design, IngestParams(), EMPTY, context=RunContext())


def test_hashtags_of_another_run(small_pool, small_design):
    (small_pool / "hashtags" / "counts.csv").write_text(",TTTT,CCCC,GGGG\nA,1,2,3\nB,1,2,3\n")
    with pytest.raises(InvalidDataError, match="0 of the 3 cells"):
        ingest(small_pool, small_design)


def test_an_empty_pool(small_pool, small_design, mex_writer):
    folder = small_pool / "p1.gene_raw_feature_bc_matrix"
    mex_writer(folder, np.zeros((1, 3), dtype=int), BARCODES, ["u\tG"])
    with pytest.raises(InvalidDataError, match="empty"):
        ingest(small_pool, small_design)
    mex_writer(folder, np.zeros((1, 0), dtype=int), [], ["u\tG"])
    with pytest.raises(InvalidDataError, match="no cells"):
        ingest(small_pool, small_design)


def test_without_hashtags(small_pool, small_design):
    assert set(ingest(small_pool, small_design, hashtags="none").modalities) == {"rna", "isoform"}
    with pytest.raises(MissingFileError, match="reads.fastq.gz"):
        ingest(small_pool, small_design, hashtags="reads")


def test_hashtag_table_alone(small_pool, small_design):
    result = ingest_pools(
        [f"p1={small_pool / 'hashtags' / 'counts.csv'}"],
        small_design,
        IngestParams(),
        EMPTY,
        context=RunContext(),
    )
    assert list(result.modalities) == ["hto"]
    assert result.modalities["hto"].to_df()["A"].tolist() == [40, 2, 33]


def test_a_retired_symbol_is_renamed_and_summed(small_pool, small_design, tmp_path):
    (tmp_path / "aliases.csv").write_text("old,new\nDUP,MYOD1\nMT-CO1,X\nMT-CO1,Y\nUNSEEN,MYOD1\n")
    (tmp_path / "map.csv").write_text("MYOD1,ENSG00000129152\n")
    gene_map = read_gene_map(tmp_path / "map.csv", tmp_path / "aliases.csv")
    result = ingest(small_pool, small_design, gene_map)
    rna = result.modalities["rna"]
    assert rna.to_df().to_dict("list") == {"MYOD1": [8, 2, 8], "MT-CO1": [0, 7, 0], "NOVEL": [9, 9, 9]}
    assert rna.var["source_name"].tolist() == ["MYOD1|DUP", "MT-CO1", "NOVEL"]
    assert result.record["renamed"] == {"DUP": "MYOD1"}
    assert result.record["summed_features"] == {"MYOD1": 3}
    assert result.record["ambiguous_aliases"] == {"MT-CO1": ["X", "Y"]}
    assert result.modalities["isoform"].var["symbol"].tolist() == ["MYOD1", "MYOD1"]
    assert result.unmapped.to_numpy().tolist() == [
        ["MT-CO1", "is an alias of X and of Y"],
        ["NOVEL", "not in the gene map"],
    ]


def test_duplicate_symbols_kept_apart(small_pool, small_design):
    result = ingest(small_pool, small_design, duplicate_symbols="keep")
    rna = result.modalities["rna"]
    assert rna.to_df()[["DUP", "DUP-1"]].to_dict("list") == {"DUP": [1, 2, 3], "DUP-1": [2, 0, 4]}
    assert rna.var["symbol"].tolist() == ["MYOD1", "DUP", "MT-CO1", "DUP", "NOVEL"]
    assert result.record["kept_apart"] == {"DUP": 2} and result.record["summed_features"] == {}


def test_pools_with_features_in_another_order(small_pool, small_design, mex_writer, tmp_path):
    other = tmp_path / "p2"
    genes = np.array([[4, 0], [0, 6], [7, 8], [1, 1]])
    rows = [f"unknown_{i}\t{symbol}\tGene Expression" for i, symbol in enumerate(["NOVEL", "NEW", "MYOD1", "DUP"])]
    mex_writer(other / "p2.gene_raw_feature_bc_matrix", genes, ["AC-1", "GT-1"], rows)
    mex_writer(other / "p2.transcript_raw_feature_bc_matrix", np.array([[1, 2]]), ["AC-1", "GT-1"], ["u\tENST9"])
    result = ingest_pools(
        [small_pool, other],
        small_design.model_copy(update={"pools": (*small_design.pools, small_design.pools[0].model_copy(
            update={"name": "p2"}
        ))}),
        IngestParams(hashtags="none"),
        EMPTY,
        context=RunContext(),
    )  # fmt: skip
    rna, isoform = result.modalities["rna"], result.modalities["isoform"]
    assert rna.to_df().loc[["p2_AC", "p2_GT"]].to_dict("list") == {
        "MYOD1": [7, 8], "DUP": [1, 1], "MT-CO1": [0, 0], "NOVEL": [4, 0], "NEW": [0, 6]
    }  # fmt: skip
    assert rna.to_df().loc["p1_GGGTTTCCATTTGGCA"].tolist() == [1, 7, 0, 9, 0]
    assert isoform.to_df().to_dict("list") == {
        "ENST1": [0, 0, 5, 0, 0], "ENST2": [2, 0, 3, 0, 0], "ENST9": [0, 0, 0, 1, 2]
    }  # fmt: skip


def test_a_whitelist_of_another_run(small_pool, small_design):
    (small_pool / "p1.whitelist.tsv").write_text("TTTTTTTTTTTTTTTT\n" + BARCODES[0] + "\n")
    with pytest.raises(InvalidDataError, match=r"whitelist.tsv: knows 1 of the 3 cells of pool 'p1'"):
        ingest(small_pool, small_design)
    (small_pool / "p1.whitelist.tsv").write_text("\n".join(BARCODES[:2]) + "\n")
    result = ingest(small_pool, small_design)
    assert result.record["pools"]["p1"]["cells_not_in_whitelist"] == 1, "below the limit it is counted"
    (small_pool / "p1.whitelist.tsv").write_text("\n".join([*BARCODES, BARCODES[0]]) + "\n")
    with pytest.raises(InvalidDataError, match=r"whitelist.tsv.*occur more than once.*AAACCCAAGAAACACT"):
        ingest(small_pool, small_design)


def test_transcripts_of_another_run(small_pool, small_design, mex_writer):
    folder = small_pool / "p1.transcript_raw_feature_bc_matrix"
    mex_writer(folder, np.array([[5, 1, 2]]), ["AA-1", "CC-1", "GG-1"], ["u\tENST1"])
    with pytest.raises(InvalidDataError, match="transcript_raw_feature_bc_matrix: knows 0 of the 3 cells"):
        ingest(small_pool, small_design)


def test_a_cut_matrix_of_transcripts_is_named(small_pool, small_design):
    path = small_pool / "p1.transcript_raw_feature_bc_matrix" / "matrix.mtx.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CorruptFileError, match=r"p1.transcript_raw_feature_bc_matrix/matrix.mtx.gz"):
        ingest(small_pool, small_design)


def test_figures_of_cells_the_workflow_left_out(small_pool, small_design):
    (small_pool / "p1.gene_expression_mito_per_cell.tsv").write_text(f"CB\tmito_pct\n{BARCODES[1]}\t2.5\n")
    result = ingest(small_pool, small_design)
    mito = result.modalities["rna"].obs["mito_pct"]
    assert mito.iloc[1] == 2.5 and mito.isna().tolist() == [True, False, True]
    assert result.record["pools"]["p1"]["cells_without_mito_pct"] == 2
    (small_pool / "p1.gene_expression_mito_per_cell.tsv").unlink()
    (small_pool / "p1.read_summary.tsv").unlink()
    assert list(ingest(small_pool, small_design).modalities["rna"].obs) == ["pool", "barcode", "n_counts", "n_genes"]


def test_figures_of_another_pool_are_refused(small_pool, small_design):
    path = small_pool / "p1.gene_expression_mito_per_cell.tsv"
    own = path.read_text()
    path.write_text("CB\tmito_pct\n" + "".join(f"{code}\t2\n" for code in ("TTTT", "CCCC", BARCODES[0])))
    with pytest.raises(InvalidDataError, match=r"mito_per_cell.tsv: knows 1 of the 3 cells of pool 'p1'"):
        ingest(small_pool, small_design)
    path.write_text(own)
    path = small_pool / "p1.read_summary.tsv"
    text = path.read_text()
    path.write_text("".join(text.replace(code, "T" * 15 + str(i)) for i, code in enumerate(BARCODES[:1])).replace(
        BARCODES[2], "T" * 16
    ))  # fmt: skip
    with pytest.raises(InvalidDataError, match=r"read_summary.tsv: knows 0 of the 3 cells of pool 'p1'"):
        ingest(small_pool, small_design)


def test_transcripts_are_left_out_where_a_pool_has_none(small_pool, small_design, mex_writer, tmp_path, capsys):
    mex_writer(tmp_path / "tenx", MULTI_COUNTS[:1], BARCODES, MULTI[:1])
    (tmp_path / "tenx" / "hashtags").mkdir()
    (tmp_path / "tenx" / "hashtags" / "counts.csv").write_text((small_pool / "hashtags" / "counts.csv").read_text())
    values = small_design.model_dump(mode="json")
    values["pools"].append({**values["pools"][0], "name": "tenx"})
    values["hashtags"] += [{**tag, "pool": "tenx"} for tag in values["hashtags"]]
    (tmp_path / "two.yaml").write_text(json.dumps(values))
    pools = [str(small_pool), str(tmp_path / "tenx")]
    assert run(["seq", "ingest", *pools, str(tmp_path / "out"), "--design", str(tmp_path / "two.yaml")]) == 0
    assert "look: no isoform.h5ad: no counts of transcripts in tenx" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "ingest.json").read_text())["isoform_left_out"] == ["tenx"]
    assert sorted(tree(tmp_path / "out")) == ["hto.h5ad", "ingest.json", "rna.h5ad", "unmapped_genes.csv"]
    assert anndata.read_h5ad(tmp_path / "out" / "rna.h5ad").to_df()["G1"].tolist() == [0, 0, 0, 1, 0, 2]
    assert "isoform_left_out" not in ingest(small_pool, small_design).record


def test_hashtags_given_beside_the_pool(small_pool, small_design, mex_writer, tmp_path):
    table = tmp_path / "elsewhere.csv"
    table.write_text("," + ",".join(BARCODES) + "\nA,7,8,9\nB,1,2,3\n")
    given = {"p1": table}
    result = ingest_pools(
        [small_pool], small_design, IngestParams(), EMPTY, hashtags=given, context=RunContext()
    )
    assert result.modalities["hto"].to_df()["A"].tolist() == [7, 8, 9]
    assert result.record["pools"]["p1"]["hashtags_from"] == "elsewhere.csv"
    mex_writer(tmp_path / "mex", np.array([[1, 2, 3], [4, 5, 6]]), BARCODES, ["x\tB", "y\tA"])
    result = ingest_pools(
        [small_pool],
        small_design,
        IngestParams(hashtags="none"),
        EMPTY,
        hashtags={"p1": tmp_path / "mex"},
        context=RunContext(),
    )
    assert result.modalities["hto"].to_df().to_dict("list") == {"A": [4, 5, 6], "B": [1, 2, 3]}
    with pytest.raises(UsageError, match="'p9', the pools are p1"):
        ingest_pools(
            [small_pool], small_design, IngestParams(), EMPTY, hashtags={"p9": table}, context=RunContext()
        )
    with pytest.raises(MissingFileError, match="absent.csv"):
        ingest_pools(
            [small_pool],
            small_design,
            IngestParams(),
            EMPTY,
            hashtags={"p1": tmp_path / "absent.csv"},
            context=RunContext(),
        )
    with pytest.raises(InvalidDataError, match="holds the hashtags of pool 'p1' itself"):
        ingest_pools(
            [f"p1={table}"], small_design, IngestParams(), EMPTY, hashtags=given, context=RunContext()
        )


def test_hashtag_arguments():
    assert parse_hashtag_arguments(["b=x.csv", "a=/y/z"], ["a", "b"]) == {"b": Path("x.csv"), "a": Path("/y/z")}
    assert parse_hashtag_arguments(["dir/k=v.csv"], ["a"]) == {"a": Path("dir/k=v.csv")}
    for arguments, pools in ((["x.csv"], ["a", "b"]), (["c=x.csv"], ["a"]), (["a=x", "a=y"], ["a"])):
        with pytest.raises(UsageError):
            parse_hashtag_arguments(arguments, pools)


MULTI = ["e1\tG1\tGene Expression", "A\thash A\tAntibody Capture", "e2\tG2\tGene Expression",
         "B\thash B\tMultiplexing Capture", "g1\tguide\tCRISPR Guide Capture"]  # fmt: skip
MULTI_COUNTS = np.array([[1, 0, 2], [30, 1, 0], [0, 4, 5], [0, 40, 50], [9, 9, 9]])


def test_antibodies_of_a_10x_matrix_are_hashtags(small_design, mex_writer, tmp_path):
    mex_writer(tmp_path / "p1", MULTI_COUNTS, BARCODES, MULTI)
    result = ingest(tmp_path / "p1", small_design)
    assert result.modalities["rna"].to_df().to_dict("list") == {"G1": [1, 0, 2], "G2": [0, 4, 5]}
    assert result.modalities["hto"].to_df().to_dict("list") == {"A": [30, 1, 0], "B": [0, 40, 50]}
    assert result.record["pools"]["p1"]["hashtags_from"] == "matrix"
    assert result.record["pools"]["p1"]["features_left_out"] == {"CRISPR Guide Capture": 1}
    assert set(ingest(tmp_path / "p1", small_design, hashtags="none").modalities) == {"rna"}
    mex_writer(tmp_path / "p1", MULTI_COUNTS, BARCODES, [*MULTI[:3], MULTI[3].replace("B\t", "C\t"), MULTI[4]])
    with pytest.raises(DesignError, match="'C'"):
        ingest(tmp_path / "p1", small_design)


def test_an_old_10x_folder_has_genes_tsv_of_two_columns(small_design, mex_writer, tmp_path):
    mex_writer(tmp_path / "p1", MULTI_COUNTS[:2], BARCODES, ["ENSG00000000001\tG1", "ENSG00000000002\tG2"])
    (tmp_path / "p1" / "features.tsv.gz").rename(tmp_path / "p1" / "genes.tsv.gz")
    rna = ingest(tmp_path / "p1", small_design, hashtags="none").modalities["rna"]
    assert rna.var["gene_id"].to_dict() == {"G1": "ENSG00000000001", "G2": "ENSG00000000002"}
    assert rna.to_df()["G2"].tolist() == [30, 1, 0]


def test_a_pool_of_hashtags_without_counts(small_design, tmp_path):
    (tmp_path / "p1.csv").write_text("," + ",".join(BARCODES) + "\nA,0,0,0\nB,0,0,0\n")
    with pytest.raises(InvalidDataError, match="p1.csv: is empty"):
        ingest(tmp_path / "p1.csv", small_design)


def test_files_hold_the_counts_once_and_scanpy_sees_them_twice(small_pool, small_design, tmp_path):
    import h5py
    import scanpy as sc

    write_ingested(ingest(small_pool, small_design), tmp_path / "out")
    with h5py.File(tmp_path / "out" / "rna.h5ad") as file:
        assert file["X"] == file["layers/counts"]
    read = sc.read_h5ad(tmp_path / "out" / "rna.h5ad")
    read.X.data[:] = 0
    assert read.layers["counts"].sum() == 52, "in memory they are two"


def test_command_line(small_pool, small_design, tmp_path, capsys):
    design = str(tmp_path / "design.yaml")
    out = tmp_path / "out"
    assert run(["seq", "ingest", str(small_pool), str(out), "--design", design, "--dry-run", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["counts"] == 11 + 3 and said["disk_mb"] > 0 and said["seconds"] > 0 and not out.exists()
    assert run(["seq", "ingest", str(small_pool), str(out), "--design", design, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cells"] == {"p1": 3}
    assert anndata.read_h5ad(out / "rna.h5ad").n_obs == 3
    before = tree(out)
    params = tmp_path / "params.yaml"
    params.write_text("ingest: {hashtag: counts}\n")
    assert (
        run(["seq", "ingest", str(small_pool), str(out), "--design", design, "--params", f"{params}#ingest"])
        == 3
    )
    assert "did you mean 'hashtags'" in capsys.readouterr().err
    (small_pool / "p1.gene_raw_feature_bc_matrix" / "matrix.mtx.gz").unlink()
    assert run(["seq", "ingest", str(small_pool), str(out), "--design", design]) == 3
    assert "matrix.mtx" in capsys.readouterr().err
    assert tree(out) == before and not list(tmp_path.glob(".*")), "a failed run leaves the output as it was"


def test_command_line_with_aliases_and_hashtags(small_pool, small_design, tmp_path, capsys):
    (tmp_path / "aliases.tsv").write_text("old\tnew\nDUP\tMYOD1\n")
    (tmp_path / "h.csv").write_text("," + ",".join(BARCODES) + "\nA,7,8,9\nB,1,2,3\n")
    arguments = ["seq", "ingest", str(small_pool), str(tmp_path / "out"), "--design", str(tmp_path / "design.yaml")]
    arguments += ["--aliases", str(tmp_path / "aliases.tsv")]
    assert run([*arguments, "--hashtags", f"p1={tmp_path / 'h.csv'}"]) == 0
    rna = anndata.read_h5ad(tmp_path / "out" / "rna.h5ad")
    assert list(rna.var_names) == ["MYOD1", "MT-CO1", "NOVEL"] and rna.var["source_name"].iloc[0] == "MYOD1|DUP"
    assert anndata.read_h5ad(tmp_path / "out" / "hto.h5ad").to_df()["A"].tolist() == [7, 8, 9]
    listed = (tmp_path / "out" / "unmapped_genes.csv").read_text().splitlines()
    assert listed[0] == "symbol,reason" and listed[1].startswith("MYOD1,")
    assert run([*arguments, "--hashtags", f"p9={tmp_path / 'h.csv'}"]) == 2
    assert "the pools are p1" in capsys.readouterr().err
    assert run([*arguments, "--hashtags", str(tmp_path / "absent.csv"), "--dry-run"]) == 3
    assert "absent.csv" in capsys.readouterr().err


def test_the_estimate_counts_what_is_read(small_pool, seq_world, tmp_path):
    def said(path: Path, **params: object) -> dict[str, float]:
        return estimate_pools({path.name: path}, IngestParams.model_validate(params))

    pool = seq_world.pools[0]
    result = ingest(pool, default_design())
    stored = sum(result.modalities[name].X.nnz for name in ("rna", "isoform"))
    assert said(pool)["counts"] == stored
    assert said(pool, hashtags="reads")["input_mb"] > said(pool)["input_mb"] > said(pool, hashtags="none")["input_mb"]
    write_ingested(result, tmp_path / "out")
    written = sum(file.stat().st_size for file in (tmp_path / "out").iterdir()) / 1e6
    assert written / 2 < said(pool)["disk_mb"] < 4 * written
    (small_pool / "p1.gene_processed_feature_bc_matrix").mkdir()
    (small_pool / "p1.gene_processed_feature_bc_matrix" / "matrix.mtx.gz").write_bytes(b"not read")
    assert said(small_pool)["counts"] == 14, "what ingest leaves aside is not counted"
    with pytest.raises(MissingFileError):
        said(tmp_path / "nowhere")


def test_output_files_replace_only_their_own(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    (out / "old.h5ad").write_text("stale")
    with output_files(out, ("new.h5ad", "old.h5ad")) as folder:
        (folder / "new.h5ad").write_text("new")
    assert sorted(p.name for p in out.iterdir()) == ["mine.txt", "new.h5ad"]
    with pytest.raises(RuntimeError), output_files(out, ("new.h5ad",)) as folder:
        (folder / "new.h5ad").write_text("half")
        raise RuntimeError
    assert (out / "new.h5ad").read_text() == "new" and sorted(p.name for p in out.iterdir()) == [
        "mine.txt",
        "new.h5ad",
    ]
