"""Tables of what was planted: genes with their fold changes, transcripts with their proportions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from hyped_core.design import Perturbation
from hyped_core.simulate.programme import LN2, GeneProgramme, effect_keys


def gene_table(programme: GeneProgramme, perturbations: Sequence[Perturbation]) -> pd.DataFrame:
    """One row a gene: ids, role, baseline, cycle, pool effect, planted log2 fold changes at activity 1.

    ``log2fc_<condition>`` is the whole change of a condition, ``interaction_<condition>`` the part of it
    beyond the sum of its single changes.
    """
    columns = {
        "symbol": programme.symbols,
        "gene_id": programme.ensembl,
        "made_up_id": ~programme.known,
        "role": programme.role,
        "module": programme.module,
        "baseline_cp10k": 1e4 * np.exp(programme.baseline),
        "dispersion": programme.dispersion,
        "cycle_peak": programme.peak,
        "cycle_log2": programme.amplitude / LN2,
        "pool_effect_log2": programme.pool_shift / LN2,
        "n_transcripts": programme.isoforms.count,
    }
    for perturbation in perturbations:
        if perturbation.is_control:
            continue
        total = programme.fold_change(perturbation)
        single = sum(programme.effects[key] for key in effect_keys(perturbation)) / LN2
        columns[f"log2fc_{perturbation.name}"] = total
        columns[f"interaction_{perturbation.name}"] = total - single
    return pd.DataFrame(columns)


def transcript_table(programme: GeneProgramme, perturbations: Sequence[Perturbation]) -> pd.DataFrame:
    """One row a transcript: its gene and its share of the gene in each condition at activity 1."""
    isoforms = programme.isoforms
    columns = {"transcript": isoforms.ids, "symbol": programme.symbols[isoforms.gene]}
    switched = np.zeros(len(isoforms.ids), bool)
    for perturbation in perturbations:
        keys = effect_keys(perturbation)
        columns[f"share_{perturbation.name}"] = isoforms.proportions(dict.fromkeys(keys, 1.0))
        for key in keys:
            switched |= np.isin(isoforms.gene, isoforms.switched(key))
    return pd.DataFrame(columns | {"switches": switched})
