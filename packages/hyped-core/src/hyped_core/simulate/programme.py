"""The gene programme: which genes there are, how they follow the cycle and what perturbations do to them.

Real symbols (with their true Ensembl ids, ``genes.csv``) carry the biology: cell-cycle genes, MYOD1 and PRRX1
with their targets (``effects.csv``, log2 fold changes at activity 1), the modules that the transcription
factors of the screen share, mitochondrial and housekeeping genes. The rest are fillers called ``GENE0001`` on
with made-up ids. Everything here is a mean: counts and noise are the business of the counts simulator.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import Field

from hyped_core.errors import ParamsError
from hyped_core.params import Params
from hyped_core.simulate.effects import planted_effect, planted_interaction
from hyped_core.simulate.isoforms import Isoforms, build_isoforms

if TYPE_CHECKING:
    from hyped_core.design import Perturbation

FloatArray = npt.NDArray[np.float64]
LN2 = float(np.log(2.0))


class ProgrammeParams(Params):
    """Size of the programme and strength of what is planted in it (log2 units throughout)."""

    n_genes: int = Field(600, ge=400)
    n_transcripts: int = Field(1400, ge=400)
    max_transcripts: int = Field(4, ge=1, le=16)
    """Most transcripts of one gene."""
    baseline_sd: float = Field(0.5, ge=0)
    """Spread around the table's baseline of the genes with real symbols."""
    filler_mean: float = 1.0
    filler_sd: float = Field(1.8, ge=0)
    """Baseline (log2 counts per 10,000) of filler genes."""
    phase_amplitude: float = Field(2.2, ge=0)
    """Peak over trough of a cell-cycle gene."""
    off_target_share: float = Field(0.05, ge=0, le=1)
    off_target_sd: float = Field(0.35, ge=0)
    """Share of the other genes that respond to a perturbation all the same, and how strongly."""
    module_strength: float = Field(1.3, ge=0)
    """Mean effect of a screen factor on its module's genes."""
    interaction: float = Field(0.7, ge=0)
    """Strength of what two factors do together beyond the sum, relative to the weaker of the two."""
    pool_share: float = Field(0.5, ge=0, le=1)
    pool_sd: float = Field(0.3, ge=0)
    """Shift of the control pool against the other: share of genes and spread. Confounded with control."""
    mito_sd: float = Field(0.2, ge=0)
    """Spread of all mitochondrial genes together from cell to cell (applied by the counts simulator)."""
    n_switches: int = Field(10, ge=0)
    """Genes whose isoform proportions a perturbation changes."""
    switch_logit: float = Field(2.5, ge=0)
    dispersion: float = Field(0.15, gt=0)
    """Median negative-binomial dispersion: variance is ``mean + dispersion * mean**2``."""


