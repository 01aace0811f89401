"""Dictionaries: one content whatever the format, contradictions refused, and pickles that run nothing."""

from __future__ import annotations

import builtins
import json
import os
import pickle
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError, UnknownNameError, UsageError
from hyped_seq.cli_geneformer_dictionary import dictionary, read_genes
from hyped_seq.geneformer.dictionaries import Dictionaries, build_dictionaries, load_dictionaries
from hyped_seq.geneformer.series import V1, V2

PUBLIC = Path(os.environ.get("HYPED_PUBLIC_DATA", "")) / "geneformer"
V1_TOKENS = {"<pad>": 0, "<mask>": 1, "ENSG01": np.int16(2), "ENSG02": np.int16(3), "ENSG03": np.int16(5)}
V2_TOKENS = {"<pad>": 0, "<mask>": 1, "<cls>": 2, "<eos>": 3, "ENSG01": 4, "ENSG02": 5, "ENSG03": 6}
MEDIANS = {"ENSG01": np.float64(1.5), "ENSG02": np.float32(0.1), "ENSG03": 3}
NAMES = {"AAA1": "ENSG01", "BBB1": "ENSG02", "CCC1": "ENSG03", "ZZZ1": "ENSG99", "": "ENSG07"}


def write(folder, tokens=V1_TOKENS, medians=MEDIANS, suffix="", names=NAMES, mapping=None, kind="pkl"):
    """The official files, as pickles or JSON."""
    folder.mkdir(exist_ok=True)
    files = {"token_dictionary": tokens, "gene_median_dictionary": medians}
    files |= {"gene_name_id_dict": names, "ensembl_mapping_dict": mapping}
    for name, content in files.items():
        path = folder / f"{name}{suffix}.{kind}"
        if content is None:
            continue
        if kind == "pkl":
            path.write_bytes(pickle.dumps(content))
        else:
            path.write_text(json.dumps({key: np.asarray(value).item() for key, value in content.items()}))
    return folder


def make(**changes):
    parts = {
        "series": V1,
        "genes": np.array(["ENSG02", "ENSG01"], dtype=object),
        "tokens": np.array([3, 2]),
        "medians": np.array([1.0, 2.0]),
        "specials": {"<pad>": 0, "<mask>": 1},
    }
    return Dictionaries(**(parts | changes))


@pytest.mark.parametrize("suffix", ["", "_gc30M", "_30M"])
@pytest.mark.parametrize("kind", ["pkl", "json"])
def test_official_v1(tmp_path, suffix, kind):
    got = load_dictionaries(write(tmp_path, suffix=suffix, kind=kind))
    assert got.series is V1 and got.genes.tolist() == ["ENSG01", "ENSG02", "ENSG03"]
    assert got.tokens.tolist() == [2, 3, 5] and got.tokens.dtype == np.int32 and got.vocabulary == 6
    assert got.medians.tolist() == [1.5, float(np.float32(0.1)), 3.0] and got.medians.dtype == np.float64
    assert got.specials == {"<pad>": 0, "<mask>": 1} and got.source.startswith("token_dictionary")
    assert got.position(["ENSG03", "ensg03", None, float("nan"), "ENSG04"]).tolist() == [2, -1, -1, -1, -1]


def test_official_v2_and_its_mapping(tmp_path):
    mapping = {"ENSG01": "ENSG01", "ENSG02": "ENSG02", "OLD2": "ENSG02", "GONE": "ENSG77"}
    folder = write(tmp_path, V2_TOKENS, suffix="_gc104M", mapping=mapping)
    got = load_dictionaries(folder)
    assert got.series is V2 and got.vocabulary == 7
    # ENSG03 has a token, but the mapping does not lead to it: the official code drops such ids
    assert got.position(["old2", "ensg02", "ENSG01", "GONE", "ENSG03"]).tolist() == [1, 1, 0, -1, -1]
    assert got.left_out == {"mapping_without_token": 1} and "GONE" not in got.mapping
    assert got.gene_id("OLD2") == "ENSG02" and got.token_of("bbb1") == 5
    with pytest.raises(InvalidDataError, match=r"'CCC1' \(ENSG03\) has a token, but the mapping"):
        got.gene_id("CCC1")


