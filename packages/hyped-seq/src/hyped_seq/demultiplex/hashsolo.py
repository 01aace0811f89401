"""`hashsolo`: scanpy's HashSolo (Bernstein et al. 2020) behind the demultiplexing contract."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pydantic import Field

from hyped_core.errors import InvalidDataError
from hyped_core.params import Params
from hyped_seq.demultiplex.calls import DOUBLET, NEGATIVE, call_table, dense_counts

if TYPE_CHECKING:
    from anndata import AnnData

    from hyped_core.context import RunContext


class HashSoloConfig(Params):
    """Settings of `hashsolo`."""

    priors: tuple[float, float, float] = (0.01, 0.8, 0.19)
    """Prior shares of negatives, singlets, doublets (scanpy's defaults)."""
    noise_barcodes: int | None = Field(None, ge=1)
    """Tags taken as noise in a cell; None: all but two."""


class HashSolo:
    """Assigns cells of one capture by scanpy's HashSolo."""

    def __init__(self, config: HashSoloConfig | None = None) -> None:
        self.config = config or HashSoloConfig()

    def assign(self, hto: AnnData, *, context: RunContext) -> pd.DataFrame:
        """Calls for cells x tags raw counts: columns ``call``, ``kind``, ``probability``, ``tags``."""
        import scanpy.external as sce
        from anndata import AnnData

        counts = dense_counts(hto)
        if counts.shape[1] < 3:
            raise InvalidDataError("HashSolo needs three tags", where="hto", mend="use the model 'hashed'")
        names = [f"tag{i}" for i in range(counts.shape[1])]
        work = AnnData(
            X=np.zeros((len(counts), 1), dtype=np.float32),
            obs=pd.DataFrame(counts, index=[str(i) for i in range(len(counts))], columns=names),
        )
        with contextlib.redirect_stdout(sys.stderr):  # it prints its citation, and stdout is for data
            sce.pp.hashsolo(
                work,
                names,
                priors=list(self.config.priors),
                number_of_noise_barcodes=self.config.noise_barcodes,
            )
        original = dict(zip(names, map(str, hto.var_names), strict=True))
        call = [original.get(str(name), str(name)) for name in work.obs["Classification"]]
        order = np.argsort(-counts, axis=1, kind="stable")
        tag_names = np.asarray(hto.var_names, dtype=object)
        tags = [_tags(c, tag_names, order[i]) for i, c in enumerate(call)]
        columns = {NEGATIVE: "negative_hypothesis_probability", DOUBLET: "doublet_hypothesis_probability"}
        probability = np.array(
            [work.obs[columns.get(c, "singlet_hypothesis_probability")].iat[i] for i, c in enumerate(call)]
        )
        return call_table(list(hto.obs_names), call, np.nan_to_num(probability), tags)


def _tags(call: str, names: np.ndarray, order: np.ndarray) -> str:
    """Tags a call involves: the two highest for a doublet."""
    if call == NEGATIVE:
        return ""
    return f"{names[order[0]]}+{names[order[1]]}" if call == DOUBLET else call
