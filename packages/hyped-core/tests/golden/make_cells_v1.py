"""Makes the golden release of cells of schema version 1 from fixed arrays: ``python make_cells_v1.py OUT.h5ad``.

The committed ``v1/cells.h5ad`` was made by this script once and is never made again: it stands for the files that
the release with schema version 1 wrote. It needs hyped-seq; reading what it made does not.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

from hyped_core.design import Design

CALLS = ["T1", "T1", "T2", "T2", "T/3", "T/3", "Doublet", "Negative"]
GENES = ["MYOD1", "PRRX1", "CCNB1", "ACTB", "MT-CO1"]
TRANSCRIPTS = [("ENST1", 0), ("ENST2", 0), ("ENST3", 1), ("ENST4", 3), ("ENST5", 3), ("ENST6", 3)]
DESIGN = {
    "name": "tiny",
    "conditions": [
        {"name": "control", "phase_composition": "sorted"},
        {"name": "MYOD1", "perturbation": [{"gene": "MYOD1", "direction": "activation"}]},
    ],
    "pools": [{"name": "p1", "conditions": ["control"]}, {"name": "p2", "conditions": ["MYOD1"]}],
    "hashtags": [
        {"pool": "p1", "tag": "T1", "condition": "control", "phase": "G1"},
        {"pool": "p1", "tag": "T2", "condition": "control", "phase": "S"},
        {"pool": "p2", "tag": "T/3", "condition": "MYOD1"},
    ],
    "flags": {"confounded": [["condition", "pool"]], "pooled_wells": True},
}


def gene_counts() -> np.ndarray:
    """Eight cells, five genes."""
    return (np.arange(40).reshape(8, 5) * 7 % 11).astype(np.int32) + 3


def transcript_counts() -> np.ndarray:
    """Eight cells, six transcripts: never more than their gene."""
    genes = gene_counts()
    return np.stack([genes[:, gene] // 3 for _, gene in TRANSCRIPTS], axis=1).astype(np.int32)


def hashtag_counts() -> np.ndarray:
    """Eight cells, three tags."""
    return (np.arange(24).reshape(8, 3) * 5 % 7).astype(np.int32)


def obs() -> pd.DataFrame:
    """The cells: six singlets, a doublet, a negative."""
    condition = ["control"] * 4 + ["MYOD1"] * 2
    sorted_phase = ["G1", "G1", "S", "S", "", "", "", ""]
    pools = ["p1"] * 4 + ["p2"] * 4
    table = pd.DataFrame(
        {
            "pool": pd.Categorical(pools),
            "barcode": [f"CELL{i}" for i in range(8)],
            "hashtag_call": pd.Categorical(CALLS),
            "hashtag_kind": pd.Categorical(["singlet"] * 6 + ["doublet", "negative"]),
            "hashtag_probability": np.linspace(0.9, 1, 8, dtype=np.float32),
            "assigned_condition": pd.Categorical([*condition, "", ""]),
            "condition": pd.Categorical([*condition, "MYOD1", "MYOD1"]),
            "assigned_phase": pd.Categorical(sorted_phase),
            "phase": pd.Categorical(["G1", "G1", "S", "S", "G2M", "G1", "", "G1"]),
        },
        index=[f"{pool}_CELL{i}" for i, pool in enumerate(pools)],
    )
    return table


def modalities() -> dict[str, anndata.AnnData]:
    """rna, isoform and hto as `hyped seq annotate` has them."""
    genes = gene_counts()
    var = pd.DataFrame({"gene_id": [f"ENSG{i}" for i in range(5)], "symbol": GENES}, index=GENES)
    x = sp.csr_matrix(np.log1p(genes / genes.sum(1, keepdims=True) * 1e4).astype(np.float32))
    rna = anndata.AnnData(x, obs(), var, layers={"counts": sp.csr_matrix(genes)})
    rna.obs.insert(2, "n_counts", genes.sum(1))
    rna.obsm["X_pca"] = np.arange(16, dtype=np.float32).reshape(8, 2)
    rna.uns["log1p"] = {"target_sum": 1e4}
    rna.uns["annotate_json"] = json.dumps({"cells": 8})
    warning = {"contrast": ["MYOD1_vs_control"], "gene": ["MYOD1"], "warning": ["confounded with pool"]}
    rna.uns["top_genes"] = pd.DataFrame(warning)
    counts = sp.csr_matrix(transcript_counts())
    names = [name for name, _ in TRANSCRIPTS]
    owners = [gene for _, gene in TRANSCRIPTS]
    var = pd.DataFrame(
        {"transcript_id": names, "gene_id": [f"ENSG{i}" for i in owners], "symbol": [GENES[i] for i in owners]},
        index=names,
    )
    isoform = anndata.AnnData(counts.astype(np.float32), obs(), var, layers={"counts": counts})
    tags = ["T1", "T2", "T/3"]
    counts = sp.csr_matrix(hashtag_counts())
    hto = anndata.AnnData(counts, obs(), pd.DataFrame({"hashtag": tags}, index=tags), layers={"counts": counts.copy()})
    return {"rna": rna, "isoform": isoform, "hto": hto}


def main(target: Path) -> None:
    """Build the release and write it."""
    from hyped_seq.release import build_release, write_release

    write_release(build_release(modalities(), Design.model_validate(DESIGN)), target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