@dataclass(frozen=True)
class GeneProgramme:
    """Means of ``G`` genes. Natural logs inside, log2 in `fold_change`.

    Attributes
    ----------
    symbols, ensembl : (G,) names; ``known`` is False where the id is made up.
    role, module : (G,) what the gene is there for.
    baseline : (G,) natural log of the share of a control cell's molecules, phase at its trough.
    peak : (G,) position in the cycle of a cell-cycle gene's peak, nan elsewhere; ``amplitude`` its height.
    effects : ``"GENE:direction"`` -> (G,) natural log fold change at activity 1.
    interactions : two keys joined by ``+`` -> (G,) what both do beyond the sum, at activities 1.
    pool_shift : (G,) natural log shift of cells captured in the control pool.
    dispersion : (G,) negative-binomial dispersion.
    isoforms : transcripts and their proportions.
    """

    symbols: npt.NDArray[np.object_]
    ensembl: npt.NDArray[np.object_]
    known: npt.NDArray[np.bool_]
    role: npt.NDArray[np.object_]
    module: npt.NDArray[np.object_]
    baseline: FloatArray
    peak: FloatArray
    amplitude: FloatArray
    dispersion: FloatArray
    pool_shift: FloatArray
    isoforms: Isoforms
    effects: dict[str, FloatArray] = field(default_factory=dict)
    interactions: dict[str, FloatArray] = field(default_factory=dict)

    @classmethod
    def build(
        cls,
        params: ProgrammeParams,
        rng: np.random.Generator,
        perturbations: Iterable[Perturbation] = (),
    ) -> GeneProgramme:
        """Draw a programme that holds the effects of ``perturbations`` and of every pair that occurs in one.

        The genes, their baselines and the effect of a gene do not depend on which other perturbations are
        asked for: each has its own stream of random numbers.
        """
        perturbations = list(perturbations)
        streams = rng.spawn(6)
        wanted = {change.gene for p in perturbations for change in p.changes}
        table = _gene_table(params.n_genes, wanted)
        role = np.array([row["role"] for row in table], dtype=object)
        module = np.array([row["module"] for row in table], dtype=object)
        symbols = np.array([row["symbol"] for row in table], dtype=object)
        n = len(table)
        filler = role == "filler"
        level = np.array([float(row["log2_cp10k"] or np.nan) for row in table])
        jitter = streams[0].standard_normal(n)
        drawn = params.filler_mean + params.filler_sd * jitter
        level = np.where(filler, drawn, level + params.baseline_sd * jitter)
        share = np.exp2(level)
        peak = np.array([float(row["peak"] or np.nan) for row in table])
        amplitude = LN2 * params.phase_amplitude * np.exp(0.2 * streams[1].standard_normal(n))
        shifted = streams[2].random(n) < params.pool_share
        effects: dict[str, FloatArray] = {}
        interactions: dict[str, FloatArray] = {}
        entropy = int(streams[3].integers(2**63))
        for perturbation in perturbations:
            keys = sorted(effect_keys(perturbation))
            for key in keys:
                if key not in effects:
                    stream = _stream(entropy, key)
                    effects[key] = LN2 * planted_effect(key, symbols, role, module, params, stream)
            for i, first in enumerate(keys):
                for second in keys[i + 1 :]:
                    pair = f"{first}+{second}"
                    pair_rng = _stream(entropy, pair)
                    interactions[pair] = LN2 * planted_interaction(
                        pair, symbols, effects[first] / LN2, effects[second] / LN2, params, pair_rng
                    )
        return cls(
            symbols=symbols,
            ensembl=np.array([row["ensembl_id"] for row in table], dtype=object),
            known=np.array([not row["ensembl_id"].startswith("ENSG9") for row in table]),
            role=role,
            module=module,
            baseline=np.log(share / share.sum()),
            peak=peak,
            amplitude=np.where(np.isnan(peak), 0.0, amplitude),
            dispersion=params.dispersion * np.exp(0.5 * streams[4].standard_normal(n)),
            pool_shift=np.where(shifted, LN2 * params.pool_sd * streams[2].standard_normal(n), 0.0),
            isoforms=build_isoforms(params, symbols, role, list(effects), streams[5]),
            effects=effects,
            interactions=interactions,
        )

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return len(self.symbols)

    def log_mean(
        self,
        position: FloatArray,
        activities: Mapping[str, FloatArray],
        in_control_pool: npt.NDArray[np.bool_] | bool = False,
    ) -> FloatArray:
        """(n, G) natural log of the mean expression of cells (a share of a control cell's molecules).

        Parameters
        ----------
        position : (n,) place in the cycle, [0, 1), as `biology.cycle_position` gives it.
        activities : effect key -> (n,) activity of that change in each cell (0: none, 1: typical).
        in_control_pool : (n,) cells that carry the control pool's shift.
        """
        position = np.asarray(position, dtype=float)
        result = np.broadcast_to(self.baseline, (position.size, self.n_genes)).copy()
        for peak in np.unique(self.peak[~np.isnan(self.peak)]):
            genes = np.flatnonzero(self.peak == peak)
            wave = np.exp(3.0 * (np.cos(2 * np.pi * (position - peak)) - 1.0))
            result[:, genes] += wave[:, None] * self.amplitude[genes]
        for key, effect in self.effects.items():
            if key in activities:
                genes = np.flatnonzero(effect)
                result[:, genes] += np.asarray(activities[key], float)[:, None] * effect[genes]
        for pair, effect in self.interactions.items():
            first, second = pair.split("+")
            if first in activities and second in activities:
                both = np.asarray(activities[first], float) * np.asarray(activities[second], float)
                genes = np.flatnonzero(effect)
                result[:, genes] += both[:, None] * effect[genes]
        if np.any(in_control_pool):
            inside = np.broadcast_to(np.asarray(in_control_pool, dtype=bool), position.shape)
            result[inside] += self.pool_shift
        return result

    def fold_change(self, perturbation: Perturbation) -> FloatArray:
        """(G,) planted log2 fold change of a whole perturbation at activity 1, interactions included."""
        keys = sorted(effect_keys(perturbation))
        total = np.zeros(self.n_genes)
        for i, key in enumerate(keys):
            total = total + self.effects[key]
            for other in keys[i + 1 :]:
                total = total + self.interactions.get(f"{key}+{other}", 0.0)
        return total / LN2


def effect_keys(perturbation: Perturbation) -> tuple[str, ...]:
    """``"GENE:direction"`` of every change, in the order given."""
    return tuple(f"{change.gene}:{change.direction}" for change in perturbation.changes)


def read_table(name: str) -> list[dict[str, str]]:
    """Rows of a CSV file of this package (``genes.csv`` or ``effects.csv``)."""
    text = files("hyped_core.simulate").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def factors(module: str | None = None) -> tuple[str, ...]:
    """Symbols of the screen's transcription factors (of one module), in table order."""
    rows = [row for row in read_table("genes.csv") if row["role"] == "tf"]
    return tuple(row["symbol"] for row in rows if module is None or row["module"] == module)


def _stream(entropy: int, name: str) -> np.random.Generator:
    words = [entropy, *name.encode()]
    return np.random.default_rng(np.random.SeedSequence(words))


def _gene_table(n_genes: int, wanted: set[str]) -> list[dict[str, str]]:
    """Rows for ``n_genes`` genes: those of ``genes.csv`` in order, missing perturbed ones, then fillers."""
    named = read_table("genes.csv")
    known = {row["symbol"] for row in named}
    extra = [_made_up(name, "perturbed", 900_000 + i) for i, name in enumerate(sorted(wanted - known))]
    if len(extra) > n_genes - 400:
        raise ParamsError(
            f"{n_genes} genes leave no room for {len(extra)} perturbed ones",
            where="programme/n_genes",
            mend=f"set n_genes to at least {400 + len(extra)}",
        )
    rows = named[: n_genes - len(extra)] + extra
    return rows + [_made_up(f"GENE{i:04d}", "filler", i) for i in range(1, n_genes - len(rows) + 1)]


def _made_up(symbol: str, role: str, number: int) -> dict[str, str]:
    return {
        "symbol": symbol,
        "ensembl_id": f"ENSG9{number:010d}",
        "role": role,
        "module": "",
        "log2_cp10k": "" if role == "filler" else "1.0",
        "peak": "",
    }
