"""`hyped seq process` and `hyped seq design` on odd pools: tiny, mixed, of another machine, or hardly described."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import yaml

from hyped_core.cli.main import run
from hyped_core.errors import ValidationError
from hyped_seq.ingest.params import IngestParams
from hyped_seq.process.check import check_design, read_filled_design
from hyped_seq.process.source import find_source

SEQUENCES = {"A": "GTCAACTCTTTAGCG", "B": "TGATGGCCTATTGGG"}
PARAMS = {"annotate": {"tsne": False, "umap": False}}


def barcodes(n: int) -> list[str]:
    """``n`` cell barcodes."""
    return ["".join("ACGT"[k // 4**place % 4] for place in range(16)) for k in range(n)]


def write_design(folder: Path, pools: list[str], names: tuple[str, str] = ("control", "drug"), **more: object) -> Path:
    """A design of tags A and B in each of ``pools``."""
    tags = [{"pool": pool, "tag": tag, "barcode": SEQUENCES[tag], "condition": name}
            for pool in pools for tag, name in zip("AB", names, strict=True)]  # fmt: skip
    design = {"name": "odd", "conditions": [{"name": name} for name in names],
              "pools": [{"name": pool} for pool in pools], "hashtags": tags, **more}  # fmt: skip
    path = folder / "design.yaml"
    path.write_text(yaml.safe_dump(design))
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    return path


def write_tags(path: Path, n: int, labels: tuple[str, ...] = ("A", "B")) -> Path:
    """Counts of tags, every second cell of another one."""
    counts = np.full((n, len(labels)), 2)
    counts[np.arange(n), np.arange(n) % 2] = 60
    pd.DataFrame(counts.T, index=list(labels), columns=barcodes(n)).to_csv(path)
    return path


@pytest.fixture
def pool(tmp_path: Path, mex_writer):
    """Makes a 10x folder ``p`` of ``counts`` (cells, genes), with tags A and B for its cells in ``tags.csv``."""

    def make(counts: np.ndarray, name: str = "p") -> list[str]:
        rows = [f"ENSG{k:011d}\tG{k}\tGene Expression" for k in range(counts.shape[1])]
        mex_writer(tmp_path / name, counts.T, [f"{barcode}-1" for barcode in barcodes(len(counts))], rows)
        library = write_tags(tmp_path / "tags.csv", len(counts))
        return ["seq", "process", str(tmp_path / name), "--hashtags", f"{name}={library}", "--params",
                str(tmp_path / "params.yaml"), "--design", str(tmp_path / "design.yaml"), "-o",
                str(tmp_path / "out.h5ad")]  # fmt: skip

    return make


def poisson(cells: int, genes: int) -> np.ndarray:
    return np.random.default_rng(cells).poisson(3, (cells, genes)) + 1


@pytest.mark.parametrize(
    "counts",
    [poisson(1, 30), poisson(2, 30), poisson(5, 30), poisson(40, 1), np.tile(poisson(1, 30), (60, 1))],
    ids=["one cell", "two cells", "five cells", "one gene", "identical cells"],
)
def test_hardly_any_cells_or_genes_end_in_a_file_and_a_page(counts: np.ndarray, pool, tmp_path: Path):
    write_design(tmp_path, ["p"])
    assert run(pool(counts)) == 0
    cells = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert cells.n_vars == counts.shape[1] and 1 <= cells.n_obs <= len(counts)
    assert '<section id="calls">' in (tmp_path / "out.html").read_text()
    assert run(["data", "validate", str(tmp_path / "out.h5ad")]) == 0


def test_transcripts_of_one_pool_alone_are_left_out_and_that_is_said(small_pool: Path, tmp_path: Path, pool, capsys):
    design = yaml.safe_load(write_design(tmp_path, ["p", "p1"]).read_text())
    (tmp_path / "design.yaml").write_text(yaml.safe_dump(design))
    assert run([*pool(poisson(12, 30)), str(small_pool)]) == 0
    assert "look: p has no counts of transcripts, so they are left out of all pools" in capsys.readouterr().err
    cells = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert set(cells.obs["pool"].astype(str)) == {"p", "p1"} and "isoform_counts" not in cells.obsm
    assert "p has no counts of transcripts" in (tmp_path / "out.html").read_text()


def test_labels_that_ingest_understands_are_not_refused(pool, tmp_path: Path):
    write_design(tmp_path, ["p"])
    wanted = pool(poisson(20, 30))
    labels = (f"A-{SEQUENCES['A']}", SEQUENCES["B"], "unmapped")
    write_tags(tmp_path / "tags.csv", 20, labels)
    assert run(wanted) == 0
    assert set(anndata.read_h5ad(tmp_path / "out.h5ad").obsm["hashtag_counts"].columns) == {"A", "B"}
    write_tags(tmp_path / "tags.csv", 20, (f"A-{SEQUENCES['B']}", "B"))
    assert run(wanted) == 3, "the name of one tag and the sequence of the other"


def test_tags_of_one_name_in_the_result_are_refused_first(pool, tmp_path: Path, capsys):
    path = write_design(tmp_path, ["p"])
    path.write_text(path.read_text().replace("tag: A", "tag: a/b").replace("tag: B", "tag: a_b"))
    wanted = pool(poisson(20, 30))
    write_tags(tmp_path / "tags.csv", 20, ("a/b", "a_b"))
    assert run(wanted) == 3 and not (tmp_path / "out.steps").exists()
    assert "'a/b' and 'a_b' have one name in the file" in capsys.readouterr().err


def test_reads_of_illumina_are_refused_with_what_to_do(small_pool: Path, tmp_path: Path, capsys):
    write_design(tmp_path, ["p1"])
    for mate, length in ((1, 28), (2, 90)):
        with gzip.open(tmp_path / f"hto_S1_L001_R{mate}_001.fastq.gz", "wt") as handle:
            handle.writelines(f"@r{k}\n{'ACGT' * 30:.{length}}\n+\n{'I' * length}\n" for k in range(50))
    library = ["--hashtags", f"p1={tmp_path / 'hto_S1_L001_R2_001.fastq.gz'}"]
    wanted = ["seq", "process", str(small_pool), "--design", str(tmp_path / "design.yaml"), "-o",
              str(tmp_path / "out.h5ad")]  # fmt: skip
    for command in (["seq", "design", str(small_pool)], wanted):
        assert run([*command, *library]) == 3
        said = capsys.readouterr().err
        assert "nanopore reads alone" in said and "CITE-seq-Count" in said
        assert not (tmp_path / "out.steps").exists()


def test_tags_among_the_features_of_an_h5ad_start_a_design(tmp_path: Path, capsys):
    var = pd.DataFrame({"feature_types": ["Gene Expression"] * 3 + ["Antibody Capture"] * 2}, index=list("XYZAB"))
    counts = np.hstack([poisson(6, 3), np.tile([[60, 2], [2, 60]], (3, 1))]).astype(np.float32)
    cells = anndata.AnnData(counts, obs=pd.DataFrame(index=barcodes(6)), var=var)
    cells.write_h5ad(tmp_path / "p.h5ad")
    assert run(["seq", "design", str(tmp_path / "p.h5ad")]) == 0
    said = capsys.readouterr().out
    assert re.findall(r'tag: "(\w)", condition: FILL-IN.*of (\d) cells', said) == [("A", "3"), ("B", "3")]


def test_a_folder_without_counts_starts_no_design(tmp_path: Path, capsys):
    folder = tmp_path / "two"
    folder.mkdir()
    for name in ("a.csv", "b.csv"):
        write_tags(folder / name, 4)
    assert run(["seq", "design", str(folder)]) == 3
    printed = capsys.readouterr()
    assert "holds no counts" in printed.err and printed.out == ""


def test_the_start_names_the_libraries_that_were_given(tmp_path: Path, capsys):
    (tmp_path / "my pool").mkdir()
    library = write_tags(tmp_path / "t.csv", 4)
    out = str(tmp_path / "out.h5ad")
    assert run(["seq", "process", f"p={tmp_path / 'my pool'}", "--hashtags", f"p={library}", "-o", out]) == 2
    start = f"hyped seq design 'p={tmp_path / 'my pool'}' --hashtags p={library} > design.yaml"
    assert start in capsys.readouterr().err


def test_without_a_control_one_line_says_so_beforehand_too(pool, tmp_path: Path, capsys):
    write_design(tmp_path, ["p"], ("DMSO", "drug"))
    wanted = pool(poisson(40, 30))
    assert run([*wanted, "--dry-run"]) == 0
    printed = capsys.readouterr()
    record = json.loads(printed.out)
    assert [text for text in record["look"] if "called control" in text] and "called control" in printed.err
    assert run(wanted) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if re.match("look: .*control", line)]
    assert len(said) == 1 and "give the untreated one that name in the design" in said[0]
    tables = find_source([tmp_path / "tags.csv"], [], IngestParams())
    alone = read_filled_design(write_design(tmp_path, ["tags"], ("DMSO", "drug")))
    assert check_design(tables, alone, IngestParams()) == [], "nothing is contrasted without genes"


def test_a_dry_run_says_where_the_hashtags_are(pool, tmp_path: Path, mex_writer, capsys):
    write_design(tmp_path, ["p"])
    counts = np.hstack([poisson(20, 30), np.tile([[60, 2], [2, 60]], (10, 1))])
    wanted = pool(counts[:, :30])
    assert run([*wanted, "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["hashtags"] == {"p": str(tmp_path / "tags.csv")}
    rows = [f"ENSG{k:011d}\tG{k}\tGene Expression" for k in range(30)]
    mex_writer(tmp_path / "p", counts.T, barcodes(20), [*rows, *(f"{t}\t{t}\tAntibody Capture" for t in "AB")])
    inside = [word for word in wanted if word != "--hashtags" and "tags.csv" not in word]
    assert run([*inside, "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["hashtags"] == {"p": str(tmp_path / "p")}


def test_what_is_to_be_filled_in_is_asked_for(tmp_path: Path):
    path = write_design(tmp_path, ["p"])
    path.write_text(path.read_text().replace("condition: drug", "condition: FILL-IN").replace("tag: A", "tag: ''"))
    with pytest.raises(ValidationError):
        read_filled_design(path)
    path = write_design(tmp_path, ["p"])
    path.write_text(path.read_text().replace("condition: drug", "condition: FILL-IN"))
    with pytest.raises(ValidationError) as caught:
        read_filled_design(path)
    assert ["write a condition in place of FILL-IN" in item.mend for item in caught.value.problems] == [True]


def test_a_perturbed_gene_that_is_not_there_and_cells_that_left_are_said_once(pool, tmp_path: Path, capsys):
    path = write_design(tmp_path, ["p"])
    design = yaml.safe_load(path.read_text())
    design["conditions"][1]["perturbation"] = [{"gene": "NOWHERE", "direction": "activation"}]
    path.write_text(yaml.safe_dump(design))
    counts = poisson(80, 30)
    counts[::4] = np.eye(30, dtype=int)[0]
    wanted = pool(counts)
    params = {"annotate": {**PARAMS["annotate"], "quality": {"min_counts": 50}}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    assert run(wanted) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("look: ")]
    assert len([line for line in said if "NOWHERE" in line]) == 1
    assert len([line for line in said if re.search(r"20 of 80 cells.*n_counts below", line)]) == 1


def test_an_unfiltered_matrix_is_said(pool, tmp_path: Path, capsys):
    write_design(tmp_path, ["p"])
    rng = np.random.default_rng(4)
    counts = np.vstack([rng.poisson(20, (120, 40)), rng.poisson(0.05, (2000, 40))])
    assert run(pool(counts)) == 0
    assert re.search(r"look: p: was not filtered; \d+ barcodes with fewer than \d+ molecules", capsys.readouterr().err)
    assert anndata.read_h5ad(tmp_path / "out.h5ad").n_obs <= 120


def test_the_count_of_kept_cells_is_that_of_the_file(pool, tmp_path: Path, capsys):
    write_design(tmp_path, ["p"])
    counts = poisson(60, 30)
    counts[:6] = np.eye(30, dtype=int)[0]
    wanted = pool(counts)
    assert run(wanted) == 0
    kinds = anndata.read_h5ad(tmp_path / "out.h5ad").obs["hashtag_kind"].astype(str).value_counts()
    said = capsys.readouterr().err
    assert f"60 cells, {kinds.sum()} kept by quality: {kinds['singlet']} singlets, " in said and kinds.sum() < 60
    facts = json.loads((tmp_path / "out.steps" / "summary.json").read_text())["calls"]["p"]
    assert facts["kept_singlet"] == kinds["singlet"] < facts["singlet"]


def test_an_interrupt_says_what_stays(pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    write_design(tmp_path, ["p"])

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hyped_seq.process.run.Job._annotate", interrupted)
    assert run(pool(poisson(20, 30))) == 130
    assert "outputs that were finished stand whole" in capsys.readouterr().err
    assert (tmp_path / "out.steps" / "demultiplex.csv").is_file()


def test_a_control_in_a_pool_that_was_not_given_is_asked_for(small_pool: Path, tmp_path: Path):
    design = yaml.safe_load(write_design(tmp_path, ["p1"], ("dose1", "dose2")).read_text())
    design["conditions"].append({"name": "control"})
    design["pools"].append({"name": "other", "conditions": ["control"]})
    (tmp_path / "design.yaml").write_text(yaml.safe_dump(design))
    source = find_source([small_pool], [], IngestParams())
    said = check_design(source, read_filled_design(tmp_path / "design.yaml"), IngestParams())
    assert "the pool of control was not given" in said[0] and "pool other of the design was not given" in said[1]