def test_a_mapping_to_itself_says_nothing(tmp_path):
    plain = load_dictionaries(write(tmp_path / "a", V2_TOKENS))
    mapped = load_dictionaries(write(tmp_path / "b", V2_TOKENS, mapping={g: g for g in MEDIANS} | {"X": "ENSG77"}))
    other = load_dictionaries(write(tmp_path / "c", V2_TOKENS, mapping={g: g for g in MEDIANS} | {"X": "ENSG03"}))
    assert plain.sha256 == mapped.sha256 != other.sha256


def test_a_pickle_and_its_twin_are_one(tmp_path):
    by_pickle = load_dictionaries(write(tmp_path / "pkl"))
    shuffled = dict(reversed(V1_TOKENS.items()))
    by_json = load_dictionaries(write(tmp_path / "json", shuffled, kind="json", names=None))
    files = {"tokens": tmp_path / "pkl/token_dictionary.pkl", "medians": tmp_path / "json/gene_median_dictionary.json"}
    saved = by_pickle.save(tmp_path / "own")
    again = load_dictionaries(saved)
    assert len({d.sha256 for d in (by_pickle, by_json, load_dictionaries(files), again)}) == 1
    assert again.symbols == by_pickle.symbols and again.medians.tolist() == by_pickle.medians.tolist()
    first = saved.read_bytes()
    again.save(tmp_path / "own")
    assert saved.read_bytes() == first
    changed = make(medians=np.array([1.0, np.nextafter(2.0, 3)]))
    assert changed.sha256 != make().sha256 == make(source="elsewhere", symbols={"a": "ENSG01"}).sha256


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_saved_and_loaded_is_the_same(tmp_path_factory, data):
    series = data.draw(st.sampled_from([V1, V2]))
    genes = data.draw(
        st.lists(st.text("ABCxyz019é", min_size=1, max_size=6), min_size=1, max_size=8, unique_by=str.upper)
    )
    first = len(series.specials)
    tokens = data.draw(
        st.lists(st.integers(first, 10**6), min_size=len(genes), max_size=len(genes), unique=True)
    )
    medians = data.draw(
        st.lists(st.floats(1e-300, 1e300, exclude_min=True), min_size=len(genes), max_size=len(genes))
    )
    one = Dictionaries(
        series=series,
        genes=np.array(genes, dtype=object),
        tokens=np.array(tokens),
        medians=np.array(medians),
        specials={name: i for i, name in enumerate(series.specials)},
    )
    two = load_dictionaries(one.save(tmp_path_factory.mktemp("saved")), series=series)
    assert two.sha256 == one.sha256 and two.genes.tolist() == one.genes.tolist()
    assert two.medians.tolist() == one.medians.tolist() and (np.diff(two.tokens) > 0).all()
    written = [gene.upper() if series.collapse else gene for gene in genes]
    assert two.genes[two.position(genes)].tolist() == written
    assert two.tokens[two.position(genes)].tolist() == tokens


def test_genes_in_one_file_only(tmp_path):
    tokens = {**V1_TOKENS, "ENSG10": 9}
    medians = {**MEDIANS, "ENSG11": 1.0, "ENSG12": float("nan")}
    got = load_dictionaries(write(tmp_path, tokens, medians))
    assert got.left_out == {"token_without_median": 1, "median_without_token": 2}
    assert got.reserved == {"ENSG10": 9} and got.vocabulary == 10 and "ENSG10" not in got.genes
    again = load_dictionaries(got.save(tmp_path / "own"))
    assert (again.sha256, again.vocabulary, again.left_out) == (got.sha256, 10, got.left_out)


