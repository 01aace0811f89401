"""What cell-eval and scPertEval say about a small made-up screen: fixtures of the parity test of the metrics.

Run in the environment of `requirements.txt`, never in HYPED's own; see the README beside it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

SEED = 20260901
GENES = [f"GENE{i:03d}" for i in range(120)]
CONTROL = "non-targeting"
N_CONTROL, N_CELLS = 80, 40
PERTURBED = GENES[:9]
"""Named after the gene they target. The last one changes nothing; the one before switches two silent genes on."""


def make_screen() -> dict[str, np.ndarray]:
    """Counts (cells, genes) uint8 of a truth and of a prediction, labels, and control cells of another submission."""
    rng = np.random.default_rng(SEED)
    base = rng.gamma(1.2, 2.0, len(GENES))
    base[[100, 101]] = 0.0
    shared = np.where(rng.random(len(GENES)) < 0.2, rng.normal(0, 0.9, len(GENES)), 0.0)
    rates, guesses = [], []
    for i, _ in enumerate(PERTURBED):
        own = np.where(rng.random(len(GENES)) < 0.2, rng.normal(0, 0.5, len(GENES)), 0.0)
        own[i] = -2.0
        effect = np.zeros(len(GENES)) if i == len(PERTURBED) - 1 else shared + own
        rate = base * np.exp(effect)
        if i == len(PERTURBED) - 2:
            rate[[100, 101]] = 2.0, 3.0
        rates.append(rate)
        guesses.append(rate * np.exp(rng.normal(0, 0.3, len(GENES)) - 0.4 * effect - 0.4 * (effect - shared)))
    labels = np.array([CONTROL] * N_CONTROL + [name for name in PERTURBED for _ in range(N_CELLS)])
    size = rng.uniform(0.7, 1.3, (len(labels), 1))

    def drawn(of_group: list[np.ndarray]) -> np.ndarray:
        mean = np.repeat([base, *of_group], [N_CONTROL, *[N_CELLS] * len(PERTURBED)], axis=0)
        return np.minimum(rng.poisson(mean * size * rng.gamma(4.0, 0.25, mean.shape)), 255).astype(np.uint8)

    truth, prediction = drawn(rates), drawn(guesses)
    prediction[:N_CONTROL] = truth[:N_CONTROL]
    other = np.minimum(rng.poisson(base * 1.1 * np.exp(shared), (N_CONTROL, len(GENES))), 255).astype(np.uint8)
    return {"truth": truth, "prediction": prediction, "other_control": other, "labels": labels}


def logs(counts: np.ndarray) -> np.ndarray:
    """ln(1 + CP10k), rounded to float32 as the test has them, in float64.

    Of float32 both packages take some means in float32, which moves fold changes by some 1e-6.
    """
    values = counts.astype(np.float64)
    return np.log1p(values / values.sum(axis=1, keepdims=True) * 1e4).astype(np.float32).astype(np.float64)


def screen_of(values: np.ndarray, labels: np.ndarray) -> ad.AnnData:
    """Cells with their labels in ``obs.target``."""
    obs = pd.DataFrame({"target": pd.Categorical(labels)}, index=[f"c{i}" for i in range(len(labels))])
    return ad.AnnData(values, obs=obs, var=pd.DataFrame(index=GENES))


def of_cell_eval(
    truth: np.ndarray, prediction: np.ndarray, labels: np.ndarray
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Its full profile, a column a metric, and the tables of its differential expression (perturbations, genes)."""
    from cell_eval import MetricsEvaluator

    extra: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        evaluator = MetricsEvaluator(
            screen_of(prediction, labels), screen_of(truth, labels), control_pert=CONTROL, outdir=folder, num_threads=1
        )
        left_out = ["clustering_agreement"]  # of 9 centroids; HYPED has no such metric
        found, _ = evaluator.compute("full", write_csv=False, skip_metrics=left_out, break_on_error=True)
        for k in (5, 10):  # fewer than there are significant genes
            for metric in ("overlap", "precision"):
                shares = evaluator.de_comparison.compute_overlap(k=k, metric=metric, fdr_threshold=0.05)
                extra[f"{metric}_at_{k}"] = [float(shares[name]) for name in PERTURBED]
        tables = {side: pd.read_csv(Path(folder) / f"{side}_de.csv") for side in ("real", "pred")}
    scores = found.to_pandas().set_index("perturbation").loc[PERTURBED]
    columns = extra | {name: [float(v) for v in scores[name]] for name in sorted(scores.columns)}
    arrays = {}
    for side, table in tables.items():
        for column in ("p_value", "fdr", "log2_fold_change"):
            wide = table.pivot(index="target", columns="feature", values=column).loc[PERTURBED, GENES]
            arrays[f"{side}_{column}"] = wide.to_numpy(np.float64)
    return columns, arrays


