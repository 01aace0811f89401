"""What a perturbation does to each gene, and what two do together: known targets, shared modules, rest."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from hyped_core.simulate.programme import ProgrammeParams

FloatArray = npt.NDArray[np.float64]
Names = npt.NDArray[np.object_]


@cache
def known_effects() -> dict[str, dict[str, float]]:
    """Effect key (or two joined by ``+``) -> symbol -> log2 fold change at activity 1 (``effects.csv``)."""
    from hyped_core.simulate.programme import read_table

    table: dict[str, dict[str, float]] = {}
    for row in read_table("effects.csv"):
        table.setdefault(row["effect"], {})[row["symbol"]] = float(row["log2fc"])
    return table


def planted_effect(
    key: str, symbols: Names, role: Names, module: Names, params: ProgrammeParams, rng: np.random.Generator
) -> FloatArray:
    """(G,) log2 fold change of one gene's change (``"GENE:direction"``) at activity 1.

    Known targets come from the table. Any other factor drives the genes of its own module and, less, those of
    a second one (the weights are the module's, so its factors act alike), besides a few genes of its own.
    """
    gene, direction = key.split(":")
    n = len(symbols)
    off_target = rng.random(n) < params.off_target_share
    effect = np.where(off_target, params.off_target_sd * rng.standard_normal(n), 0.0)
    effect[(role == "mito") | (role == "cycle")] = 0.0
    known = known_effects().get(key)
    index = {symbol: i for i, symbol in enumerate(symbols)}
    if known is not None:
        for symbol, value in known.items():
            if symbol in index:
                effect[index[symbol]] = value
        return effect
    sign = 1.0 if direction == "activation" else -1.0
    names = sorted(set(module[(role == "target")]) - {""})
    own = module[index[gene]] if module[index[gene]] in names else str(rng.choice(names))
    second = str(rng.choice([name for name in names if name != own]))
    strength = params.module_strength * rng.uniform(0.6, 1.4)
    effect += sign * strength * module_weights(own, symbols, role, module)
    effect += strength * rng.uniform(-0.6, 0.6) * module_weights(second, symbols, role, module)
    effect[index[gene]] = 3.5 if direction == "activation" else -2.5
    return effect


def module_weights(name: str, symbols: Names, role: Names, module: Names) -> FloatArray:
    """(G,) how strongly each gene belongs to a module: near 1 for its targets, 0.3 for its factors."""
    rng = np.random.default_rng(list(name.encode()))
    weights = np.exp(0.35 * rng.standard_normal(len(symbols)))
    inside = module == name
    share = np.select([role == "target", role == "tf"], [1.0, 0.3], 0.0)
    return np.where(inside, share * weights, 0.0)


def planted_interaction(
    pair: str,
    symbols: Names,
    first: FloatArray,
    second: FloatArray,
    params: ProgrammeParams,
    rng: np.random.Generator,
) -> FloatArray:
    """(G,) log2 change of two perturbations together beyond the sum of both.

    The table's where the pair is there; else most genes that both move are buffered (a share of the weaker
    effect is lost) and some that either moves respond in a way neither predicts.
    """
    known = known_effects().get(pair)
    result = np.zeros(len(symbols))
    if known is not None:
        index = {symbol: i for i, symbol in enumerate(symbols)}
        for symbol, value in known.items():
            if symbol in index:
                result[index[symbol]] = value
        return result
    weaker = np.minimum(np.abs(first), np.abs(second))
    buffered = -params.interaction * rng.uniform(0.4, 1.6) * np.sign(first + second) * weaker
    responsive = np.maximum(np.abs(first), np.abs(second)) > 0.5
    surprising = responsive & (rng.random(len(symbols)) < 0.25)
    return buffered + np.where(surprising, params.interaction * rng.standard_normal(len(symbols)), 0.0)