def test_nothing_can_be_changed():
    got = make()
    for array in (got.genes, got.tokens, got.medians):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[1]
    with pytest.raises(AttributeError):
        got.series = V2
    own = np.array([1.0, 2.0])
    held = make(medians=own)
    own[0] = 7
    assert held.medians.tolist() == [2.0, 1.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"genes": np.array(["A", "A"], dtype=object)}, "gene id"),
        ({"tokens": np.array([2, 2])}, "token.*more than once, first 2"),
        ({"tokens": np.array([1, 2])}, "token.*more than once, first 1"),
        ({"tokens": np.array([-1, 2])}, "outside 0"),
        ({"tokens": np.array([2**31, 2])}, "outside 0"),
        ({"tokens": np.array([2])}, "2 genes, 1 tokens"),
        ({"medians": np.array([0.0, 1])}, "first 0 of ENSG02"),
        ({"medians": np.array([1, np.nan])}, "first nan of ENSG01"),
        ({"medians": np.array([1, np.inf])}, "not above 0"),
        ({"specials": {"<pad>": 1, "<mask>": 0}}, "special tokens"),
        ({"series": V2}, "special tokens"),
        ({"genes": [], "tokens": [], "medians": []}, "no gene"),
        ({"reserved": {"X": 3}}, "token.*more than once"),
    ],
)
def test_contradictions(changes, message):
    with pytest.raises(InvalidDataError, match=message):
        make(**changes)


def test_ids_that_differ_in_case_only():
    assert len(make(genes=np.array(["ENSG1", "ensg1"], dtype=object))) == 2
    with pytest.raises(InvalidDataError, match="gene id"):
        make(
            series=V2,
            genes=np.array(["ENSG1", "ensg1"], dtype=object),
            tokens=np.array([4, 5]),
            specials={name: i for i, name in enumerate(V2.specials)},
        )


def test_unknown_genes_have_close_ones(tmp_path):
    got = load_dictionaries(write(tmp_path))
    with pytest.raises(InvalidDataError, match="close ones: AAA1"):
        got.gene_id("AAA11")
    with pytest.raises(InvalidDataError, match=r"'ZZZ1' \(ENSG99\) has no token"):
        got.token_of("ZZZ1")
    with pytest.raises(InvalidDataError, match="--keep GENE"):
        got.token_of("qqqqqq")


def test_missing_files(tmp_path):
    write(tmp_path)
    (tmp_path / "gene_median_dictionary.pkl").unlink()
    with pytest.raises(MissingFileError, match=r"gene_median_dictionary\.pkl") as caught:
        load_dictionaries(tmp_path)
    assert "hyped models fetch geneformer" in str(caught.value)
    (tmp_path / "token_dictionary.pkl").rename(tmp_path / "token_dictionary_gc104M.pkl")
    with pytest.raises(MissingFileError, match=r"official gene_median_dictionary_gc104M\.pkl"):
        load_dictionaries(tmp_path, series="v2")
    with pytest.raises(MissingFileError, match=r"official token_dictionary\.pkl and gene_median_dictionary\.pkl"):
        load_dictionaries(tmp_path, series="v1")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "nowhere", tmp_path / "empty", {"tokens": "no.pkl", "medians": "no.pkl"}):
        with pytest.raises(MissingFileError):
            load_dictionaries(path)


def test_series(tmp_path):
    write(tmp_path, suffix="_gc30M")
    assert load_dictionaries(tmp_path, series=V1).series is V1
    write(tmp_path, V2_TOKENS, suffix="_gc104M")
    with pytest.raises(InvalidDataError, match="name the series"):
        load_dictionaries(tmp_path)
    assert load_dictionaries(tmp_path, series="v1").series is V1
    assert load_dictionaries(tmp_path, series=V2).series is V2
    with pytest.raises(InvalidDataError, match="of series v1, expected v2"):
        load_dictionaries(write(tmp_path / "old"), series="v2")
    with pytest.raises(UnknownNameError):
        load_dictionaries(tmp_path, series="v3")
    half = {key: value for key, value in V2_TOKENS.items() if key != "<eos>"}
    with pytest.raises(InvalidDataError, match="<cls> alone"):
        load_dictionaries(write(tmp_path / "half", half))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("token_dictionary", {"ENSG01": 2.0}, "'ENSG01': '2.0' \\(float\\)"),
        ("token_dictionary", {"ENSG01": True}, "bool"),
        ("token_dictionary", {"ENSG01": "2"}, "str"),
        ("token_dictionary", {7: 2}, "holds 7"),
        ("token_dictionary", ["ENSG01"], "list"),
        ("gene_median_dictionary", {"ENSG01": None}, "NoneType"),
        ("gene_median_dictionary", {"ENSG01": [1.0]}, "list"),
        ("gene_median_dictionary", np.arange(3), "ndarray"),
        ("gene_name_id_dict", {"A": 3}, "'A'"),
        ("ensembl_mapping_dict", {"A": 3.5}, "'A'"),
    ],
)
def test_wrong_content(tmp_path, name, content, message):
    path = write(tmp_path, mapping={}) / f"{name}.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(InvalidDataError, match=message) as caught:
        load_dictionaries(tmp_path)
    assert caught.value.where == str(path)


