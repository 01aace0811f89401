"""The model and its config. Imported when the model runs, so heavy libraries may be imported here."""

import numpy as np
import pandas as pd
from anndata import AnnData
from pydantic import Field

from hyped_core import Params, Perturbation, RunContext


class HalfwayConfig(Params):
    """Parameters of `Halfway`."""

    share: float = Field(0.5, ge=0, le=1)
    """Share of the summed change that is predicted."""


class Halfway:
    """Control cells plus a share of the summed changes of the genes that were seen alone."""

    def __init__(self, config: HalfwayConfig) -> None:
        self.config = config
        self.changes: dict[str, pd.Series] = {}

    def fit(self, train: AnnData, validation: AnnData | None = None, *, context: RunContext) -> None:
        """Learn the mean change of each gene under every training perturbation."""
        labels = train.obs["perturbation"].astype(str).to_numpy()
        means = {
            name: pd.Series(np.asarray(train.X[labels == name].mean(axis=0)).ravel(), index=train.var_names)
            for name in set(labels)
        }
        self.changes = {name: mean - means["control"] for name, mean in means.items() if name != "control"}

    def predict(self, control: AnnData, perturbation: Perturbation, *, context: RunContext) -> AnnData:
        """Predict cells: as many as ``control`` has, with its genes in its order."""
        cells = control.X.toarray() if hasattr(control.X, "toarray") else np.array(control.X)
        for gene in perturbation.genes:
            if gene in self.changes:
                change = self.changes[gene].reindex(control.var_names, fill_value=0.0).to_numpy()
                cells = cells + self.config.share * change
        return AnnData(cells.astype(np.float32), obs=control.obs.copy(), var=control.var.copy())
