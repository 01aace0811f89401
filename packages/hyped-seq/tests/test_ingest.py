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
from hyped_core.errors import DesignError, InvalidDataError, MissingFileError, UsageError
from hyped_seq.ingest.genes import EMPTY, GeneMap, read_gene_map
from hyped_seq.ingest.output import output_files
from hyped_seq.ingest.params import IngestParams
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
    assert result.unmapped == ["DUP", "MT-CO1", "NOVEL"]
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


def test_gene_map_of_a_table_either_way_round(tmp_path):
    (tmp_path / "a.csv").write_text(
        "gene_id,gene_name\nENSG00000000002.3,B\nENSG00000000001,A\nENSG00000000009,A\n"
    )
    (tmp_path / "b.tsv").write_text("A\tENSG00000000001\nA\tENSG00000000009\nB\tENSG00000000002\n")
    first, second = read_gene_map(tmp_path / "a.csv"), read_gene_map(tmp_path / "b.tsv")
    assert first == second
    assert first.ids == {"A": "ENSG00000000001", "B": "ENSG00000000002"} and first.ambiguous == {"A"}
    (tmp_path / "c.csv").write_text("A,B\nC,D\n")
    with pytest.raises(InvalidDataError, match="Ensembl"):
        read_gene_map(tmp_path / "c.csv")


@pytest.mark.public
def test_gene_map_of_gencode(public_folder):
    gene_map = read_gene_map(public_folder / "reference" / "GENCODEv44_Gene_id2name.csv")
    assert gene_map.ids["MYOD1"] == "ENSG00000129152" and gene_map.ids["PRRX1"] == "ENSG00000116132"


def test_command_line(small_pool, small_design, tmp_path, capsys):
    design = str(tmp_path / "design.yaml")
    out = tmp_path / "out"
    assert run(["seq", "ingest", str(small_pool), str(out), "--design", design, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["disk_mb"] > 0 and not out.exists()
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
