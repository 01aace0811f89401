"""`hashed`, HYPED's demultiplexer: each tag's background and carriers, doublets by what the capture shows of them.

docs/demultiplexing.md has the formulas, what it scores on captures with genetic truth, and where it loses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pydantic import Field

from hyped_core.params import Params
from hyped_seq.demultiplex.calibration import DEFAULT, Calibration, sigmoid
from hyped_seq.demultiplex.calls import DOUBLET, NEGATIVE, call_table, dense_counts
from hyped_seq.demultiplex.levels import Floats, Integers, Levels, clean_cells, settle, two_highest

if TYPE_CHECKING:
    from anndata import AnnData

    from hyped_core.context import RunContext

USUAL_DOUBLETS = 0.08
"""Share of doublets of a usual capture (10,000 cells): the least that is expected, as cells may be a sample."""
PRIOR_WEIGHT = 0.2
"""Weight of the expected share beside what the counts say, in parts of the number of cells."""
FULL_FOLLOW = 0.2
"""Correlation of a cell's background with its own tag's height from where the calibration's ``follow`` is full."""


class HashedConfig(Params):
    """Settings of `hashed`."""

    doublets_per_thousand: float = Field(0.008, ge=0)
    """Expected share of multiplets for every 1,000 cells of a capture (10x: about 0.8 %); at least 8 % is expected."""
    doublet_share: float | None = Field(None, ge=0, lt=1)
    """Share of cells to call doublets; None: estimated from the counts, drawn a little to what is expected."""
    min_probability: float = Field(0.0, ge=0, le=1)
    """Abstain (Negative) from singlets that are less probable; 0: only cells without counts are Negative."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the counts of a capture say of each of its cells. All (cells,), but ``order`` (cells, 1 or 2).

    Attributes
    ----------
    order : tags with the highest odds, highest first.
    second : log-odds of the second tag, its share among carriers included.
    margin : log-odds of the highest tag minus those of the second.
    height : scales by which the highest tag's count stands above its median carrier, within -3 and 3.
    raw_height : the same without bounds.
    pair : ln P(counts | two of the tags) - ln P(counts | one of them).
    following : correlation of the background's height with the own tag's, over cells that look like singlets.
    different : share of pairs of cells that carry different tags: only they can be told from one cell.
    """

    order: Integers
    second: Floats
    margin: Floats
    height: Floats
    raw_height: Floats
    pair: Floats
    following: float
    different: float


class Hashed:
    """Assigns cells of one capture to hashtags. Deterministic; keeps no state."""

    def __init__(self, config: HashedConfig | None = None, calibration: Calibration = DEFAULT) -> None:
        self.config = config or HashedConfig()
        self.calibration = calibration

    def assign(self, hto: AnnData, *, context: RunContext) -> pd.DataFrame:
        """Calls for cells x tags raw counts.

        Tags without any count are left out: they are called of no cell. Cells without any count are Negative with
        probability 1, cells that are abstained from with the calibration's ``negative``: that they have no tag.

        Returns
        -------
        Columns ``call``, ``kind``, ``probability`` (that the call is right), ``tags``, ``forced_call`` (best tag of
        any cell with counts, "" of others), ``doublet_probability``, ``margin`` (log-odds of the best tag over the
        next).
        """
        counts = dense_counts(hto)
        names = np.asarray(hto.var_names, dtype=object)
        filled = counts.sum(axis=1) > 0
        used = np.flatnonzero(counts.sum(axis=0) > 0)
        used = used[np.argsort(names[used].astype(str), kind="stable")]  # ties go by name, not by column
        n = len(counts)
        best, pair = np.full(n, "", dtype=object), np.full(n, "", dtype=object)
        p_doublet, p_tag, margin = np.zeros(n), np.zeros(n), np.zeros(n)
        doublet = np.zeros(n, dtype=bool)
        if filled.any():
            found = evidence(counts[np.ix_(filled, used)])
            beyond, is_doublet = self.beyond(found)
            doublet[filled] = is_doublet
            p_doublet[filled] = self.calibration.p_doublet(beyond)
            p_tag[filled] = self.calibration.p_tag(found.margin, found.raw_height)
            margin[filled] = found.margin
            tags = names[used][found.order]
            best[filled] = tags[:, 0]
            pair[filled] = tags[:, 0] + "+" + tags[:, -1]
        probability = np.where(doublet, p_doublet, (1 - p_doublet) * p_tag)
        abstains = filled & ~doublet & (probability < self.config.min_probability)
        negative = ~filled | abstains
        call = np.where(negative, NEGATIVE, np.where(doublet, DOUBLET, best))
        probability = np.where(filled, np.where(abstains, self.calibration.negative, probability), 1.0)
        involved = np.where(negative, "", np.where(doublet, pair, best))
        table = call_table(list(hto.obs_names), call, probability, involved)
        return table.assign(
            forced_call=best, doublet_probability=p_doublet.round(6), margin=margin.round(6)
        )

    def beyond(self, found: Evidence) -> tuple[Floats, np.ndarray]:
        """(cells,) evidence for a doublet beyond the threshold, and which cells are called doublets.

        The evidence is the second tag's log-odds, less where the first stands high and the capture shows that
        bright cells have a higher background. The threshold is the value that the called share exceeds.
        """
        if found.order.shape[1] == 1:
            return np.full(len(found.second), -np.inf), np.zeros(len(found.second), dtype=bool)
        follow = self.calibration.follow * float(np.clip(found.following / FULL_FOLLOW, 0, 1))
        value = found.second - follow * found.height
        share = self.called_share(found)
        if share <= 0:
            return np.full(len(value), -np.inf), np.zeros(len(value), dtype=bool)
        threshold = float(np.quantile(value, 1 - share))
        return value - threshold, value > threshold

    def called_share(self, found: Evidence) -> float:
        """Share of cells to call doublets: ``genuine`` of the droplets in which two tags are evident."""
        if self.config.doublet_share is not None:
            return self.config.doublet_share
        expected = expected_doublets(len(found.pair), self.config.doublets_per_thousand) * found.different
        return self.calibration.genuine * two_tag_share(found.pair, expected)


