"""Names of genes: what the map gives, what an alias becomes, and which column a feature goes to."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_core.errors import CorruptFileError, InvalidDataError
from hyped_seq.ingest.aliases import read_aliases
from hyped_seq.ingest.features import plan_features
from hyped_seq.ingest.genes import EMPTY, GeneMap, gene_table, read_gene_map, unmapped_genes
from hyped_seq.readers.matrix import as_counts
from hyped_seq.readers.rows import stack, take_columns, take_rows

HGNC = """hgnc_id\tsymbol\tname\tstatus\talias_symbol\tprev_symbol\tensembl_gene_id
HGNC:1\tPIMREG\tx\tApproved\tRCS1|CATS\tFAM64A\tENSG00000129195
HGNC:2\tCENPU\tx\tApproved\t"KLIP1|CENP-50"\tMLF1IP\tENSG00000151725
HGNC:3\tJPT1\tx\tApproved\t\tHN1|ARM2\tENSG00000189159
HGNC:4\tCATSPERZ\tx\tApproved\tCATS\t\tENSG00000219435
HGNC:5\tARM2\tx\tApproved\t\t\t
HGNC:6\tGONE\tx\tEntry Withdrawn\tOLDGONE\t\t
"""


def table(*names: str, ids: tuple[str, ...] = ()) -> pd.DataFrame:
    return pd.DataFrame({"id": ids or [f"unknown_{i:05d}" for i in range(len(names))], "name": names}, dtype=object)


@pytest.fixture
def hgnc(tmp_path: Path) -> Path:
    path = tmp_path / "hgnc_complete_set.txt"
    path.write_text(HGNC)
    return path


def test_a_gene_map_of_a_table_either_way_round(tmp_path):
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


def test_a_gtf(tmp_path):
    def line(kind: str, **attributes: str) -> str:
        text = " ".join(f'{key} "{value}";' for key, value in attributes.items())
        return f"chr1\tX\t{kind}\t1\t9\t.\t+\t.\t{text}\n"

    text = "##format: gtf\n" + line("gene", gene_id="ENSG00000000001.7", gene_name="A")
    ids = {"gene_id": "ENSG00000000001.7", "gene_name": "A", "transcript_id": "ENST00000000005.2"}
    text += line("transcript", **ids) + line("exon", gene_id="ENSG00000000003", gene_name="transcript")
    text += line("gene", gene_id="ENSG00000000004")
    with gzip.open(tmp_path / "x.gtf.gz", "wt") as handle:
        handle.write(text)
    found = read_gene_map(tmp_path / "x.gtf.gz")
    assert found.ids == {"A": "ENSG00000000001"}, "exons and genes without a name are no names"
    assert found.gene_of("ENST00000000005.2") == found.gene_of("ENST00000000005") == "A"
    assert found.gene_of("ENST00000000005.9") == "A" and found.gene_of("ENST00000000006") == ""
    with gzip.open(tmp_path / "x.gtf.gz", "at") as handle:
        handle.write("chr1\tX\tgene\n")
    with pytest.raises(CorruptFileError, match="line 6 is not GTF"):
        read_gene_map(tmp_path / "x.gtf.gz")


def test_names_of_the_hgnc_set(hgnc):
    known = read_gene_map(None, hgnc)
    assert known.aliases == {
        "FAM64A": "PIMREG", "RCS1": "PIMREG", "KLIP1": "CENPU", "CENP-50": "CENPU", "MLF1IP": "CENPU", "HN1": "JPT1"
    }  # fmt: skip
    assert known.ambiguous_aliases == {"CATS": ("CATSPERZ", "PIMREG")}, "an alias of two genes is left alone"
    assert known.current("ARM2") == "ARM2", "once a name of JPT1, today a symbol of its own"
    assert known.current("GONE") == "GONE" and "OLDGONE" not in known.aliases
    assert known.ids["JPT1"] == "ENSG00000189159" and "ARM2" not in known.ids


def test_a_symbol_of_the_gene_map_is_never_renamed(tmp_path, hgnc):
    (tmp_path / "map.csv").write_text("FAM64A,ENSG00000000001\nMLF1IP,ENSG00000000002\nCENPU,ENSG00000000003\n")
    known = read_gene_map(tmp_path / "map.csv", hgnc)
    assert known.current("FAM64A") == "FAM64A" and known.current("MLF1IP") == "MLF1IP"
    assert known.current("HN1") == "JPT1"
    assert known.ids["CENPU"] == "ENSG00000000003", "the map's id comes before the alias table's"


def test_pairs_of_names(tmp_path):
    path = tmp_path / "aliases.csv"
    path.write_text("old,new\nA,B\nB,C\nX,Y\nX,Z\nS,S\nP,Q\n")
    known = read_gene_map(None, path)
    assert known.aliases == {"A": "C", "B": "C", "P": "Q"}, "chains are followed to their end"
    assert known.ambiguous_aliases == {"X": ("Y", "Z")}
    (tmp_path / "map.csv").write_text("P,ENSG00000000001\nB,ENSG00000000002\n")
    known = read_gene_map(tmp_path / "map.csv", path)
    assert known.ids["Q"] == "ENSG00000000001", "the map knows Q by its old name"
    assert known.current("P") == "P" and known.current("A") == "C"


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path, hgnc):
    (tmp_path / "pairs.csv").write_text("\ufeffold,new\nA,B\n", encoding="utf-8")
    assert read_gene_map(None, tmp_path / "pairs.csv").aliases == {"A": "B"}
    (tmp_path / "map.csv").write_text("\ufeffA,ENSG00000000001\nB,ENSG00000000002\n", encoding="utf-8")
    assert set(read_gene_map(tmp_path / "map.csv").ids) == {"A", "B"}
    (tmp_path / "hgnc.txt").write_text(HGNC.replace("hgnc_id\tsymbol", "\ufeffsymbol\thgnc_id"), encoding="utf-8")
    with_mark = read_aliases(tmp_path / "hgnc.txt")
    (tmp_path / "plain.txt").write_text(HGNC.replace("hgnc_id\tsymbol", "symbol\thgnc_id"))
    assert with_mark == read_aliases(tmp_path / "plain.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A,B\nB,C\nC,A\n", "'A' is replaced by itself"),
        ("D,A\nA,B\nB,A\n", "'A' is replaced by itself"),
        ("A,B\nC\n", "line 2 has 1 columns, the first 2"),
        ("A,B\n,C\n", "line 2 has an empty name"),
        ("A\nB\n", "line 1 has 1 columns"),
        ("", "line 1 has 0 columns"),
        ("a,b,c\n1,2,3\n", "none is 'symbol'"),
    ],
)
def test_tables_of_aliases_that_are_refused(text, message, tmp_path):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InvalidDataError, match=message):
        read_aliases(tmp_path / "a.csv")


def test_a_table_of_aliases_cut_short(tmp_path):
    whole = gzip.compress("".join(f"A{i},B{i}\n" for i in range(300)).encode())
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        (tmp_path / "a.csv.gz").write_bytes(whole[:length])
        with pytest.raises(CorruptFileError, match="a.csv.gz"):
            read_aliases(tmp_path / "a.csv.gz")


def test_renamed_features_are_summed_with_those_of_the_symbol(hgnc):
    known = read_gene_map(None, hgnc)
    plan = plan_features([table("FAM64A", "CATS", "PIMREG"), table("NEW", "PIMREG")], known)
    assert plan.names == plan.symbols == ["PIMREG", "CATS", "NEW"]
    assert [target.tolist() for target in plan.targets] == [[0, 1, 0], [2, 0]]
    assert plan.sources == ["FAM64A|PIMREG", "CATS", "NEW"]
    assert plan.renamed == {"FAM64A": "PIMREG"} and plan.repeated == {"PIMREG": 2}
    assert plan.ambiguous == {"CATS": ["CATSPERZ", "PIMREG"]}
    var = gene_table(plan.names, plan.symbols, known, plan.own_ids)
    assert var["gene_id"].tolist() == ["ENSG00000129195", "", ""]
    assert unmapped_genes(var, known).to_numpy().tolist() == [
        ["CATS", "is an alias of CATSPERZ and of PIMREG"],
        ["NEW", "not in the gene map"],
    ]
    none = gene_table(["NEW"], ["NEW"], EMPTY, {})
    assert unmapped_genes(none, EMPTY)["reason"].tolist() == [
        "no gene map was given, and the matrix has no Ensembl id for it"
    ]


def test_duplicates_kept_apart_by_place_where_ids_are_placeholders():
    known = GeneMap({"D": "ENSG00000000001"}, frozenset(), {})
    plan = plan_features([table("D", "A", "D", "D-1"), table("A", "D", "D")], known, "keep")
    assert plan.names == ["D", "A", "D-2", "D-1"] and plan.symbols == ["D", "A", "D", "D-1"]
    assert [target.tolist() for target in plan.targets] == [[0, 1, 2, 3], [1, 0, 2]]
    var = gene_table(plan.names, plan.symbols, known, plan.own_ids)
    assert var["gene_id"].tolist() == ["ENSG00000000001", "", "", ""]
    assert unmapped_genes(var, known)["reason"].iloc[1] == "has the symbol D with another gene, which has the id"


def test_duplicates_kept_apart_by_their_ensembl_ids():
    first = table("D", "D", ids=("ENSG00000000007.1", "ENSG00000000008"))
    second = table("D", "D", ids=("ENSG00000000008.3", "ENSG00000000007"))
    plan = plan_features([first, second], EMPTY, "keep")
    assert [target.tolist() for target in plan.targets] == [[0, 1], [1, 0]]
    var = gene_table(plan.names, plan.symbols, EMPTY, plan.own_ids)
    assert var["gene_id"].to_dict() == {"D": "ENSG00000000007", "D-1": "ENSG00000000008"}


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_stacking_is_a_product_with_the_targets(data):
    width = data.draw(st.integers(1, 6))
    parts, targets, expected = [], [], []
    for _ in range(data.draw(st.integers(1, 3))):
        shape = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 70)))
        rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
        dense = rng.integers(0, 4, shape) * (rng.random(shape) < 0.5)
        target = rng.integers(-1, width, shape[1])
        parts.append(as_counts(sp.csr_matrix(dense), "here"))
        targets.append(target)
        expected.append(dense @ (target[:, None] == np.arange(width)))
    stacked = stack(tuple(parts), targets, width)
    assert (stacked.toarray() == np.vstack(expected)).all() and stacked.dtype == np.int32
    stacked.check_format(full_check=True)
    one, dense = parts[0], parts[0].toarray()
    rows = np.array(data.draw(st.lists(st.integers(-1, one.shape[0] - 1), min_size=1, max_size=8)))
    padded = np.vstack([dense, np.zeros_like(dense[:1])])
    assert (take_rows(one, rows).toarray() == padded[rows]).all()
    keep = targets[0] >= 0
    assert (take_columns(one, keep).toarray() == dense[:, keep]).all()


def test_sums_above_what_can_be_stored_are_refused():
    counts = as_counts(np.array([[0, 0], [2**30, 2**30]]), "here")
    with pytest.raises(InvalidDataError, match="cell 2 sum to more than 2147483647"):
        stack([counts], [np.zeros(2)], 1)


@pytest.mark.public
def test_old_names_of_cycle_genes_get_their_ids_of_gencode(public_folder, hgnc):
    reference = public_folder / "reference" / "GENCODEv44_Gene_id2name.csv"
    genes = (public_folder / "reference" / "regev_lab_cell_cycle_genes.txt").read_text().split()
    plain, known = read_gene_map(reference), read_gene_map(reference, hgnc)
    assert plain.ids["MYOD1"] == "ENSG00000129152" and plain.ids["PRRX1"] == "ENSG00000116132"
    unknown = {gene for gene in genes if gene not in plain.ids}
    assert unknown == {"MLF1IP", "FAM64A", "HN1"}
    assert all(known.current(gene) in plain.ids for gene in genes)
