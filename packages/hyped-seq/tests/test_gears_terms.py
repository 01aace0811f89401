"""Terms of genes: every kind of file says the same, names are matched by a stated rule, odd files are refused."""

from __future__ import annotations

import gzip
import json
import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError
from hyped_seq.gears.terms import Terms, read_terms, rows_of, terms_of

SETS = {"KLF1": {"GO:1", "GO:2"}, "MYOD1": {"GO:2"}, "HLA-A": {"GO:3", "GO:1"}}
GAF = "!gaf-version: 2.2\n!\n" + "".join(
    f"UniProtKB\tP{i}\t{gene}\tinvolved_in\t{term}\tPMID:1\tIEA\t\tP\tname\t\tprotein\ttaxon:9606\t20260101\tX\t\t\n"
    for i, (gene, term) in enumerate((g, t) for g, own in SETS.items() for t in sorted(own))
)


def lines_of_gmt() -> str:
    terms = sorted({term for own in SETS.values() for term in own})
    return "".join(
        "\t".join([term, "about it", *[g for g, own in SETS.items() if term in own], ""]) + "\n" for term in terms
    )


def table(mark: str, header: str) -> str:
    rows = [mark.join([gene, "x", term]) for gene, own in SETS.items() for term in sorted(own)]
    return "\n".join([mark.join(header.split()), *rows, rows[0], ""])


def sets_of(terms: Terms) -> dict[str, set[str]]:
    return {
        gene: {terms.terms[i] for i in terms.table[row].indices} for row, gene in enumerate(terms.genes)
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.gmt", lines_of_gmt()),
        ("a.GMT", lines_of_gmt().replace("\n", "\r\n") + "\n\n"),
        ("a.gmt.gz", lines_of_gmt()),
        ("a.gmt", lines_of_gmt().replace("\tMYOD1", "\tMYOD1\tMYOD1\t ")),
        ("a.json", json.dumps({gene: sorted(own) * 2 for gene, own in SETS.items()})),
        ("a.tsv", table("\t", "gene evidence term")),
        ("a.csv", "\ufeff" + table(",", "Symbol evidence GO_ID")),
        ("a.csv.gz", table(",", "gene evidence gene_set")),
        ("a.gaf", GAF),
        ("a.gaf.gz", GAF + GAF.splitlines()[2].replace("involved_in", "NOT|involved_in").replace("GO:1", "GO:9")),
        ("a.pkl", SETS),
        ("a.pkl", {gene: sorted(own) for gene, own in SETS.items()}),
        ("a.pkl", {gene: frozenset(own) for gene, own in SETS.items()}),
    ],
)
def test_every_kind_says_the_same(name, content, tmp_path):
    path = tmp_path / name
    if isinstance(content, dict):
        path.write_bytes(pickle.dumps(content))
    elif name.endswith(".gz"):
        path.write_bytes(gzip.compress(content.encode()))
    else:
        path.write_text(content, encoding="utf-8", newline="")
    terms = read_terms(path)
    assert sets_of(terms) == SETS
    assert terms.genes == ("HLA-A", "KLF1", "MYOD1") and terms.table.dtype == bool
    assert terms.source == str(path)


class Program:
    def __init__(self, place: str) -> None:
        self.place = place

    def __reduce__(self):
        return os.mkdir, (self.place,)