SCORED = (
    "pearson", "pearson_ctrl", "pearson_pert", "mse", "r2_ctrl", "r2_pert", "wmse_exp2", "weighted_r2_ctrl_exp2",
    "weighted_r2_pert_exp2", "rank", "transpose_rank", "nir",
)  # fmt: skip
"""Protocols of scPertEval that are run by its own `score`."""


def of_scperteval(truth: np.ndarray, prediction: np.ndarray, labels: np.ndarray) -> dict[str, list[float]]:
    """Its protocols on means, its metric functions on populations and tests; a value a perturbation.

    Populations by its functions, because its protocols choose genes or components first; tests too, because its
    protocols test the truth against the other perturbed cells.
    """
    import scperteval
    from scperteval.blocks import de
    from scperteval.protocols import metrics

    prepared = scperteval.prepare(
        screen_of(truth, labels), list(SCORED), perturbation_key="target", control_label=CONTROL, workers=1
    )
    perturbed = labels != CONTROL
    guesses = screen_of(prediction[perturbed], labels[perturbed])
    found: dict[str, list[float]] = {}
    for protocol in SCORED:
        table = scperteval.score(prepared, protocol, guesses).per_perturbation.set_index("perturbation")
        found[protocol] = [float(table.loc[name, "score"]) for name in PERTURBED]
    control = truth[~perturbed]
    for name in PERTURBED:
        own, guessed = truth[labels == name], prediction[labels == name]
        ranks, guessed_ranks = de.de_mwu(own, control), de.de_mwu(guessed, control)
        row = {
            "energy_distance": metrics.energy_distance(own, guessed, None),
            "unbiased_mmd_median": metrics.unbiased_mmd_median(own, guessed, None),
            "energy_distance_nothing": metrics.energy_distance(own, control, None),
            "unbiased_mmd_median_nothing": metrics.unbiased_mmd_median(own, control, None),
            "de_auprc": metrics.de_auprc(ranks, np.abs(guessed_ranks.statistic), None),
            "de_auroc": metrics.de_auroc(ranks, np.abs(guessed_ranks.statistic), None),
            "de_overlap_20": metrics.de_overlap(ranks, np.abs(guessed_ranks.statistic), None, k=20),
            "mwu_p_sum": float(ranks.pvalue.sum()),
            "mwu_fdr_sum": float(ranks.pvalue_adj.sum()),
        }
        for key, value in row.items():
            found.setdefault(key, []).append(float(value))
    return found


def main() -> None:
    """Write ``screen.npz``, ``differential.npz`` and ``scores.json`` into the given folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    screen = make_screen()
    labels = screen["labels"]
    truth, prediction = logs(screen["truth"]), logs(screen["prediction"])
    own, tables = of_cell_eval(truth, prediction, labels)
    twisted = prediction.copy()
    twisted[labels == CONTROL] = logs(screen["other_control"])
    twisted_scores, _ = of_cell_eval(truth, twisted, labels)
    np.savez_compressed(folder / "screen.npz", **screen)
    np.savez_compressed(folder / "differential.npz", **tables)
    scores = {
        "versions": {name: version(name) for name in ("cell-eval", "pdex", "scperteval", "illico", "numpy")},
        "perturbations": PERTURBED,
        "genes": GENES,
        "control": CONTROL,
        "cell_eval": own,
        "cell_eval_other_control": twisted_scores,
        "scperteval": of_scperteval(truth, prediction, labels),
    }
    (folder / "scores.json").write_text(json.dumps(_without_nan(scores), indent=1) + "\n", encoding="utf-8")


def _without_nan(value: Any) -> Any:
    """NaN as null."""
    if isinstance(value, dict):
        return {key: _without_nan(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and np.isnan(value) else value


if __name__ == "__main__":
    main()
