"""Token folders: the same sequences as in memory, whole or not there, exported for HuggingFace `datasets`."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from click.testing import CliRunner

from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError, UnsupportedDataError, UsageError
from hyped_seq.cli_geneformer_tokenize import tokenize
from hyped_seq.geneformer import cell_chunks
from hyped_seq.geneformer.dictionaries import Dictionaries
from hyped_seq.geneformer.export_datasets import export_dataset
from hyped_seq.geneformer.series import V1, V2
from hyped_seq.geneformer.token_store import estimate_tokenize, open_tokens, tokenize_file
from hyped_seq.geneformer.tokenizer import Tokenizer
from hyped_seq.geneformer.tokens import TokenSets

CELLS, GENES = 90, 40
PARTS = ("tokens", "offsets", "rows", "n_genes")


def dictionaries(series=V2):
    rng = np.random.default_rng(0)
    tokens = rng.permutation(GENES) + len(series.specials)
    genes = np.array([f"ENSG{i}" for i in range(GENES)], object)
    specials = {name: i for i, name in enumerate(series.specials)}
    return Dictionaries(series, genes, tokens, rng.lognormal(0, 1, GENES), specials)


@pytest.fixture
def cells():
    """Cells with raw counts in a layer; the sixth and the last have none, two genes are not in the dictionary."""
    rng = np.random.default_rng(1)
    counts = rng.geometric(0.4, (CELLS, GENES + 2)) * (rng.random((CELLS, GENES + 2)) < 0.4)
    counts[[5, -1]] = 0
    raw = sp.csr_matrix(counts.astype(np.int32))
    obs = pd.DataFrame({"pool": list("abc") * 30}, index=[f"cell{i}" for i in range(CELLS)])
    var = pd.DataFrame({"gene_id": [f"ensg{i}" for i in range(GENES + 2)]}, index=[f"G{i}" for i in range(GENES + 2)])
    return anndata.AnnData(raw.log1p(), obs=obs, var=var, layers={"counts": raw})


@pytest.fixture
def path(cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


def equal(a: TokenSets, b: TokenSets) -> bool:
    return a.n_cells == b.n_cells and all(np.array_equal(getattr(a, part), getattr(b, part)) for part in PARTS)


def hashes(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in Path(folder).iterdir()}


@pytest.mark.parametrize("series", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("stored", ["csr", "csc", "dense"])
def test_file_gives_what_memory_gives(cells, path, tmp_path, series, stored):
    if series is V1:
        cells.var["gene_id"] = cells.var["gene_id"].str.upper()
    raw = cells.layers["counts"]
    cells.layers["counts"] = raw.toarray() if stored == "dense" else raw.asformat(stored)
    cells.write_h5ad(path)
    tokenizer = Tokenizer(dictionaries(series), max_tokens=12)
    facts = tokenize_file(path, tokenizer, tmp_path / "out", chunk_cells=7, obs=["pool"])
    found, expected = open_tokens(tmp_path / "out"), tokenizer.tokenize_cells(cells)
    assert equal(found, expected) and isinstance(found.tokens, np.memmap) and found.tokens.dtype == np.int32
    assert found.n_dropped == 2 and 5 not in found.rows and facts["n_dropped"] == 2
    assert facts["n_cut"] == int((expected.n_genes > tokenizer.room).sum()) > 0
    assert facts["genes"] == {"columns": GENES + 2, "known": GENES, "shared": 0} and facts["n_counts"] == "summed"
    assert facts["source"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts["dictionary"]["sha256"] == tokenizer.dictionaries.sha256
    obs = pd.read_parquet(tmp_path / "out/obs.parquet")
    assert obs["cell"].tolist() == [f"cell{i}" for i in found.rows]
    assert obs["pool"].tolist() == [cells.obs["pool"].iloc[i] for i in found.rows]


def test_chunks_and_threads_do_not_change_a_byte(path, tmp_path, monkeypatch):
    monkeypatch.setattr("hyped_seq.geneformer.tokenizer._UNIT_CELLS", 5)
    tokenizer = Tokenizer(dictionaries())
    for name, chunk, threads in (("a", 8192, 1), ("b", 3, 1), ("c", 50, 3)):
        tokenize_file(path, tokenizer, tmp_path / name, chunk_cells=chunk, threads=threads)
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b") == hashes(tmp_path / "c")


def test_a_file_without_known_cells_gives_an_empty_folder(cells, path, tmp_path):
    cells[[5, -1]].copy().write_h5ad(path)
    tokenize_file(path, Tokenizer(dictionaries()), tmp_path / "out")
    found = open_tokens(tmp_path / "out")
    assert len(found) == 0 and found.n_cells == found.n_dropped == 2


def test_a_file_without_cells_is_refused(cells, path, tmp_path):
    cells[:0].copy().write_h5ad(path)
    for work in (lambda: tokenize_file(path, Tokenizer(dictionaries()), tmp_path / "out"),
                 lambda: estimate_tokenize(path, Tokenizer(dictionaries()))):  # fmt: skip
        with pytest.raises(InvalidDataError, match="holds no cells") as caught:
            work()
        assert caught.value.where == str(path)
    assert list(tmp_path.iterdir()) == [path]


def test_interrupted_work_leaves_the_old_folder(cells, path, tmp_path):
    tokenizer = Tokenizer(dictionaries())
    tokenize_file(path, tokenizer, tmp_path / "out")
    before = hashes(tmp_path / "out")
    cells.layers["counts"] = cells.layers["counts"].astype(np.float32)
    cells.layers["counts"].data[-1] = 0.5  # found in the last chunk
    cells.write_h5ad(path)
    with pytest.raises(InvalidDataError, match="not whole numbers") as caught:
        tokenize_file(path, tokenizer, tmp_path / "out", chunk_cells=10)
    assert "cells.h5ad/layers/counts, cell 88" in caught.value.where
    assert hashes(tmp_path / "out") == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cells.h5ad", "out"]


def test_a_file_cut_short_is_refused(path, tmp_path):
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptFileError):
        tokenize_file(path, Tokenizer(dictionaries()), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _cut(folder):
    file = folder / "tokens.npy"
    os.truncate(file, file.stat().st_size - 8)


def _swap(folder):
    rows = np.load(folder / "rows.npy")
    np.save(folder / "rows.npy", rows[::-1])


def _shorter(folder):
    np.save(folder / "tokens.npy", np.load(folder / "tokens.npy")[:-1])


def _other_type(folder):
    np.save(folder / "tokens.npy", np.load(folder / "tokens.npy").astype(np.int64))


def _pickled(folder):
    np.save(folder / "rows.npy", np.array([{}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    "damage",
    [_cut, _swap, _shorter, _other_type, _pickled, lambda f: (f / "n_genes.npy").unlink()],
    ids=["cut", "swap", "shorter", "type", "pickle", "gone"],
)
def test_damaged_folders_are_refused(path, tmp_path, damage):
    tokenize_file(path, Tokenizer(dictionaries()), tmp_path / "out")
    damage(tmp_path / "out")
    with pytest.raises(CorruptFileError) as caught:
        open_tokens(tmp_path / "out")
    assert "hyped seq geneformer tokenize" in caught.value.mend


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(MissingFileError):
        open_tokens(tmp_path)
    (tmp_path / "tokens.json").write_text("{")
    with pytest.raises(CorruptFileError):
        open_tokens(tmp_path)
    record = {"format": "hyped-tokens", "version": 2, "n_cells": 0, "n_tokens": 0, "n_sequences": 0}
    (tmp_path / "tokens.json").write_text(json.dumps(record))
    with pytest.raises(UnsupportedDataError):
        open_tokens(tmp_path)


def test_missing_columns_of_obs(path, tmp_path):
    for column, says in (("phase", "no column 'phase'"), ("cell", "hide")):
        with pytest.raises(InvalidDataError, match=says):
            tokenize_file(path, Tokenizer(dictionaries()), tmp_path / "out", obs=[column])


# ----------------------------------------------------------------------------------------------------------- export
def test_datasets_reads_the_export(path, tmp_path):
    datasets = pytest.importorskip("datasets")
    tokenize_file(path, Tokenizer(dictionaries(), max_tokens=9), tmp_path / "out", obs=["pool"])
    made = export_dataset(tmp_path / "out", tmp_path / "hf")
    found, tokens = datasets.load_from_disk(str(tmp_path / "hf")), open_tokens(tmp_path / "out")
    assert found.column_names == made["columns"] == ["input_ids", "length", "cell", "pool"]
    assert found.num_rows == len(tokens) == made["sequences"]
    for i, row in enumerate(found):
        assert row["input_ids"] == tokens[i].tolist() and row["length"] == len(tokens[i])
    assert found["cell"][:2] == ["cell0", "cell1"] and set(found["pool"]) == {"a", "b", "c"}
    longest = found.sort("length", reverse=True)  # what official code does next
    assert longest[0]["length"] == 9 and len(longest.with_format("torch")[0]["input_ids"]) == 9


def test_export_of_sequences_in_memory(tmp_path):
    tokens = Tokenizer(dictionaries(V1)).tokenize(np.eye(3, GENES, dtype=int), dictionaries(V1).genes)
    for name in ("a", "b"):
        export_dataset(tokens, tmp_path / name, obs=pd.DataFrame({"x": [1, 2, 3]}))
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    for obs, says in ((pd.DataFrame({"x": [1]}), "1 rows for 3"), (pd.DataFrame({"length": [1, 2, 3]}), "'length'")):
        with pytest.raises(InvalidDataError, match=says):
            export_dataset(tokens, tmp_path / "c", obs=obs)


# ---------------------------------------------------------------------------------------------------------- command
def test_command(path, tmp_path):
    dictionaries().save(tmp_path / "dictionaries")
    base = [str(path), str(tmp_path / "out"), "--dictionary", str(tmp_path / "dictionaries")]
    dry = CliRunner().invoke(tokenize, [*base, "--dry-run"], catch_exceptions=False)
    estimate = json.loads(dry.stdout)
    assert not (tmp_path / "out").exists() and estimate["cells"] == CELLS and estimate["known_genes"] == GENES
    extra = ["--max-tokens", "10", "--obs", "pool", "--datasets", str(tmp_path / "hf"), "--json"]
    ran = CliRunner().invoke(tokenize, [*base, *extra], catch_exceptions=False)
    assert ran.exit_code == 0
    assert json.loads(ran.stdout) == json.loads((tmp_path / "out/tokens.json").read_text())
    assert "2 of 90 cells have no gene of the dictionary" in ran.stderr and (tmp_path / "hf/state.json").is_file()
    expected = Tokenizer(dictionaries(), max_tokens=10).tokenize_cells(anndata.read_h5ad(path))
    assert equal(open_tokens(tmp_path / "out"), expected)


def test_command_replaces_its_own_outputs_alone(path, tmp_path, monkeypatch):
    dictionaries().save(tmp_path / "d")
    for name in ("mine", "data"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("mine")
    (tmp_path / "afile").write_text("mine")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def run(out, *more):
        words = [str(path), str(out), "--dictionary", str(tmp_path / "d"), *map(str, more)]
        assert CliRunner().invoke(tokenize, words, catch_exceptions=False).exit_code == 0

    for out, *more in (
        [path], [tmp_path], [tmp_path / "mine"], [tmp_path / "afile"], [tmp_path / "d"], ["."],
        [tmp_path / "new", "--datasets", tmp_path / "mine"], [tmp_path / "new", "--datasets", tmp_path / "d"],
        [tmp_path / "new/tokens", "--datasets", tmp_path / "new"], [path / "below"],
    ):  # fmt: skip
        for dry in ([], ["--dry-run"]):
            with pytest.raises(UsageError) as caught:
                run(out, *more, *dry)
            assert caught.value.mend
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    for _ in range(2):
        run(tmp_path / "out", "--datasets", tmp_path / "hf")
    assert (tmp_path / "out/tokens.json").is_file() and (tmp_path / "hf/state.json").is_file()


def test_command_warns_where_next_to_no_gene_is_known(cells, path, tmp_path):
    dictionaries().save(tmp_path / "d")
    words = [str(path), str(tmp_path / "out"), "--dictionary", str(tmp_path / "d")]
    for known, warned in ((5, False), (4, True)):  # of 42 genes
        ids = [f"ENSG{i}" for i in range(known)] + [f"ENSMUSG{i}" for i in range(GENES + 2 - known)]
        cells.var["gene_id"] = ids
        cells.write_h5ad(path)
        said = CliRunner().invoke(tokenize, words, catch_exceptions=False).stderr
        assert f"{known} of 42 genes are in the dictionary" in said
        assert (f"warning: of 42 genes only {known} are" in said) is warned


def test_estimate_is_near_what_is_written(path, tmp_path):
    tokenizer = Tokenizer(dictionaries())
    estimate = estimate_tokenize(path, tokenizer)
    tokenize_file(path, tokenizer, tmp_path / "out")
    written = sum(p.stat().st_size for p in (tmp_path / "out").glob("*.npy"))
    assert 0.8 * written < estimate["bytes"] < 1.5 * written


def test_rows_with_many_counts_make_small_chunks(path, tmp_path, monkeypatch):
    tokenizer = Tokenizer(dictionaries())
    tokenize_file(path, tokenizer, tmp_path / "a")
    monkeypatch.setattr(cell_chunks, "CHUNK_ENTRIES", 1)
    tokenize_file(path, tokenizer, tmp_path / "b")
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