def test_a_pickle_cut_short(tmp_path):
    path = write(tmp_path) / "gene_median_dictionary.pkl"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CorruptFileError) as caught:
        load_dictionaries(tmp_path)
    assert caught.value.where == str(path)


def test_own_file_that_was_spoiled(tmp_path):
    path = load_dictionaries(write(tmp_path)).save(tmp_path / "own")
    content = json.loads(path.read_text())
    content["medians"]["ENSG01"] = 9.0
    path.write_text(json.dumps(content))
    with pytest.raises(CorruptFileError, match="was changed"):
        load_dictionaries(path.parent)
    del content["sha256"]
    path.write_text(json.dumps(content))
    assert load_dictionaries(path).medians[0] == 9.0
    for text, message in (
        ("{", "not JSON"),
        ('{"a": 1}', "is no hyped"),
        ('{"tokens": 1, "tokens": 2}', "more than once"),
        (json.dumps(content | {"version": 9}), "version 9"),
        (json.dumps(content | {"tokens": None}), "NoneType"),
    ):
        path.write_text(text)
        with pytest.raises(InvalidDataError, match=message) as caught:
            load_dictionaries(path.parent)
        assert str(path) in str(caught.value.where)


class Calls:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Sneaky(dict):
    """A dictionary of a class of its own, whose unpickling imports its module."""


class PersistentPickler(pickle.Pickler):
    def persistent_id(self, value):
        return "elsewhere" if value == "ENSG01" else None


def persistent(path):
    with path.open("wb") as stream:
        PersistentPickler(stream).dump(V1_TOKENS)


MARK = "ran.txt"
TOUCH = f"open({MARK!r}, 'w').close()"
BUILD = b"\x80\x02cnumpy\ndtype\n}X\x01\x00\x00\x00aK\x01sb."  # sets a state on an allowed global
INST = f"(S'touch {MARK}'\nios\nsystem\n.".encode()


