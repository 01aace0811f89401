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
        """Calls for cells x tags raw counts.

        Tags without any count are left out. A cell without any count is Negative.

        Returns
        -------
        Columns ``call``, ``kind``, ``probability`` (the posterior of HashSolo's own hypotheses), ``tags``,
        ``forced_call`` (the tag with most counts, HashSolo's singlet), ``doublet_probability``.

        Raises
        ------
        InvalidDataError
            Fewer than three tags with counts, or scanpy's fit has no result (too few cells or counts).
        """
        import scanpy.external as sce
        from anndata import AnnData

        counts = dense_counts(hto)
        used = np.flatnonzero(counts.sum(axis=0) > 0)
        filled = np.flatnonzero(counts.sum(axis=1) > 0)
        if used.size < 3:
            raise InvalidDataError(
                f"HashSolo needs three tags with counts, there are {used.size}",
                where="hto",
                mend="use the model 'hashed'",
            )
        part = counts[np.ix_(filled, used)]
        columns = [f"tag{i}" for i in range(used.size)]
        work = AnnData(
            X=np.zeros((len(part), 1), dtype=np.float32),
            obs=pd.DataFrame(part, index=[str(i) for i in range(len(part))], columns=columns),
        )
        with (
            contextlib.redirect_stdout(sys.stderr),  # it prints its citation, and stdout is for data
            np.errstate(divide="ignore", invalid="ignore"),  # a fit that fails is refused below
        ):
            sce.pp.hashsolo(
                work,
                columns,
                priors=list(self.config.priors),
                number_of_noise_barcodes=self.config.noise_barcodes,
            )
        kinds = [f"{kind}_hypothesis_probability" for kind in ("negative", "singlet", "doublet")]
        found = work.obs[kinds].to_numpy(dtype=float)
        if not np.isfinite(found).all():
            raise InvalidDataError(
                f"HashSolo finds no probability for {int((~np.isfinite(found)).any(axis=1).sum())} of {len(filled)} "
                f"cells: too few cells or counts ({part.sum(axis=1).mean():.3g} a cell) to fit",
                where="hto",
                mend="use the model 'hashed'",
            )
        names = np.asarray(hto.var_names, dtype=object)
        order = np.argsort(-part, axis=1, kind="stable")
        best = np.full(len(counts), "", dtype=object)
        best[filled] = names[used][order[:, 0]]
        pair = best.copy()
        pair[filled] = best[filled] + "+" + names[used][order[:, 1]]
        said = work.obs["Classification"].astype(str).to_numpy()
        doublet, negative = np.zeros(len(counts), dtype=bool), np.ones(len(counts), dtype=bool)
        doublet[filled], negative[filled] = said == DOUBLET, said == NEGATIVE
        posterior = np.tile([1.0, 0.0, 0.0], (len(counts), 1))
        posterior[filled] = found
        call = np.where(negative, NEGATIVE, np.where(doublet, DOUBLET, best))
        kind = np.where(negative, 0, np.where(doublet, 2, 1))
        probability = posterior[np.arange(len(counts)), kind]
        tags = np.where(negative, "", np.where(doublet, pair, best))
        table = call_table(list(hto.obs_names), call, probability, tags)
        return table.assign(forced_call=best, doublet_probability=np.clip(posterior[:, 2], 0, 1).round(6))
