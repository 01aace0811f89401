"""`hyped seq process`: a user's own hashed experiment from end to end, done once, continued, never losing anything."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import yaml

from hyped_core.cli.main import run
from hyped_core.context import RunContext
from hyped_core.design import Design
from hyped_core.design.model import parse_design
from hyped_seq.readers.mex import read_mex
from hyped_seq.readers.wf_single_cell import open_wf_folder
from hyped_seq.simulate.params import SeqSimulationParams
from hyped_seq.simulate.run import simulate_sequencing

DESIGN = {
    "name": "hypoxia",
    "conditions": [{"name": "control"}, {"name": "hypoxia"}, {"name": "drug"}],
    "pools": [{"name": "day1"}, {"name": "day2"}],
    "hashtags": [
        {"pool": "day1", "tag": "Tag-7", "barcode": "TGTCTTTCCTGCCAG", "condition": "control"},
        {"pool": "day1", "tag": "Tag-8", "barcode": "CTCCTCTGCAATTAC", "condition": "hypoxia"},
        {"pool": "day2", "tag": "Tag-7", "barcode": "TGTCTTTCCTGCCAG", "condition": "drug"},
        {"pool": "day2", "tag": "Tag-9", "barcode": "CAGTAGTCACGGTCA", "condition": "control"},
    ],
}
"""Other conditions, pools and tags than the paper's; no gene is perturbed, no cell was sorted."""
PARAMS = "annotate: {tsne: false, umap: false}\n"


def simulated(folder: Path) -> Path:
    """The experiment of `DESIGN`, 240 cells."""
    folder.mkdir(parents=True, exist_ok=True)
    params = SeqSimulationParams.model_validate(
        {"n_cells": 240, "capture": {"processed": False, "depth": 1500, "read_summary_rows": 50}}
    )
    simulate_sequencing(folder / "raw", folder / "truth", params, parse_design(DESIGN, "test"), seed=1)
    (folder / "design.yaml").write_text(yaml.safe_dump(DESIGN))
    (folder / "params.yaml").write_text(PARAMS)
    return folder


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated(tmp_path_factory.mktemp("experiment"))


@pytest.fixture(scope="module")
def done(experiment: Path) -> Path:
    """The folder with the result of processing it, reads of one pool's hashing library counted."""
    folder = experiment / "done"
    folder.mkdir()
    assert process(experiment, folder / "out.h5ad") == 0
    return folder


def arguments(experiment: Path, out: Path, *options: str) -> list[str]:
    raw = experiment / "raw"
    reads = f"day1={raw / 'day1' / 'hashtags' / 'reads.fastq.gz'}"
    return ["seq", "process", str(raw / "day1"), str(raw / "day2"), "--hashtags", reads, "--design",
            str(experiment / "design.yaml"), "--gene-map", str(raw / "reference.gtf.gz"), "--params",
            str(experiment / "params.yaml"), "-o", str(out), *options]  # fmt: skip


def process(experiment: Path, out: Path, *options: str) -> int:
    return run(arguments(experiment, out, *options))


def times(folder: Path) -> dict[str, int]:
    """When each result was last written; page and summary are made every time."""
    kept = [path for path in folder.rglob("*") if path.suffix in (".h5ad", ".csv") or path.name == "ingest.json"]
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in kept}