@pytest.mark.parametrize(
    "payload",
    [
        Calls(os.system, f"touch {MARK}"),
        Calls(builtins.eval, TOUCH),
        Calls(builtins.exec, TOUCH),
        Calls(getattr, {}, "clear"),
        Calls(__import__, "antigravity"),
        {"ENSG01": Calls(os.system, f"touch {MARK}")},
        {"ENSG01": [({"deep": Calls(builtins.eval, TOUCH)},)]},
        {"ENSG01": np.array([Calls(os.system, f"touch {MARK}")], dtype=object)},
        Sneaky(V1_TOKENS),
        Path("/"),
        BUILD,
        INST,
        persistent,
    ],
    ids=lambda payload: type(payload).__name__,
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", ["token_dictionary", "ensembl_mapping_dict"])
def test_a_malicious_pickle_runs_nothing(tmp_path, monkeypatch, payload, protocol, name):
    path = write(tmp_path, mapping={}) / f"{name}.pkl"
    if callable(payload) and not isinstance(payload, Calls):
        payload(path)
    else:
        path.write_bytes(payload if isinstance(payload, bytes) else pickle.dumps(payload, protocol))
    monkeypatch.chdir(tmp_path)
    modules = set(sys.modules)
    with pytest.raises(InvalidDataError) as caught:
        load_dictionaries(tmp_path)
    assert caught.value.where == str(path)
    assert not (tmp_path / MARK).exists() and "antigravity" not in sys.modules
    assert set(sys.modules) == modules


def test_the_attack_would_run(tmp_path, monkeypatch):
    """What the test above refuses does run under plain unpickling: the test is none of air."""
    monkeypatch.chdir(tmp_path)
    for payload in (Calls(os.system, f"touch {MARK}"), {"a": Calls(builtins.exec, TOUCH)}, INST):
        pickle.loads(payload if isinstance(payload, bytes) else pickle.dumps(payload))
        (tmp_path / MARK).unlink()


@pytest.mark.public
@pytest.mark.skipif(not PUBLIC.is_dir(), reason="HYPED_PUBLIC_DATA names no folder")
def test_published_v1(tmp_path):
    got = load_dictionaries(PUBLIC)
    assert (got.series, len(got), got.vocabulary, got.left_out) == (V1, 25_424, 25_426, {})
    assert got.token_of("MYOD1") == got.token_of("ENSG00000129152") == 6076
    assert got.medians[got.position([got.gene_id("PRRX1")])[0]] == pytest.approx(3.85, abs=0.005)
    assert len(got.symbols) == 40_247  # one entry of the file has no name
    raw = pickle.loads((PUBLIC / "token_dictionary.pkl").read_bytes())
    assert dict(zip(got.genes, got.tokens.tolist(), strict=True)) == {g: t for g, t in raw.items() if g[0] != "<"}
    assert load_dictionaries(got.save(tmp_path)).sha256 == got.sha256


@pytest.mark.public
@pytest.mark.skipif(not PUBLIC.is_dir(), reason="HYPED_PUBLIC_DATA names no folder")
def test_medians_of_real_cells(tmp_path):
    official = load_dictionaries(PUBLIC)
    table = pd.read_csv(PUBLIC.parent / "reference/celltypist_sample_cell_by_gene_f04e3dd.csv", index_col=0)
    ids = [official.symbols.get(name, "") for name in table.columns]
    cells = ad.AnnData(sp.csr_matrix(table.to_numpy(dtype=np.float32)), obs=pd.DataFrame(index=table.index.astype(str)))
    cells.var_names = table.columns
    cells.var["gene_id"], cells.var["symbol"] = ids, list(table.columns)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    options = {"symbols": official.symbols, "only": official.genes, "keep": ["MYOD1"]}  # which is not in these cells
    got = build_dictionaries(tmp_path / "cells.h5ad", series="v1", **options)
    values = table.to_numpy(dtype=np.float64) / table.to_numpy().sum(axis=1, keepdims=True) * 10_000
    known = set(official.genes)
    seen = {
        gene: np.median(values[:, i][values[:, i] > 0])
        for i, gene in enumerate(ids)
        if gene in known and (values[:, i] > 0).any()
    }
    own = dict(zip(got.genes, got.medians, strict=True))
    assert len(seen) > 4_000 and {gene: own[gene] for gene in seen} == seen
    assert set(own) - set(seen) <= {"ENSG00000129152"} and got.gene_id("MYOD1") == "ENSG00000129152"
    # two medians over different cells agree in what is high and what is low
    shared = official.position(list(seen))
    ranks = [np.argsort(np.argsort(v)) for v in (np.array(list(seen.values())), official.medians[shared])]
    assert np.corrcoef(*ranks)[0, 1] > 0.3


# ---------------------------------------------------------------------------------------------------- the command
@pytest.fixture
def cells(tmp_path):
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.8, (60, 4)).astype(np.int32)
    counts[:, 3] = 0
    var = pd.DataFrame({"gene_id": ["E3", "E1", "E2", "E4"], "symbol": ["C", "A", "B", "D"]}, index=list("cabd"))
    made = ad.AnnData(sp.csr_matrix(counts), var=var)
    made.obs_names = [f"c{i}" for i in range(60)]
    made.write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


def run(*arguments):
    return CliRunner().invoke(dictionary, list(map(str, arguments)), catch_exceptions=False)


