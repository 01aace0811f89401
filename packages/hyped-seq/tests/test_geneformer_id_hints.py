"""What is said of ids that a dictionary does not know, and that the mend given mends."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

from hyped_core.errors import InvalidDataError
from hyped_seq.geneformer.dictionaries import Dictionaries
from hyped_seq.geneformer.id_hints import versioned
from hyped_seq.geneformer.series import V1
from hyped_seq.geneformer.tokenizer import Tokenizer


def dictionaries(genes, symbols=None):
    n, specials = len(genes), {name: i for i, name in enumerate(V1.specials)}
    tokens = np.arange(n) + len(specials)
    return Dictionaries(V1, np.array(genes, object), tokens, np.ones(n), specials, symbols=symbols or {})


def test_ids_with_version_suffix_say_how_to_take_it_off():
    made = dictionaries([f"ENSG{i}" for i in range(6)])
    counts, ids = [[1, 2, 3, 4, 5, 6]], [f"ENSG{i}" for i in range(6)]
    for n, said in ((6, "none of the 6"), (4, "no more than 2 of the 6")):
        given = [f"{name}.{i + 1}" for i, name in enumerate(ids[:n])] + ids[n:]
        cells = anndata.AnnData(np.array(counts), var=pd.DataFrame({"gene_ids": given}, index=list("abcdef")))
        with pytest.raises(InvalidDataError, match=said) as caught:
            Tokenizer(made).tokenize_cells(cells)
        line = caught.value.mend.removeprefix("strip the versions: ")
        exec(line, {"cells": cells})
        assert Tokenizer(made).tokenize_cells(cells).n_genes.tolist() == [6]
    # few known genes are no error where the suffix is not why
    few = ["ENSG0", "ENSG91.2", "ENSG92.2", "ENSG93.2", "x", "y"]
    assert Tokenizer(made).tokenize(counts, few).n_genes.tolist() == [1]
    own = dictionaries(["ENSG0.1", "ENSG1.1"])
    assert Tokenizer(own).tokenize([[1, 2]], own.genes).n_genes.tolist() == [2]


def test_symbols_in_the_place_of_ids_are_said_to_be_some():
    made = dictionaries(["ENSG0", "ENSG1"], symbols={"MYOD1": "ENSG0"})
    for ids, said in (
        (["myod1", "ENSX"], "look like symbols"),
        (["A", "B"], "look like symbols"),
        (["ENSG7", "B"], "as the dictionary has them (e.g. ENSG0)"),
        (["", ""], "as the dictionary has them"),
    ):
        with pytest.raises(InvalidDataError, match="none of the 2") as caught:
            Tokenizer(made).tokenize([[1, 2]], ids)
        assert said in caught.value.mend
    # a dictionary whose own ids are names expects names
    with pytest.raises(InvalidDataError) as caught:
        Tokenizer(dictionaries(["a", "b"])).tokenize([[1, 2]], ["A", "B"])
    assert "(e.g. a)" in caught.value.mend


def test_versions_are_of_ensembl_ids_alone():
    names = ["ENSG00000129152.7", "ENSMUSG00000000001.12", "AC010327.1", "ENSG00000002586.20_PAR_Y", "ENSG1", None, ""]
    assert versioned(names) == names[:2]
