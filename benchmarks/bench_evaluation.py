"""Scoring predicted expression beside cell-eval 0.8.2's full profile: 10,000 cells x 2,000 genes x 50 perturbations.

cell-eval needs libraries of its own and runs in another interpreter, which ``HYPED_PARITY_PYTHON`` names
(`scripts/parity/README.md` says how to make it); without it only ours is timed. Both start from the same two files,
both test every gene of every perturbation, true and predicted, by Wilcoxon's test against control, and both get the
same number of threads. Times are from the first read to the last number; imports are left out on both sides. *Cold*
is the first evaluation of a process (cell-eval compiles its tests then), *warm* the second. CPU seconds stand beside:
on a machine with other work they say more.

cell-eval computes and ours does not: the agreement of clusterings (Leiden at seven resolutions), the correlation of
distances from control over perturbations, and the number of significant genes as a correlation. Ours computes and
cell-eval does not: the metrics against the mean of training perturbations, weighted errors, both orientations of
ranks, MMD, sliced Wasserstein and energy distances between prediction and truth, in components of the training cells
of each of 50 folds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

CELLS, GENES, PERTURBATIONS, CONTROLS = 10_000, 2_000, 50, 2_500
LIMIT_S, RATIO = 20.0, 3.0
THREADS = int(os.environ.get("HYPED_BENCH_THREADS", "2"))
SECONDS: dict[str, float] = {}
"""Warm and cold times of both."""

OURS = r"""
import json, sys, time
import anndata, illico, scipy.spatial.distance, scipy.stats, sklearn.metrics
from hyped_bench.tasks.expression import score_plain
seconds, cpu = [], []
for _ in range(int(sys.argv[3])):
    start, used = time.perf_counter(), time.process_time()
    result = score_plain(sys.argv[1], sys.argv[2], split={"kind": "unseen_condition"}, max_cells=2500)[1]
    seconds.append(time.perf_counter() - start); cpu.append(time.process_time() - used)
assert result.metrics["n_perturbations"] == 50
print(json.dumps({"seconds": seconds, "cpu": cpu, "metrics": len(result.scores.tables["units"].columns) - 7}))
"""

THEIRS = r"""
import json, os, sys, tempfile, time
import anndata
from cell_eval import MetricsEvaluator
seconds, cpu = [], []
for _ in range(int(sys.argv[3])):
    with tempfile.TemporaryDirectory() as folder:
        start, used = time.perf_counter(), time.process_time()
        evaluator = MetricsEvaluator(
            adata_pred=anndata.read_h5ad(sys.argv[1]), adata_real=anndata.read_h5ad(sys.argv[2]),
            control_pert="control", pert_col="perturbation", outdir=folder, num_threads=int(os.environ["NUM_THREADS"]),
        )
        results, summary = evaluator.compute(profile="full", write_csv=False)
        seconds.append(time.perf_counter() - start); cpu.append(time.process_time() - used)
print(json.dumps({"seconds": seconds, "cpu": cpu, "metrics": len(results.columns) - 1}))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Predicted and measured cells: the same means, other draws, 150 cells a perturbation, dense as models write."""
    import anndata

    rng = np.random.default_rng(0)
    base = rng.lognormal(-1.5, 1.2, GENES)
    names = ["control", *(f"G{i:02d}" for i in range(PERTURBATIONS))]
    sizes = [CONTROLS, *[(CELLS - CONTROLS) // PERTURBATIONS] * PERTURBATIONS]
    changes = np.exp(rng.normal(0, 0.7, (PERTURBATIONS, GENES)) * (rng.random((PERTURBATIONS, GENES)) < 0.05))
    means = np.vstack([base, base * changes])[np.repeat(np.arange(len(names)), sizes)]
    folder = tmp_path_factory.mktemp("evaluation")
    paths = []
    for what in ("predicted", "measured"):
        counts = rng.poisson(means * rng.lognormal(0, 0.4, (CELLS, 1)))
        x = np.log1p(1e4 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)).astype(np.float32)
        obs = pd.DataFrame({"perturbation": np.repeat(names, sizes)}, index=[f"c{i}" for i in range(CELLS)])
        path = folder / f"{what}.h5ad"
        anndata.AnnData(x, obs=obs, var=pd.DataFrame(index=[f"G{i:02d}" for i in range(GENES)])).write_h5ad(path)
        paths.append(path)
    return paths


def run(python: str, script: str, files: list[Path], times: int) -> dict:
    """What a script prints: seconds of each evaluation and the number of metrics of a perturbation."""
    threads = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS", "NUM_THREADS"),
        str(THREADS),
    )
    done = subprocess.run(
        [python, "-c", script, *map(str, files), str(times)],
        capture_output=True,
        text=True,
        env={**os.environ, **threads},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["hyped", "cell-eval"])
@pytest.mark.benchmark(group="evaluation: 10,000 cells x 2,000 genes x 50 perturbations")
def test_beside_cell_eval(benchmark, files, name):
    """Ours within 20 s on two threads and three times as fast, cold and warm; once before the other and once after."""
    python = os.environ.get("HYPED_PARITY_PYTHON", "")
    if name == "cell-eval" and not python:
        pytest.skip("HYPED_PARITY_PYTHON names no interpreter with cell-eval: scripts/parity/README.md makes one")
    own = name == "hyped"
    call = (sys.executable, OURS) if own else (python, THEIRS)
    found: list[dict] = []
    benchmark.pedantic(lambda: found.append(run(*call, files, 3 if own else 2)), rounds=1)
    seconds = found[0]["seconds"]
    SECONDS[f"{name} cold"], SECONDS[f"{name} warm"] = seconds[0], min(seconds[1:])
    benchmark.extra_info |= {
        "threads": THREADS,
        "cold_s": round(seconds[0], 2),
        "warm_s": round(min(seconds[1:]), 2),
        "cpu_s": [round(value, 2) for value in found[0]["cpu"]],
        "metrics_a_perturbation": found[0]["metrics"],
    }
    if own:
        assert seconds[0] <= LIMIT_S
        return
    again = run(sys.executable, OURS, files, 2)["seconds"]  # a disturbance while either ran alone is none of the ratio
    for when, ours in (("cold", again[0]), ("warm", again[1])):
        if f"hyped {when}" in SECONDS:
            ours = min(ours, SECONDS[f"hyped {when}"])
        ratio = SECONDS[f"cell-eval {when}"] / ours
        benchmark.extra_info[f"times_as_long_as_hyped_{when}"] = round(ratio, 1)
        assert ratio >= RATIO