class Sections(HTMLParser):
    """What a page holds: text by the id of its section, pictures, links to elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text: dict[str, str] = {}
        self.pictures: list[str] = []
        self.open: list[str] = []
        self.here = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "section" or given.get("id") == "limits":
            self.here = str(given["id"])
            self.text[self.here] = ""
        if tag == "img":
            self.pictures.append(str(given["src"]))
        assert not {"src", "href"} & set(given) or str(given.get("src", "")).startswith("data:")
        assert tag not in ("script", "link")

    def handle_data(self, data: str) -> None:
        if self.here:
            self.text[self.here] += data


def test_the_result_is_one_file_of_the_right_cells(done: Path, experiment: Path):
    cells = anndata.read_h5ad(done / "out.h5ad")
    truth = pd.read_parquet(experiment / "truth" / "cells.parquet")
    truth.index = truth["pool"] + "_" + truth["barcode"]
    truth = truth.loc[cells.obs_names]
    single = (cells.obs["hashtag_kind"].astype(str) == "singlet").to_numpy() & (truth["kind"] == "singlet").to_numpy()
    meant = {(tag["pool"], tag["tag"]): tag["condition"] for tag in DESIGN["hashtags"]}
    conditions = [meant.get(pair, "") for pair in zip(truth["pool"], truth["tags"].astype(str), strict=True)]
    right = (cells.obs["condition"].astype(str).to_numpy() == np.array(conditions))[single]
    assert single.sum() > 150 and right.mean() > 0.95
    counts = cells.layers["counts"]
    assert counts.dtype.kind == "i" and (counts.data > 0).all()
    total = np.asarray(counts.sum(axis=1)).ravel()
    back = np.expm1(cells.X[:5].toarray()) * total[:5, None] / 1e4
    assert np.allclose(back, counts[:5].toarray(), atol=1e-2)
    assert run(["data", "validate", str(done / "out.h5ad")]) == 0


def test_the_page_stands_alone_and_holds_every_section(done: Path):
    text = (done / "out.html").read_text()
    page = Sections(text)
    assert list(page.text) == [name for name in _ORDER if name in page.text]
    assert {"limits", "knee", "tags", "calls", "reads", "quality", "phases", "embedding", "genes"} <= set(page.text)
    assert not re.search(r"https?://", text) and len(text) < 3_000_000
    assert len(page.pictures) == 3, "cells by phase, by condition and by pool"
    assert "called before the quality filter" in page.text["calls"] and "61 %" in page.text["quality"]
    assert "day2" in page.text["tags"] and "Tag-9: control" in page.text["tags"]
    assert "hypoxia against control" in page.text["genes"] and "cells as units" in page.text["limits"]


_ORDER = ("limits", "knee", "tags", "calls", "reads", "quality", "phases", "embedding", "genes", "isoforms", "dose")


def test_the_numbers_are_those_of_the_files(done: Path):
    summary = json.loads((done / "out.steps" / "summary.json").read_text())
    calls = pd.read_csv(done / "out.steps" / "demultiplex.csv", keep_default_na=False)
    cells = anndata.read_h5ad(done / "out.h5ad").obs
    for pool, facts in summary["calls"].items():
        kinds = calls.loc[calls["pool"] == pool, "kind"].value_counts()
        assert all(facts[kind] == kinds.get(kind, 0) for kind in ("singlet", "doublet", "negative"))
        assert facts["cells"] == kinds.sum() == summary["pools"][pool]["cells"]
    found = summary["tags"]["day1"]["Tag-8"]
    assert found["singlets"] == ((calls["pool"] == "day1") & (calls["call"] == "Tag-8")).sum()
    assert found["separation"] > 0.9
    assert summary["quality"]["kept"] == len(cells)
    removed = pd.read_csv(done / "out.steps" / "cells" / "removed.csv")
    assert summary["quality"]["removed"] == removed["cell"].nunique() == len(calls) - len(cells)
    assert set(summary["hashtag_reads"]) == {"day1"}, "counts of day2 were given"
    assert 0 < summary["hashtag_reads"]["day1"]["used"] <= summary["hashtag_reads"]["day1"]["reads"]
    table = pd.read_csv(done / "out.steps" / "cells" / "de.csv")
    for contrast in summary["contrasts"]:
        rows = table[table["contrast"] == contrast["contrast"]]
        rows = rows[rows["phase"] == "all"] if "phase" in rows else rows
        assert contrast["significant"] == (rows["p_adjusted"] < 0.05).sum()
        assert [row["gene"] for row in contrast["top"]] == list(rows.sort_values("rank")["gene"][:10])


def test_nothing_is_done_twice_and_a_parameter_only_what_depends_on_it(
    done: Path, experiment: Path, tmp_path: Path, capsys
):
    before = times(done)
    assert process(experiment, done / "out.h5ad", "--json") == 0
    printed = capsys.readouterr()
    assert times(done) == before and printed.err.count(": stands") == 4
    assert json.loads(printed.out) == json.loads((done / "out.steps" / "summary.json").read_text())
    copied = tmp_path / "copy"
    shutil.copytree(done, copied)
    before = times(copied)
    params = tmp_path / "p.yaml"
    params.write_text("annotate: {tsne: false, umap: false, n_variable_genes: 100}\n")
    assert process(experiment, copied / "out.h5ad", "--params", str(params)) == 0
    changed = {name for name, time in times(copied).items() if before[name] != time}
    assert {"out.h5ad", "out.steps/cells/rna.h5ad"} <= changed
    assert not {name for name in changed if "ingest" in name or "demultiplex" in name}


def test_what_a_tag_stands_for_is_changed_without_reading_again(done: Path, experiment: Path, tmp_path: Path):
    copied = tmp_path / "copy"
    shutil.copytree(done, copied)
    before = times(copied)
    design = tmp_path / "design.yaml"
    design.write_text((experiment / "design.yaml").read_text().replace("hypoxia", "low_oxygen"))
    assert process(experiment, copied / "out.h5ad", "--design", str(design)) == 0
    unchanged = {name for name, time in times(copied).items() if before[name] == time}
    assert {"out.steps/ingest/rna.h5ad", "out.steps/ingest/ingest.json"} <= unchanged
    assert "low_oxygen" in set(anndata.read_h5ad(copied / "out.h5ad").obs["condition"])


def test_after_a_kill_between_steps_it_goes_on_to_the_same_bytes(done: Path, experiment: Path, tmp_path: Path):
    out = tmp_path / "out.h5ad"
    script = (
        "import os, sys; from hyped_seq.process import run; from hyped_core.cli.main import run as hyped;"
        "run.Job._annotate = lambda self: os._exit(9); hyped(sys.argv[1:])"
    )
    killed = subprocess.run([sys.executable, "-c", script, *arguments(experiment, out)], capture_output=True)
    assert killed.returncode == 9 and not out.exists()
    before = times(tmp_path)
    assert "out.steps/demultiplex.csv" in before and "out.steps/ingest/rna.h5ad" in before
    assert process(experiment, out) == 0
    after = times(tmp_path)
    assert {name: after[name] for name in before} == before, "what was done is not done again"
    for name in ("out.h5ad", "out.html", "out.steps/summary.json", "out.steps/cells/de.csv"):
        assert (tmp_path / name).read_bytes() == (done / name).read_bytes(), name


def test_damaged_input_is_named_and_nothing_is_lost(done: Path, experiment: Path, tmp_path: Path, capsys):
    copied, broken = tmp_path / "copy", tmp_path / "broken"
    shutil.copytree(done, copied)
    shutil.copytree(experiment, broken, ignore=shutil.ignore_patterns("done", "truth"))
    matrix = broken / "raw" / "day2" / "day2.gene_raw_feature_bc_matrix" / "matrix.mtx.gz"
    matrix.write_bytes(matrix.read_bytes()[:-200])
    before = times(copied)
    assert process(broken, copied / "out.h5ad") == 3
    assert str(matrix) in capsys.readouterr().err and times(copied) == before
    reads = broken / "raw" / "day1" / "hashtags" / "reads.fastq.gz"
    reads.write_bytes(reads.read_bytes()[:5000])
    assert process(broken, tmp_path / "new.h5ad") == 3
    assert "reads.fastq.gz" in capsys.readouterr().err and not (tmp_path / "new.h5ad").exists()


def test_a_design_that_does_not_fit_is_refused_with_all_that_is_wrong(experiment: Path, tmp_path: Path, capsys):
    values = json.loads(json.dumps(DESIGN))
    values["pools"][0]["conditions"] = ["drug"]
    values["pools"][1]["name"] = "day3"
    for tag in values["hashtags"]:
        tag["pool"] = tag["pool"].replace("day2", "day3")
    values["hashtags"][0]["barcode"] = ""
    (tmp_path / "design.yaml").write_text(yaml.safe_dump(values))
    code = process(experiment, tmp_path / "out.h5ad", "--design", str(tmp_path / "design.yaml"))
    said = capsys.readouterr().err
    assert code == 3 and not (tmp_path / "out.steps").exists()
    for part in ("no pool 'day2'", "hashtags/day1/Tag-7/barcode", "'hypoxia' is not among the conditions"):
        assert part in said
    values = json.loads(json.dumps(DESIGN))
    values["hashtags"][3]["tag"] = "Tag-5"
    (tmp_path / "design.yaml").write_text(yaml.safe_dump(values))
    assert process(experiment, tmp_path / "out.h5ad", "--design", str(tmp_path / "design.yaml")) == 3
    said = capsys.readouterr().err
    assert "Tag-5" in said and "'Tag-9'" in said and "counts hold Tag-7, Tag-9" in said


def test_without_a_design_it_says_where_to_start(experiment: Path, tmp_path: Path, capsys):
    pool = str(experiment / "raw" / "day1")
    assert run(["seq", "process", pool, "-o", str(tmp_path / "out.h5ad")]) == 2
    assert f"hyped seq design {pool} > design.yaml" in capsys.readouterr().err


def test_a_dry_run_checks_and_writes_nothing(experiment: Path, tmp_path: Path, capsys):
    assert process(experiment, tmp_path / "out.h5ad", "--dry-run") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["disk_mib"] > 0 and record["seconds"] > 0 and list(record["pools"]) == ["day1", "day2"]
    assert list(tmp_path.iterdir()) == []


def test_other_peoples_files_are_left_alone(done: Path, experiment: Path, tmp_path: Path, capsys):
    (tmp_path / "out.h5ad").write_text("mine")
    assert process(experiment, tmp_path / "out.h5ad") == 2
    assert (tmp_path / "out.h5ad").read_text() == "mine" and not (tmp_path / "out.steps").exists()
    assert process(experiment, tmp_path / "out.txt") == 2
    copied = tmp_path / "copy"
    shutil.copytree(done, copied)
    other = ["seq", "process", str(experiment / "raw" / "day1"), "--design", str(experiment / "design.yaml")]
    assert run([*other, "-o", str(copied / "out.h5ad")]) == 2
    assert "made from day1, day2" in capsys.readouterr().err


def test_calls_changed_by_hand_are_kept_and_followed(done: Path, experiment: Path, tmp_path: Path, capsys):
    copied = tmp_path / "copy"
    shutil.copytree(done, copied)
    path = copied / "out.steps" / "demultiplex.csv"
    calls = pd.read_csv(path, dtype=str, keep_default_na=False)
    kept = list(anndata.read_h5ad(copied / "out.h5ad").obs_names)
    mine = calls["cell"].isin(kept) & (calls["call"] == "Tag-8")
    calls.loc[mine, ["call", "kind", "condition"]] = ["Negative", "negative", ""]
    calls.to_csv(path, index=False)
    assert process(experiment, copied / "out.h5ad") == 0
    assert "demultiplex.csv was changed by hand" in capsys.readouterr().err
    assert "hypoxia" not in set(anndata.read_h5ad(copied / "out.h5ad").obs["condition"])
    held = path.read_bytes()
    assert process(experiment, copied / "out.h5ad", "--seed", "5") == 2
    assert path.read_bytes() == held and "changed by hand" in capsys.readouterr().err


def test_a_pool_without_hashtags_is_of_its_one_condition(experiment: Path, tmp_path: Path, capsys):
    raw = tmp_path / "plain"
    shutil.copytree(experiment / "raw" / "day1", raw)
    pools = [{"name": "plain", "conditions": ["control"]}]
    design = {"name": "plain", "conditions": [{"name": "control"}], "pools": pools}
    (tmp_path / "design.yaml").write_text(yaml.safe_dump(design))
    wanted = ["seq", "process", str(raw), "--design", str(tmp_path / "design.yaml"), "--params",
              str(experiment / "params.yaml"), "-o", str(tmp_path / "out.h5ad")]  # fmt: skip
    assert run(wanted) == 0
    said = capsys.readouterr().err
    assert "counts.csv is not used: the design names no hashtag of pool plain" in said
    cells = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert f"{cells.n_obs} kept by quality: {cells.n_obs} singlets, 0 doublets, 0 negatives" in said
    assert set(cells.obs["condition"].astype(str)) == {"control"} and cells.n_obs > 90
    assert run(["data", "validate", str(tmp_path / "out.h5ad")]) == 0
    page = Sections((tmp_path / "out.html").read_text())
    assert "tags" not in page.text and "no hashtags" in page.text["calls"]
    pools[0]["conditions"] = []
    (tmp_path / "design.yaml").write_text(yaml.safe_dump(design))
    assert run(wanted) == 3 and "cannot be told apart" in capsys.readouterr().err


def test_a_hashed_and_an_unhashed_pool_go_together(experiment: Path, tmp_path: Path):
    design = json.loads(json.dumps(DESIGN))
    design["pools"][1]["conditions"] = ["drug"]
    design["hashtags"] = [tag for tag in design["hashtags"] if tag["pool"] == "day1"]
    (tmp_path / "design.yaml").write_text(yaml.safe_dump(design))
    raw = experiment / "raw"
    wanted = ["seq", "process", str(raw / "day1"), str(raw / "day2"), "--design", str(tmp_path / "design.yaml"),
              "--params", str(experiment / "params.yaml"), "-o", str(tmp_path / "out.h5ad")]  # fmt: skip
    assert run(wanted) == 0
    cells = anndata.read_h5ad(tmp_path / "out.h5ad")
    plain = (cells.obs["pool"].astype(str) == "day2").to_numpy()
    assert set(cells.obs["condition"][plain].astype(str)) == {"drug"}
    assert cells.obs["hashtag_probability"][plain].isna().all()
    assert not cells.obsm["hashtag_counts"].to_numpy()[plain].any() and cells.obs["hashtag_call"][~plain].ne("").all()
    assert run(["data", "validate", str(tmp_path / "out.h5ad")]) == 0


def test_hashtag_counts_alone_give_calls_and_conditions(experiment: Path, tmp_path: Path, capsys):
    table = tmp_path / "day2.csv"
    shutil.copy(experiment / "raw" / "day2" / "hashtags" / "counts.csv", table)
    wanted = ["seq", "process", str(table), "--design", str(experiment / "design.yaml")]
    assert run([*wanted, "-o", str(tmp_path / "out.h5ad"), "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["disk_mib"] < 1, "no genes, no tables of contrasts"
    assert run([*wanted, "-o", str(tmp_path / "out.h5ad")]) == 0
    cells = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert set(cells.obs["condition"].astype(str)) >= {"control", "drug"} and len(cells) == 120
    assert list(Sections((tmp_path / "out.html").read_text()).text) == ["tags", "calls"]
    assert run(["data", "validate", str(tmp_path / "out.h5ad")]) == 0


def test_hashtags_among_the_features_of_a_10x_matrix_are_used(experiment: Path, tmp_path: Path, mex_writer, capsys):
    pool = experiment / "raw" / "day1"
    counts = pd.read_csv(pool / "hashtags" / "counts.csv", index_col=0)
    matrix = open_wf_folder(pool).path("gene_raw_feature_bc_matrix")
    genes = read_mex(matrix)
    barcodes = [barcode.removesuffix("-1") for barcode in genes.barcodes]
    tags = counts if set(barcodes) <= set(map(str, counts.columns)) else counts.T
    dense = np.vstack([genes.counts.toarray().T, tags[barcodes].to_numpy()])
    rows = [f"ENSG{k:011d}\t{name}\tGene Expression" for k, name in enumerate(genes.features["name"])]
    rows += [f"{name}\t{name}\tAntibody Capture" for name in tags.index]
    mex_writer(tmp_path / "day1", dense, [f"{barcode}-1" for barcode in barcodes], rows)
    assert run(["seq", "design", str(tmp_path / "day1")]) == 0
    assert 'tag: "Tag-8", condition: FILL-IN' in capsys.readouterr().out
    out = tmp_path / "out.h5ad"
    wanted = ["seq", "process", str(tmp_path / "day1"), "--design", str(experiment / "design.yaml"), "--params",
              str(experiment / "params.yaml"), "-o", str(out)]  # fmt: skip
    assert run(wanted) == 0
    cells = anndata.read_h5ad(out)
    assert {"control", "hypoxia"} <= set(cells.obs["condition"].astype(str))
    kept = [name.removeprefix("day1_") for name in cells.obs_names]
    assert np.array_equal(cells.obsm["hashtag_counts"][list(tags.index)].to_numpy(), tags[kept].T.to_numpy())


@pytest.mark.public
def test_public_hashtag_counts_are_processed(public_folder: Path, tmp_path: Path, capsys):
    folder = tmp_path / "gmm"
    shutil.copytree(public_folder / "hto" / "gmm_demux", folder, ignore=shutil.ignore_patterns("*.csv"))
    assert run(["seq", "design", str(folder)]) == 0
    tags = list(read_mex(folder).features["name"])
    names = [f"sample{k}" for k in range(len(tags))]
    design = Design.model_validate({
        "name": "gmm", "conditions": [{"name": name} for name in names], "pools": [{"name": "gmm"}],
        "hashtags": [{"pool": "gmm", "tag": tag, "condition": name} for tag, name in zip(tags, names, strict=True)],
    })  # fmt: skip
    (tmp_path / "design.yaml").write_text(design.to_yaml())
    out = tmp_path / "out.h5ad"
    assert run(["seq", "process", str(folder), "--design", str(tmp_path / "design.yaml"), "-o", str(out)]) == 0
    assert "no condition is called control" not in capsys.readouterr().err, "nothing is contrasted without genes"
    cells = anndata.read_h5ad(out)
    assert len(cells) == 15841 and set(names) <= set(cells.obs["condition"].astype(str))
    summary = json.loads((tmp_path / "out.steps" / "summary.json").read_text())
    assert all(found["separation"] > 0.9 for found in summary["tags"]["gmm"].values())


def test_the_same_from_python(experiment: Path, tmp_path: Path, done: Path):
    from hyped_core.design import read_design
    from hyped_core.params import load_params
    from hyped_seq.process.layout import Layout
    from hyped_seq.process.params import ProcessParams
    from hyped_seq.process.run import Job
    from hyped_seq.process.source import find_source

    params = load_params(str(experiment / "params.yaml"), ProcessParams)
    raw = experiment / "raw"
    source = find_source([raw / "day1", raw / "day2"], [f"day1={raw / 'day1/hashtags/reads.fastq.gz'}"], params.ingest)
    job = Job(source, Layout(tmp_path / "out.h5ad"), read_design(experiment / "design.yaml"), params, RunContext(),
              raw / "reference.gtf.gz")  # fmt: skip
    summary = job.run()
    assert summary["quality"]["kept"] == len(anndata.read_h5ad(tmp_path / "out.h5ad"))
    assert (tmp_path / "out.h5ad").read_bytes() == (done / "out.h5ad").read_bytes()
