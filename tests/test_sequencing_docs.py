"""docs/sequencing.md: its blocks run one after the other, as a reader would type them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.docs_page import typed

PAGE = Path(__file__).resolve().parents[1] / "docs" / "sequencing.md"
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.S)


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The page followed to its end in an empty folder: the folder, and what each block printed."""
    folder = tmp_path_factory.mktemp("reader")
    printed: list[str] = []
    for language, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if language not in ("sh", "python"):
            continue
        printed.append(typed(language, text, folder))
    return {"folder": folder, "printed": printed}


def test_the_page_runs_and_leaves_what_it_names(followed: dict[str, object]):
    folder = Path(str(followed["folder"]))
    named = ["out.h5ad", "out.html", "out.steps/demultiplex.csv", "out.steps/process.json", "out.steps/summary.json",
             "out.steps/cells/removed.csv", "out.steps/cells/de.csv", "out.steps/ingest/unmapped_genes.csv",
             "other.h5ad", "other.html", "steps.h5ad", "mine.hyped/manifest.json", "python.h5ad"]  # fmt: skip
    assert [name for name in named if not (folder / name).exists()] == []


def test_what_it_prints_is_what_it_says(followed: dict[str, object]):
    printed = "\n".join(followed["printed"])  # type: ignore[arg-type]
    assert 'tag: "394605", condition: FILL-IN' in printed
    assert '"disk_mib"' in printed
    assert re.search(r"240 cells, \d+ kept by quality: \d+ singlets", printed) and "out.html" in printed
    assert "captured in other pools than control" in printed
    assert "demultiplex.csv was changed by hand and kept; what follows was made from it" in printed


def test_the_hand_corrected_calls_reached_the_file(followed: dict[str, object]):
    import anndata
    import pandas as pd

    folder = Path(str(followed["folder"]))
    cells = anndata.read_h5ad(folder / "out.h5ad")
    calls = pd.read_csv(folder / "out.steps" / "demultiplex.csv", index_col="cell").loc[cells.obs_names]
    assert (cells.obs["hashtag_kind"].astype(str) == calls["kind"]).all()
    assert (calls.loc[calls["kind"] == "singlet", "probability"] >= 0.5).all()
    summary = json.loads((folder / "out.steps" / "summary.json").read_text())
    assert summary["hashtag_reads"]["control"]["used"] > 0
    assert set(summary["conditions"]) == {"control", "siPRRX1", "mmMYOD1", "both"}
    mine = re.search(r"(\d+) cells are in both", "\n".join(followed["printed"]))  # type: ignore[arg-type]
    assert mine is not None and int(mine[1]) == (cells.obs["pool"] == "control").sum()


def small_pools(folder: Path) -> None:
    """What the page's last example names: two pools of wf-single-cell and one 10x file, of few cells."""
    import h5py
    import numpy as np

    from hyped_seq.hashtags.counts import read_hashtag_counts
    from hyped_seq.ingest.align import align_cells
    from hyped_seq.readers.mex import read_mex

    (folder / "small.yaml").write_text("n_cells: 100\ncapture: {processed: false, depth: 800}\n")
    typed("sh", "hyped seq simulate raw truth --params small.yaml --seed 2", folder)
    for name in ("wf", "hto", "cellranger/outs"):
        (folder / name).mkdir(parents=True)
    control = folder / "raw" / "control"
    genes = read_mex(next(control.glob("*.gene_raw_feature_bc_matrix")))
    barcodes = [barcode.removesuffix("-1") for barcode in genes.barcodes]
    tags, absent, _ = align_cells(read_hashtag_counts(control / "hashtags" / "counts.csv"), barcodes)
    assert not absent
    counts = np.hstack([genes.counts.toarray(), tags.counts.toarray()])
    names = [*map(str, genes.features["name"]), *map(str, tags.features["name"])]
    kinds = ["Gene Expression"] * genes.counts.shape[1] + ["Antibody Capture"] * tags.counts.shape[1]
    cells, features = np.nonzero(counts)
    with h5py.File(folder / "cellranger" / "outs" / "filtered_feature_bc_matrix.h5", "w") as file:
        group = file.create_group("matrix")
        parts = {"barcodes": np.array(genes.barcodes, "S"), "data": counts[cells, features].astype(np.int32),
                 "indices": features, "indptr": np.append(0, np.cumsum((counts > 0).sum(axis=1))),
                 "shape": counts.T.shape, "features/id": np.array(names, "S"), "features/name": np.array(names, "S"),
                 "features/feature_type": np.array(kinds, "S")}  # fmt: skip
        for name, values in parts.items():
            group[name] = values
    (folder / "raw" / "perturbed").rename(folder / "wf" / "day1")
    control.rename(folder / "wf" / "day2")
    (folder / "wf" / "day1" / "hashtags" / "reads.fastq.gz").rename(folder / "hto" / "day1.fastq.gz")
    (folder / "wf" / "day2" / "hashtags" / "counts.csv").rename(folder / "hto" / "day2.csv")
    (folder / "raw" / "reference.gtf.gz").rename(folder / "gencode.gtf.gz")
    (folder / "fast.yaml").write_text("annotate: {tsne: false, umap: false}\n")


def test_the_example_of_ones_own_data_runs_once_its_conditions_are_filled_in(tmp_path: Path):
    import anndata

    small_pools(tmp_path)
    (text,) = [text for language, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")) if not language]
    start, whole = text.split("hyped seq process", 1)
    typed("sh", start, tmp_path)
    design = tmp_path / "design.yaml"
    design.write_text(design.read_text().replace("FILL-IN", "control"))
    said = typed("sh", f"hyped seq process{whole}".replace("-o mine", "--params fast.yaml -o mine"), tmp_path)
    assert "look: day3 has no counts of transcripts, so they are left out of all pools" in said
    cells = anndata.read_h5ad(tmp_path / "mine.h5ad")
    assert list(cells.obs["pool"].cat.categories) == ["day1", "day2", "day3"]
    assert (cells.obs["hashtag_kind"] == "singlet").groupby(cells.obs["pool"], observed=True).mean().min() > 0.7
    same = cells[cells.obs["pool"] == "day2"].obs_names.str.removeprefix("day2_")
    other = cells[cells.obs["pool"] == "day3"].obs_names.str.removeprefix("day3_")
    assert len(set(same) & set(other)) > 35, "day3 is day2 in another format"


PARAMETER = re.compile(r"^\| `((?:ingest|demultiplex|annotate)\.[\w.]+)` \| `(.+?)` \| .+ \|$", re.M)


def test_the_table_of_parameters_names_what_there_is_with_its_default():
    from hyped_seq.demultiplex.hashed import HashedConfig
    from hyped_seq.process.params import ProcessParams

    there: dict[str, object] = {}

    def walk(values: dict[str, object], before: str) -> None:
        for name, value in values.items():
            if isinstance(value, dict) and value:
                walk(value, f"{before}{name}.")
            else:
                there[f"{before}{name}"] = value

    walk(ProcessParams().model_dump(mode="json"), "")
    del there["demultiplex.config"]
    walk(HashedConfig().model_dump(mode="json"), "demultiplex.config.")
    told = {name: yaml.safe_load(default) for name, default in PARAMETER.findall(PAGE.read_text(encoding="utf-8"))}
    assert len(told) > 40 and {name: there.get(name, "is none") for name in told} == told
    whole = re.compile(r"ingest\.\w+|demultiplex\..+|annotate\.\w+|annotate\.quality\..+")
    assert {name for name in there if whole.fullmatch(name)} <= set(told), "these sections are told in full"