def test_a_pickle_that_is_a_program_does_not_run(tmp_path):
    path = tmp_path / "gene2go_all.pkl"
    path.write_bytes(pickle.dumps({"KLF1": {"GO:1"}, "MYOD1": Program(str(tmp_path / "made"))}))
    with pytest.raises(InvalidDataError, match="refused to unpickle .*mkdir"):
        read_terms(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("name", "content", "kind", "match"),
    [
        ("a.txt", b"x", InvalidDataError, r"\.txt is no known kind"),
        ("a", b"x", InvalidDataError, "no ending is no known kind"),
        ("a.gmt", b"only a word\n", CorruptFileError, "line 1 is no gene set"),
        ("a.gmt", b"", InvalidDataError, "holds no gene"),
        ("a.gmt", b"\xff\xfe\x00", CorruptFileError, "cannot be read as text"),
        ("a.gmt.gz", b"no gzip", CorruptFileError, "cannot be read as text"),
        ("a.gmt.gz", gzip.compress(b"a\tb\tc\n" * 99, mtime=0)[:-9], CorruptFileError, "cannot be read as text"),
        ("a.json", b"{", CorruptFileError, "is no JSON"),
        ("a.json", b"[1]", InvalidDataError, "no mapping of gene to terms"),
        ("a.json", b'{"KLF1": "GO:1"}', InvalidDataError, "'KLF1' are no set or list"),
        ("a.json", b'{"KLF1": [1]}', InvalidDataError, "'KLF1' are no set or list"),
        ("a.pkl", b"no pickle", CorruptFileError, "no readable pickle"),
        ("a.pkl", pickle.dumps({1: {"GO:1"}}), InvalidDataError, "1 are no set or list"),
        ("a.tsv", b"gene\tx\nKLF1\tGO:1\n", InvalidDataError, "lacks a column with the term; columns: gene, x"),
        ("a.csv", b"gene\tterm\n", InvalidDataError, "lacks a column with the gene"),
        ("a.csv", b"gene,term\nKLF1\n", CorruptFileError, "line 2 has 1 field"),
        ("a.csv", b"", InvalidDataError, "columns: none"),
        ("a.gaf", b"!x\nUniProtKB\tP1\tKLF1\n", CorruptFileError, "line 2 has no symbol"),
    ],
)
def test_what_holds_no_terms(name, content, kind, match, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(kind, match=match):
        read_terms(tmp_path / name)


def test_no_such_file(tmp_path):
    with pytest.raises(MissingFileError):
        read_terms(tmp_path / "none.gmt")


def test_names_are_taken_as_written_first_then_in_upper_case():
    terms = terms_of({"C1orf112": {"a"}, "Myod1": {"b"}, "MYOD1": {"c"}, "bare": set()}, "file")
    rows = rows_of(terms, ["C1ORF112", "Myod1", "bare", "nowhere", "MYOD1"])
    assert [terms.genes[row] if row >= 0 else "" for row in rows] == ["C1orf112", "Myod1", "", "", "MYOD1"]
    with pytest.raises(InvalidDataError, match="'myod1' .*not clear which is meant: MYOD1, Myod1"):
        rows_of(terms, ["myod1"])
    with pytest.raises(InvalidDataError, match=r"'c1ORF112' .*C1orf112, C1orf112 \(asked for too\)"):
        rows_of(terms, ["C1orf112", "c1ORF112"])
    with pytest.raises(InvalidDataError, match="'MYOD1' is there more than once"):
        rows_of(terms, ["MYOD1", "C1orf112", "MYOD1"])


def test_other_kinds_of_names_are_told_with_examples():
    terms = terms_of(SETS, "file.gmt")
    ids = ["ENSG00000105610", "ENSG00000129152"]
    with pytest.raises(InvalidDataError, match=r"ENSG00000105610, .*genes there: HLA-A, KLF1") as caught:
        rows_of(terms, ids)
    assert "Ensembl" in str(caught.value) and "file.gmt" in str(caught.value)
    assert rows_of(terms, []).tolist() == []


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(min_codepoint=33, max_codepoint=0x24F), min_size=1, max_size=6).filter(
            lambda text: text == text.strip() and text.isprintable()
        ),
        st.sets(st.text("GO:12", min_size=1, max_size=4)),
        min_size=1,
        max_size=8,
    )
)
def test_a_mapping_comes_back_from_json_and_pickle(tmp_path_factory, sets):
    folder = tmp_path_factory.getbasetemp()
    (folder / "a.pkl").write_bytes(pickle.dumps(sets))
    (folder / "a.json").write_text(json.dumps({gene: sorted(own) for gene, own in sets.items()}))
    first, second = read_terms(folder / "a.pkl"), read_terms(folder / "a.json")
    assert sets_of(first) == sets == sets_of(second)
    assert (first.table != second.table).nnz == 0
    assert np.diff(first.table.indptr).tolist() == [len(sets[gene]) for gene in first.genes]
