"""Transcripts of the simulated genes: how molecules are split, and which splits a perturbation changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_core.errors import ParamsError

if TYPE_CHECKING:
    from hyped_core.simulate.programme import ProgrammeParams

FloatArray = npt.NDArray[np.float64]

SWITCHING = (
    "TPM1",
    "FN1",
    "TPM2",
    "COL6A3",
    "CALD1",
    "CTNNB1",
    "MEF2A",
    "PKM",
    "MBNL1",
    "QKI",
    "MEF2C",
    "TNC",
)
"""Genes known for isoform changes in muscle differentiation or in matrix, first to be given a switch."""


@dataclass(frozen=True)
class Isoforms:
    """``T`` transcripts, those of a gene next to each other.

    Attributes
    ----------
    ids : (T,) made-up transcript ids (``ENST9...``).
    gene : (T,) index of the gene.
    first : (G,) index of each gene's first transcript; ``count`` how many it has.
    logits : (T,) unperturbed log weight within the gene.
    switches : effect key -> (T,) change of the log weight at activity 1.
    """

    ids: npt.NDArray[np.object_]
    gene: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    logits: FloatArray
    switches: dict[str, FloatArray]

    def proportions(self, activities: Mapping[str, float] | None = None) -> FloatArray:
        """(T,) share of each transcript in its gene (sums to 1 a gene) at the given activities."""
        logits = self.logits.copy()
        for key, value in (activities or {}).items():
            if key in self.switches:
                logits += value * self.switches[key]
        weight = np.exp(logits)
        return weight / np.bincount(self.gene, weight, len(self.count))[self.gene]

    def switched(self, key: str) -> npt.NDArray[np.int64]:
        """Indices of the genes whose proportions change under ``key``."""
        if key not in self.switches:
            return np.empty(0, np.int64)
        return np.unique(self.gene[self.switches[key] != 0])


def build_isoforms(
    params: ProgrammeParams,
    symbols: npt.NDArray[np.object_],
    role: npt.NDArray[np.object_],
    keys: list[str],
    rng: np.random.Generator,
) -> Isoforms:
    """Spread ``n_transcripts`` over the genes, at least one each, and plant switches for the activations."""
    n = len(symbols)
    index = {symbol: i for i, symbol in enumerate(symbols)}
    first_names = [name for name in SWITCHING if name in index]
    others = [s for s, r in zip(symbols, role) if r in ("housekeeping", "target") and s not in SWITCHING]
    names = (first_names + others)[: params.n_switches]
    count = _counts(n, np.array([index[name] for name in names], np.int64), params, rng)
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    gene = np.repeat(np.arange(n), count)
    order = np.arange(gene.size) - first[gene]
    logits = -0.9 * order + 0.5 * rng.standard_normal(gene.size)
    switches: dict[str, FloatArray] = {}
    planted = [key for key in keys if key.startswith(("MYOD1:", "PRRX1:"))]
    for number, key in enumerate(sorted(planted)):
        shift = np.zeros(gene.size)
        mine = names if len(planted) == 1 else names[number :: len(planted)]
        for name in mine:
            g = index[name]
            if count[g] > 1:
                shift[first[g]] -= params.switch_logit / 2
                shift[first[g] + 1] += params.switch_logit / 2
        switches[key] = shift
    ids = np.array([f"ENST9{i:010d}" for i in range(1, gene.size + 1)], dtype=object)
    return Isoforms(ids, gene, first, count, logits, switches)


def _counts(
    n: int, switching: npt.NDArray[np.int64], params: ProgrammeParams, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Transcripts of each gene: ``n_transcripts`` in all, at least two where there is a switch."""
    if not n <= params.n_transcripts <= n * params.max_transcripts:
        raise ParamsError(
            f"{params.n_transcripts} transcripts cannot be spread over {n} genes with 1 to "
            f"{params.max_transcripts} each",
            where="programme/n_transcripts",
            mend=f"choose between {n} and {n * params.max_transcripts}",
        )
    slots = np.repeat(np.arange(n), params.max_transcripts - 1)
    order = rng.permutation(slots.size)
    _, first_slot = np.unique(slots, return_index=True)
    forced = first_slot[switching] if slots.size else np.empty(0, np.int64)
    order = np.concatenate([forced, order[~np.isin(order, forced)]])
    return 1 + np.bincount(slots[order[: params.n_transcripts - n]], minlength=n).astype(np.int64)
