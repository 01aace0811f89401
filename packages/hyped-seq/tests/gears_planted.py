"""A small screen whose truth is known: families of genes with alike effects, combinations that add up, gene sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import anndata
import numpy as np
import pandas as pd

from hyped_core.context import RunContext
from hyped_seq.gears.model import Gears, GearsConfig

FAMILIES, MEMBERS = 3, 4


@dataclass(frozen=True)
class Planted:
    """Cells of every perturbation, and the true change of each from control."""

    cells: anndata.AnnData
    changes: dict[str, np.ndarray]

    def part(self, names: Sequence[str]) -> anndata.AnnData:
        """Cells of control and of ``names``."""
        return self.cells[np.isin(self.cells.obs["perturbation"], ["control", *names])].copy()

    @property
    def control(self) -> anndata.AnnData:
        return self.part(())


def genes_of(family: int) -> list[str]:
    return [f"P{family}{member}" for member in range(MEMBERS)]


def planted(genes: int = 150, cells: int = 40, controls: int = 160, seed: int = 0) -> Planted:
    """A gene's effect is that of its family and a third as much of its own; those of a combination add up."""
    rng = np.random.default_rng(seed)
    names = [name for family in range(FAMILIES) for name in genes_of(family)]
    panel = [*names, *(f"G{i}" for i in range(genes - len(names)))]
    mean = rng.uniform(1.0, 3.0, genes)
    effects = {}
    for family in range(FAMILIES):
        shared = rng.normal(0, 0.8, genes) * (rng.random(genes) < 0.3)
        for name in genes_of(family):
            effects[name] = shared + rng.normal(0, 0.25, genes) * (rng.random(genes) < 0.3)
    for a in range(MEMBERS):
        for b in range(MEMBERS):
            effects[f"P0{a}+P1{b}"] = effects[f"P0{a}"] + effects[f"P1{b}"]
    blocks, labels = [], []
    modules = rng.normal(0, 0.35, (4, genes)) * (rng.random((4, genes)) < 0.3)
    changes = {}
    for name in ("control", *effects):
        n = controls if name == "control" else cells
        moved = np.maximum(mean + effects.get(name, 0.0), 0)
        if name != "control":
            changes[name] = moved - mean
        x = moved + rng.standard_normal((n, 4)) @ modules + 0.3 * rng.standard_normal((n, genes))
        blocks.append(np.maximum(x, 0))
        labels += [name] * n
    obs = pd.DataFrame({"perturbation": labels}, index=[f"c{i}" for i in range(len(labels))])
    x = np.vstack(blocks).astype(np.float32)
    return Planted(anndata.AnnData(x, obs=obs, var=pd.DataFrame(index=panel)), changes)


def write_terms(path: Path) -> Path:
    """A GMT file in which the genes of a family share their terms."""
    lines = [
        "\t".join([f"family {family} term {term}", "planted", *genes_of(family)])
        for family in range(FAMILIES)
        for term in range(3)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


HELD_OUT = ("P00+P11", "P01+P12", "P02+P13", "P03+P10", "P21")
"""Four combinations and a single gene, whose family's other genes are seen."""
QUICK = {"hidden": 32, "learning_rate": 5e-3}
EPOCHS = {"fixed": 5, "reference": 2}


@cache
def trained(mode: str = "fixed") -> tuple[Planted, Gears]:
    """The screen and a model of it that has not seen `HELD_OUT`; made once a process."""
    screen = planted()
    with TemporaryDirectory() as folder:
        terms = write_terms(Path(folder) / "terms.gmt")
        model = Gears(GearsConfig.model_validate({**QUICK, "terms": str(terms), "mode": mode, "epochs": EPOCHS[mode]}))
        model.fit(screen.part([n for n in screen.changes if n not in HELD_OUT]), context=RunContext())
    return screen, model

