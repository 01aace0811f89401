"""Small screens whose truth is known, for the tests of GEARS."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from hyped_core.design import Perturbation


def screen(
    conditions: tuple[str, ...] = ("G0", "G1", "G2", "G3", "G4", "G0+G1"),
    *,
    cells: int = 40,
    control: int = 60,
    genes: int = 30,
    seed: int = 0,
    size: float = 1.5,
) -> AnnData:
    """ln(1 + CP10k)-like cells: gene ``Gi`` raises genes i + 10 to i + 12 by ``size``; effects of combinations add up.

    A third of the cells of each condition is in phase S (genes 20 to 24 higher by 1), the others in G1.
    """
    rng = np.random.default_rng(seed)
    names = [f"G{i}" for i in range(genes)]
    labels = np.repeat(["control", *conditions], [control, *[cells] * len(conditions)])
    phase = np.where(np.concatenate([np.arange(n) % 3 == 0 for n in (control, *[cells] * len(conditions))]), "S", "G1")
    base = np.linspace(0.4, 2.5, genes)
    x = base + rng.normal(0, 0.4, (len(labels), genes))
    x[np.ix_(phase == "S", range(20, 25))] += 1.0
    for label in conditions:
        for gene in label.split("+"):
            at = int(gene[1:]) + 10
            x[np.ix_(labels == label, [at % genes, (at + 1) % genes, (at + 2) % genes])] += size
    x = np.where(rng.random(x.shape) < 0.1, 0, np.clip(x, 0, 9)).astype(np.float32)
    obs = pd.DataFrame({"perturbation": labels, "phase": phase}, index=[f"c{i}" for i in range(len(labels))])
    result = AnnData(X=sp.csr_matrix(x), obs=obs, var=pd.DataFrame(index=names))
    result.uns["perturbations"] = records(conditions)
    return result


def records(names: tuple[str, ...] | list[str]) -> dict[str, dict]:
    """``uns["perturbations"]`` of these names and of control."""
    return {name: Perturbation.from_name(name).model_dump(mode="json") for name in ("control", *names)}
