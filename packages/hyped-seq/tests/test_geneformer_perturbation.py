"""In-silico perturbation: counts and tokens after it against plain code, ranks reached, where the two modes differ."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hyped_core.context import RunContext
from hyped_core.design import Perturbation
from hyped_core.design.model import GeneChange
from hyped_core.errors import InvalidDataError, UsageError
from hyped_seq.geneformer import cell_chunks
from hyped_seq.geneformer.dictionaries import Dictionaries
from hyped_seq.geneformer.perturb_cells import perturb_cells
from hyped_seq.geneformer.perturbation import paired_original, perturb_counts, perturb_tokens
from hyped_seq.geneformer.series import V1, V2, Series
from hyped_seq.geneformer.tokenizer import Tokenizer
from hyped_seq.geneformer.tokens import TokenSets

CONTEXT = RunContext()
IDS = [f"ENSG{i:011d}" for i in range(8)]
NAMES = ["MYOD1", "PRRX1", "A", "B", "C", "D", "E", "F"]


def dictionaries(series: Series = V1, medians: object = 1.0, mapping: dict[str, str] | None = None) -> Dictionaries:
    """Eight genes, tokens in their order after the specials: MYOD1, PRRX1, A to F."""
    first = len(series.specials)
    return Dictionaries(
        series,
        np.array(IDS, dtype=object),
        np.arange(first, first + 8),
        np.broadcast_to(np.asarray(medians, dtype=float), 8),
        {name: i for i, name in enumerate(series.specials)},
        mapping=mapping or {},
        symbols=dict(zip(NAMES, IDS, strict=True)),
    )


def cells(counts: object, ids: list[str] = IDS, names: list[str] = NAMES) -> anndata.AnnData:
    matrix = sp.csr_matrix(np.atleast_2d(np.asarray(counts, dtype=np.int32)))
    var = pd.DataFrame({"gene_id": ids}, index=names)
    return anndata.AnnData(matrix, var=var, obs=pd.DataFrame(index=[f"c{i}" for i in range(matrix.shape[0])]))


def change(*parts: str) -> Perturbation:
    directions = {"+": "activation", "-": "suppression"}
    changes = tuple(GeneChange(gene=part[1:], direction=directions[part[0]]) for part in parts)
    return Perturbation(name="+".join(part[1:] for part in parts), changes=changes)


def sets(*sequences: list[int]) -> TokenSets:
    lengths = [len(sequence) for sequence in sequences]
    return TokenSets(
        np.concatenate([np.array(s, dtype=np.int32) for s in sequences]),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.arange(len(sequences)),
        len(sequences),
        np.array(lengths, dtype=np.int32),
    )


def lists(tokens: TokenSets) -> list[list[int]]:
    return [tokens[i].tolist() for i in range(len(tokens))]


counts_of_cells = arrays(np.int64, st.tuples(st.integers(1, 5), st.just(8)), elements=st.integers(0, 9))


@settings(max_examples=60, deadline=None)
@given(counts_of_cells, st.sets(st.integers(0, 7), max_size=3), st.sets(st.integers(0, 7), max_size=3))
def test_activated_genes_get_the_maximum_before_any_change(counts, up, down):
    up = up - down
    expected = counts.copy()
    expected[:, sorted(up)] = counts.max(axis=1)[:, None]
    expected[:, sorted(down)] = 0
    given_counts = sp.csr_matrix(counts)
    before = given_counts.copy()
    result = perturb_counts(given_counts, sorted(up, reverse=True), sorted(down))
    assert (result.toarray() == expected).all()
    assert result.nnz == np.count_nonzero(expected)  # nothing stored for what is 0
    assert (given_counts != before).nnz == 0


@settings(max_examples=60, deadline=None)
@given(counts_of_cells, st.permutations(range(8)), arrays(np.float64, 8, elements=st.floats(0.1, 700)))
def test_above_puts_genes_first_in_their_order(counts, order, medians):
    up, down = list(order[:2]), list(order[2:3])
    result = perturb_counts(sp.csr_matrix(counts), up, down, level="above", medians=medians).toarray()
    value = result / medians
    filled = counts.max(axis=1) > 0
    others = np.delete(value, up, axis=1).max(axis=1)
    assert (value[filled, up[0]] > value[filled, up[1]]).all()
    assert (value[filled, up[1]] > others[filled]).all()
    assert (result[filled][:, up] > counts[filled].max(axis=1)[:, None]).all()
    assert not result[~filled].any()
    # the lower of the two is the smallest count that does it
    less = result[:, up[1]] - 1
    assert ((less / medians[up[1]] <= others) | (less <= counts.max(axis=1)))[filled].all()


def test_stored_zeros_repeated_entries_and_unsorted_columns_are_read_as_what_they_mean():
    # a row of 0 0 5 with the 5 stored as 2 + 3, out of order, and a stored zero
    counts = sp.csr_matrix((np.array([3, 0, 2]), np.array([2, 0, 2]), np.array([0, 3])), shape=(1, 3))
    assert perturb_counts(counts, [1], []).toarray().tolist() == [[0, 5, 5]]
    assert counts.data.tolist() == [3, 0, 2]


def test_of_several_columns_of_a_gene_the_first_gets_the_count():
    counts = sp.csr_matrix([[1, 2, 0, 7]])
    assert perturb_counts(counts, [[2, 0]], []).toarray().tolist() == [[0, 2, 7, 7]]


def test_a_count_that_the_type_cannot_hold_widens_it():
    counts = sp.csr_matrix(np.array([[200, 200, 1]], dtype=np.uint8))
    medians = np.array([0.01, 1.0, 5.0])
    result = perturb_counts(counts, [2], [], level="above", medians=medians)
    assert result.toarray().tolist() == [[200, 200, 100_001]]
    floats = perturb_counts(counts.astype(np.float32), [2], [], level="above", medians=medians)
    assert floats.toarray().tolist() == [[200, 200, 100_001]]


@pytest.mark.parametrize(("up", "down"), [([1], [1]), ([8], []), ([], [-1])])
def test_columns_named_twice_or_outside_are_refused(up, down):
    with pytest.raises(UsageError, match="different columns"):
        perturb_counts(sp.csr_matrix((2, 8), dtype=int), up, down)


def test_above_needs_medians():
    with pytest.raises(UsageError, match="median"):
        perturb_counts(sp.csr_matrix([[1, 2]]), [0], [], level="above")


# ------------------------------------------------------------------ tokens
def plain_edit(sequence: list[int], up: list[int], down: list[int], limit: int, special: bool) -> list[int]:
    """The official perturber on one sequence, by list operations."""
    ids = [token for token in sequence if token not in up and token not in down]
    for token in reversed(up):
        ids.insert(1 if special else 0, token)
    if len(ids) > limit:
        ids = [*ids[: limit - 1], sequence[-1]] if special else ids[:limit]
    return ids


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([V1, V2]),
    st.lists(st.lists(st.integers(4, 30), min_size=1, max_size=12, unique=True), min_size=1, max_size=5),
    st.lists(st.integers(4, 30), max_size=4, unique=True),
    st.integers(0, 4),
)
def test_token_mode_is_the_official_list_operations(series, genes, changed, n_up):
    special = series is V2
    sequences = [[2, *cell, 3] if special else cell for cell in genes]
    up, down = changed[:n_up], changed[n_up:]
    found = perturb_tokens(sets(*sequences), up, down, dictionaries(series), 14)
    expected = [plain_edit(sequence, up, down, 14, special) for sequence in sequences]
    kept = [i for i, sequence in enumerate(expected) if len(sequence) > 2 * special]
    assert lists(found) == [expected[i] for i in kept]
    assert found.rows.tolist() == kept
    assert found.n_cells == len(sequences)


def test_the_paired_original_holds_the_same_other_genes():
    sequences = sets([2, 10, 11, 12, 13, 3], [2, 10, 3], [2, 13, 12, 11, 10, 3])
    original = paired_original(sequences, [20, 10], dictionaries(V2), 6)
    perturbed = perturb_tokens(sequences, [20, 10], [], dictionaries(V2), 6)
    assert lists(original) == [[2, 10, 11, 12, 3], [2, 10, 3], [2, 13, 12, 11, 3]]
    assert lists(perturbed) == [[2, 20, 10, 11, 12, 3], [2, 20, 10, 3], [2, 20, 10, 13, 12, 3]]
    first = [set(one) - {20, 10} for one in lists(original)[:2]]
    assert first == [set(one) - {20, 10} for one in lists(perturbed)[:2]]


@pytest.mark.parametrize(("up", "down"), [([5], [5]), ([3], []), ([], [0])])
def test_tokens_named_twice_or_special_are_refused(up, down):
    with pytest.raises(UsageError, match="tokens of genes"):
        perturb_tokens(sets([2, 10, 3]), up, down, dictionaries(V2))


def test_more_activated_genes_than_a_sequence_holds_are_refused():
    with pytest.raises(UsageError, match="a sequence holds 1"):
        perturb_tokens(sets([2, 10, 3]), [5, 6], [], dictionaries(V2), 3)


# ------------------------------------------------------------------ cells
def run(counts, perturbation, mode, *, series=V1, medians=1.0, max_tokens=None, level="max", add_absent=False, **more):
    tokenizer = Tokenizer(dictionaries(series, medians, more.pop("mapping", None)), max_tokens=max_tokens)
    given = cells(counts, **more)
    return perturb_cells(
        given, perturbation, tokenizer, mode=mode, level=level, add_absent=add_absent, context=CONTEXT
    )


def test_the_modes_differ_where_the_sequence_is_cut():
    # ranks: PRRX1 9, A 8, B 7, C 6, D 5, MYOD1 none; a sequence of V2 holds 3 genes. Tokens: MYOD1 4, PRRX1 5, A 6, ...
    counts = [[0, 9, 8, 7, 6, 5, 0, 0]]
    medians = [3.0, 1, 1, 1, 1, 1, 1, 1]
    both = change("-PRRX1", "+MYOD1")
    expression = run(counts, both, "expression", series=V2, medians=medians, max_tokens=5)
    token = run(counts, both, "token", series=V2, medians=medians, max_tokens=5)
    # 9 of 3 is 3 for MYOD1: behind A, B, C and D, beyond the end; C moved up in PRRX1's place
    assert lists(expression.tokens) == [[2, 6, 7, 8, 3]]
    # MYOD1 in front; C was cut off before and does not come back
    assert lists(token.tokens) == [[2, 4, 6, 7, 3]]
    prrx1, myod1 = expression.record().genes
    assert (myod1.rank_median, myod1.rank_min, myod1.rank_max, myod1.share_cut) == (5, 5, 5, 1)
    assert (prrx1.rank_before, prrx1.share_in_sequence, prrx1.rank_median) == (1, 1, None)
    assert (expression.record().mode, expression.record().level) == ("expression", "max")
    prrx1, myod1 = token.record().genes
    assert (myod1.rank_median, myod1.share_cut, myod1.share_expressed) == (1, 0, 0)
    assert (token.record().mode, token.record().level) == ("token", None)
    above = run(counts, both, "expression", series=V2, medians=medians, max_tokens=5, level="above")
    assert lists(above.tokens) == [[2, 4, 6, 7, 3]]
    assert above.record().genes[1].rank_max == 1


def test_ranks_are_places_in_the_uncut_sequence(monkeypatch):
    rng = np.random.default_rng(3)
    counts = rng.poisson(1.2, (40, 8))
    medians = rng.uniform(0.5, 4, 8)
    monkeypatch.setattr(cell_chunks, "CHUNK_ENTRIES", 50)  # several chunks
    found = run(counts, change("+MYOD1", "+C", "-A"), "expression", medians=medians)
    token = {"MYOD1": 2, "C": 6, "A": 4}
    plain = Tokenizer(dictionaries(V1, medians)).tokenize_cells(cells(counts))
    for tokens, ranks in ((plain, found.before), (found.tokens, found.after)):
        place = np.zeros((40, 3), dtype=int)
        for i, row in enumerate(tokens.rows):
            for j, name in enumerate(token):
                at = np.flatnonzero(tokens[i] == token[name])
                place[row, j] = at[0] + 1 if len(at) else 0
        assert (ranks == place).all()
    record = found.record()
    assert record.n_cells == 40
    assert record.genes[2].share_expressed == pytest.approx((counts[:, 2] > 0).mean())
    reached = found.after[found.after[:, 0] > 0, 0]
    assert record.genes[0].rank_median == np.median(reached)


def test_chunks_give_what_all_cells_at_once_give(monkeypatch):
    counts = np.random.default_rng(0).poisson(0.4, (60, 8))
    for mode in ("expression", "token"):
        whole = run(counts, change("+B", "-C"), mode)
        with monkeypatch.context() as patch:
            patch.setattr(cell_chunks, "CHUNK_ENTRIES", 9)
            parts = run(counts, change("+B", "-C"), mode)
        for name in ("tokens", "offsets", "rows", "n_genes"):
            assert (getattr(parts.tokens, name) == getattr(whole.tokens, name)).all()
        assert parts.tokens.n_cells == 60
        assert (parts.before == whole.before).all()
        assert (parts.after == whole.after).all()


def test_the_order_does_not_depend_on_the_cells_total():
    counts = np.random.default_rng(1).poisson(2, (10, 8))
    source = cells(counts)
    tokenizer = Tokenizer(dictionaries(V1, [1, 2, 3, 1.5, 0.7, 1, 1, 1]))
    own = perturb_cells(source, change("+MYOD1"), tokenizer, context=CONTEXT)
    source.obs["n_counts"] = 8 * counts.sum(axis=1)
    scaled = perturb_cells(source, change("+MYOD1"), tokenizer, context=CONTEXT)
    assert lists(own.tokens) == lists(scaled.tokens)


def test_a_cell_left_without_a_gene_is_dropped_and_an_empty_one_stays_empty():
    counts = [[0, 4, 0, 0, 0, 0, 0, 0], [0, 4, 1, 0, 0, 0, 0, 0], [0] * 8]
    for mode in ("expression", "token"):
        for series in (V1, V2):
            down = run(counts, change("-PRRX1"), mode, series=series).tokens
            assert down.rows.tolist() == [1]
            assert down.n_cells == 3
            up = run(counts, change("+MYOD1"), mode, series=series).tokens
            assert up.rows.tolist() == [0, 1]


def test_a_cell_of_unknown_genes_alone_gets_none_by_activation():
    ids, names = [*IDS, "SPIKE"], [*NAMES, "SPIKE"]
    counts = [[0, 4, 1, 0, 0, 0, 0, 0, 9], [0] * 8 + [7], [0, 0, 0, 2, 0, 0, 0, 0, 0]]
    for mode in ("expression", "token"):
        found = run(counts, change("+MYOD1"), mode, ids=ids, names=names)
        assert found.tokens.rows.tolist() == [0, 2] and found.tokens.n_cells == 3
        assert found.after[:, 0].tolist() == [1, 0, 1]
        assert lists(found.tokens) == [[2, 3, 4], [2, 5]]


def test_ids_that_mean_one_gene_are_summed_first():
    # the first and the last column are A: 3 + 3 is the cell's largest count
    ids = [IDS[2], IDS[3], IDS[0], "ENSG_OLD"]
    names = ["A", "B", "MYOD1", "A.old"]
    mapping = {name: name for name in IDS} | {"ENSG_OLD": IDS[2]}
    medians = [6, 1, 1, 1, 1, 1, 1, 1]
    given = {"series": V2, "ids": ids, "names": names, "mapping": mapping, "medians": medians}
    found = run([[3, 4, 1, 3]], change("+MYOD1"), "expression", **given)
    assert lists(found.tokens) == [[2, 6, 7, 4, 3]]  # A 6, B 4, MYOD1 6 / 6
    down = run([[3, 4, 1, 3]], change("-A"), "expression", **given)
    assert lists(down.tokens) == [[2, 7, 4, 3]]


def test_a_gene_the_data_lack_is_refused_and_added_on_request_to_be_activated():
    ids, names = IDS[1:], NAMES[1:]
    counts = [[5, 4, 0, 0, 0, 0, 0]]
    for mode, expected in (("expression", [2, 3, 4]), ("token", [2, 3, 4])):
        with pytest.raises(InvalidDataError, match="to be activated and is not among the data's 7 genes"):
            run(counts, change("+MYOD1"), mode, ids=ids, names=names)
        found = run(counts, change("+MYOD1"), mode, ids=ids, names=names, add_absent=True)
        assert lists(found.tokens) == [expected]
        assert found.record().genes[0].column_added
        with pytest.raises(InvalidDataError, match="to be suppressed and is not among the data's 7 genes"):
            run(counts, change("-MYOD1"), mode, ids=ids, names=names)


@pytest.mark.parametrize(
    ("ids", "mend"),
    [
        ([f"{name}.7" for name in IDS], r'cells.var["gene_id"] = cells.var["gene_id"].str.replace(r"\.\d+$", ""'),
        (NAMES, "these look like symbols: put Ensembl ids"),
        ([""] * 8, f"(e.g. {IDS[0]}) into"),
    ],
)
def test_ids_that_are_all_unknown_are_said_before_a_gene_is_added(ids, mend):
    for add_absent in (False, True):
        with pytest.raises(InvalidDataError, match="none of the 8 gene ids is in the dictionary") as caught:
            run([[1] * 8], change("+MYOD1"), "expression", ids=ids, add_absent=add_absent)
        assert mend in caught.value.mend


def test_a_gene_that_is_there_under_another_id_is_said_so():
    for other, said, mend in (
        (f"{IDS[0]}.7", f"'{IDS[0]}.7', not {IDS[0]}", "strip the versions"),
        ("", "no id there", f"put {IDS[0]}"),
        (IDS[2], f"'{IDS[2]}', not", f"put {IDS[0]}"),  # summed with A's own column
    ):
        for gene in ("MYOD1", "myod1", IDS[0]):
            with pytest.raises(InvalidDataError, match="is among the data's genes, but") as caught:
                run([[1] * 8], change(f"-{gene}"), "expression", series=V2, ids=[other, *IDS[1:]])
            assert said in str(caught.value) and mend in caught.value.mend
    # taken as not expressed it would be there twice, unless its column is that of another gene
    with pytest.raises(InvalidDataError, match="no id there"):
        run([[1] * 8], change("+MYOD1"), "expression", ids=["", *IDS[1:]], add_absent=True)
    assert run([[1] * 8], change("+MYOD1"), "expression", ids=["X", *IDS[1:]], names=NAMES[::-1], add_absent=True)
    assert len(run([[1] * 8], change("+MYOD1"), ids=[IDS[2], *IDS[1:]], mode="token", add_absent=True).tokens) == 1


def test_a_gene_the_data_lack_is_not_suggested_for_itself():
    with pytest.raises(InvalidDataError, match="is not among") as caught:
        run([[1] * 7], change("+MYOD1"), "expression", ids=IDS[1:], names=["MYOD", *NAMES[2:]])
    assert "did you mean MYOD?" in caught.value.mend


def test_a_gene_without_token_is_named_with_close_ones():
    for name, close in (("MYOD2", "MYOD1"), ("myod1x", "MYOD1")):
        with pytest.raises(InvalidDataError, match=name) as error:
            run([[1] * 8], change(f"+{name}"), "expression")
        assert close in (error.value.mend or "")
    with pytest.raises(InvalidDataError, match="changed twice"):
        run([[1] * 8], change("+MYOD1", f"-{IDS[0]}"), "expression")


@pytest.mark.parametrize("value", [0.5, -1, np.nan])
def test_values_that_are_no_counts_are_refused(value):
    source = cells(np.ones((2, 8)))
    source.X = sp.csr_matrix(np.full((2, 8), value))
    for mode in ("expression", "token"):
        with pytest.raises(InvalidDataError, match="counts"):
            perturb_cells(source, change("+MYOD1"), Tokenizer(dictionaries()), mode=mode, context=CONTEXT)


def test_an_unknown_mode_is_refused():
    with pytest.raises(UsageError, match="mode"):
        run([[1] * 8], change("+MYOD1"), "tokens")
