"""Learn the numbers of `hashed` that need genetic truth, and say how well they do on captures left out.

    HYPED_PUBLIC_DATA=... python benchmarks/calibrate_demultiplex.py

Every capture is scored by numbers learnt on the other two; those that ship (`hyped_seq.demultiplex.calibration`) are
learnt on all three in the same way and printed last. Takes a few seconds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from sklearn.metrics import average_precision_score

from hyped_bench.metrics.demultiplex import accuracy, confusion, expected_calibration_error, f_singlet, recall_precision
from hyped_seq.demultiplex.calibration import DEFAULT, Calibration, extreme, sigmoid
from hyped_seq.demultiplex.calls import DOUBLET, NEGATIVE
from hyped_seq.demultiplex.hashed import Evidence, Hashed, evidence, expected_doublets, two_tag_share

DOUBTFUL = 0.7
"""Probability below which a user who abstains would abstain."""
FOLLOWS = (0.0, 0.35, 0.7, 1.05)
"""Tried for `Calibration.follow`."""


@dataclass(frozen=True)
class Capture:
    """Counts (cells x tags), the true call of each cell, and the published hashsolo calls where there are any."""

    name: str
    counts: pd.DataFrame
    truth: pd.Series
    published: pd.Series | None = None


def read_captures(folder: Path) -> list[Capture]:
    """The three captures with genetic truth among the public files."""
    captures = []
    for batch, first, donors in (("batch1_c1", 1, "ABCDEFGH"), ("batch2_c1", 9, "IJKLMNOP")):
        tags = {f"BAL {donor}": f"BAL {first + i:02d}" for i, donor in enumerate(donors)}
        place = folder / "hto" / "bal"
        published = pd.read_csv(place / f"{batch}_hashsolo.csv").set_index("Barcode")["Classification"]
        captures.append(
            _capture(batch, place / f"{batch}_hto_counts.csv", place / f"{batch}_donors.csv", tags, published)
        )
    place = folder / "hto" / "cell_line"
    tags = {"CL A": "CL 01", "CL B": "CL 02", "CL C": "CL 03"}
    name = "cell_line"
    captures.append(_capture(name, place / "lmo_counts_capture1.csv", place / "lmo_donors_capture1.csv", tags))
    return captures


def _capture(
    name: str, counts: Path, donors: Path, tags: dict[str, str], published: pd.Series | None = None
) -> Capture:
    table = pd.read_csv(counts, index_col=0).T
    truth = pd.read_csv(donors).drop_duplicates("Barcode").set_index("Barcode")["genetic_donor"].loc[table.index]
    calls = None if published is None else published.loc[table.index]
    return Capture(name, table, truth.replace(tags), calls)


@dataclass(frozen=True)
class Seen:
    """A capture with truth and what its counts say."""

    capture: Capture
    found: Evidence

    @property
    def truth(self) -> np.ndarray:
        """True calls."""
        return self.capture.truth.to_numpy().astype(str)

    @property
    def best(self) -> np.ndarray:
        """Highest tag of each cell."""
        return np.asarray(self.capture.counts.columns)[self.found.order[:, 0]].astype(str)


def calls_of(seen: Seen, calibration: Calibration) -> tuple[np.ndarray, np.ndarray]:
    """Call and probability of each cell, as `Hashed.assign` gives them."""
    beyond, doublet = Hashed(calibration=calibration).beyond(seen.found)
    p_doublet = calibration.p_doublet(beyond)
    p_tag = calibration.p_tag(seen.found.margin, seen.found.raw_height)
    return np.where(doublet, DOUBLET, seen.best), np.where(doublet, p_doublet, (1 - p_doublet) * p_tag)


def learn(training: Sequence[Seen]) -> Calibration:
    """Calibration of captures with truth, each of the same weight.

    ``genuine``: mean ratio of true doublets to droplets with two evident tags. ``follow``: the best of `FOLLOWS` by
    mean average precision of doublets, which no threshold enters. The two curves: largest likelihood. ``negative``:
    mean share of true negatives among singlets called with a probability below `DOUBTFUL`.
    """
    ratios = []
    for seen in training:
        expected = expected_doublets(len(seen.truth)) * seen.found.different
        ratios.append((seen.truth == DOUBLET).mean() / two_tag_share(seen.found.pair, expected))
    start = replace(DEFAULT, genuine=round(float(np.mean(ratios)), 3))
    options = [replace(start, follow=value) for value in FOLLOWS]
    scores = [np.mean([_ranking(seen, option) for seen in training]) for option in options]
    chosen = options[int(np.argmax(scores))]
    beyond = [Hashed(calibration=chosen).beyond(s.found)[0] for s in training]
    is_doublet = [s.truth == DOUBLET for s in training]

    def doublet_loss(x: np.ndarray) -> float:
        curves = [replace(chosen, doublet=(float(sigmoid(x[0])), x[1], x[2])).p_doublet(b) for b in beyond]
        return float(np.mean([_loss(p, y) for p, y in zip(curves, is_doublet, strict=True)]))

    def tag_loss(x: np.ndarray) -> float:
        losses = []
        for seen, other in zip(training, is_doublet, strict=True):
            margin, height = seen.found.margin[~other], seen.found.raw_height[~other]
            curve = sigmoid(x[0] + x[1] * margin - x[2] * extreme(height))
            losses.append(_loss(curve, (seen.best == seen.truth)[~other]))
        return float(np.mean(losses))

    ceiling, *line = minimize(doublet_loss, [0.8, 0.5, 0.8], method="Nelder-Mead", options={"maxiter": 2000}).x
    tag = minimize(tag_loss, [0.0, 0.5, 0.5], method="Nelder-Mead", options={"maxiter": 2000}).x
    doublet = (round(float(sigmoid(ceiling)), 3), *(round(float(v), 3) for v in line))
    learnt = replace(chosen, doublet=doublet, tag=tuple(round(float(v), 3) for v in tag))
    shares = []
    for seen in training:
        call, probability = calls_of(seen, learnt)
        doubtful = (call != DOUBLET) & (probability < DOUBTFUL)
        shares.append(float((seen.truth[doubtful] == NEGATIVE).mean()) if doubtful.any() else 0.0)
    return replace(learnt, negative=round(float(np.mean(shares)), 2))


def _ranking(seen: Seen, calibration: Calibration) -> float:
    return float(average_precision_score(seen.truth == DOUBLET, Hashed(calibration=calibration).beyond(seen.found)[0]))


def _loss(probability: np.ndarray, happened: np.ndarray) -> float:
    clipped = np.clip(probability, 1e-6, 1 - 1e-6)
    return float(-np.log(np.where(happened, clipped, 1 - clipped)).mean())


def posterior(seen: Seen, calls: np.ndarray) -> np.ndarray:
    """Probability of ``calls`` by the model alone, nothing learnt from truth: what calibration starts from."""
    share = two_tag_share(seen.found.pair, expected_doublets(len(calls)) * seen.found.different)
    p_two = sigmoid(seen.found.pair + np.log(share / (1 - share)))
    return np.where(calls == DOUBLET, p_two, (1 - p_two) * sigmoid(seen.found.margin))


def row(seen: Seen, calls: np.ndarray, probability: np.ndarray | None) -> dict[str, float | None]:
    """Scores of calls."""
    table, names = confusion(calls, seen.truth)
    recall, precision = recall_precision(table, names)
    singlet = ~np.isin(seen.truth, (DOUBLET, NEGATIVE))
    right = calls == seen.truth
    scores = {
        "accuracy": accuracy(table),
        "f_singlet": f_singlet(table, names),
        "doublet_recall": recall,
        "doublet_precision": precision,
        "forced_accuracy": float((seen.best == seen.truth)[singlet].mean()),
    }
    if probability is not None:
        raw = posterior(seen, calls)
        scores |= {
            "brier": float(((probability - right) ** 2).mean()),
            "ece": expected_calibration_error(probability, right),
            "brier_before": float(((raw - right) ** 2).mean()),
            "ece_before": expected_calibration_error(raw, right),
        }
    return scores


def main() -> None:
    """Print the leave-one-capture-out table and the numbers to ship."""
    folder = Path(os.environ.get("HYPED_PUBLIC_DATA", ""))
    if not (folder / "manifest.csv").is_file():
        sys.exit("HYPED_PUBLIC_DATA names no folder with the public files")
    captures = [Seen(c, evidence(c.counts.to_numpy(dtype=np.float64))) for c in read_captures(folder)]
    rows = {}
    for held in captures:
        calibration = learn([other for other in captures if other is not held])
        rows[held.capture.name] = row(held, *calls_of(held, calibration))
        sys.stdout.write(f"without {held.capture.name}: {calibration}\n")
    table = pd.DataFrame(rows).T
    table.loc["mean"] = table.mean()
    sys.stdout.write(table.round(4).to_string() + "\n")
    everything = learn(captures)
    sys.stdout.write(f"to ship: {everything}\n")
    if any(not np.allclose(a, b, atol=0.02) for a, b in zip(astuple(everything), astuple(DEFAULT), strict=True)):
        sys.stdout.write("these differ from what ships\n")


if __name__ == "__main__":
    main()
