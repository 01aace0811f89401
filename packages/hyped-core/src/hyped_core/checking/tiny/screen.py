"""`tiny_perturbseq`: a screen of 600 cells whose every effect is known, counts and log-normalised, made in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_core.design.model import CONTROL, Perturbation

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

N_GENES = 120
SINGLES = tuple(f"G{i:03d}" for i in (5, 18, 31, 44, 57, 70, 83, 96))
"""Genes that training cells show perturbed alone."""
UNSEEN = ("G109", "G114")
"""Genes that no training cell shows perturbed."""
DOUBLES = ("G005+G018", "G005+G031", "G018+G044", "G031+G057", "G044+G070", "G083+G096")
VALIDATION = ("G018+G031", "G070+G083")
HELD_OUT = ("G005+G044", "G057+G096", "G005+G109", "G109", "G114")
"""Combinations of genes seen alone, one with an unseen gene, and unseen genes alone."""
_CELLS = {CONTROL: 160, "single": 24, "double": 20, "held": 16}
_COUNTS = 4000.0
"""Median counts of a cell."""
_CYCLE = {"G1": (), "S": ("G010", "G011", "G012", "G013"), "G2M": ("G012", "G013", "G014", "G015")}
"""Genes that are higher in a phase."""


@dataclass(frozen=True, slots=True)
class TinyScreen:
    """A screen with known truth; its methods give copies, in the form that models of the task expression get.

    Attributes
    ----------
    cells : all cells in random order. ``X`` ln(1 + counts per 10,000), CSR float32; ``layers["counts"]`` raw counts,
        CSR float32; ``obs``: perturbation, phase (G1, S, G2M), pool (P1, P2; both hold cells of every perturbation),
        n_counts; ``var``: gene_id and symbol; ``uns``: perturbations (name -> dict), asked_genes.
    perturbations : name -> typed perturbation, ``control`` included.
    train, validation, held_out : names of the perturbations (control left out) to learn from, to choose by, to predict.
    effects : (perturbations, genes) change of the logarithm of a gene's share before cells are normalised; what a
        combination does is the sum of what its genes do, but for the response that all perturbations share.
    """

    cells: AnnData
    perturbations: dict[str, Perturbation]
    train: tuple[str, ...]
    validation: tuple[str, ...]
    held_out: tuple[str, ...]
    effects: pd.DataFrame

    def training_cells(self, *, sparse: bool = False) -> AnnData:
        """Control cells and those of `train`."""
        return self.given((CONTROL, *self.train), sparse=sparse)

    def validation_cells(self, *, sparse: bool = False) -> AnnData:
        """Control cells and those of `validation`."""
        return self.given((CONTROL, *self.validation), sparse=sparse)

    def control_cells(self, *, sparse: bool = False) -> AnnData:
        """Control cells."""
        return self.given((CONTROL,), sparse=sparse)

    def given(self, names: Sequence[str], *, sparse: bool = False) -> AnnData:
        """Cells of some perturbations with what a model of the task expression is given, and nothing more.

        ``X`` log-normalised, dense unless ``sparse``; ``obs`` perturbation, phase, pool; ``var`` names alone; ``uns``
        perturbations of ``names``, and asked_genes.
        """
        import anndata
        import pandas as pd

        chosen = self.cells[self.cells.obs["perturbation"].isin(list(names)).to_numpy()]
        return anndata.AnnData(
            chosen.X.copy() if sparse else chosen.X.toarray(),
            obs=chosen.obs[["perturbation", "phase", "pool"]].copy(),
            var=pd.DataFrame(index=chosen.var_names.copy()),
            uns={
                "perturbations": {name: self.perturbations[name].model_dump(mode="json") for name in sorted(names)},
                "asked_genes": list(self.cells.uns["asked_genes"]),
            },
        )

    def counts(self, names: Sequence[str] = (CONTROL,), *, labelled: bool = True) -> AnnData:
        """Cells of some perturbations with what a model of the task embedding is given.

        ``X`` raw counts, CSR float32; ``obs`` n_counts, phase, pool, and perturbation where ``labelled``; ``var``
        gene_id and symbol.
        """
        import anndata

        chosen = self.cells[self.cells.obs["perturbation"].isin(list(names)).to_numpy()]
        columns = ["n_counts", "phase", "pool", *(["perturbation"] if labelled else [])]
        return anndata.AnnData(
            chosen.layers["counts"].copy(), obs=chosen.obs[columns].copy(), var=chosen.var[["gene_id", "symbol"]].copy()
        )


def tiny_perturbseq(seed: int = 0) -> TinyScreen:
    """600 cells x 120 genes: control, 8 single and 6 double perturbations to learn from, 2 to choose by, 5 held out.

    A cell's counts are Poisson, of a share of its total: a base of each gene, moved by the perturbation (its own gene,
    ten others, and eight that all perturbations move), the phase and the pool. Equal seeds give equal cells; another
    seed gives other cells of the same perturbations, genes and design, with other effects.
    """
    import anndata
    import pandas as pd
    import scipy.sparse as sp

    rng = np.random.default_rng([seed, 7_401])
    genes = [f"G{i:03d}" for i in range(N_GENES)]
    names = [CONTROL, *SINGLES, *DOUBLES, *VALIDATION, *HELD_OUT]
    perturbations = {name: Perturbation.from_name(name, agent="CRISPRa") for name in names}
    effects = _effects(perturbations, genes, rng)
    sizes = [_CELLS[_group(name)] for name in names]
    label = rng.permutation(np.repeat(np.array(names, dtype=object), sizes))
    n = len(label)
    phase = rng.choice(np.array(list(_CYCLE), dtype=object), n, p=(0.5, 0.3, 0.2))
    pool = rng.choice(np.array(["P1", "P2"], dtype=object), n)
    base = rng.normal(0.0, 1.2, N_GENES)
    base[[genes.index(gene) for gene in (*SINGLES, *UNSEEN)]] = 0.3  # neither absent nor at the top
    share = base + effects.loc[list(label)].to_numpy() + _cycle(phase, genes)
    share = share + np.where((pool == "P2")[:, None], rng.normal(0.0, 0.08, N_GENES), 0.0)
    share = np.exp(share + rng.normal(0.0, 0.15, share.shape))
    total = _COUNTS * np.exp(rng.normal(0.0, 0.25, n))
    counts = rng.poisson(share / share.sum(axis=1, keepdims=True) * total[:, None]).astype(np.float32)
    obs = pd.DataFrame(
        {"perturbation": label, "phase": phase, "pool": pool, "n_counts": counts.sum(axis=1, dtype=np.float64)},
        index=pd.Index([f"cell{i:04d}" for i in range(n)]),
    )
    ids = [f"ENSG{i:011d}" for i in range(1, N_GENES + 1)]
    cells = anndata.AnnData(
        sp.csr_matrix(log_normalised(counts)),
        obs=obs,
        var=pd.DataFrame({"gene_id": ids, "symbol": genes}, index=pd.Index(genes)),
        layers={"counts": sp.csr_matrix(counts)},
        uns={
            "perturbations": {name: value.model_dump(mode="json") for name, value in sorted(perturbations.items())},
            "asked_genes": sorted({*SINGLES, *UNSEEN}),
        },
    )
    return TinyScreen(cells, perturbations, (*SINGLES, *DOUBLES), VALIDATION, HELD_OUT, effects)


def log_normalised(counts: npt.NDArray) -> npt.NDArray[np.float32]:
    """ln(1 + counts per 10,000) of dense counts (cells, genes), float32; a cell without counts stays 0."""
    total = counts.sum(axis=1, dtype=np.float64, keepdims=True)
    share = np.divide(counts, total, out=np.zeros(counts.shape, dtype=np.float64), where=total > 0)
    return np.log1p(1e4 * share).astype(np.float32)


def _group(name: str) -> str:
    if name == CONTROL:
        return name
    return "held" if name in (*HELD_OUT, *VALIDATION) else "double" if "+" in name else "single"


def _effects(perturbations: dict[str, Perturbation], genes: list[str], rng: np.random.Generator) -> pd.DataFrame:
    """Change of each gene's log share by each perturbation."""
    import pandas as pd

    free = np.array([i for i, gene in enumerate(genes) if gene not in (*SINGLES, *UNSEEN)])
    shared = np.zeros(N_GENES)
    shared[rng.choice(free, 8, replace=False)] = rng.choice((-0.9, 0.9), 8)
    own = {}
    for gene in (*SINGLES, *UNSEEN):
        effect = np.zeros(N_GENES)
        effect[rng.choice(free, 10, replace=False)] = rng.choice((-1.0, 1.0), 10) * rng.uniform(0.6, 1.4, 10)
        effect[genes.index(gene)] = 1.5
        own[gene] = effect
    rows = {
        name: np.sum([own[gene] for gene in value.genes], axis=0) + shared if value.genes else np.zeros(N_GENES)
        for name, value in perturbations.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=genes)


def _cycle(phase: npt.NDArray[np.object_], genes: list[str]) -> npt.NDArray[np.float64]:
    """(cells, genes) change of the log share by the phase."""
    table = np.zeros((len(phase), len(genes)))
    for name, higher in _CYCLE.items():
        table[np.ix_(phase == name, [genes.index(gene) for gene in higher])] = 1.0
    return table