def evidence(counts: Floats) -> Evidence:
    """What raw counts (cells, tags) say of each cell; every cell and every tag has some."""
    levels, values = settle(counts)
    odds = levels.log_odds(values)
    order = two_highest(odds)
    rows = np.arange(len(odds))
    best, second = odds[rows, order[:, 0]], odds[rows, order[:, -1]]
    raw_height = levels.height(values, order[:, 0])
    height = np.clip(raw_height, -3, 3)
    following = _following(levels, values, order[:, 0], clean_cells(odds, order), height)
    different = max(1 - float((levels.share**2).sum()), 1e-12)
    pair = _pair(odds, best, different)
    return Evidence(order, second, best - second, height, raw_height, pair, following, different)


def expected_doublets(n_cells: int, per_thousand: float = 0.008) -> float:
    """Share of droplets of a capture expected to hold two cells: by their number, at least `USUAL_DOUBLETS`."""
    return min(max(USUAL_DOUBLETS, per_thousand * n_cells / 1000), 0.5)


def two_tag_share(pair: Floats, expected: float, iterations: int = 200) -> float:
    """Share of cells with two tags by expectation maximisation, with ``expected`` as `PRIOR_WEIGHT` more cells."""
    share = expected
    for _ in range(iterations):
        seen = float(sigmoid(pair + np.log(share / (1 - share))).mean()) if share > 0 else 0.0
        updated = min((seen + PRIOR_WEIGHT * expected) / (1 + PRIOR_WEIGHT), 0.5)
        if abs(updated - share) < 1e-6:
            break
        share = updated
    return share


def _pair(odds: Floats, best: Floats, different: float) -> Floats:
    """Log of the sum over pairs of tags, each by its expected frequency, over the sum over single tags."""
    relative = np.exp(np.clip(odds - best[:, None], -300, 0))
    single = relative.sum(axis=1)
    double = np.maximum((single**2 - (relative**2).sum(axis=1)) / 2, 1e-300)
    return np.log(double) - np.log(single) + best - np.log(different / 2)


def _following(levels: Levels, values: Floats, carried: Integers, clean: np.ndarray, height: Floats) -> float:
    """Correlation over cells of their tag's height with the mean height of their background; 0 if undefined."""
    n_cells, n_tags = values.shape
    if n_tags < 2 or clean.sum() < 30:
        return 0.0
    background = np.clip((values - levels.mean0) / levels.scale0, -3, 3)
    background[np.arange(n_cells), carried] = 0.0
    mean = background.sum(axis=1)[clean] / (n_tags - 1)
    if np.std(mean) == 0 or np.std(height[clean]) == 0:
        return 0.0
    return float(np.corrcoef(height[clean], mean)[0, 1])