def test_command_builds(cells, tmp_path):
    result = run(cells, tmp_path / "out", "--json")
    record = json.loads(result.stdout)
    got = load_dictionaries(tmp_path / "out")
    assert record["sha256"] == got.sha256 and record["genes"] == 3 and record["left_out"] == {"unseen": 1}
    assert got.genes.tolist() == ["E1", "E2", "E3"] and got.tokens.tolist() == [4, 5, 6]
    assert "no counts" in result.stderr and "E4" in result.stderr
    assert (tmp_path / "out/left_out.csv").read_text() == "gene,symbol,reason\nE4,D,unseen\n"
    again = run(cells, tmp_path / "again")
    assert again.stdout == ""
    for name in ("dictionaries.json", "left_out.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_command_keeps_and_restricts(cells, tmp_path):
    (tmp_path / "genes.txt").write_text("# mine\nA\n\nE2,second column\nNOPE\n")
    assert read_genes(tmp_path / "genes.txt") == ["A", "E2", "NOPE"]
    options = ("--genes", tmp_path / "genes.txt", "--keep", "D", "--series", "v1", "--json")
    result = run(cells, cells, tmp_path / "out", *options)
    got = load_dictionaries(tmp_path / "out", series="v1")
    assert got.genes.tolist() == ["E1", "E2", "E4"] and json.loads(result.stdout)["kept_without_counts"] == ["E4"]
    assert got.left_out == {"not_asked_for": 1, "not_in_data": 1} and "built from 120 cells" in got.source
    assert "kept without counts, with the median of all medians: 1 (E4)" in result.stderr


def test_command_warns_of_version_suffixes(cells, tmp_path):
    assert "version suffix" not in run(cells, tmp_path / "out").stderr
    made = ad.read_h5ad(cells)
    made.var["gene_id"] = [f"ENSG0000000000{i}.{i + 2}" for i in range(4)]
    made.write_h5ad(cells)
    lines = [line for line in run(cells, tmp_path / "out").stderr.splitlines() if "version suffix" in line]
    assert len(lines) == 1 and "suffix: 3 (ENSG00000000000.2, ...)" in lines[0] and 'cells.var["gene_id"] =' in lines[0]


def test_the_source_is_what_the_cells_are_called(cells):
    made = ad.read_h5ad(cells)
    assert build_dictionaries(cells).source == "built from 60 cells of cells.h5ad"
    assert build_dictionaries(made).source == "built from 60 cells of an AnnData"
    named = build_dictionaries(made, where="rna.h5ad")
    assert named.source == "built from 60 cells of rna.h5ad" and named.sha256 == build_dictionaries(cells).sha256
    made.X[0, 0] = -1
    with pytest.raises(InvalidDataError) as caught:
        build_dictionaries(made, where="rna.h5ad")
    assert caught.value.where == "rna.h5ad/X"


def test_command_converts(tmp_path):
    folder = write(tmp_path / "official", V2_TOKENS, suffix="_gc104M")
    assert run("--from", folder, tmp_path / "out").exit_code == 0
    assert load_dictionaries(tmp_path / "out").sha256 == load_dictionaries(folder).sha256
    with pytest.raises(UsageError, match="--from takes neither"):
        run("--from", folder, "cells.h5ad", tmp_path / "out")
    with pytest.raises(UsageError, match="no cells"):
        run(tmp_path / "out")


def test_command_replaces_its_own_outputs_alone(cells, tmp_path):
    run(cells, tmp_path / "out")
    for name in ("model.safetensors", "pytorch_model.bin", "geneformer.json"):
        run(cells, tmp_path / name)
        (tmp_path / name / name).write_text("weights that have these dictionaries")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for name in ("model.safetensors", "pytorch_model.bin", "geneformer.json"):
        with pytest.raises(UsageError, match="holds weights"):
            run(cells, tmp_path / name, "--keep", "D")
    for words in ([cells], [tmp_path], [tmp_path / "mine"], ["."], ["--from", tmp_path / "out", tmp_path / "out"]):
        with pytest.raises(UsageError) as caught:
            run(*([] if len(words) > 1 else [cells]), *words)
        assert caught.value.mend
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    run(cells, tmp_path / "out", "--keep", "D")
    assert len(load_dictionaries(tmp_path / "out")) == 4


def test_errors_name_the_file_that_was_given(cells, tmp_path):
    build_dictionaries(cells).save(tmp_path / "own")
    official = write(tmp_path / "official", V2_TOKENS, suffix="_gc104M")
    for folder, file in ((tmp_path / "own", "dictionaries.json"), (official, "token_dictionary_gc104M")):
        made = load_dictionaries(folder)
        with pytest.raises(InvalidDataError, match="there is no gene 'CD3E'") as caught:
            made.gene_id("CD3E")
        assert caught.value.where.startswith(str(folder / file))
        assert str(tmp_path) not in json.dumps(made.facts)
